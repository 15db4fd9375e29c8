"""ImageGPT against transformers': one folder gives the same ids, likelihoods, features and classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from imagegpt.model import ImageGPT
from imagegpt.network import nats
from imagegpt.probe import features
from imagegpt.published import import_imagegpt, is_imagegpt, load_published
from vqtok.gpt.sampling import Sampling
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.published.palettes import write_preprocessor

pytestmark = pytest.mark.peer

SIDE, CODES = 6, 17
SHAPE = {"vocab_size": CODES + 1, "n_positions": SIDE**2, "n_embd": 32, "n_layer": 3, "n_head": 4}
NAMES = {0: "cat", 1: "cow", 2: "dog"}


def lively(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """With weights, biases included, large enough for attention to be far from uniform."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3 if weight.ndim == 2 else 0.1)
            weight.add_(1.0) if weight.ndim == 1 and weight.shape == (32,) else None
    return model.eval()


@pytest.fixture(scope="module")
def processor() -> transformers.ImageGPTImageProcessor:
    """Seventeen random colors, for pictures of six pixels a side."""
    torch.manual_seed(1)
    return transformers.ImageGPTImageProcessor(
        clusters=torch.rand(CODES, 3) * 2 - 1, size={"height": SIDE, "width": SIDE}, do_color_quantize=True
    )


@pytest.fixture(scope="module")
def peer() -> transformers.ImageGPTForCausalImageModeling:
    """A random model with a head for colors."""
    torch.manual_seed(0)
    return lively(transformers.ImageGPTForCausalImageModeling(transformers.ImageGPTConfig(**SHAPE)))


@pytest.fixture(scope="module")
def folder(
    peer: transformers.PreTrainedModel,
    processor: transformers.ImageGPTImageProcessor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Model and palette as transformers saves them, in one folder."""
    place = tmp_path_factory.mktemp("imagegpt")
    peer.save_pretrained(place)
    processor.save_pretrained(place)
    return place


@pytest.fixture
def pictures() -> np.ndarray:
    """(4, 6, 6, 3) uint8."""
    return np.random.default_rng(2).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)


def shown(pictures: np.ndarray) -> Tensor:
    """(4, 3, 6, 6) in [0, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255


def begun(ids: Tensor) -> Tensor:
    """What the peer reads: its start token, and all ids but the last."""
    return torch.cat([torch.full((len(ids), 1), CODES), ids[:, :-1]], dim=1)


def test_ids(processor: transformers.ImageGPTImageProcessor, folder: Path, pictures: np.ndarray):
    """A picture has the ids that transformers' processor gives it."""
    theirs = processor(list(pictures), return_tensors="pt").input_ids
    assert torch.equal(load_tokenizer(folder).encode(shown(pictures)).flatten(1), theirs)


def test_a_palette_of_ours_is_one_of_theirs(folder: Path, pictures: np.ndarray, tmp_path: Path):
    """What we write, transformers reads, and gives the same ids."""
    ours = load_tokenizer(folder)
    write_preprocessor(ours, tmp_path)
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    ids = theirs(list(pictures), return_tensors="pt").input_ids
    assert torch.equal(ours.encode(shown(pictures)).flatten(1), ids)


def test_likelihood(peer: transformers.PreTrainedModel, folder: Path, pictures: np.ndarray):
    """Nats of every pixel, the first and the last too, which the peer cannot be asked for in one call."""
    model = load_published(folder)
    ids = model.tokenizer.encode(shown(pictures)).flatten(1)
    with torch.no_grad():
        logits = peer(begun(ids)).logits
    wanted = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
    with torch.no_grad():
        torch.testing.assert_close(nats(model.network, ids), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.nll(shown(pictures)), wanted.mean(1), atol=1e-4, rtol=0)


def test_greedy_pictures(peer: transformers.PreTrainedModel, folder: Path):
    """The likeliest picture is the same, token by token."""
    model = load_published(folder)
    start = torch.full((1, 1), CODES)
    wanted = peer.generate(start, max_length=SIDE**2 + 1, do_sample=False, pad_token_id=CODES)[:, 1:]
    found = model.tokenizer.encode(model.sample(1, Sampling(temperature=0.0))).flatten(1)
    assert torch.equal(found, wanted)


def test_probe_features(peer: transformers.PreTrainedModel, folder: Path, pictures: np.ndarray):
    """Means of the peer's hidden states, after its norm of the block that reads them."""
    model = load_published(folder)
    ids = model.tokenizer.encode(shown(pictures)).flatten(1)
    with torch.no_grad():
        states = peer(begun(ids), output_hidden_states=True).hidden_states
        blocks = zip(peer.transformer.h, states[:-1], strict=True)
        wanted = [block.ln_1(state).mean(1) for block, state in blocks] + [states[-1].mean(1)]
    torch.testing.assert_close(features(model.network, ids), torch.stack(wanted), atol=1e-4, rtol=0)


def test_classes(processor: transformers.ImageGPTImageProcessor, pictures: np.ndarray, tmp_path: Path):
    """One that names classes: the same probabilities and names; without a head, all colors are alike."""
    torch.manual_seed(0)
    config = transformers.ImageGPTConfig(**SHAPE, id2label=NAMES, label2id={n: k for k, n in NAMES.items()})
    peer = lively(transformers.ImageGPTForImageClassification(config))
    peer.save_pretrained(tmp_path / "theirs")
    processor.save_pretrained(tmp_path / "theirs")
    assert is_imagegpt(tmp_path / "theirs")
    told = import_imagegpt(tmp_path / "theirs", tmp_path / "ours")
    assert told.startswith("ImageGPT that sees the past, 3 classes, without a head for colors: 3 layers")
    model = ImageGPT.from_pretrained(tmp_path / "ours")
    assert model.config.classes == ("cat", "cow", "dog")
    ids = model.tokenizer.encode(shown(pictures)).flatten(1)
    with torch.no_grad():
        wanted = peer(begun(ids)).logits.softmax(-1)
    torch.testing.assert_close(model.classify(shown(pictures)), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.nll(shown(pictures)), torch.full((4,), float(np.log(CODES))))
