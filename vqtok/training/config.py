"""From a recipe and the command line to a frozen dataclass, and from a user's mistake to one clear line."""

import dataclasses
import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

import jsonargparse
import yaml

from vqtok.storage.folders import write_file
from vqtok.storage.records import KIND, SETTINGS, TAG, choices, encode, guess, modernized, tagged
from vqtok.training.recipes import read_yaml, settle
from vqtok.training.run import Diverged

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
    except ValueError as error:
        _stop(error, silent=_rank() > 0)  # all processes read the same: one tells
    try:
        if hasattr(config, "run") and _rank() == 0:
            write_file(config.run.folder / "config.yaml", text.encode())
        train(config)
    except (ValueError, OSError, Diverged) as error:
        _stop(error)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        raise SystemExit(130) from None


def parse(kind: type[Config], argv: Sequence[str] | None = None) -> Config:
    """The dataclass that `--config file.yaml` and flags such as `--lr.peak 1e-4` describe.

    Several files may be given, later ones win; flags win over files.

    Raises:
        ValueError: one line naming the file and the setting that is unknown, missing, of a wrong type or
            refused.
    """
    return _read(kind, sys.argv[1:] if argv is None else argv)[0]


def one_line(error: BaseException) -> str:
    """What went wrong, for a user."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if "Traceback" in str(error) else " ".join(lines)) if lines else type(error).__name__


def _stop(error: Exception, silent: bool = False) -> NoReturn:
    """Tell a user what went wrong, and leave."""
    if os.environ.get("VQTOK_TRACEBACK"):
        traceback.print_exception(error)
    if not silent:
        process = f"process {_rank()}: " if _rank() else ""
        print(f"error: {process}{one_line(error)}", file=sys.stderr)
    raise SystemExit(2)


def _rank() -> int:
    return int(os.environ.get("RANK", 0))


def _read(kind: type[Config], argv: Sequence[str]) -> tuple[Config, str]:
    """The configuration, and itself as YAML that reads back as the same."""
    argv = list(argv)
    names = list(_names(kind))
    last = reversed(dict.fromkeys(reversed(_files(argv))))  # named twice, it stands last
    files = {path: modernized(kind, _mapping(path)) for path in last}
    for path, data in files.items():
        _check(kind, data, path, "")
    for token in argv:
        _check_flag(token, names)
    words = settle(kind, files, argv)
    shown = files if {"-h", "--help"} & {*argv} else {}  # then a recipe's settings are the defaults
    usage = f"vqtok train {' '.join(shown)} [--SETTING VALUE ...]" if shown else None
    parser = jsonargparse.ArgumentParser(usage=usage, exit_on_error=False, default_config_files=[*shown])
    parser.add_argument("--config", action="config", help="Recipe in YAML; later ones win over earlier ones.")
    parser.add_class_arguments(kind)
    try:
        made = vars(parser.instantiate(parser.parse_args(words)))
        config = kind(**{field.name: made[field.name] for field in dataclasses.fields(kind)})
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise ValueError(_explain(str(error), files, argv)) from error
    return config, yaml.safe_dump(encode(config), sort_keys=False)


def _files(argv: list[str]) -> list[str]:
    """What follows --config, in order."""
    pairs = zip(argv, [*argv, None][1:], strict=True)
    files = [
        after if word == "--config" else word[9:] for word, after in pairs if re.match(r"--config(=|$)", word)
    ]
    if None in files:
        raise ValueError("--config needs the name of a recipe after it")
    return files


def _mapping(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        near = difflib.get_close_matches(
            Path(path).name, [p.name for p in Path(path).parent.glob("*.yaml")], n=1
        )
        raise ValueError(
            f"{path}: no such file" + (f"; did you mean {Path(path).with_name(near[0])}?" if near else "")
        )
    try:
        data = read_yaml(Path(path).read_text(), path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a recipe maps settings to values, this one is a {type(data).__name__}")
    return data


def _names(kind: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings of a dataclass, those of every choice included."""
    for name, hint in get_type_hints(kind).items():
        yield prefix + name
        for record in choices(hint):
            yield from _names(record, f"{prefix}{name}.")


def _check(kind: Any, data: dict[str, Any], where: str, prefix: str) -> None:
    """Raise a ValueError for the first key of `data` that `kind` does not know."""
    hints = get_type_hints(kind)
    for key, value in data.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise ValueError(f"{where}: unknown setting `{name}`{guess(name, list(_names(kind, prefix)))}")
        records = {record.__name__: record for record in choices(hints[key])}
        if not records or not isinstance(value, dict):
            continue
        if kinds := tagged(hints[key]):
            _check_kinds(kinds, value, where, f"{name}.")
        elif KIND in value:
            arm = str(value[KIND]).rsplit(".")[-1]
            if arm not in records:
                raise ValueError(f"{where}: `{name}.{KIND}` is {arm!r}, expected one of {', '.join(records)}")
            _check(records[arm], value.get(SETTINGS) or {}, where, f"{name}.")
        elif len(records) == 1:
            _check(*records.values(), value, where, f"{name}.")


def _check_kinds(kinds: dict[str, Any], data: dict[str, Any], where: str, prefix: str) -> None:
    """As `_check`, for one of several kinds; without its `kind`, as another file may name it, for any."""
    refusals = []
    for kind in [kinds[data[TAG]]] if data.get(TAG) in [*kinds] else kinds.values():
        try:
            return _check(kind, data, where, prefix)
        except ValueError as error:
            refusals.append(error)
    raise refusals[0]


def _check_flag(token: str, names: list[str]) -> None:
    flag = token.split("=")[0]
    if not re.match(r"--[A-Za-z]", flag) or re.fullmatch(r"--(config|print_config|(.+\.)?help)", flag):
        return
    name = flag[2:].rstrip("+").replace(f".{SETTINGS}", "").removesuffix(f".{KIND}")
    if name not in names:
        raise ValueError(f"unknown flag `{flag}`{guess(name, names).replace('`', '`--', 1)}")


def _explain(message: str, files: dict[str, dict[str, Any]], argv: list[str]) -> str:
    """jsonargparse's message, or a dataclass's, as one sentence that begins with the file it is about."""
    last = f"{list(files)[-1]}: " if files else ""
    wrong = re.match(r'Parser key "(.+?)":\s+Expected an? (.+?)\. Got value: (.*)', message, re.DOTALL)
    if wrong:
        key, kind, value = wrong.groups()
        kind = re.sub(r"<class '(.+?)'>", r"\1", kind).replace("typing.", "")
        return f"{_origin(key, files, argv)}`{key}` is {value.strip()!r}, expected {kind}"
    union = re.match(
        r'Parser key "(.+?)":\s+Does not validate against any.*?Subtypes: (.*?)\s+Errors:', message, re.DOTALL
    )
    if union:
        arms = ", ".join(re.findall(r"([A-Za-z_]\w*)(?:'>)?[,\]]", union[2]))
        way = f"is none of {arms}: check it, or name one as {KIND} with its settings under {SETTINGS}"
        return f"{_origin(union[1], files, argv)}`{union[1]}` {way}"
    missing = re.match(r"the following arguments are required: (.*)", message)
    if missing:
        return f"{last}missing: {missing[1]}; give them in the recipe or as flags"
    return last + " ".join(message.split())


def _origin(key: str, files: dict[str, dict[str, Any]], argv: list[str]) -> str:
    """The last place that set `key`: nothing for a flag, else the file's name."""
    if any(re.match(rf"--{re.escape(key)}(=|$)", token) for token in argv):
        return ""
    top = key.split(".")[0]
    return next((f"{path}: " for path, data in reversed(files.items()) if top in data), "")
