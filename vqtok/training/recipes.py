"""Recipes and flags for a setting that is one of several dataclasses by its `kind`, such as a quantizer.

jsonargparse takes the first dataclass that a mapping fits, so a flag for one of them could turn it silently
into another. Here such a setting is put together first, whole and checked, with its `kind` said.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any, get_type_hints

import yaml

from vqtok.storage.records import KIND, SETTINGS, TAG, choices, decode, encode, tagged

Settings = dict[str, Any]


def settle(kind: Any, files: dict[str, Settings], argv: list[str]) -> list[str]:
    """Flags that say the same as `argv` and its files, in which every setting that has a `kind` is whole.

    Later files win over earlier ones and flags over files. One that names another `kind` drops what was said
    before; else settings add up. Without any `kind`, it is the first.

    Args:
        kind: The dataclass of all settings.
        files: Settings by the name of their file, in order.
        argv: Flags, those that name the files among them.

    Raises:
        ValueError: naming a setting that is unknown, missing or of a wrong type, and where it stands.
    """
    contents = [json.loads(json.dumps(data, default=str)) for data in files.values()]
    settled = []
    for name, hint in _unions(kind):
        said = [(file, _take(data, name.split("."))) for file, data in zip(files, contents, strict=True)]
        flags, argv = _take_flags(name, argv)
        said = [(file, data) for file, data in said if data is not None] + [("flags", data) for data in flags]
        if said:
            whole = decode(hint, _added(hint, said), said[-1][0], name)
            settled.append(_nested(name.split("."), _written(whole, hint)))
    return [f"--config={json.dumps(data)}" for data in contents + settled] + _without_files(argv)


def read_yaml(text: str, where: str) -> Any:
    """What YAML text says; 3e-4 is a number in it, as it is everywhere but in YAML 1.1.

    Raises:
        ValueError: naming the file or the flag, `where`, if it is no YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ValueError(f"{where}{line}: no YAML: {reason}") from error


class _Loader(yaml.SafeLoader):
    """Safe, with floats that have an exponent and no point."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), [*"-+0123456789"]
)


def _written(value: Any, hint: Any) -> Any:
    """Plain JSON in which every dataclass of a `kind` is named.

    By its mapping alone jsonargparse would take it for whatever the setting's default is.
    """
    if not dataclasses.is_dataclass(value):
        return encode(value)
    hints = get_type_hints(type(value))
    names = [field.name for field in dataclasses.fields(value)]
    data = {name: _written(getattr(value, name), hints[name]) for name in names}
    return {KIND: type(value).__name__, SETTINGS: data} if tagged(hint) else data


def _unions(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and types of all settings that are one of several dataclasses by their `kind`."""
    for name, hint in get_type_hints(kind).items():
        if tagged(hint):
            yield prefix + name, hint
        elif len(choices(hint)) == 1:
            yield from _unions(choices(hint)[0], f"{prefix}{name}.")


def _added(hint: Any, said: list[tuple[str, Any]]) -> Any:
    """All that was said about one setting, in order."""
    whole: Any = {}
    for _, data in said:
        whole = _merged(hint, whole, data)
    return whole


def _merged(hint: Any, whole: Any, data: Any) -> Any:
    """`whole` with `data` said after it: settings add up, at any depth, unless it names another `kind`."""
    if not (isinstance(whole, dict) and isinstance(data, dict)):
        return data
    kinds = tagged(hint)
    kind = whole.get(TAG, next(iter(kinds), None))
    if kinds and data.get(TAG, kind) != kind:
        return data
    record = kinds[kind] if kind in [*kinds] else next(iter(choices(hint)), None)
    hints = get_type_hints(record) if record else {}
    return whole | {key: _merged(hints.get(key), whole.get(key), value) for key, value in data.items()}


def _take(data: Any, names: list[str]) -> Any:
    """Remove and return the setting of a dotted name; None if there is none."""
    for name in names[:-1]:
        data = data.get(name) if isinstance(data, dict) else None
    return data.pop(names[-1], None) if isinstance(data, dict) else None


def _nested(names: list[str], value: Any) -> Any:
    return {names[0]: _nested(names[1:], value)} if names else value


def _take_flags(name: str, argv: list[str]) -> tuple[list[Any], list[str]]:
    """What flags say about the setting `name`, one by one, each `kind` first; and the other flags."""
    found, rest, words = [], [], iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        below = flag == f"--{name}" or flag.startswith(f"--{name}.")
        if not below or word.startswith(f"--{name}.help"):
            rest.append(word)
            continue
        value = read_yaml(value if equals else next(words, ""), flag)
        path = flag[2:].split(".")[name.count(".") + 1 :]
        tells = path[-1:] == [TAG] or (isinstance(value, dict) and TAG in value)
        found.append(((0, len(path)) if tells else (1, 0), _nested(path, value)))
    return [data for _, data in sorted(found, key=lambda item: item[0])], rest


def _without_files(argv: list[str]) -> list[str]:
    words = iter(argv)
    rest = []
    for word in words:
        if word == "--config":
            next(words, None)
        elif not word.startswith("--config="):
            rest.append(word)
    return rest
