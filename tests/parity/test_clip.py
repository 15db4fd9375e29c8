"""Others' CLIPs by our scorers as by their own code, and our loss and temperature against theirs."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("vqtok.text", reason="the text tokenizer is not built yet")  # goes with its branch

from vqtok.clip import load_scorer
from vqtok.clip.loss import contrastive_loss
from vqtok.clip.towers import SHARPEST, START

pytestmark = pytest.mark.peer
CAPTIONS = ["a cat", "dog", "a red cat and a dog"]


@pytest.fixture
def images() -> torch.Tensor:
    """(2, 3, 32, 32)."""
    return torch.rand(2, 3, 32, 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CLIP of transformers with random weights, and a tokenizer of letters."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: id for id, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    text = shape | ends | {"vocab_size": len(pieces), "max_position_embeddings": 24, "projection_dim": 8}
    vision = shape | {"image_size": 32, "patch_size": 16, "projection_dim": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    out = tmp_path / "clip"
    model.save_pretrained(out)
    CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(out)
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_rescale=False
    ).save_pretrained(out)
    return out


def test_transformers(folder, images):
    """Similarity is that of the model's own forward pass, with its own preparation of images and captions."""
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    pixels = CLIPImageProcessor.from_pretrained(folder)(images=list(images), return_tensors="pt")
    words = AutoTokenizer.from_pretrained(folder)(CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**words, **pixels).logits_per_image / model.logit_scale.exp()
    # Float32 rounding of theirs, which multiplies and divides by the scale.
    torch.testing.assert_close(load_scorer(f"hf:{folder}")(images, CAPTIONS), theirs, atol=1e-5, rtol=0)


def test_transformers_long_caption(folder, images):
    """A caption that is too long is cut, where their model would fail."""
    assert load_scorer(f"hf:{folder}")(images, ["cat " * 100]).shape == (2, 1)


def test_transformers_large_images(folder):
    """Larger images are scaled and cut in the middle as by their processor."""
    from transformers import CLIPImageProcessor, CLIPModel

    large = F.interpolate(torch.rand(1, 3, 8, 12), (64, 96), mode="bicubic", antialias=True).clamp(0, 1)
    scorer = load_scorer(f"hf:{folder}")
    prepare = CLIPImageProcessor.from_pretrained(folder)
    pixels = prepare(images=list(large), return_tensors="pt")["pixel_values"]
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        theirs = F.normalize(model.visual_projection(model.vision_model(pixels).pooler_output), dim=-1)
    # They scale before they cut, which moves the sampling by less than a pixel.
    assert F.cosine_similarity(scorer._images(large), theirs).item() > 0.999


def test_open_clip(images, tmp_path):
    """Similarity is that of open_clip's own preparation and encoders."""
    open_clip = pytest.importorskip("open_clip")
    shape = {"layers": 2, "width": 32}
    config = {
        "embed_dim": 16,
        "vision_cfg": shape | {"image_size": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": shape | {"context_length": 77, "vocab_size": 49408, "heads": 2},
    }
    (tmp_path / "tiny-vqtok.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-vqtok.json")
    model, _, prepare = open_clip.create_model_and_transforms("tiny-vqtok")
    model.eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    from torchvision.transforms.v2.functional import to_pil_image

    pixels = torch.stack([prepare(to_pil_image(image)) for image in images.mul(255).round().div(255)])
    with torch.no_grad():
        seen = model.encode_image(pixels, normalize=True)
        read = model.encode_text(open_clip.get_tokenizer("tiny-vqtok")(CAPTIONS), normalize=True)
    ours = load_scorer(f"open_clip:tiny-vqtok:{tmp_path / 'weights.pt'}")
    found = ours(images.mul(255).round().div(255), CAPTIONS)
    torch.testing.assert_close(found, seen @ read.T, atol=1e-5, rtol=0)  # float32 rounding


def test_open_clip_has_no_such_thing(tmp_path):
    """Architectures and weights that open_clip does not know are refused by name."""
    pytest.importorskip("open_clip")
    with pytest.raises(ValueError, match="ViT-B-33"):
        load_scorer("open_clip:ViT-B-33:laion2b_s34b_b79k")
    with pytest.raises(ValueError, match="no-such-tag"):
        load_scorer("open_clip:ViT-B-32:no-such-tag")


def test_loss(folder, images):
    """InfoNCE of different captions is the loss of transformers' CLIPModel on the same vectors."""
    from transformers import AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)(CAPTIONS, padding=True, return_tensors="pt")
    theirs = model(**words, pixel_values=torch.rand(3, 3, 32, 32), return_loss=True)
    ours = contrastive_loss(
        theirs.image_embeds, theirs.text_embeds, model.logit_scale.exp(), torch.arange(3)
    )
    assert ours.item() == pytest.approx(theirs.loss.item(), rel=1e-5)


def test_temperature():
    """We start at transformers' and open_clip's scale, whose weights are at most ln 100."""
    from transformers import CLIPConfig

    assert math.log(START) == pytest.approx(CLIPConfig().logit_scale_init_value, abs=1e-3)
    assert SHARPEST == 100
