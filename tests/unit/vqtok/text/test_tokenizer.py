"""Captions as ids: there and back, cut or refused, in a folder or inside another model."""

import copy
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vqtok.text import TextConfig, TextTokenizer, normalized
from vqtok.text.tokenizer import NONE


def test_there_and_back(tokenizer: TextTokenizer, captions: list[str]):
    """Captions come back in the one spelling; ids fill from the left, and -1 is behind them."""
    texts = tokenizer.encode(captions)
    assert texts.ids.dtype == torch.int64 and texts.ids.shape[0] == len(captions)
    assert (texts.cut, texts.unknown) == (0, 0)
    assert 0 <= int(texts.ids[texts.ids != NONE].min()) <= int(texts.ids.max()) < tokenizer.vocab
    ends = (texts.ids == NONE).int()
    assert (ends.diff(dim=1) >= 0).all() and (ends[:, -1] == 0).any()
    assert tokenizer.decode(texts.ids) == [normalized(caption) for caption in captions]
    assert tokenizer.decode([row[row != NONE] for row in texts.ids]) == tokenizer.decode(texts.ids)


def test_a_length(tokenizer: TextTokenizer):
    """Ids have the length that is asked for, whatever the captions; no captions are no rows."""
    assert tokenizer.encode(["fox"], 64).ids.shape == (1, 64)
    assert tokenizer.encode([], 64).ids.shape == (0, 64)


def test_capitals(captions: list[str]):
    """They are letters of their own where small ones are not asked for."""
    tokenizer = TextTokenizer.fit(captions, TextConfig(vocab=60, lower=False))
    assert tokenizer.decode(tokenizer.encode(["A fox"]).ids) == ["A fox"]


def test_cut(bpe: TextTokenizer):
    """Captions that are too long lose their ends, with their number in one warning and in what comes back."""
    long = ["a", "a cheese wedge, shaded", "a waving hand, shaded"]
    whole = bpe.encode(long)
    with pytest.warns(UserWarning, match=r"2 of 3 captions are longer than 3 tokens and were cut") as told:
        texts = bpe.encode(long, 3)
    assert len(told) == 1 and told[0].filename == __file__
    assert texts.cut == 2 and torch.equal(texts.ids, whole.ids[:, :3])


def test_cut_in_training(bpe: TextTokenizer):
    """With dropout, the warning is the same at every step, so that Python shows it once."""
    rng = np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        texts = [bpe.encode(["a cheese wedge"] * number, 3, dropout=0.1, rng=rng) for number in (1, 2, 3)]
    assert [batch.cut for batch in texts] == [1, 2, 3] and len(told) == 1


def test_too_long_is_an_error(bpe: TextTokenizer):
    """If that is wanted: with the row, its tokens, and the room there is."""
    with pytest.raises(ValueError, match=r"caption 1 has \d+ tokens, 3 fit: 'a fox, flat'; shorten it"):
        bpe.encode(["a", "A fox, flat"], 3, overflow="error")


def test_unknown_characters(tokenizer: TextTokenizer):
    """Captions that have them are counted; they come back as one mark."""
    texts = tokenizer.encode(["fox", "fox 日本", "日 fox"])
    assert texts.unknown == 2 and int((texts.ids == tokenizer.unknown).sum()) == 2
    assert tokenizer.decode(texts.ids) == ["fox", "fox ⁇", "⁇ fox"]


def test_an_unknown_end_counts_though_cut(bpe: TextTokenizer):
    """What is unknown is counted before the cut."""
    with pytest.warns(UserWarning, match="1 of 1"):
        assert bpe.encode(["a cheese wedge 日"], 2).unknown == 1


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["a fox", " \n\u200d"], r"caption 1 is empty \(' \\n\\u200d'\): leave its picture out"),
        (["a fox", None], "caption 1 is None, a NoneType and no text"),
        ([float("nan")], "caption 0 is nan, a float and no text"),
        ([b"a fox"], "caption 0 is b'a fox', a bytes and no text"),
        ("a fox", r"captions are a sequence of texts, not one: give \['a fox'\]"),
    ],
    ids=["empty", "none", "nan", "bytes", "one text"],
)
def test_what_is_no_caption(rows: object, told: str, bpe: TextTokenizer):
    """It is refused with its row, in use as in fitting."""
    with pytest.raises(ValueError, match=told):
        bpe.encode(rows)
    with pytest.raises(ValueError, match=told):
        TextTokenizer.fit(rows, TextConfig(vocab=60))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"length": 0}, "length 0 has no room"),
        ({"overflow": "cut"}, "overflow is 'cut': give 'truncate' or 'error'"),
        ({"dropout": 1.1}, "dropout is 1.1, a chance: give 0 to 1"),
        ({"dropout": 0.1}, "dropout 0.1 needs a generator"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_are_none(settings: dict, told: str, bpe: TextTokenizer):
    """Each is refused with what can be given."""
    with pytest.raises(ValueError, match=told):
        bpe.encode(["a fox"], **settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"vocab": 1}, "vocab 1"), ({"bytes": -1}, "bytes -1"), ({"coverage": 0.0}, "coverage is 0.0"),
     ({"coverage": 1.5}, "coverage is 1.5")],
)  # fmt: skip
def test_a_config_that_is_none(settings: dict, told: str):
    """No vocabulary, no share."""
    with pytest.raises(ValueError, match=told):
        TextConfig(**settings)


def test_dropout(bpe: TextTokenizer, captions: list[str]):
    """More tokens for the same text; one generator gives the same ids; a chance of 1 gives characters."""
    plain = bpe.encode(captions)

    def dropped(chance: float, seed: int) -> torch.Tensor:
        return bpe.encode(captions, 64, dropout=chance, rng=np.random.default_rng(seed)).ids

    ids = dropped(0.1, 0)
    assert bpe.decode(ids) == bpe.decode(plain.ids)
    assert (ids != NONE).sum() > (plain.ids != NONE).sum()
    assert torch.equal(ids, dropped(0.1, 0)) and not torch.equal(ids, dropped(0.1, 1))
    lengths = (dropped(1.0, 0) != NONE).sum(1).tolist()
    assert lengths == [len(bpe.normalized(caption)) + 1 for caption in captions]  # and the space before


def test_dropout_wants_merges(unigram: TextTokenizer):
    """A unigram tokenizer has none to drop."""
    with pytest.raises(ValueError, match="a unigram tokenizer has no merges to drop: fit one of kind bpe"):
        unigram.encode(["a fox"], dropout=0.1, rng=np.random.default_rng(0))


def test_foreign_ids(bpe: TextTokenizer):
    """Ids outside the vocabulary, and single rows, are refused."""
    with pytest.raises(ValueError, match=r"id 60 is outside \[0, 60\)"):
        bpe.decode([[1, 60]])
    with pytest.raises(ValueError, match=r"id -2 is outside"):
        bpe.decode(torch.tensor([[-2]]))
    with pytest.raises(ValueError, match=r"ids are \(3,\): give \(b, t\)"):
        bpe.decode(torch.tensor([1, 2, 3]))


def test_fitting_is_exact(captions: list[str], bpe: TextTokenizer):
    """The same captions in another order and spelling give the same bytes; others give others."""
    again = TextTokenizer.fit((caption.upper() + " " for caption in captions[::-1]), TextConfig(vocab=60))
    assert torch.equal(again.model, bpe.model) and again.config == bpe.config
    fewer = TextTokenizer.fit(captions[:-1], TextConfig(vocab=60))
    assert not torch.equal(fewer.model, bpe.model[: len(fewer.model)])


def test_no_captions():
    """Nothing cannot be fitted to, and minDALL-E's kind is not fitted at all."""
    with pytest.raises(ValueError, match="there are no captions"):
        TextTokenizer.fit([], TextConfig(vocab=60))
    with pytest.raises(ValueError, match="char-bpe is only read: fit kind bpe or unigram"):
        TextTokenizer.fit(["fox"], TextConfig(kind="char-bpe"))


def test_not_fitted():
    """A tokenizer without a model says so."""
    with pytest.raises(ValueError, match="this text tokenizer is empty: fit it"):
        TextTokenizer(TextConfig(vocab=60)).encode(["a fox"])


class Larger(nn.Module):
    """A model that carries a text tokenizer."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.text = TextTokenizer(config)
        self.weight = nn.Linear(2, 2)


def test_inside_another_model(tokenizer: TextTokenizer):
    """Its bytes travel with the weights, through types and copies; it has nothing to train."""
    larger = Larger(tokenizer.config)
    larger.text.load_state_dict(tokenizer.state_dict())
    assert [name for name, _ in larger.named_parameters()] == ["weight.weight", "weight.bias"]
    other = Larger(tokenizer.config)
    other.load_state_dict(larger.state_dict())
    for model in (other, copy.deepcopy(larger).to(torch.bfloat16)):
        assert model.text.model.dtype == torch.uint8
        assert torch.equal(model.text.encode(["a fox"]).ids, tokenizer.encode(["a fox"]).ids)


def test_other_weights_are_read_anew(captions: list[str], bpe: TextTokenizer):
    """A tokenizer that was in use speaks by the weights that were loaded last."""
    swapped = [caption.translate(str.maketrans("fx", "xf")) for caption in captions]
    model = TextTokenizer.fit(swapped, TextConfig(vocab=60))
    assert model.config == bpe.config
    assert not torch.equal(model.encode(captions).ids, bpe.encode(captions).ids)
    model.load_state_dict(bpe.state_dict())
    assert torch.equal(model.encode(captions).ids, bpe.encode(captions).ids)


def test_on_the_meta_device(bpe: TextTokenizer):
    """A model can be built without memory; it then says that it is empty."""
    with torch.device("meta"):
        model = Larger(bpe.config)
    with pytest.raises(ValueError, match="empty"):
        model.text.encode(["a fox"])


def test_for_other_processes(tokenizer: TextTokenizer):
    """It travels to the processes that read data."""
    file = io.BytesIO()
    torch.save(tokenizer, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert torch.equal(again.encode(["a fox"]).ids, tokenizer.encode(["a fox"]).ids)


def test_a_folder(tokenizer: TextTokenizer, tmp_path: Path):
    """Saved and loaded it is the same; damaged it is refused when it is loaded."""
    tokenizer.save_pretrained(tmp_path / "text")
    loaded = TextTokenizer.from_pretrained(tmp_path / "text")
    assert loaded.config == tokenizer.config and torch.equal(loaded.model, tokenizer.model)
    assert torch.equal(loaded.encode(["a fox"]).ids, tokenizer.encode(["a fox"]).ids)
    config = tmp_path / "text" / "config.json"
    config.write_text(re.sub(r'"vocab": \d+', '"vocab": 61', config.read_text()))
    with pytest.raises(ValueError, match=r"the model has \d+ pieces, its configuration says vocab 61"):
        TextTokenizer.from_pretrained(tmp_path / "text")
    torn = TextTokenizer(tokenizer.config)
    torn.save_pretrained(tmp_path / "torn")
    with pytest.raises(ValueError, match="are no sentencepiece model"):
        TextTokenizer.from_pretrained(tmp_path / "torn")
