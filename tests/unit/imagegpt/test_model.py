"""The bundle: saved and loaded, drawing, completing, filling, measuring, naming; mistakes refused."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from imagegpt.model import ImageGPT
from vqtok.gpt.sampling import Sampling
from vqtok.tokenizers import load_tokenizer

GREEDY = Sampling(temperature=0.0)


@pytest.mark.parametrize(("kind", "classifier"), [("past", True), ("both", False), ("classes", False)])
def test_saved_and_loaded(kind: str, classifier: bool, build: Callable[..., ImageGPT], tmp_path: Path):
    """A folder holds all of it, and its tokenizer loads alone."""
    model = build(kind, classifier)
    model.save_pretrained(tmp_path / "model")
    loaded = ImageGPT.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    weights = loaded.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())
    assert torch.equal(load_tokenizer(tmp_path / "model").colors, model.tokenizer.colors)


def test_samples(build: Callable[..., ImageGPT]):
    """Pictures in the palette's colors, the same for a seed whatever their number; another seed, others."""
    model = build()
    images = model.sample(5, seed=3)
    assert images.shape == (5, 3, 4, 4)
    assert torch.equal(model.tokenizer.decode(model.tokenizer.encode(images)), images)
    assert torch.equal(model.sample(2, seed=3), images[:2])
    assert not torch.equal(model.sample(5, seed=4), images)


def test_greedy_samples(build: Callable[..., ImageGPT]):
    """Every pixel is the likeliest after those before it, read without a cache."""
    model = build()
    ids = model.tokenizer.encode(model.sample(1, GREEDY)).flatten(1)
    assert torch.equal(model.network(ids)[0].argmax(-1), ids)


def test_classes_are_dealt_out(build: Callable[..., ImageGPT]):
    """By name or number, in turn; none is no class."""
    model = build("classes")
    named = model.sample(4, GREEDY, classes=["dark", "light"])
    assert torch.equal(named, model.sample(4, GREEDY, classes=[1, 0]))
    assert torch.equal(named[0], named[2]) and not torch.equal(named[0], named[1])
    free = model.tokenizer.encode(model.sample(1, GREEDY)).flatten(1)
    assert torch.equal(model.network(free, torch.tensor([2]))[0].argmax(-1), free)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_completions(rows: int, build: Callable[..., ImageGPT], images: Tensor):
    """Rows above stay, candidates of a picture stand together and differ, greedy ones follow the rows."""
    model = build()
    drawn = model.complete(images, rows, candidates=3)
    assert drawn.shape == (15, 3, 4, 4)
    assert torch.equal(drawn[:, :, :rows], images.repeat_interleave(3, dim=0)[:, :, :rows])
    assert len({tuple(image.flatten().tolist()) for image in drawn[:3]}) > 1
    ids = model.tokenizer.encode(model.complete(images, rows, GREEDY)).flatten(1)
    assert torch.equal(model.network(ids)[0].argmax(-1)[:, 4 * rows :], ids[:, 4 * rows :])


def test_holes_are_filled(build: Callable[..., ImageGPT], images: Tensor):
    """What is not in the hole stays; what lay in it does not matter; in any batch a picture is the same."""
    model = build("both")
    hole = torch.zeros(4, 4, dtype=torch.bool)
    hole[1:3, 1:4] = True
    filled = model.fill(images, hole, passes=3, seed=5)
    assert torch.equal(filled.masked_fill(hole, 0), images.masked_fill(hole, 0))
    assert not torch.equal(filled, images)
    secret = torch.where(hole, images.flip(0), images)
    assert torch.equal(model.fill(secret, hole, passes=3, seed=5), filled)
    torch.testing.assert_close(model.fill(images[:2], hole, passes=3, seed=5), filled[:2])
    holes = torch.stack([hole, ~hole])
    each = model.fill(images[:2], holes, passes=3)
    assert torch.equal(each[1][:, hole], images[1][:, hole])


def test_likelihood(build: Callable[..., ImageGPT], images: Tensor):
    """Mean nats of a token given those before; bits a pixel are those of all tokens over all pixels."""
    model = build()
    ids = model.tokenizer.encode(images).flatten(1)
    by_hand = -model.network(ids)[0].log_softmax(-1).gather(2, ids[..., None]).mean((1, 2))
    nats = model.nll(images)
    torch.testing.assert_close(nats, by_hand)
    torch.testing.assert_close(model.bits_per_pixel(nats), by_hand / math.log(2))
    assert model.bits_per_pixel(math.log(6)) == pytest.approx(math.log2(6))


def test_likelihood_of_classes(build: Callable[..., ImageGPT], images: Tensor):
    """A class changes it; none is no class."""
    model = build("classes")
    light, dark, free = (model.nll(images, labels) for labels in (["light"], ["dark"], []))
    assert not torch.equal(light, dark) and not torch.equal(light, free)


def test_naming(build: Callable[..., ImageGPT], images: Tensor):
    """Probabilities of the classes, those of the trained classifier."""
    model = build(classifier=True)
    found = model.classify(images)
    assert found.shape == (5, 2)
    torch.testing.assert_close(found.sum(1), torch.ones(5))
    ids = model.tokenizer.encode(images).flatten(1)
    torch.testing.assert_close(found, model.network(ids)[1].softmax(-1))


MISTAKES: dict[str, tuple[str, Callable[[ImageGPT, Tensor], object]]] = {
    "sees both sides of a picture, and cannot draw from nothing": ("both", lambda m, _: m.sample(1)),
    "sees both sides of a picture, and cannot complete": ("both", lambda m, x: m.complete(x, 2)),
    "sees both sides of a picture, and cannot tell a likelihood": ("both", lambda m, x: m.nll(x)),
    "sees the past only of a picture, and cannot fill holes": (
        "past", lambda m, x: m.fill(x, torch.ones(4, 4, dtype=torch.bool)),
    ),
    "4 rows cannot be kept of 4: keep 0 to 3": ("past", lambda m, x: m.complete(x, 4)),
    "0 pictures are none": ("past", lambda m, _: m.sample(0)),
    "this model draws no classes: leave them out": ("past", lambda m, _: m.sample(1, classes=["light"])),
    "no class 'gray': this model knows light, dark": ("classes", lambda m, _: m.sample(1, classes=["gray"])),
    "no class 2: this model knows light, dark": ("classes", lambda m, _: m.sample(1, classes=[2])),
    "this model names no classes: fine-tune it": ("past", lambda m, x: m.classify(x)),
    "pictures of 3x4 codes meet a model of 4x4": ("past", lambda m, x: m.nll(x[:, :, :3])),
    r"holes are torch.bool of shape \(3, 4\): give bool \(5, 4, 4\)": (
        "both", lambda m, x: m.fill(x, torch.ones(3, 4, dtype=torch.bool)),
    ),
    "0 passes fill nothing": (
        "both", lambda m, x: m.fill(x, torch.ones(4, 4, dtype=torch.bool), passes=0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("told", MISTAKES)
def test_mistakes(told: str, build: Callable[..., ImageGPT], images: Tensor):
    """Each is one sentence with the limit or the way out."""
    kind, mistake = MISTAKES[told]
    with pytest.raises(ValueError, match=told):
        mistake(build(kind), images)


def test_checkpoints_of_others(build: Callable[..., ImageGPT], tmp_path: Path):
    """A folder of another family says which setting or number does not fit."""
    model = build()
    model.gpt.save_pretrained(tmp_path / "gpt")
    with pytest.raises(ValueError, match="config.json: unknown setting `vocab`"):
        ImageGPT.from_pretrained(tmp_path / "gpt")
    model.tokenizer.save_pretrained(tmp_path / "palette")
    with pytest.raises(ValueError, match="config.json: unknown setting `codes`"):
        ImageGPT.from_pretrained(tmp_path / "palette")
    model.save_pretrained(tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    path.write_text(path.read_text().replace('"vocab": 6', '"vocab": 9'))
    with pytest.raises(ValueError, match="gpt.vocab is 9, but the tokenizer has 6 codes: .* LVM has"):
        ImageGPT.from_pretrained(tmp_path / "other")


def test_settings_that_disagree(build: Callable[..., ImageGPT]):
    """Classes are counted twice, and must agree."""
    config = build("classes").config
    with pytest.raises(ValueError, match="gpt.prefix.classes is 2, the data have 3 classes: set it to that"):
        replace(config, classes=("a", "b", "c"))
    with pytest.raises(ValueError, match="a classifier needs classes: give their names"):
        replace(build().config, classifier=True)
