"""Which family a folder is of, and the options that it takes."""

from pathlib import Path

import pytest
import torch

from diffusion import DDPM, DDPMConfig
from diffusion.networks import UNetConfig
from diffusion.process import ProcessConfig
from diffusion.schedules import LinearConfig
from imagegpt import ImageGPT, ImageGPTConfig
from vqtok.data.pictures import write_picture
from vqtok.gpt import GPTConfig
from vqtok.gpt.prefix import SOSConfig
from vqtok.tokenizers.palette import PaletteConfig
from workbench.drawers import Choices, NoiseDrawer, TokenDrawer, below, drawer, opened
from workbench.drawing import complete, sample


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An untrained model of each family, of pictures of 8x8 pixels."""
    place = tmp_path_factory.mktemp("models")
    unet = UNetConfig(channels=8, multipliers=(1, 1), blocks=1, groups=4, in_channels=1, out_channels=1)
    process = ProcessConfig(schedule=LinearConfig(steps=50))
    gpt = GPTConfig(vocab=3, length=64, width=8, depth=1, heads=2, prefix=SOSConfig())
    DDPM(DDPMConfig(network=unet, process=process, size=8)).save_pretrained(place / "ddpm")
    tokens = ImageGPTConfig(tokenizer=PaletteConfig(codes=3, size=8), gpt=gpt)
    ImageGPT(tokens).save_pretrained(place / "imagegpt")
    return {name: str(place / name) for name in ("ddpm", "imagegpt")}


def test_a_folder_tells_its_family(folders: dict[str, str]):
    """And what it holds draws."""
    kinds = {"ddpm": NoiseDrawer, "imagegpt": TokenDrawer}
    for name, kind in kinds.items():
        found = drawer(folders[name], Choices(steps=2) if name == "ddpm" else Choices())
        assert isinstance(found, kind) and found.size == 8
        assert found.sample(2, ()).shape[::2] == (2, 8)


@pytest.mark.parametrize(
    ("name", "choices", "told"),
    [
        ("ddpm", {"top_k": 4, "temperature": 1.0}, "--temperature, --top-k: a DDPM takes no such thing"),
        ("imagegpt", {"sampler": "heun"}, "--sampler: an ImageGPT takes no such thing; leave it out"),
        ("nowhere", {}, "neither a folder here nor a model on the hub"),
    ],
)
def test_options_of_others_are_refused(name: str, choices: dict, told: str, folders: dict[str, str]):
    """In one sentence that names them as they were given."""
    with pytest.raises(ValueError, match=told):
        drawer(folders.get(name, f"./{name}/x"), Choices(**choices))


def test_a_ddpm_on_sheets(folders: dict[str, str], tmp_path: Path):
    """Gray pictures, drawn and completed; what is known stays."""
    ddpm = drawer(folders["ddpm"], Choices(steps=3, seed=1))
    sample(ddpm, tmp_path / "samples.png", 4)
    write_picture(tmp_path / "in.png", torch.full((3, 8, 8), 0.2))
    complete(ddpm, tmp_path / "out.png", [tmp_path / "in.png"], hole=[2, 2, 6, 6], candidates=2)
    assert (tmp_path / "samples.png").is_file() and (tmp_path / "out.png").is_file()
    images = torch.full((1, 3, 8, 8), 0.2)
    hidden = ddpm.hidden(None, [2, 2, 6, 6])
    answers = ddpm.complete(images, hidden, 2)
    assert answers.shape == (2, 1, 8, 8)
    torch.testing.assert_close(answers[..., ~hidden], torch.full((2, 1, 48), 0.2))
    with pytest.raises(ValueError, match="rows or a hole: give one of them"):
        ddpm.hidden(3, [2, 2, 6, 6])


def test_what_is_drawn():
    """All below some rows, or a hole; nothing outside of the picture."""
    assert below(4, 3).sum(1).tolist() == [0, 0, 0, 4]
    assert opened(4, None).sum() == 4 and opened(4, [0, 1, 2, 2]).nonzero().tolist() == [[0, 1], [1, 1]]
    for wrong in (4, -1):
        with pytest.raises(ValueError, match="rows of pixels cannot be kept of 4"):
            below(4, wrong)
