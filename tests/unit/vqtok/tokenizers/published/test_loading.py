"""Published files as users have them: containers, folders, part of a model; and what is refused, by name."""

import json
import os
import pickle
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copyfile

import pytest
import torch
from huggingface_hub import _CACHED_NO_EXIST
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor

from vqtok.storage import hub as hub_files
from vqtok.storage import pretrained
from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.dvae import DVAEConfig, DVAETokenizer
from vqtok.tokenizers.interface import ImageTokenizer
from vqtok.tokenizers.loading import import_tokenizer, load_tokenizer
from vqtok.tokenizers.magvit2 import MAGVIT2Config, MAGVIT2Tokenizer
from vqtok.tokenizers.maskgit import MaskGITConfig, MaskGITTokenizer
from vqtok.tokenizers.quantizers.ibq import IBQConfig
from vqtok.tokenizers.quantizers.lfq import LFQConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer

Tensors = dict[str, Tensor]
LOST, EXTRA, SHAPED = "encoder.mid.block_1.norm1.bias", "encoder.mid.block_3.norm1.bias", "quant_conv.bias"


@pytest.fixture
def taming() -> VQTokenizer:
    """A tiny tokenizer of taming's family, for 256 pixels, with groups of 32 as all published ones have."""
    return VQTokenizer(
        TokenizerConfig(
            autoencoder=AutoencoderConfig(channels=32, multipliers=(1, 2), blocks=1, latent=4),
            quantizer=VQConfig(codes=16, width=4, normalize=False),
        )
    ).eval()


def weights(tokenizer: ImageTokenizer) -> Tensors:
    """What a published file holds of it: the parameters."""
    return {name: parameter.detach().clone() for name, parameter in tokenizer.named_parameters()}


def same(one: ImageTokenizer, other: ImageTokenizer) -> bool:
    """Whether both have the same config and the same parameters."""
    mine, yours = weights(one), weights(other)
    return (
        one.config == other.config
        and mine.keys() == yours.keys()
        and all(torch.equal(mine[name], yours[name]) for name in mine)
    )


@pytest.mark.parametrize("key", ["state_dict", "model", "ema", None])
def test_containers(taming: VQTokenizer, key: str | None, tmp_path: Path):
    """Checkpoints of training are opened down to the weights; the running mean is preferred."""
    content = {key: weights(taming), "epoch": 1} if key else weights(taming)
    if key == "ema":
        content["model"] = {name: torch.zeros_like(tensor) for name, tensor in content["ema"].items()}
    torch.save(content, tmp_path / "last.ckpt")
    assert same(load_tokenizer(tmp_path / "last.ckpt"), taming)
    assert same(load_tokenizer(tmp_path), taming)  # the only file of weights in its folder


def test_riders_of_training_are_left_out(taming: VQTokenizer, tmp_path: Path):
    """A discriminator and a perceptual loss in the checkpoint are dropped, and nothing else is."""
    rider = {
        "loss.discriminator.main.0.weight": torch.ones(4),
        "loss.perceptual_loss.net.bias": torch.ones(4),
    }
    torch.save({"state_dict": weights(taming) | rider}, tmp_path / "last.ckpt")
    assert same(load_tokenizer(tmp_path / "last.ckpt"), taming)


def test_shadows_are_preferred(taming: VQTokenizer, tmp_path: Path):
    """Running means kept beside the weights, their names without dots, are what is loaded."""
    means = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in weights(taming).items()}
    raw = {name: torch.zeros_like(tensor) for name, tensor in weights(taming).items()}
    counters = {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(3)}
    torch.save({"state_dict": raw | means | counters}, tmp_path / "last.ckpt")
    assert same(load_tokenizer(tmp_path / "last.ckpt"), taming)


def test_the_config_beside_the_weights_is_heard(taming: VQTokenizer, tmp_path: Path):
    """A class named there tells the range of pixels; size too; and what cannot be had is refused."""
    save_file(weights(taming), tmp_path / "model.safetensors")
    assert load_tokenizer(tmp_path).config.low == -1
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "VQGANModel", "resolution": 64}))
    config = load_tokenizer(tmp_path).config
    assert (config.low, config.size) == (0, 64)
    (tmp_path / "config.json").write_text(json.dumps({"norm_type": "spatial"}))
    with pytest.raises(
        ValueError, match="its config has norm_type 'spatial', but only 'group' can be loaded"
    ):
        load_tokenizer(tmp_path)


def test_shards_of_a_larger_model(taming: VQTokenizer, tmp_path: Path):
    """Of a model in shards only those that hold the tokenizer are read."""
    named = {f"model.vqmodel.{name}": tensor for name, tensor in weights(taming).items()}
    half = len(named) // 2
    shards = {"a.safetensors": dict([*named.items()][:half]), "b.safetensors": dict([*named.items()][half:])}
    places = {name: shard for shard, tensors in shards.items() for name in tensors}
    for shard, tensors in shards.items():
        save_file(tensors | {f"lm_head.{shard}": torch.ones(2)}, tmp_path / shard)
    index = {"weight_map": places | {"lm_head.c": "not-there.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(load_tokenizer(tmp_path), taming)


@dataclass
class Hub:
    """Stands for the hub and its cache.

    Args:
        there: A folder with the files of the repository some/where.
        cache: Receives those that were asked for.
        online: Whether it can be asked.
        gone: Names that the cache knows not to be there.
    """

    there: Path
    cache: Path
    online: bool = True
    gone: set[str] = field(default_factory=set)

    def download(self, repo: str, name: str, **_: object) -> str:
        """As `hf_hub_download`."""
        assert repo == "some/where"
        if not (self.cache / name).is_file():
            if not self.online:
                raise LocalEntryNotFoundError("no network")
            if not (self.there / name).is_file():
                self.gone.add(name)
                raise EntryNotFoundError(name)
            (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
            copyfile(self.there / name, self.cache / name)
        return str(self.cache / name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty one."""
    hub = Hub(tmp_path / "there", tmp_path / "cache")
    hub.there.mkdir()
    monkeypatch.setattr(hub_files, "hf_hub_download", hub.download)
    monkeypatch.setattr(pretrained, "hf_hub_download", hub.download)
    monkeypatch.setattr(
        hub_files, "try_to_load_from_cache", lambda _, name: _CACHED_NO_EXIST if name in hub.gone else None
    )
    return hub


MUSE = {"_class_name": "VQGANModel", "resolution": 64}


def test_hub(taming: VQTokenizer, hub: Hub):
    """A hub id may name a folder or a file inside; files that are not there are passed over."""
    (hub.there / "vqvae").mkdir()
    save_file(weights(taming), hub.there / "vqvae" / "diffusion_pytorch_model.safetensors")
    torch.save(weights(taming), hub.there / "last.ckpt")
    assert same(load_tokenizer("some/where/vqvae"), taming)
    assert same(load_tokenizer("some/where/last.ckpt"), taming)
    with pytest.raises(ValueError, match="some/where is neither a file nor a folder here nor"):
        load_tokenizer("some/where")


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.safetensors", "model.safetensors"])
def test_a_file_on_the_hub_has_the_config_beside_it(taming: VQTokenizer, hub: Hub, name: str):
    """As a file here has: without it, muse's black would be taken for taming's."""
    (hub.there / "vqvae").mkdir()
    save_file(weights(taming), hub.there / "vqvae" / name)
    (hub.there / "vqvae" / "config.json").write_text(json.dumps(MUSE))
    loaded = load_tokenizer(f"some/where/vqvae/{name}")
    assert (loaded.config.low, loaded.config.size) == (0, 64)


def test_without_network_a_config_may_not_be_missing(taming: VQTokenizer, hub: Hub):
    """Weights in the cache do not load as another layout because their config could not be asked for."""
    save_file(weights(taming), hub.there / "pytorch_model.safetensors")
    (hub.there / "config.json").write_text(json.dumps(MUSE))
    hub.download("some/where", "pytorch_model.safetensors")
    hub.online = False
    told = "some/where is neither a file .* nor to be had from the hub with a config.json: no network"
    with pytest.raises(ValueError, match=told):
        load_tokenizer("some/where")
    hub.online = True
    hub.download("some/where", "config.json")
    hub.online = False  # the names of weights before this one, which the cache knows nothing of, are passed
    assert load_tokenizer("some/where").config.low == 0


def test_without_network_the_cache_knows_what_is_not_there(taming: VQTokenizer, hub: Hub):
    """What was loaded once loads again: that there is no config is remembered."""
    save_file(weights(taming), hub.there / "diffusion_pytorch_model.safetensors")
    assert same(load_tokenizer("some/where"), taming)
    hub.online = False
    assert same(load_tokenizer("some/where"), taming)


def test_shards_on_the_hub(taming: VQTokenizer, hub: Hub):
    """Those that hold the tokenizer are fetched, the others are not."""
    named = {f"model.vqmodel.{name}": tensor for name, tensor in weights(taming).items()}
    save_file(named, hub.there / "a.safetensors")
    index = {"weight_map": dict.fromkeys(named, "a.safetensors") | {"lm_head.b": "b.safetensors"}}
    (hub.there / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(load_tokenizer("some/where"), taming)
    assert "b.safetensors" not in hub.gone
    for place in (hub.cache, hub.there):
        (place / "a.safetensors").unlink()
    with pytest.raises(ValueError, match="a.safetensors is missing"):
        load_tokenizer("some/where")


def test_a_folder_of_ours_on_the_hub(taming: VQTokenizer, hub: Hub):
    """It may lie behind `owner/name`, and its file of weights may be named."""
    taming.save_pretrained(hub.there / "toks" / "tiny")
    assert same(load_tokenizer("some/where/toks/tiny"), taming)
    assert same(load_tokenizer("some/where/toks/tiny/model.safetensors"), taming)


@pytest.mark.parametrize(
    "index", [[], {"weight_map": ["a"]}, {"weight_map": {"a": 1}}, {"weight_map": {"a": []}}]
)
def test_an_index_that_is_none(index: object, tmp_path: Path):
    """Whatever JSON it holds, it is one sentence."""
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="index.json is truncated or no index of shards: copy it again"):
        load_tokenizer(tmp_path)


def test_a_kind_that_is_no_word(taming: VQTokenizer, tmp_path: Path):
    """A config.json that says nonsense of its kind is no folder of ours, and no traceback."""
    save_file(weights(taming), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"kind": ["vqgan"]}))
    assert load_tokenizer(tmp_path).config.low == -1


def test_import(taming: VQTokenizer, tmp_path: Path):
    """A folder of ours is written, with what was told, and loads as what was found."""
    torch.save({"state_dict": weights(taming)}, tmp_path / "last.ckpt")
    told = import_tokenizer(tmp_path / "last.ckpt", tmp_path / "ours", size=64, low=0.0)
    assert told.startswith("taming VQGAN: 16 codes, 1024 tokens for 64 pixels a side, ")
    loaded = load_tokenizer(tmp_path / "ours")
    assert loaded.config == replace(taming.config, size=64, low=0.0)
    assert load_tokenizer(tmp_path / "ours" / "model.safetensors").config == loaded.config
    with pytest.raises(ValueError, match="size 63 does not divide by 2"):
        import_tokenizer(tmp_path / "last.ckpt", tmp_path / "more", size=63)
    assert not (tmp_path / "more").exists()


def test_ibq_is_no_taming(taming: VQTokenizer, tmp_path: Path):
    """Under the same names IBQ asks for the largest dot product; it is told by its depth and its means."""
    shape, quantizer = replace(taming.config.autoencoder, blocks=4), IBQConfig(codes=16, width=4)
    ibq = VQTokenizer(replace(taming.config, autoencoder=shape, quantizer=quantizer)).eval()
    means = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in weights(ibq).items()}
    torch.save({"state_dict": weights(ibq) | means}, tmp_path / "IBQ.ckpt")
    loaded = load_tokenizer(tmp_path / "IBQ.ckpt")
    assert same(loaded, ibq)
    images = torch.rand(1, 3, 8, 8)
    scores = torch.einsum("bdij,kd->bkij", loaded._vectors(images), loaded.quantize.embedding.weight)
    assert torch.equal(loaded.encode(images), scores.argmax(1))


CODEBOOK, BITS = VQConfig(codes=8, width=4, normalize=False), LFQConfig(bits=3)
OTHERS = {
    "maskgit": (MaskGITTokenizer, MaskGITConfig(quantizer=CODEBOOK, channels=32, multipliers=(1, 2))),
    "magvit2": (MAGVIT2Tokenizer, MAGVIT2Config(quantizer=BITS, channels=32, multipliers=(1, 2), blocks=1)),
    "dvae": (DVAETokenizer, DVAEConfig(vocab=9, channels=4, embedding=3)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks(name: str, tmp_path: Path):
    """The networks of their own come back from published files, and from folders of ours."""
    kind, config = OTHERS[name]
    tokenizer = kind(config).eval()
    tensors = weights(tokenizer)
    if name == "dvae":
        tensors = {re.sub(r"(w|b)(eight|ias)$", r"\1", key): tensors[key] for key in tensors}
    torch.save(tensors, tmp_path / "weights.bin")
    loaded = load_tokenizer(tmp_path / "weights.bin")
    assert same(loaded, tokenizer)
    loaded.save_pretrained(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["kind"] == name
    again = load_tokenizer(tmp_path / "ours")
    assert same(again, tokenizer) and not again.training
    images = torch.rand(1, 3, 16, 24)
    assert torch.equal(again.decode(again.encode(images)), tokenizer.decode(tokenizer.encode(images)))


@pytest.mark.parametrize("container", ["last.ckpt", "model.safetensors"])
def test_every_fault_is_named(taming: VQTokenizer, container: str, tmp_path: Path):
    """Missing, extra and mis-shaped tensors are told together, with the file and what it was taken for."""
    tensors = weights(taming)
    del tensors[LOST]
    tensors |= {EXTRA: torch.ones(3), SHAPED: torch.ones(5)}
    path = tmp_path / container
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save({"state_dict": tensors}, path)
    with pytest.raises(ValueError) as caught:
        load_tokenizer(path)
    assert str(caught.value) == (
        f"{path}, taken for taming VQGAN, does not fit this model: missing {LOST}; extra {EXTRA}; "
        f"mis-shaped {SHAPED} (5,) instead of (4,)"
    )


def test_what_the_shape_rests_on_must_be_there(taming: VQTokenizer, tmp_path: Path):
    """Without the tensor that tells the width the message still names it."""
    tensors = weights(taming)
    del tensors["encoder.conv_in.weight"]
    torch.save(tensors, tmp_path / "a.bin")
    with pytest.raises(
        ValueError, match=r"a.bin, taken for taming VQGAN: missing encoder.conv_in.weight, with"
    ):
        load_tokenizer(tmp_path / "a.bin")


@pytest.mark.parametrize(
    ("name", "shape"), [("encoder.conv_in.weight", ()), ("quantize.embedding.weight", (3, 4, 5))]
)
def test_what_the_shape_rests_on_must_be_whole(
    taming: VQTokenizer, name: str, shape: tuple[int, ...], tmp_path: Path
):
    """Where such a tensor has other axes the message names it too."""
    torch.save(weights(taming) | {name: torch.ones(shape)}, tmp_path / "a.bin")
    with pytest.raises(ValueError, match=f"taming VQGAN: mis-shaped {name} {re.escape(str(shape))}, which"):
        load_tokenizer(tmp_path / "a.bin")


def test_nothing_is_built_before_shapes_are_right(taming: VQTokenizer, tmp_path: Path):
    """A small file that claims a network of a billion numbers is refused without allocating them."""
    wide = {"encoder.conv_in.weight": torch.ones(32 * 500, 1, 1, 1)}
    wide |= {f"encoder.down.{level}.block.0.conv1.weight": torch.ones(32 * 500, 1, 1, 1) for level in (0, 1)}
    torch.save(weights(taming) | wide, tmp_path / "a.bin")
    with pytest.raises(ValueError, match=r"mis-shaped encoder.conv_in.weight \(16000, 1, 1, 1\) instead of"):
        load_tokenizer(tmp_path / "a.bin")


def test_two_names_for_one_tensor(taming: VQTokenizer, tmp_path: Path):
    """A file that holds a tensor under two layouts' names is refused, not half read."""
    tensors = {"encoder.down_blocks.0.resnets.0.norm1.weight": torch.ones(2)}
    tensors |= {f"encoder.mid_block.attentions.0.{name}.bias": torch.ones(2) for name in ("to_q", "query")}
    torch.save(tensors, tmp_path / "a.bin")
    with pytest.raises(ValueError, match="two tensors would both be encoder.mid.attn_1.q.bias"):
        load_tokenizer(tmp_path / "a.bin")


def test_unknown_layout(tmp_path: Path):
    """Tensors of no tokenizer: the message shows some, and lists what can be loaded."""
    save_file({"wte.weight": torch.ones(3, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(
        ValueError, match="no tokenizer known here has tensors such as wte.weight.*LlamaGen VQ"
    ):
        load_tokenizer(tmp_path / "a.safetensors")


def test_wrong_files(taming: VQTokenizer, tmp_path: Path):
    """Truncated files, files without tensors, two files and none: each its own sentence."""
    for name in ("a.safetensors", "a.ckpt"):
        path = tmp_path / name
        save_file(weights(taming), path) if path.suffix == ".safetensors" else torch.save(
            weights(taming), path
        )
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(ValueError, match=f"{name} is truncated or no"):
            load_tokenizer(path)
    torch.save({"epoch": 3}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="b.pt holds no tensors by name"):
        load_tokenizer(tmp_path / "b.pt")
    with pytest.raises(
        ValueError, match="one file of weights and holds several: a.ckpt, a.safetensors, b.pt"
    ):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="nowhere is neither a file nor a folder here nor"):
        load_tokenizer("nowhere")
    with pytest.raises(ValueError, match="some/where is neither a file nor a folder here nor"):
        load_tokenizer("some/where")


def test_a_wrong_container(taming: VQTokenizer, tmp_path: Path):
    """A pickle under a safetensors name is not unpickled."""
    torch.save(weights(taming), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="model.safetensors is truncated or no safetensors file"):
        load_tokenizer(tmp_path)


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("files", [("last.ckpt",), ("encoder.pkl", "decoder.pkl")])
def test_a_hostile_file_does_not_run(taming: VQTokenizer, files: tuple[str, ...], tmp_path: Path):
    """A checkpoint, or a pickled module, with code in it is refused and the code named; nothing runs."""
    content = {"state_dict": weights(taming), "callbacks": Hostile(tmp_path / "ran")}
    for file in files:
        torch.save(content, tmp_path / file)
    for source in (tmp_path / files[0], tmp_path):
        with pytest.raises(ValueError, match=f"{files[0]} holds posix.system, which is code and was not run"):
            load_tokenizer(source)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(content["callbacks"]))
    assert (tmp_path / "ran").exists()
