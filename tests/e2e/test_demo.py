"""The demo, whole, at toy size."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.demo import demo
from workbench.stages import Settings

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


def assert_self_contained(page: str) -> None:
    """Nothing in the page points outside of it."""
    assert re.findall(r"https?:|@import|<script|<link|url\(", page) == []
    assert [
        source[:5] for source in re.findall(r'(?:src|href)="([^"]*)"', page) if source[:5] != "data:"
    ] == []
