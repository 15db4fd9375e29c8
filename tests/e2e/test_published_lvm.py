"""A published LVM as its authors left it, transformer and tokenizer: imported and prompted by commands."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image

from lvm import LVM
from lvm.layout import BareLayout
from vqtok.gpt import GPT, GPTConfig
from vqtok.gpt.published import save_llama
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer

CODES, SIZE = 8192, 64


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a tiny `LlamaForCausalLM`, a tiny tokenizer of open-muse's, pictures."""
    monkeypatch.chdir(tmp_path)
    shape = {"vocab": CODES + 100, "length": 16 * 256, "width": 16, "depth": 1, "heads": 2}
    save_llama(GPT(GPTConfig(**shape)), "theirs")
    autoencoder = AutoencoderConfig(channels=32, multipliers=(1, 1, 2), blocks=1, latent=4)
    quantizer = VQConfig(codes=CODES, width=4, normalize=False)
    muse = VQTokenizer(TokenizerConfig(autoencoder=autoencoder, quantizer=quantizer))
    (tmp_path / "muse").mkdir()
    torch.save({name: weight.detach() for name, weight in muse.named_parameters()}, "muse/pytorch_model.bin")
    (tmp_path / "muse" / "config.json").write_text(
        json.dumps({"_class_name": "VQGANModel", "resolution": SIZE})
    )
    for name, pixels in zip("abc", torch.randint(256, (3, SIZE, SIZE, 3), dtype=torch.uint8), strict=True):
        Image.fromarray(pixels.numpy()).save(f"{name}.png")
    return tmp_path


def test_imported_and_prompted(place: Path, vqtok: Callable):
    """One folder, one line about it; answers are whole pictures, and the tokenizer's black is muse's."""
    done = vqtok("import", "theirs", "ours", "--tokenizer", "muse")
    assert done.code == 0 and "LVM: 1 layers of width 16, 8192 codes and 100 ids above them, 256" in done.out
    model = LVM.from_pretrained("ours")
    assert model.layout == BareLayout(CODES, 256) and model.shots == 7
    assert (model.tokenizer.config.low, model.tokenizer.config.size) == (0, SIZE)
    pictures = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(model.tokenizer.encode(pictures), load_tokenizer("muse").encode(pictures))
    done = vqtok(
        "prompt", "--model", "ours", "--pair", "a.png", "b.png", "--query", "c.png", "--out", "o.png"
    )
    assert done.code == 0 and (place / "o.png").is_file()


def test_from_a_stream(place: Path, vqtok: Callable, write_flax: Callable):
    """EasyLM's file of a named size is recognized, and imported under its heads."""
    rng, width, hidden = np.random.default_rng(0), 128, 256
    arrays = {"transformer.wte.embedding": rng.normal(size=(CODES + 100, width)).astype(np.float32)}
    arrays |= {"lm_head.kernel": rng.normal(size=(width, CODES + 100)).astype(np.float16)}
    arrays |= {"transformer.ln_f.kernel": np.ones(width, np.float32)}
    for layer in range(2):
        inside = f"transformer.h.{layer}."
        arrays |= {f"{inside}attention.w{x}.kernel": rng.normal(size=(width, width)) for x in "qkvo"}
        arrays |= {f"{inside}feed_forward.w{x}.kernel": rng.normal(size=(width, hidden)) for x in "13"}
        arrays |= {f"{inside}feed_forward.w2.kernel": rng.normal(size=(hidden, width))}
        arrays |= {f"{inside}{name}_norm.kernel": rng.normal(size=width) for name in ("attention", "ffn")}
    write_flax(place / "streaming_params", arrays)
    assert vqtok("import", "streaming_params", "ours", "--tokenizer", "muse").code == 0
    gpt = LVM.from_pretrained("ours").gpt
    assert (gpt.config.heads, gpt.config.length) == (4, 4096)
    keys = torch.from_numpy(arrays["transformer.h.1.attention.wk.kernel"]).float()
    found = gpt.blocks[1].attention.qkv.weight[width : 2 * width]
    assert torch.equal(rearrange(found, "(n two k) d -> d (n k two)", n=4, two=2), keys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "theirs ours",
            "theirs has no folder `tokenizer` with the tokenizer: name a tokenizer, such as LVM's",
        ),
        ("torn ours --tokenizer muse", "torn is truncated or no msgpack of Flax's"),
        (
            "theirs ours --tokenizer large",
            "4096 tokens an image leave no room for a query and its answer in 4096",
        ),
        ("muse ours --tokenizer muse", "config.json: 'hidden_size' is missing: is this a LlamaForCausalLM?"),
        ("theirs ours --tokenizer theirs", "no tokenizer known here has tensors such as lm_head.weight"),
    ],
)
def test_mistakes(words: str, told: str, place: Path, vqtok: Callable):
    """One line that says what is wrong, and no folder."""
    (place / "large").mkdir()
    (place / "large" / "pytorch_model.bin").write_bytes((place / "muse" / "pytorch_model.bin").read_bytes())
    (place / "torn").write_bytes(b"\x92\x93\xabtransformer")
    done = vqtok("import", *words.split())
    assert done.code == 2 and told in done.err and not (place / "ours").exists()
