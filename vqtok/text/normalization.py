"""The one spelling of a caption: Unicode's NFKC, small letters, single spaces, nothing invisible.

Unicode Standard Annex 15 says what NFKC is. DALL-E's captions are in small letters (Ramesh et al. 2021,
section 2.2).
"""

import unicodedata

INVISIBLE = {"Cc", "Cf", "Cs"}  # control characters, joiners and other marks of format, halves of surrogates
SPACE = "\u2581"  # what sentencepiece writes for a space, and could not tell from one


def normalized(caption: str, lower: bool = True) -> str:
    """A caption in the one spelling that text tokenizers of ours see; applied again, it changes nothing.

    In this order:

    1. Tabs, line ends and U+2581 become spaces; all other control and format characters go, such as
       zero-width joiners and byte order marks, and so do lone surrogates, which no file can hold.
    2. NFKC: full-width letters, ligatures, "½" and the like become plain characters.
    3. Small letters, if `lower`, and NFKC of these.
    4. White space becomes single spaces, none at either end.

    Args:
        caption: Any text.
        lower: Whether capitals become small letters.
    """
    visible = (_visible(character) for character in caption)
    plain = unicodedata.normalize("NFKC", "".join(visible))
    if lower:
        plain = unicodedata.normalize("NFKC", plain.lower())
    return " ".join(plain.split())


def _visible(character: str) -> str:
    if character.isspace() or character == SPACE:
        return " "
    return "" if unicodedata.category(character) in INVISIBLE else character
