"""From a recipe and the command line to a frozen dataclass, and from a user's mistake to one clear line."""

import dataclasses
import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import jsonargparse
import yaml

from vqtok.storage.folders import write_file
from vqtok.storage.records import arms, guess

Config = TypeVar("Config")


def launch(train: Callable[[Config], Any], kind: type[Config], argv: Sequence[str] | None = None) -> None:
    """Read the configuration, write it to its run's folder, and train.

    A user's mistake, a full disk or a run that diverged becomes one line on stderr and exit code 2; set
    VQTOK_TRACEBACK=1 to see where it came from.

    Args:
        train: The family's `train(config)`.
        kind: Its dataclass.
        argv: Command line without the program's name; that of this process if left out.
    """
    try:
        config, text = _read(kind, sys.argv[1:] if argv is None else argv)
        run = getattr(config, "run", None)
        if run is not None and _rank() == 0:
            write_file(run.folder / "config.yaml", text.encode())
        train(config)
    except (ValueError, OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error).__name__ != "Diverged":
            raise
        if os.environ.get("VQTOK_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def parse(kind: type[Config], argv: Sequence[str] | None = None) -> Config:
    """The dataclass that `--config file.yaml` and flags such as `--lr.peak 1e-4` describe.

    Several files may be given, later ones win; flags win over files.

    Raises:
        ValueError: one line naming the file and the setting that is unknown, missing, of a wrong type or refused.
    """
    return _read(kind, sys.argv[1:] if argv is None else argv)[0]


def one_line(error: BaseException) -> str:
    """What went wrong, for a user."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if "Traceback" in str(error) else " ".join(lines)) if lines else type(error).__name__


def _rank() -> int:
    return int(os.environ.get("RANK", 0))


def _read(kind: type[Config], argv: Sequence[str]) -> tuple[Config, str]:
    """The configuration, and itself as YAML that reads back as the same."""
    argv = list(argv)
    files = _files(argv)
    names = list(_names(kind))
    for path in files:
        _check(kind, _mapping(path), path, "")
    for token in argv:
        _check_flag(token, names)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config", help="Recipe in YAML; later ones win over earlier ones.")
    parser.add_class_arguments(kind)
    where = f"{files[-1]}: " if files else ""
    try:
        space = parser.parse_args(argv)
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise ValueError(where + _plain(str(error))) from error
    try:
        made = vars(parser.instantiate(space))
        config = kind(**{field.name: made[field.name] for field in dataclasses.fields(kind)})
    except ValueError as error:
        raise ValueError(f"{where}{error}") from error
    space.pop("config", None)
    return config, parser.dump(space, skip_none=False)


def _files(argv: list[str]) -> list[str]:
    """What follows --config, in order."""
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    return [after if word == "--config" else word[9:] for word, after in pairs if re.match(r"--config(=|$)", word)]


def _mapping(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        near = difflib.get_close_matches(Path(path).name, [p.name for p in Path(path).parent.glob("*.yaml")], n=1)
        raise ValueError(f"{path}: no such file" + (f"; did you mean {Path(path).with_name(near[0])}?" if near else ""))
    try:
        data = yaml.safe_load(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {one_line(error)}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a recipe maps settings to values, this one is {type(data).__name__}")
    return data


def _records(hint: Any) -> list[Any]:
    return [arm for arm in arms(hint) if dataclasses.is_dataclass(arm)]


def _names(kind: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings of a dataclass, those of every choice included."""
    for name, hint in get_type_hints(kind).items():
        yield prefix + name
        for record in _records(hint):
            yield from _names(record, f"{prefix}{name}.")


def _check(kind: Any, data: dict[str, Any], where: str, prefix: str) -> None:
    """Raise a ValueError for the first key of `data` that `kind` does not know."""
    hints = get_type_hints(kind)
    for key, value in data.items():
        if key not in hints:
            raise ValueError(f"{where}: unknown setting `{prefix}{key}`{guess(prefix + str(key), list(_names(kind, prefix)))}")
        for record in _choices(_records(hints[key]), value):
            inner = value.get("init_args", {}) if "class_path" in value else value
            _check(record, inner, where, f"{prefix}{key}.")


def _choices(records: list[Any], value: Any) -> list[Any]:
    """The dataclass that a mapping means; none if it names none or leaves it open."""
    if not isinstance(value, dict) or not records:
        return []
    if "class_path" in value:
        return [record for record in records if record.__name__ == str(value["class_path"]).rsplit(".")[-1]]
    return records if len(records) == 1 else []


def _check_flag(token: str, names: list[str]) -> None:
    flag = token.split("=")[0]
    if not re.match(r"--[A-Za-z]", flag) or flag in ("--config", "--help", "--print_config"):
        return
    name = flag[2:].rstrip("+").replace(".init_args", "").removesuffix(".class_path")
    if name not in names:
        near = guess(name, names).replace("`", "`--", 1)
        raise ValueError(f"unknown flag `{flag}`{near}")


def _plain(message: str) -> str:
    """jsonargparse's message as one sentence."""
    found = re.match(r'Parser key "(?P<key>.+?)":\s+Expected an? (?P<type>.+?)\. Got value: (?P<value>.*)', message, re.S)
    if found:
        kind = re.sub(r"<class '(.+?)'>", r"\1", found["type"])
        return f"`{found['key']}` is {found['value'].strip()!r}, expected {kind}"
    missing = re.match(r"the following arguments are required: (.*)", message)
    if missing:
        return f"setting `{missing[1]}` is missing: give it in the recipe or as --{missing[1].split(',')[0]}"
    return " ".join(message.split())
