"""Frozen dataclasses as plain JSON and back, strictly: an unknown, missing or mistyped key is an error.

Nested dataclasses become nested mappings. Where a field may be one of several dataclasses, its mapping says
which. If each of them has a field `kind` with one literal value of its own, that is how: {"kind": "fsq",
...}; otherwise it takes the form {"class_path": "FSQConfig", "init_args": {...}}. Recipes use the same forms.
"""

import dataclasses
import difflib
import json
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

KIND, SETTINGS, TAG = "class_path", "init_args", "kind"


def read_json(path: Path | str) -> dict[str, Any]:
    """What a JSON file says by name; nothing, if it says something else.

    Raises:
        ValueError: if it is no JSON.
    """
    try:
        data = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is truncated or no JSON ({error}): copy it again") from error
    return data if isinstance(data, dict) else {}


def encode(record: Any) -> Any:
    """Plain JSON of a dataclass: mappings, lists, strings, numbers, booleans and None."""
    if dataclasses.is_dataclass(record):
        hints = get_type_hints(type(record))
        return {
            field.name: _named(getattr(record, field.name), hints[field.name])
            for field in dataclasses.fields(record)
        }
    if isinstance(record, list | tuple):
        return [encode(item) for item in record]
    if isinstance(record, dict):
        return {key: encode(item) for key, item in record.items()}
    return str(record) if isinstance(record, Path) else record


def decode(kind: Any, data: Any, where: str, key: str = "") -> Any:
    """The value of type `kind` that `encode` turned into `data`.

    Args:
        kind: A dataclass, or the type of one of its fields.
        data: Plain JSON.
        where: Name of the file, for errors.
        key: Dotted name of `data` in that file; empty for all of it.

    Raises:
        ValueError: naming `where` and the key that is unknown, missing or of a wrong type.
    """
    return _decode(kind, modernized(kind, data), where, key)


def modernized(kind: Any, data: Any) -> Any:
    """`data` with settings where `kind` has them now.

    A dataclass says in `MOVED`, by old and new dotted name, what older versions wrote elsewhere. What stands
    in both places is left alone, and refused as unknown by whoever reads it.
    """
    records = choices(kind)
    if not isinstance(data, dict) or len(records) != 1:
        return data
    hints = get_type_hints(records[0])
    data = {name: modernized(hints.get(name), item) for name, item in data.items()}
    for old, new in getattr(records[0], "MOVED", {}).items():
        group, _, name = new.partition(".")
        held = data.get(group, {})
        if old in data and isinstance(held, dict) and name not in held:
            data[group] = held | {name: data.pop(old)}
    return data


def changed(record: Any) -> dict[str, Any]:
    """The settings of a dataclass that differ from their defaults, as plain JSON, and every `kind`.

    A setting that is added to the dataclass later, with a default, changes nothing here. So this, hashed, is
    the identity of what a configuration describes, where the whole of it would be that of a version.
    """
    found = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if value != default or field.name == TAG:
            found[field.name] = changed(value) if dataclasses.is_dataclass(value) else encode(value)
    return found


def arms(kind: Any) -> list[Any]:
    """Alternatives of a union; the type itself if it is none."""
    return list(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else [kind]


def choices(kind: Any) -> list[Any]:
    """The dataclasses among the alternatives of a union."""
    return [arm for arm in arms(kind) if dataclasses.is_dataclass(arm)]


def tagged(kind: Any) -> dict[str, Any]:
    """The dataclasses of a union by the literal value of their `kind`; empty if one has none.

    The first is what a mapping without `kind` means.
    """
    records = choices(kind)
    tags = [_tag(record) for record in records]
    return dict(zip(tags, records, strict=True)) if len(records) > 1 and all(tags) else {}


def guess(name: str, names: list[str]) -> str:
    """'; did you mean `...`?' with the nearest of `names`, or else those that stand where `name` does."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    if near:
        return f"; did you mean `{near[0]}`?"
    group, _, _ = name.rpartition(".")
    beside = [other for other in names if other.rpartition(".")[0] == group]
    return f"; there are {', '.join(beside)}" if beside else ""


def _named(value: Any, hint: Any) -> Any:
    if len(choices(hint)) > 1 and dataclasses.is_dataclass(value) and not tagged(hint):
        return {KIND: type(value).__name__, SETTINGS: encode(value)}
    return encode(value)


def _decode(kind: Any, data: Any, where: str, key: str) -> Any:
    records = choices(kind)
    if records and isinstance(data, dict):
        choose = _choose_by_tag if tagged(kind) else _choose
        return _record(*choose(kind, data, where, key), where, key)
    for arm in arms(kind):
        if _fits(arm, data):
            return _plain(arm, data, where, key)
    expected = " or ".join(getattr(arm, "__name__", str(arm)) for arm in arms(kind))
    raise ValueError(f"{where}: `{key}` is {data!r}, expected {expected}")


def _tag(record: Any) -> str | None:
    hint = get_type_hints(record).get(TAG)
    return get_args(hint)[0] if get_origin(hint) is Literal and len(get_args(hint)) == 1 else None


def _choose_by_tag(kind: Any, data: dict[str, Any], where: str, key: str) -> tuple[Any, dict[str, Any]]:
    """The dataclass that a mapping means by its `kind`, and its settings."""
    records = tagged(kind)
    tag = data.get(TAG, next(iter(records)))
    if tag not in [*records]:  # JSON may hold what cannot be looked up
        name = f"{key}.{TAG}" if key else TAG
        raise ValueError(f"{where}: `{name}` is {tag!r}, expected one of {', '.join(records)}")
    return records[tag], data


def _choose(kind: Any, data: dict[str, Any], where: str, key: str) -> tuple[Any, dict[str, Any]]:
    """The dataclass that a mapping means by its `class_path`, and its settings."""
    records = choices(kind)
    if len(records) == 1 and KIND not in data:
        return records[0], data
    names = {record.__name__: record for record in records}
    if data.get(KIND) not in [*names]:
        raise ValueError(f"{where}: `{key}.{KIND}` is {data.get(KIND)!r}, expected one of {', '.join(names)}")
    return names[data[KIND]], data.get(SETTINGS, {})


def _record(kind: Any, data: dict[str, Any], where: str, key: str) -> Any:
    hints, prefix = get_type_hints(kind), f"{key}." if key else ""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    known = [prefix + name for name in fields]
    values = {}
    for name, item in data.items():
        if name not in fields:
            raise ValueError(f"{where}: unknown setting `{prefix}{name}`{guess(prefix + name, known)}")
        values[name] = _decode(hints[name], item, where, prefix + name)
    for name, field in fields.items():
        free = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if free and name not in values:
            raise ValueError(f"{where}: setting `{prefix}{name}` is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _fits(kind: Any, data: Any) -> bool:
    origin = get_origin(kind) or kind
    if kind is Any:
        return True
    if kind is None or kind is type(None):
        return data is None
    if origin is Literal:
        return data in get_args(kind)
    if origin is float:
        return isinstance(data, int | float) and not isinstance(data, bool)
    if origin is int:
        return isinstance(data, int) and not isinstance(data, bool)
    if origin in (tuple, list):
        return isinstance(data, list | tuple)
    return isinstance(data, str if origin is Path else origin)


def _plain(kind: Any, data: Any, where: str, key: str) -> Any:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is tuple and inner:
        kinds = [inner[0]] * len(data) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(data):
            raise ValueError(f"{where}: `{key}` has {len(data)} items, expected {len(kinds)}")
        return tuple(
            _decode(*pair, where, f"{key}[{i}]") for i, pair in enumerate(zip(kinds, data, strict=True))
        )
    if origin in (tuple, list):
        return origin(_decode(inner[0], item, where, key) if inner else item for item in data)
    if origin is dict and inner:
        return {name: _decode(inner[1], item, where, f"{key}.{name}") for name, item in data.items()}
    return origin(data) if origin in (float, Path) else data
