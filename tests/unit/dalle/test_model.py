"""The bundle: saved and loaded, drawing, completing, scoring, measuring; mistakes refused."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dalle.model import Dalle
from dalle.network import nats
from vqtok.gpt.guidance import CutOff
from vqtok.gpt.sampling import Sampling
from vqtok.text import TextTokenizer, load_text_tokenizer
from vqtok.tokenizers import load_tokenizer

NAMES = ["a dark square", "a light square"]


@pytest.mark.parametrize("kind", ["dense", "masked"])
def test_saved_and_loaded(kind: str, build: Callable[..., Dalle], tmp_path: Path):
    """A folder holds all of it; it draws the same, and both tokenizers load alone."""
    model = build(kind)
    model.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {"config.json", "model.safetensors"}
    loaded = Dalle.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    assert torch.equal(loaded.generate(NAMES, count=2), model.generate(NAMES, count=2))
    assert torch.equal(load_tokenizer(tmp_path / "model").colors, model.tokenizer.colors)
    words = load_text_tokenizer(tmp_path / "model").encode(NAMES).ids
    assert torch.equal(words, model.text.encode(NAMES).ids)


def test_pictures_of_captions(build: Callable[..., Dalle]):
    """Those of one caption side by side, in the palette's colors; the first are the same for any count."""
    model = build()
    images = model.generate(NAMES, count=3, seed=4)
    assert images.shape == (6, 3, 4, 4)
    assert torch.equal(model.tokenizer.decode(model.tokenizer.encode(images)), images)
    assert torch.equal(model.generate(NAMES[1:], count=2, seed=4), images[3:5])
    assert not torch.equal(model.generate(NAMES, count=3, seed=5), images)
    model.batch = 2
    assert torch.equal(model.generate(NAMES, count=3, seed=4), images)


def test_guidance_and_sampling(build: Callable[..., Dalle]):
    """A scale of 3 unless said; schedules and sampling are the caller's."""
    model = build()
    usual = model.generate(NAMES, count=2)
    assert torch.equal(model.generate(NAMES, count=2, guidance=3.0), usual)
    assert torch.equal(model.generate(NAMES, count=2, guidance=CutOff(scale=3.0, share=1.0)), usual)
    assert not torch.equal(model.generate(NAMES, count=2, guidance=None), usual)
    greedy = model.generate(NAMES, count=2, sampling=Sampling(temperature=0.0))
    assert torch.equal(greedy[0], greedy[1])


def test_captions_matter(build: Callable[..., Dalle]):
    """The same chance draws other pictures of another caption, however it is spelled the same of one."""
    images = build().generate([*NAMES, "A  DARK square"], count=1)
    assert not torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])


def test_reranking(build: Callable[..., Dalle]):
    """All of a caption's pictures in the scorer's order, or the best of them; the model itself can score."""
    model = build()

    def brightness(images: Tensor, captions: Sequence[str]) -> Tensor:
        return images.mean((1, 2, 3))[:, None].expand(-1, len(captions))

    drawn = model.generate(NAMES, count=5).unflatten(0, (2, 5))
    sorted_ = model.generate(NAMES, count=5, rank=brightness).unflatten(0, (2, 5))
    means = drawn.mean((2, 3, 4)).sort(descending=True, stable=True)
    assert torch.equal(sorted_[0], drawn[0][means.indices[0]])
    assert torch.equal(model.generate(NAMES, count=5, rank=brightness, keep=2), sorted_[:, :2].flatten(0, 1))
    likely = model.generate(NAMES[:1], count=5, rank=model.score, keep=1)
    scores = model.score(drawn[0], NAMES[:1])
    assert model.score(likely, NAMES[:1]).item() == pytest.approx(scores.max().item())


def test_states_on_the_way(build: Callable[..., Dalle]):
    """What is not drawn is gray, or a code that is asked for; the last state is the whole picture."""
    model = build()
    states = [*model.stream(NAMES, count=2, every=4)]
    whole = model.generate(NAMES, count=2)
    gray = model.tokenizer.decode(model.tokenizer.encode(torch.full((1, 3, 4, 4), 0.5)))
    assert len(states) == 4 and torch.equal(states[-1], whole)
    for number, state in enumerate(states, start=1):
        assert torch.equal(state[:, :, :number], whole[:, :, :number])
        assert torch.equal(state[:, :, number:], gray[:, :, number:].expand(4, -1, -1, -1))
    first = next(model.stream(NAMES[:1], every=4, rest=5))
    white = model.tokenizer.decode(torch.full((1, 4, 4), 5))
    assert torch.equal(first[:, :, 1:], white[:, :, 1:])


def test_completing(build: Callable[..., Dalle], images: Tensor):
    """Rows that are kept stay; candidates of one image stand side by side and differ."""
    model = build()
    found = model.complete(images[:2], NAMES, rows=1, candidates=3)
    assert found.shape == (6, 3, 4, 4)
    assert torch.equal(found[:, :, :1], images[:2].repeat_interleave(3, dim=0)[:, :, :1])
    assert len({tuple(image.flatten().tolist()) for image in found[:3]}) > 1
    assert torch.equal(model.complete(images[1:2], NAMES[1:], rows=1, candidates=2), found[3:5])
    other = model.complete(images[:1], NAMES[1:], rows=1)
    assert not torch.equal(other[0], found[0])


def test_image_to_image(build: Callable[..., Dalle], images: Tensor):
    """The upper part alone is kept whole, and what the caption says is drawn below it."""
    model = build()
    below = model.complete(images[:2, :, :2], NAMES)
    assert torch.equal(below[:, :, :2], images[:2, :, :2])
    assert torch.equal(below, model.complete(images[:2], NAMES, rows=2))


def test_which_caption_fits(build: Callable[..., Dalle], images: Tensor, names: tuple[str, ...]):
    """log p(image | caption) of all pairs, whatever the batch; minus that of no caption where asked."""
    model = build()
    found = model.score(images, names)
    assert found.shape == (4, 4)
    alone = model.nll(images, [names[2]] * 4) * model.layout.tokens
    torch.testing.assert_close(found[:, 2], -alone)
    model.batch = 3
    torch.testing.assert_close(model.score(images, names), found)
    gain = model.score(images, names, against_null=True)
    codes = model.layout.image(model.tokenizer.encode(images))
    silent = -nats(model.network, torch.cat([model.layout.padding.expand(4, -1), codes], 1))[1].sum(1)
    torch.testing.assert_close(gain, found - silent[:, None])


def test_captions_that_are_cut(build: Callable[..., Dalle]):
    """A caption that is too long is cut with a warning; unknown characters are told."""
    model = build()
    with pytest.warns(UserWarning, match="1 of 2 captions are longer than 5 tokens and were cut"):
        long = model.generate([NAMES[0], f"{NAMES[0]} {NAMES[1]}"], count=1)
    assert long.shape == (2, 3, 4, 4)
    with pytest.warns(UserWarning, match="1 of 2 captions have characters that this model does not know"):
        model.generate([NAMES[0], "a dark Ω"], count=1)


MISTAKES: dict[str, Callable] = {
    "caption 1 is empty": lambda m, _: m.generate(["a dark square", "  "]),
    "captions are a sequence of texts, not one": lambda m, _: m.generate("a dark square"),
    "0 captions are nothing to read": lambda m, _: m.generate([]),
    "0 pictures are none: ask for at least 1 of each caption": lambda m, _: m.generate(NAMES, count=0),
    "keep 2 of what order: give rank= too": lambda m, _: m.generate(NAMES, keep=2),
    "4 rows cannot be kept of 4 in a model of 4: keep 0 to 3": lambda m, x: m.complete(x[:2], NAMES),
    "3 rows cannot be kept of 2 in a model of 4: keep 0 to 2": (
        lambda m, x: m.complete(x[:2, :, :2], NAMES, rows=3)
    ),
    "4 images and 2 captions: give one for each": lambda m, x: m.nll(x, NAMES),
    "pictures of 4x3 codes meet a model of 4x4": lambda m, x: m.nll(x[:2, :, :, :3], NAMES),
    "these images have 2 of 4 rows of codes: give whole ones, 4 pixels": (
        lambda m, x: m.score(x[:, :, :2], NAMES)
    ),
    "rest 6 is no code: give 0 to 5, or None for gray": lambda m, _: m.stream(NAMES, rest=6),
    "every 0 tokens is never": lambda m, _: m.stream(NAMES, every=0),
}


@pytest.mark.parametrize("told", MISTAKES)
def test_mistakes(told: str, build: Callable[..., Dalle], images: Tensor):
    """Each is one sentence with the limit or the way out, before anything is drawn."""
    with pytest.raises(ValueError, match=told):
        MISTAKES[told](build(), images)


def test_checkpoints_of_others(build: Callable[..., Dalle], text: TextTokenizer, tmp_path: Path):
    """A folder of something else, or with a setting that was changed, says what does not fit."""
    text.save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="config.json: unknown setting `vocab`"):
        Dalle.from_pretrained(tmp_path / "text")
    build().save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"text_length": 5', '"text_length": 6'))
    with pytest.raises(ValueError, match="gpt.vocab is 55, but 44 words, 6 paddings and 6 codes make 56"):
        Dalle.from_pretrained(tmp_path / "model")
