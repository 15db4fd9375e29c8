"""Published LVMs: what is wrong with their files is named, and what is right becomes a bundle of ours."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lvm.generate import answer_nats, answers, nats_and_answers
from lvm.layout import BareConfig
from lvm.model import LVM, LVMConfig
from lvm.published import export_llama, import_lvm, is_lvm, load_lvm
from lvm.shots import nats_of
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.sampling import Sampling
from vqtok.tokenizers import load_tokenizer

CODES, TOKENS = 32, 16  # of the tiny tokenizer
SHAPE = {"vocab": CODES + 100, "length": 128, "width": 16, "depth": 2, "heads": 2, "hidden": 32}


@pytest.fixture
def bare(tokenizer_folder: Path) -> LVM:
    """An untrained LVM as the published one is, whose head would rather have ids above the codes."""
    tokenizer = load_tokenizer(tokenizer_folder)
    config = LVMConfig(tokenizer=tokenizer.config, gpt=GPTConfig(**SHAPE), layout=BareConfig())
    model = LVM(config).eval()
    model.tokenizer = tokenizer
    with torch.no_grad():
        model.gpt.embed.weight.normal_(std=0.5)
        model.gpt.head.weight.normal_(std=0.5)[CODES:] *= 100
    return model


@pytest.fixture
def theirs(bare: LVM, tokenizer_folder: Path, tmp_path: Path) -> Path:
    """Its weights as a `LlamaForCausalLM`, with its tokenizer beside."""
    export_llama(bare, tmp_path / "theirs")
    shutil.copytree(tokenizer_folder, tmp_path / "theirs" / "tokenizer")
    return tmp_path / "theirs"


def easylm(bare: LVM) -> dict[str, np.ndarray]:
    """Its weights under EasyLM's names, matrices (in, out); queries and keys are not put in order."""
    gpt, arrays = bare.gpt, {}

    def put(name: str, tensor: Tensor) -> None:
        turned = tensor.T if tensor.ndim == 2 else tensor
        arrays[name] = turned.detach().contiguous().numpy()

    for layer, block in enumerate(gpt.blocks):
        inside = f"transformer.h.{layer}."
        parts = [
            *zip("qkv", block.attention.qkv.weight.chunk(3), strict=True),
            ("o", block.attention.out.weight),
        ]
        for letter, part in parts:
            put(f"{inside}attention.w{letter}.kernel", part)
        gate, up = block.mlp.gate_up.weight.chunk(2)
        for number, part in ((1, gate), (2, block.mlp.down.weight), (3, up)):
            put(f"{inside}feed_forward.w{number}.kernel", part)
        put(f"{inside}attention_norm.kernel", block.attention_norm.weight)
        put(f"{inside}ffn_norm.kernel", block.mlp_norm.weight)
    put("transformer.ln_f.kernel", gpt.norm.weight)
    put("lm_head.kernel", gpt.head.weight)
    arrays["transformer.wte.embedding"] = gpt.embed.weight.detach().numpy()
    return arrays


def test_imported(bare: LVM, theirs: Path, tmp_path: Path):
    """A folder of ours with the tokenizer, its layout, the same weights, and a line about it."""
    assert is_lvm(theirs) and not is_lvm(theirs / "tokenizer") and not is_lvm(theirs / "model.safetensors")
    told = import_lvm(theirs, tmp_path / "ours")
    assert told.startswith(
        "LVM: 2 layers of width 16, 32 codes and 100 ids above them, 16 tokens an image, 3 "
    )
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["layout"]["kind"] == "bare"
    model = LVM.from_pretrained(tmp_path / "ours")
    assert model.layout == bare.layout and model.config.gpt == replace(bare.config.gpt, kv_heads=2)
    for name, tensor in bare.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_loading_draws_nothing(theirs: Path):
    """The caller's random numbers go on as if nothing had been loaded."""
    before = torch.get_rng_state()
    load_lvm(theirs)
    assert torch.equal(torch.get_rng_state(), before)


def test_answers_are_whole_images_of_codes(theirs: Path):
    """Though ids above the codes score best everywhere, as a greedy answer and as drawn ones."""
    model = load_lvm(theirs)
    prompt = {"pairs": [(torch.rand(3, 64, 64), torch.rand(3, 64, 64))], "query": torch.rand(3, 64, 64)}
    assert model.prompt(**prompt).shape == (1, 3, 64, 64)
    assert model.prompt(**prompt, candidates=3, sampling=Sampling(temperature=2.0)).shape == (3, 3, 64, 64)
    with pytest.raises(ValueError, match="4 pairs are too many, 3 fit before a query"):
        model.prompt([(prompt["query"],) * 2] * 4, prompt["query"])


def test_nats_of_answers(bare: LVM):
    """Without BOS the first image's first code has no score, and answers have all of theirs."""
    sentences = torch.randint(CODES, (3, 4, TOKENS))
    scores = bare.gpt(sentences.flatten(1)).log_softmax(-1)[:, :-1]
    nats = -scores.gather(2, sentences.flatten(1)[:, 1:, None])[..., 0]
    nats = torch.cat([torch.zeros(3, 1), nats], dim=1).view(3, 4, TOKENS)
    found = nats_of(bare.gpt, bare.layout, sentences, [False, True] * 2)
    torch.testing.assert_close(found, nats[:, 1::2])
    every = nats_of(bare.gpt, bare.layout, sentences, [True] * 4)
    torch.testing.assert_close(every, nats)


@pytest.mark.parametrize("images", [2, 4])
def test_evaluation_without_marks(images: int, bare: LVM):
    """Nats and greedy answers of one reading are those of two, from a query alone on."""
    sentences = torch.randint(CODES, (3, images, TOKENS))
    nats, drawn = nats_and_answers(bare.gpt, bare.layout, sentences)
    torch.testing.assert_close(nats, answer_nats(bare.gpt, bare.layout, sentences))
    greedy = Sampling(temperature=0.0)
    assert torch.equal(drawn, answers(bare.gpt, bare.layout, sentences[:, :-1], greedy))
    assert int(drawn.max()) < CODES


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model.layers.1.self_attn.k_proj.weight": None}, "missing model.layers.1.self_attn.k_proj.weight"),
        ({"lm_head.weight": None}, "missing lm_head.weight"),
        ({"model.layers.2.mlp.up_proj.weight": torch.ones(1)}, "extra model.layers.2.mlp.up_proj.weight"),
        ({"model.norm.weight": torch.ones(17)}, r"mis-shaped model.norm.weight \(17,\) instead of \(16,\)"),
    ],
)
def test_strict(change: dict[str, Tensor | None], told: str, theirs: Path):
    """A tensor that is missing, extra or mis-shaped is named."""
    tensors = load_file(theirs / "model.safetensors") | change
    save_file(
        {name: tensor for name, tensor in tensors.items() if tensor is not None}, theirs / "model.safetensors"
    )
    with pytest.raises(ValueError, match=told):
        load_lvm(theirs)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tie_word_embeddings": True}, "tie_word_embeddings is true, but the head of an LVM is a matrix"),
        (
            {"vocab_size": 131},
            "a vocabulary of 131, but 32 codes and 100 ids above them make 132: give the tok",
        ),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"max_position_embeddings": None}, "'max_position_embeddings' is missing"),
    ],
)
def test_other_models_are_refused(settings: dict, told: str, theirs: Path):
    """By config.json, before any weight is read."""
    (theirs / "model.safetensors").write_bytes(b"unread")
    found = json.loads((theirs / "config.json").read_text()) | settings
    found = {name: value for name, value in found.items() if value is not None}
    (theirs / "config.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match=told):
        load_lvm(theirs)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"transformer.h.1.attention.wk.kernel": None}, "missing transformer.h.1.attention.wk.kernel"),
        ({"transformer.h.2.x": np.ones(1)}, "extra transformer.h.2.x"),
        ({"transformer.ln_f.bias": np.ones(1)}, "extra transformer.ln_f.bias"),
        (
            {"transformer.h.0.attention.wq.kernel": np.ones((16, 15))},
            r"attention.wq.kernel \(15, 16\) instead",
        ),
        ({"lm_head.kernel": None}, "missing lm_head.kernel"),
        ({"transformer.wte.embedding": np.ones((131, 16))}, "a vocabulary of 131, but 32 codes"),
        ({"transformer.wte.embedding": None}, "is no large vision model: missing transformer.wte.embedding"),
        ({"params.lm_head.kernel": np.ones(1)}, "holds lm_head.kernel twice: give a file of one model"),
    ],
)
def test_strict_with_easylm(
    change: dict, told: str, bare: LVM, tokenizer_folder: Path, write_flax: Callable, tmp_path: Path
):
    """The same of EasyLM's files, by its names."""
    arrays = {name: array for name, array in (easylm(bare) | change).items() if array is not None}
    path = write_flax(tmp_path / "streaming_params", arrays)
    assert is_lvm(path)
    with pytest.raises(ValueError, match=told):
        load_lvm(path, tokenizer_folder, heads=2)


def test_easylm_without_heads(bare: LVM, tokenizer_folder: Path, write_flax: Callable, tmp_path: Path):
    """A size without a name does not tell them; with them every matrix but queries and keys is as it was."""
    path = write_flax(tmp_path / "streaming_params", easylm(bare))
    with pytest.raises(ValueError, match="2 layers of width 16, which is no named size: give heads="):
        load_lvm(path, tokenizer_folder)
    found = load_lvm(path, tokenizer_folder, heads=2)
    for name, tensor in bare.gpt.state_dict().items():
        kept = found.gpt.state_dict()[name]
        rows = 2 * SHAPE["width"] if name.endswith("qkv.weight") else 0
        assert torch.equal(kept[rows:], tensor[rows:]), name
        # two heads of 4 pairs: rows 0 and 1 are a pair and go to places 0 and 4
        assert not rows or torch.equal(kept[[0, 4, 1, 5]], tensor[:4])


def test_the_tokenizer_is_found_or_asked_for(theirs: Path, tmp_path: Path):
    """It lies beside, is named, or is asked for; one that an LVM cannot use is refused."""
    shutil.move(theirs / "tokenizer", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"{theirs} has no folder `tokenizer` with the tokenizer: name a"):
        load_lvm(theirs)
    assert load_lvm(theirs, tmp_path / "elsewhere").layout.codes == CODES
    with pytest.raises(ValueError, match="Emma02/vqvae_ckpts"):  # no test reaches a hub
        load_lvm("Emma02/LVM_ckpts")


def test_missing_files_are_named(theirs: Path):
    """A folder without settings or weights."""
    (theirs / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="theirs holds none of model.safetensors"):
        load_lvm(theirs)
    (theirs / "config.json").unlink()
    with pytest.raises(ValueError, match="config.json is missing"):
        load_lvm(theirs)
