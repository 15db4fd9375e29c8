"""Which family a folder is of, and the options that it takes."""

from pathlib import Path

import pytest
import torch

from dalle import Dalle, DalleConfig
from dalle.layout import Layout
from diffusion import DDPM, DDPMConfig
from diffusion.networks import UNetConfig
from diffusion.process import ProcessConfig
from diffusion.schedules import LinearConfig
from imagegpt import ImageGPT, ImageGPTConfig
from vqtok.data.pictures import write_picture
from vqtok.gpt import GPTConfig
from vqtok.gpt.config import HeadConfig
from vqtok.gpt.prefix import SOSConfig
from vqtok.text import TextConfig, TextTokenizer
from vqtok.tokenizers.palette import PaletteConfig
from workbench.drawers import CaptionDrawer, Choices, NoiseDrawer, TokenDrawer, below, drawer, opened
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
    _dalle().save_pretrained(place / "dalle")
    return {name: str(place / name) for name in ("ddpm", "imagegpt", "dalle")}


def _dalle() -> Dalle:
    """Reads captions of eight tokens."""
    text = TextTokenizer.fit(["a dark square", "a light thing"], TextConfig(vocab=30))
    layout = Layout(30, 8, 3, (8, 8))
    gpt = GPTConfig(vocab=layout.vocab, length=layout.length, width=8, depth=1, heads=2, prefix=SOSConfig(),
                    head=HeadConfig(ranges=layout.ranges))  # fmt: skip
    config = DalleConfig(text=text.config, tokenizer=PaletteConfig(codes=3, size=8), gpt=gpt, text_length=8)
    model = Dalle(config).eval()
    model.text = text
    torch.nn.init.uniform_(model.tokenizer.colors, -1, 1)
    return model


def test_a_folder_tells_its_family(folders: dict[str, str]):
    """And what it holds draws."""
    kinds = {"ddpm": NoiseDrawer, "imagegpt": TokenDrawer, "dalle": CaptionDrawer}
    choices = {"ddpm": Choices(steps=2), "imagegpt": Choices(), "dalle": Choices(caption=["a"])}
    for name, kind in kinds.items():
        found = drawer(folders[name], choices[name])
        assert isinstance(found, kind) and found.size == 8
        assert found.sample(2, choices[name].caption or ()).shape[::2] == (2, 8)


@pytest.mark.parametrize(
    ("name", "choices", "told"),
    [
        ("ddpm", {"top_k": 4, "temperature": 1.0}, "--temperature, --top-k: a DDPM takes no such thing"),
        ("imagegpt", {"sampler": "heun"}, "--sampler: an ImageGPT takes no such thing; leave it out"),
        ("imagegpt", {"caption": ["a"]}, "--caption: an ImageGPT takes no such thing"),
        ("ddpm", {"caption": ["a"]}, "--caption: a DDPM takes no such thing"),
        ("dalle", {"caption": ["a"], "steps": 2}, "--steps: a DALL-E takes no such thing"),
        ("dalle", {}, "a DALL-E draws what a caption says: give --caption"),
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


def test_a_dalle_on_sheets(folders: dict[str, str], tmp_path: Path):
    """Captions in turn, with guidance of 3 unless said; pictures completed by one caption, or one each."""
    captions = ["a dark square", "a light thing"]
    dalle = drawer(folders["dalle"], Choices(caption=captions, seed=1))
    found, wanted = dalle.sample(6, captions), dalle.model.generate(captions, 3, guidance=3.0, seed=1)
    assert torch.equal(found[::2], wanted[:3]) and torch.equal(found[1::2], wanted[3:])
    sample(dalle, tmp_path / "samples.png", 3, captions)
    for name in "ab":
        write_picture(tmp_path / f"{name}.png", torch.full((3, 8, 8), 0.2))
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    complete(dalle, tmp_path / "out.png", pictures, rows=2, candidates=2, captions=captions)
    one = drawer(folders["dalle"], Choices(caption=captions[:1], guidance=1.0))
    complete(one, tmp_path / "one.png", pictures, candidates=2, captions=captions[:1])
    assert all((tmp_path / f"{name}.png").is_file() for name in ("samples", "out", "one"))
    images = dalle.model.tokenizer.decode(torch.zeros(1, 8, 8, dtype=torch.int64))
    answers = one.complete(images, one.hidden(3, None), 2)
    assert torch.equal(answers[:, :, :3], images[:, :, :3].expand(2, -1, -1, -1))


def test_what_a_dalle_does_not_take(folders: dict[str, str]):
    """Classes, holes, and captions that are not as many as pictures."""
    dalle = drawer(folders["dalle"], Choices(caption=["a", "b"]))
    with pytest.raises(ValueError, match="knows captions and no classes: leave --class out"):
        dalle.sample(2, ["light"])
    with pytest.raises(ValueError, match="this model takes rows"):
        dalle.hidden(None, [0, 0, 4, 4])
    with pytest.raises(ValueError, match="3 images and 2 captions: give one for each"):
        dalle.complete(torch.zeros(3, 3, 8, 8), dalle.hidden(None, None), 1)


def test_what_is_drawn():
    """All below some rows, or a hole; nothing outside of the picture."""
    assert below(4, 3).sum(1).tolist() == [0, 0, 0, 4]
    assert opened(4, None).sum() == 4 and opened(4, [0, 1, 2, 2]).nonzero().tolist() == [[0, 1], [1, 1]]
    for wrong in (4, -1):
        with pytest.raises(ValueError, match="rows of pixels cannot be kept of 4"):
            below(4, wrong)
