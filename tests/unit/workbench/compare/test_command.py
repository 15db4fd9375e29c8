"""`vqtok compare`: help without torch, mistakes in one line, tables in their place."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from workbench import cli
from workbench.compare import command


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A file with a place for the tables of `speed lookup`."""
    path = tmp_path / "results.md"
    path.write_text("before\n<!-- compare speed lookup -->\n<!-- /compare speed lookup -->\nafter\n")
    return path


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list:
    """What a stand-in for the comparison of speeds is called with."""
    calls, module = [], ModuleType("stand_in")
    module.COMPARISON = "contestants"
    monkeypatch.setitem(sys.modules, "stand_in", module)
    monkeypatch.setattr(command, "SPEED", {"lookup": "stand_in"})

    def compare(*arguments: object) -> str:
        calls.append(arguments)
        return "on a machine. Tables."

    monkeypatch.setattr("workbench.compare.speed.compare", compare)
    return calls


def test_help_imports_no_torch():
    """`vqtok compare speed --help` answers at once and lists what can be compared."""
    code = (
        "import sys; from workbench.cli import main\n"
        "try: main(['compare', 'speed', '--help'])\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: vqtok compare speed" in ran.stdout and "{lookup,gpt,diffusion,lvm}" in ran.stdout
    assert ran.stdout.endswith("False\n")


def test_tables_go_into_their_section(received: list, notebook: Path, capsys: pytest.CaptureFixture[str]):
    """The command and the date stand above the tables; the file around them stays; all is printed too."""
    argv = ["compare", "speed", "lookup", "--rounds", "3", "--threads", "1", "--out", str(notebook)]
    assert cli.main(argv) == 0
    assert [(name, book, str(device), *rest) for name, book, device, *rest in received] == [
        ("stand_in", "contestants", "cpu", 3, False)
    ]
    text = notebook.read_text()
    assert text.startswith("before\n<!-- compare speed lookup -->\n\n`vqtok compare speed lookup --rounds 3 ")
    assert text.endswith(", on a machine. Tables.\n\n<!-- /compare speed lookup -->\nafter\n")
    assert "on a machine. Tables." in capsys.readouterr().out


def test_a_toy_is_not_written(received: list, tmp_path: Path):
    """--toy needs no file and leaves none."""
    assert cli.main(["compare", "speed", "lookup", "--toy", "--out", str(tmp_path / "none.md")]) == 0
    assert received[0][-1] is True and not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("content", "line"),
    [(None, "No such file or directory"), ("# Results\n", "has no place for these tables")],
)
def test_a_place_is_needed_first(
    content: str | None, line: str, received: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Without the file or its marks nothing is measured, and one line says why."""
    notebook = tmp_path / "results.md"
    if content is not None:
        notebook.write_text(content)
    assert cli.main(["compare", "speed", "lookup", "--out", str(notebook)]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
    assert not received


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["speed", "nothing"], "invalid choice: 'nothing'"),
        (["speed", "lookup", "--rounds", "0"], "--rounds is 0: at least 1"),
        (["learning", "vq", "--steps", "0"], "--steps is 0: at least 1"),
        ([], "required: KIND"),
    ],
)
def test_mistakes_are_named(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]):
    """Unknown names and amounts of no use are refused with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", *argv])
    assert stop.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cuda", "abacus"])
def test_a_device_that_is_not_there(device: str, capsys: pytest.CaptureFixture[str], monkeypatch):
    """Is refused in one line before anything is measured."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cli.main(["compare", "learning", "vq", "--toy", "--device", device]) == 2
    assert capsys.readouterr().err.startswith(f"vqtok: error: --device {device}: ")
