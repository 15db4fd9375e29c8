"""Checkpoints of other families are told by their names, and files that hold code or nothing are refused."""

import json
import pickle

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.published import load_gpt2, load_imagegpt, load_llama, load_llamagen, save_llama
from vqtok.storage import hub

LOADERS = [load_llama, load_gpt2, load_imagegpt, load_llamagen]


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("blocks.0.attention.qkv.weight", "a model of vqtok: use GPT.from_pretrained"),
        ("tok_emb_img.weight", "a minDALL-E: use dalle.published.load_mindalle"),
        ("first_stage_model.encoder.conv_in.weight", "an image tokenizer: use vqtok.load_tokenizer"),
    ],
)
def test_other_checkpoints_are_told(load, name, advice, tmp_path):
    """One tensor's name is enough, in a file as well as in memory."""
    torch.save({"state_dict": {name: torch.ones(2, 2)}}, tmp_path / "last.ckpt")
    for source in (tmp_path / "last.ckpt", {name: torch.ones(2, 2)}):
        with pytest.raises(ValueError, match=f"looks like {advice}"):
            load(source)


@pytest.mark.parametrize("load", LOADERS)
def test_a_folder_of_ours_is_told(load, tmp_path):
    """Whoever gives one to a reader of published weights learns the right call."""
    GPT(GPTConfig(vocab=5, length=6, width=8, depth=1, heads=2)).save_pretrained(tmp_path / "gpt")
    with pytest.raises(ValueError, match="looks like a model of vqtok: use GPT.from_pretrained"):
        load(tmp_path / "gpt")


@pytest.mark.parametrize("load", [load_llama, load_gpt2, load_imagegpt])
def test_folders_without_weights_are_refused(load, tmp_path):
    """config.json alone, an index of nothing, an index of a file that is not there, no config.json."""
    with pytest.raises(ValueError, match="config.json is missing"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds none of model.safetensors.index.json, model.safetensors"):
        load(tmp_path)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text("{}")
    with pytest.raises(ValueError, match="index.json names no shard"):
        load(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}))
    with pytest.raises(ValueError, match="pytorch_model-00001-of-00002.bin is missing"):
        load(tmp_path)
    index.write_text("{")
    with pytest.raises(ValueError, match="index.json is truncated or no JSON"):
        load(tmp_path)


@pytest.mark.parametrize("online", [True, False])
def test_models_on_the_hub(tmp_path, monkeypatch, online):
    """`owner/name`: files are fetched by name; without network the cached ones do."""
    save_llama(GPT(GPTConfig(vocab=5, length=6, width=8, depth=1, heads=2)), tmp_path / "some")
    asked = []

    def download(repo: str, name: str) -> str:
        asked.append((repo, name))
        if not (tmp_path / "some" / name).is_file():
            raise (EntryNotFoundError if online else LocalEntryNotFoundError)(name)
        return str(tmp_path / "some" / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    gpt = load_llama("some/where")
    assert gpt.config.vocab == 5
    assert asked[0] == ("some/where", "config.json") and asked[-1] == ("some/where", "model.safetensors")
    (tmp_path / "some" / "model.safetensors").unlink()
    told = "holds none of" if online else "nor to be had from the hub with a pytorch_model.bin"
    with pytest.raises(ValueError, match=told):
        load_llama("some/where")


class Hostile:
    """Would print when it is unpickled."""

    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("load", LOADERS)
def test_code_is_not_run(load, tmp_path, capsys):
    """A pickle that names code is refused and the code is named."""
    torch.save({"model": {"a": Hostile()}}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="print, which is code and was not run"):
        load(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps({"a": 1}, protocol=2)[:-3])
    with pytest.raises(ValueError, match="b.pt is (truncated|damaged)"):
        load(tmp_path / "b.pt")
    torch.save({"a": 1}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="c.pt holds no tensors by name"):
        load(tmp_path / "c.pt")
    assert capsys.readouterr().out == ""
