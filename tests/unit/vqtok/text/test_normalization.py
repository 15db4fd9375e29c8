"""One spelling for captions that look the same."""

import pytest

from vqtok.text import normalized


@pytest.mark.parametrize(
    ("caption", "plain"),
    [
        ("A Cheese WEDGE", "a cheese wedge"),
        ("  a\tfox \r\n\u3000and\u2028a hen ", "a fox and a hen"),
        ("\ufeffa fo\u200dx\x00\x1b", "a fox"),
        ("Ｆｕｌｌ ﬁsh №½", "full fish no1⁄2"),
        ("cafe\u0301", "café"),
        ("cafe\u200b\u0301", "café"),
        ("half\ud83d", "half"),
        ("one\u2581word", "one word"),
        ("\u200d \n", ""),
    ],
    ids=["capitals", "white space", "invisible", "NFKC", "accents", "accents apart", "surrogate",
         "sentencepiece's space", "nothing"],
)  # fmt: skip
def test_normalized(caption: str, plain: str):
    """Small letters, NFKC, single spaces, and nothing that does not print."""
    assert normalized(caption) == plain


def test_capitals_stay():
    """Unless small letters are wanted."""
    assert normalized("A Ｆox", lower=False) == "A Fox"


def test_it_settles():
    """A caption that is normal stays as it is, for every character beside a letter and an accent."""
    strange = [code for code in range(0x3200)
               if (plain := normalized(f"a{chr(code)}\u0301b")) != normalized(plain)]  # fmt: skip
    assert strange == []
