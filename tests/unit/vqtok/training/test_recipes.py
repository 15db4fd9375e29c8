"""Settings with a `kind`, from files and flags: none turns silently into another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from vqtok.training.config import parse
from vqtok.training.recipes import read_yaml


@dataclass(frozen=True, kw_only=True)
class Table:
    """The first kind."""

    kind: Literal["table"] = "table"
    codes: int
    beta: float = 0.25


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A kind with the same settings."""

    kind: Literal["seen"] = "seen"
    codes: int
    beta: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A kind with others."""

    kind: Literal["grid"] = "grid"
    levels: tuple[int, ...] = (3, 3)


@dataclass(frozen=True, kw_only=True)
class Model:
    """What has one."""

    quantizer: Table | Seen | Grid
    size: int = 8


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What has that."""

    model: Model
    steps: int = 5


@dataclass(frozen=True, kw_only=True)
class Named:
    """A setting that is one word, beside a choice."""

    quantizer: Table | Seen | Grid
    name: str = ""
    size: int = 8


FILES = {
    "table.yaml": "model: {quantizer: {codes: 8, beta: 1e-1}, size: 4}\nsteps: 3",
    "seen.yaml": "model: {quantizer: {kind: seen, codes: 16}}",
    "grid.yaml": "model: {quantizer: {kind: grid, levels: [5, 4]}}",
    "more.yaml": "model: {quantizer: {beta: 1}}",
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the files."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)


def said(*argv: str) -> Table | Seen | Grid:
    """What files, by their short names, and flags make of the quantizer."""
    words = [word if word.startswith("-") or "=" in word else f"--config={word}.yaml" for word in argv]
    return parse(TrainConfig, words).model.quantizer


Q = "--model.quantizer"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["table"], Table(codes=8, beta=0.1)),
        (["seen"], Seen(codes=16)),
        (["grid"], Grid(levels=(5, 4))),
        (["table", "seen"], Seen(codes=16)),
        (["seen", "grid", "seen"], Seen(codes=16)),
        (["table", "more"], Table(codes=8, beta=1.0)),
        (["table", f"{Q}.codes=9"], Table(codes=9, beta=0.1)),
        (["seen", f"{Q}.codes=9", "--steps=2"], Seen(codes=9)),
        (["seen", f"{Q}.kind=seen", f"{Q}.beta=1e-2"], Seen(codes=16, beta=0.01)),
        (["table", f"{Q}.kind=grid"], Grid()),
        (["table", f"{Q}.levels=[7, 7]", f"{Q}.kind=grid"], Grid(levels=(7, 7))),
        (["table", f"{Q}={{kind: seen, codes: 3}}"], Seen(codes=3)),
        ([f"{Q}.codes=3"], Table(codes=3)),
    ],
)
def test_kinds(argv: list[str], expected: Table | Seen | Grid):
    """Settings add up in order, flags last; another kind drops what was said of the one before."""
    assert said(*argv) == expected


def test_flags_in_two_words():
    """`--a.b value` says what `--a.b=value` says, and other settings are as they were."""
    config = parse(TrainConfig, ["--config", "table.yaml", f"{Q}.codes", "9", "--model.size", "2"])
    assert config == TrainConfig(model=Model(quantizer=Table(codes=9, beta=0.1), size=2), steps=3)


@pytest.mark.parametrize("name", ["quantizer", "myquantizer"])
def test_a_value_that_ends_like_a_setting(name: str):
    """It is the other flag's value, and no flag."""
    words = ["--quantizer.codes", "8", "--name", name, "--size", "2"]
    assert parse(Named, words) == Named(quantizer=Table(codes=8), name=name, size=2)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["grid", f"{Q}.kind=tree"], "^flags: `model.quantizer.kind` is 'tree', expected one of table, seen"),
        (["seen", f"{Q}.codes=x"], "^flags: `model.quantizer.codes` is 'x', expected int"),
        (["table", f"{Q}.kind=seen"], "^flags: setting `model.quantizer.codes` is missing"),
        (["seen", f"{Q}.levels=[3]"], "^flags: unknown setting `model.quantizer.levels`"),
        (["grid", "more"], "^more.yaml: unknown setting `model.quantizer.beta`"),
        (["seen", f"{Q}.cods=3"], "^unknown flag `--model.quantizer.cods`; did you mean"),
        (["table", f"{Q}={{codes: 5"], "^--model.quantizer, line 1: no YAML: "),
        (["table", f"{Q}.kind=[a]"], r"^flags: `model.quantizer.kind` is \['a'\], expected one of table"),
        (["table", f"{Q}.kind=[a]", f"{Q}={{codes: 3}}"], r"^flags: `model.quantizer.kind` is \['a'\]"),
        (["table", f"{Q}=3"], "^flags: `model.quantizer` is 3, expected Table or Seen or Grid"),
    ],
)
def test_mistakes(argv: list[str], told: str):
    """One line with the setting, and the file or the flags that said it last."""
    with pytest.raises(ValueError, match=told):
        said(*argv)


@dataclass(frozen=True, kw_only=True)
class Net:
    """A kind with a choice inside, beside `Model`."""

    kind: Literal["net"] = "net"
    quantizer: Table | Seen | Grid
    size: int = 8


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Another without."""

    kind: Literal["tree"] = "tree"
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Forest:
    """A choice of both."""

    model: Net | Tree


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["table"], Net(quantizer=Table(codes=8, beta=0.1), size=4)),
        (["table", "more"], Net(quantizer=Table(codes=8, beta=1.0), size=4)),
        (["table", "grid"], Net(quantizer=Grid(levels=(5, 4)), size=4)),
        (["table", f"{Q}.codes=9", "--model.size=2"], Net(quantizer=Table(codes=9, beta=0.1), size=2)),
        (["table", f"{Q}.levels=[7, 7]", f"{Q}.kind=grid"], Net(quantizer=Grid(levels=(7, 7)), size=4)),
        (["table", "--model.depth=3", "--model.kind=tree"], Tree(depth=3)),
        ([f"{Q}.kind=seen", f"{Q}.codes=3", "--model.kind=net"], Net(quantizer=Seen(codes=3))),
    ],
)
def test_kinds_inside_kinds(argv: list[str], expected: Net | Tree):
    """What holds for one choice holds for a choice inside another."""
    words = [word if word.startswith("-") else f"--config={word}.yaml" for word in argv]
    for path in Path(".").glob("*.yaml"):
        path.write_text(path.read_text().split("\n")[0])  # without the steps
    assert parse(Forest, words).model == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: {sise: 3}", "^f.yaml: unknown setting `model.sise`; did you mean `model.size`"),
        ("model: {kind: tree, dept: 3}", "^f.yaml: unknown setting `model.dept`; did you mean `model.depth`"),
        ("model: {quantizer: {cods: 3}}", "^f.yaml: unknown setting `model.quantizer.cods`; did you mean"),
        ("model: {kind: bush}", "^flags: `model.kind` is 'bush', expected one of net, tree"),
    ],
)
def test_mistakes_inside_kinds(text: str, told: str):
    """The file with the mistake is named, although a flag said more afterwards."""
    Path("f.yaml").write_text(text)
    with pytest.raises(ValueError, match=told):
        parse(Forest, ["--config=f.yaml", "--model.size=2"])


@pytest.mark.parametrize(
    ("text", "value"), [("3e-4", 3e-4), ("-1E5", -1e5), ("2.e+1", 20.0), ("3", 3), ("e4", "e4")]
)
def test_numbers(text: str, value: object):
    """A number with an exponent is a float, with a point or without."""
    assert read_yaml(text, "here") == value and type(read_yaml(text, "here")) is type(value)
