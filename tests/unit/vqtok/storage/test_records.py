"""Dataclasses of a union that say by a literal `kind` which they are."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from vqtok.storage.records import changed, decode, encode, tagged


@dataclass(frozen=True, kw_only=True)
class Table:
    """The first kind."""

    kind: Literal["table"] = "table"
    codes: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The second kind."""

    kind: Literal["grid"] = "grid"
    levels: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Plain:
    """One without a kind."""

    codes: int = 2


@dataclass(frozen=True, kw_only=True)
class Holder:
    """One of two, or none."""

    either: Table | Grid
    spare: Table | Grid | None = None


@pytest.mark.parametrize("either", [Table(codes=3), Grid(levels=(4, 5))])
def test_round_trip(either: Table | Grid):
    """The mapping holds the settings and the kind, and reads back as the same dataclass."""
    data = encode(Holder(either=either, spare=either))
    assert data["either"] == encode(either) and data["either"]["kind"] == either.kind
    assert decode(Holder, data, "here") == Holder(either=either, spare=either)


def test_without_a_kind_it_is_the_first():
    """As in files from before there were others."""
    assert decode(Holder, {"either": {"codes": 9}}, "here") == Holder(either=Table(codes=9))


def test_kinds_of_a_union():
    """All of its dataclasses must have one; a single dataclass needs none."""
    assert tagged(Table | Grid) == tagged(Grid | Table | None) == {"table": Table, "grid": Grid}
    assert tagged(Table | Plain) == tagged(Table) == tagged(int | None) == {}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"kind": "tree"}, "here: `either.kind` is 'tree', expected one of table, grid"),
        ({"kind": ["table"]}, r"here: `either.kind` is \['table'\], expected one of table, grid"),
        ({"kind": "grid", "codes": 3}, "here: unknown setting `either.codes`; did you mean `either.levels`"),
        ({"kind": "grid"}, "here: setting `either.levels` is missing"),
        ({"levels": [3]}, "here: unknown setting `either.levels`"),
        (7, "here: `either` is 7, expected Table or Grid"),
    ],
)
def test_mistakes_are_named(data: object, told: str):
    """The file, the setting and what it should be."""
    with pytest.raises(ValueError, match=told):
        decode(Holder, {"either": data}, "here")


@dataclass(frozen=True, kw_only=True)
class Nested:
    """A record in a record, with defaults of several sorts."""

    either: Table | Grid
    spare: Plain = Plain(codes=3)
    sizes: tuple[int, ...] = (1, 2)
    names: list[str] = field(default_factory=list)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (Nested(either=Table(codes=9)), {"either": {"kind": "table", "codes": 9}}),
        (Nested(either=Grid(levels=(3,)), sizes=(1, 2)), {"either": {"kind": "grid", "levels": [3]}}),
        (
            Nested(either=Table(codes=9), spare=Plain(), sizes=(1,), names=["a"]),
            {"either": {"kind": "table", "codes": 9}, "spare": {}, "sizes": [1], "names": ["a"]},
        ),
    ],
)
def test_what_differs_from_defaults(record: Nested, told: dict):
    """Only that, and kinds; a nested record that is its own default but not the setting's is told too."""
    assert changed(record) == told


@dataclass(frozen=True, kw_only=True)
class Mover:
    """One whose setting lives in a part since some version."""

    MOVED = {"codes": "part.codes"}

    part: Plain = Plain()
    name: str = "x"


@dataclass(frozen=True, kw_only=True)
class Above:
    """One that holds it."""

    inner: Mover = Mover()


@pytest.mark.parametrize("data", [{"codes": 7}, {"part": {"codes": 7}}, {"part": {}, "codes": 7}])
def test_settings_that_moved_are_found(data):
    """Where older versions wrote them, at any depth; the given mapping stays as it was."""
    given = {"inner": {"name": "y"} | data}
    before = repr(given)
    assert decode(Above, given, "here") == Above(inner=Mover(part=Plain(codes=7), name="y"))
    assert repr(given) == before


def test_a_setting_in_its_old_and_its_new_place_is_refused():
    """Nobody guesses which one is meant."""
    with pytest.raises(ValueError, match="here: unknown setting `inner.codes`"):
        decode(Above, {"inner": {"codes": 7, "part": {"codes": 8}}}, "here")
