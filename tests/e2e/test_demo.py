"""The demo, whole, at toy size."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.demo import demo
from workbench.stages import Settings

ROOT = Path(__file__).parent.parent.parent
NETWORK = (
    "--tokenizer.autoencoder.channels=8", "--tokenizer.autoencoder.multipliers=[1,2]",
    "--tokenizer.autoencoder.patch=4", "--tokenizer.autoencoder.groups=4", "--tokenizer.quantizer.codes=32",
    "--tokenizer.quantizer.width=4",
)  # fmt: skip
SHORT = ("--lr.warmup_steps=1", "--run.precision=no", "--run.trackers=[]", "--run.log_steps=1")


@pytest.fixture
def settings(toys: Path) -> Settings:
    """Two names a task, a few steps of the recipes that the demo trains."""
    return Settings(
        model=toys / "lvm",
        judge=toys / "kind",
        names=2,
        pairs=6,
        kept=4,
        tokenizer_flags=(*NETWORK, *SHORT, "--lr.steps=4", "--eval_steps=4", "--data.workers=0"),
        lvm_flags=(
            *SHORT, "--lr.steps=4", "--eval_steps=2", "--data.batch=2", "--gpt.vocab=35", "--gpt.width=32",
            "--gpt.depth=1", "--gpt.heads=2",
        ),
    )  # fmt: skip


def test_demo(settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One page shows the shipped model and one trained here; asked again, nothing is trained again."""
    demo(tmp_path / "demo", settings=settings)
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    assert page.count("<svg") == 5
    assert page.count('src="data:image/png;base64,') == 5
    assert page.count("<table>") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"demo"}
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"index.html", "runs"}
    first = capfd.readouterr().out
    assert first.splitlines()[-1].endswith("demo/index.html")
    assert (first.count("step 4/4"), first.count("done before")) == (2, 0)
    demo(tmp_path / "demo", settings=settings)
    again = capfd.readouterr().out
    assert (again.count("step 4/4"), again.count("done before")) == (0, 3)


def test_quick(settings: Settings, tmp_path: Path, vqtok: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """`vqtok demo --quick` writes the page without training anything."""
    monkeypatch.setattr("workbench.demo.Settings", lambda: settings)
    outcome = vqtok("demo", "--quick", "--out", tmp_path)
    assert (outcome.code, outcome.err.strip()) == (0, "")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    assert (page.count("<svg"), page.count("<table>")) == (0, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"index.html"}


def test_nothing_is_written_elsewhere(toys: Path, tmp_path: Path) -> None:
    """Neither the home folder nor the working directory has a new file after a demo."""
    homes = {name: tmp_path / name for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    here = tmp_path / "here"
    for folder in (*homes.values(), here):
        folder.mkdir()
    code = (
        "from pathlib import Path; from workbench.demo import demo; from workbench.stages import Settings\n"
        f"toys = Path({str(toys)!r})\n"
        f"settings = Settings(model=toys / 'lvm', judge=toys / 'kind', names=2)\n"
        f"demo(Path({str(tmp_path / 'demo')!r}), quick=True, settings=settings)"
    )
    paths = {name: str(folder) for name, folder in homes.items()} | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=here, env=os.environ | paths, check=True)
    assert (tmp_path / "demo" / "index.html").exists()
    assert [path for folder in (*homes.values(), here) for path in folder.rglob("*")] == []


def assert_self_contained(page: str) -> None:
    """Nothing in the page points outside of it."""
    assert re.findall(r"https?:|@import|<script|<link|url\(", page) == []
    assert [
        source[:5] for source in re.findall(r'(?:src|href)="([^"]*)"', page) if source[:5] != "data:"
    ] == []
