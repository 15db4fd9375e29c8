"""Models keep their weights and settings in a folder, strictly."""

import json
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vqtok.storage import Pretrained


@dataclass(frozen=True, kw_only=True)
class Levels:
    """One kind of middle."""

    levels: tuple[int, ...] = (8, 8)


@dataclass(frozen=True, kw_only=True)
class Codes:
    """Another kind of middle."""

    vocab: int
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    """Settings of every type that models use."""

    width: int
    middle: Levels | Codes = Levels()
    extra: Codes | None = None
    betas: tuple[float, float] = (0.5, 1)
    names: dict[str, int] = field(default_factory=dict)
    root: Path | None = None
    depth: int | None = None

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"width {self.width} is below 1: raise it")


class Net(nn.Module, Pretrained):
    """A few tensors: matrices, a tied pair, an integer, a buffer that is not kept."""

    def __init__(self, config: NetConfig):
        super().__init__()
        self.config = config
        self.first = nn.Linear(config.width, config.width)
        self.tied = nn.Linear(config.width, config.width, bias=False)
        self.tied.weight = self.first.weight
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("table", torch.arange(3.0), persistent=False)


CONFIG = NetConfig(
    width=16, middle=Codes(vocab=9), extra=Codes(vocab=2, scale=3), names={"a": 1}, root=Path("x/y"), depth=4
)


@pytest.fixture
def saved(tmp_path):
    """A model and its folder."""
    net = Net(CONFIG)
    with torch.no_grad():
        net.count.add_(1)
    net.save_pretrained(tmp_path / "net")
    return net, tmp_path / "net"


def rewrite(folder, change):
    """Change the tensors of a folder."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_round_trip_is_exact(saved):
    """Every tensor in every bit, every setting with its type, in evaluation mode."""
    net, folder = saved
    back = Net.from_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert back.config == CONFIG
    assert isinstance(back.config.middle, Codes)
    assert not back.training
    assert back.tied.weight is back.first.weight
    for name, tensor in net.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor)
        assert back.state_dict()[name].dtype == tensor.dtype


def test_bfloat16_is_half_the_size_and_loads_as_float32(saved, tmp_path):
    """Saved small, floating-point weights come back rounded, and integers as they were."""
    net = Net(NetConfig(width=128))
    for name, dtype in (("full", None), ("half", torch.bfloat16)):
        net.save_pretrained(tmp_path / name, dtype=dtype)
    full, half = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half"))
    assert half / full == pytest.approx(0.5, abs=0.01)
    back = Net.from_pretrained(tmp_path / "half")
    assert back.first.weight.dtype == torch.float32
    assert torch.equal(back.first.weight, net.first.weight.bfloat16().float())
    assert back.count == 7
    assert net.first.weight.dtype == torch.float32


def test_folders_need_no_network(saved, monkeypatch):
    """No socket is opened, whatever the hub's settings say."""
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("a socket was opened"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert Net.from_pretrained(str(saved[1])).config == CONFIG


def test_loading_draws_no_random_number(saved):
    """The caller's random numbers go on as if nothing had been built."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Net.from_pretrained(saved[1])
    assert torch.equal(torch.rand(3), expected)


def test_missing_extra_and_misshaped_tensors_are_named(saved):
    """All faults in one message."""

    def change(tensors):
        del tensors["first.bias"]
        tensors["second.bias"] = torch.zeros(3)
        tensors["count"] = torch.zeros(2)

    rewrite(saved[1], change)
    faults = r"missing first.bias; extra second.bias; mis-shaped count \(2,\) instead of \(\)"
    with pytest.raises(ValueError, match=faults):
        Net.from_pretrained(saved[1])


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated_weights(saved, share):
    """A cut file is named, wherever it is cut."""
    path = saved[1] / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"model.safetensors is truncated or no safetensors file"):
        Net.from_pretrained(saved[1])


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(saved, name):
    """A folder without one of the two files is no model."""
    (saved[1] / name).unlink()
    with pytest.raises(ValueError, match=f"net has no {name}"):
        Net.from_pretrained(saved[1])


CHANGES = [
    (lambda data: data.update(widht=3), r"config.json: unknown setting `widht`; did you mean `width`\?"),
    (lambda data: data.pop("width"), "config.json: setting `width` is missing"),
    (
        lambda data: data.update(architectures=["GPT2LMHeadModel"], n_head=2),
        "config.json is of a GPT2LMHeadModel of transformers, .* import it first",
    ),
    (lambda data: data.update(width="16"), "config.json: `width` is '16', expected int"),
    (lambda data: data.update(width=True), "config.json: `width` is True, expected int"),
    (lambda data: data.update(width=0), "config.json: width 0 is below 1: raise it"),
    (lambda data: data.update(depth=1.5), "config.json: `depth` is 1.5, expected int or NoneType"),
    (lambda data: data.update(betas=[1.0]), "config.json: `betas` has 1 items, expected 2"),
    (lambda data: data.update(betas=[1.0, "x"]), r"config.json: `betas\[1\]` is 'x', expected float"),
    (
        lambda data: data["extra"].update(vocap=3),
        r"unknown setting `extra.vocap`; did you mean `extra.vocab`\?",
    ),
    (lambda data: data["middle"]["init_args"].update(vocap=3), "unknown setting `middle.vocap`"),
    (
        lambda data: data["middle"].update(class_path="Code"),
        "`middle.class_path` is 'Code', expected one of Levels, Codes",
    ),
    (
        lambda data: data.update(middle={"vocab": 9}),
        "`middle.class_path` is None, expected one of Levels, Codes",
    ),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_wrong_settings_are_named(saved, change, message):
    """The file, the setting and what it should be."""
    path = saved[1] / "config.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        Net.from_pretrained(saved[1])


def test_config_that_is_no_json(saved):
    """A cut config is named too."""
    (saved[1] / "config.json").write_text('{"width": 1')
    with pytest.raises(ValueError, match="config.json is truncated or no JSON"):
        Net.from_pretrained(saved[1])


@pytest.mark.parametrize("name", ["no/such/folder", "nosuch", "./nosuch", "user/nosuch"])
def test_neither_folder_nor_hub(name):
    """One line for a place that does not exist; the tests are offline."""
    with pytest.raises(ValueError, match=f"{name} is neither a folder here nor a model on the hub") as caught:
        Net.from_pretrained(name)
    assert "\n" not in str(caught.value)


def test_saving_again_replaces_whole(saved):
    """New weights and settings stand together; a README that somebody wrote stays."""
    folder = saved[1]
    (folder / "README.md").write_text("mine")
    Net(NetConfig(width=3)).save_pretrained(folder)
    assert Net.from_pretrained(folder).config.width == 3
    assert (folder / "README.md").read_text() == "mine"
    assert [path.name for path in folder.parent.iterdir()] == ["net"]


def test_saving_deletes_nothing_of_others(saved):
    """A folder with other files is refused, and they are named."""
    (saved[1] / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds notes.txt: save to a folder of its own"):
        saved[0].save_pretrained(saved[1])
    assert (saved[1] / "notes.txt").read_text() == "mine"


def test_full_disk_keeps_the_old_model(saved, monkeypatch):
    """The error names the folder, and the old model still loads."""

    def fsync(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left on device"):
            Net(NetConfig(width=3)).save_pretrained(saved[1])
    assert Net.from_pretrained(saved[1]).config == CONFIG
    assert [path.name for path in saved[1].parent.iterdir()] == ["net"]


def test_pushing_uploads_the_same_folder(saved, monkeypatch):
    """`push_to_hub` sends what `save_pretrained` writes."""
    sent = {}

    class Hub:
        def __init__(self, **_):
            pass

        def create_repo(self, repo_id, **_):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, folder_path, repo_id, **_):
            sent.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()}, id=repo_id)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    saved[0].push_to_hub("user/net")
    assert sent["id"] == "user/net"
    for name in ("config.json", "model.safetensors"):
        assert sent[name] == (saved[1] / name).read_bytes()
