"""`vqtok compare`: which comparisons there are, and their options. What they need is imported later."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path

# What can be compared, by kind and name: the module that holds it as COMPARISON. The one place to edit.
SPEED = {
    "lookup": "workbench.compare.lookup",
    "gpt": "workbench.compare.gpt",
    "diffusion": "workbench.compare.unet",
    "lvm": "workbench.compare.prompts",
}
LEARNING = {
    "vq": "workbench.compare.vq",
    "imagegpt": "workbench.compare.imagegpt",
    "diffusion": "workbench.compare.ddpm",
    "lvm": "workbench.compare.sentences",
    "specialists": "workbench.compare.specialists",
}


def main(argv: Sequence[str]) -> None:
    """Run one comparison, print its tables and write them into the notebook.

    Raises:
        ValueError: if a library to compare with is missing, or the notebook has no place for the tables.
        OSError: if the notebook cannot be read or written.
    """
    arguments = _parse(argv)
    from workbench.compare.sections import find_section, write_section  # brings torch: not for --help

    section = f"compare {arguments.kind} {arguments.name}"
    if not arguments.toy:
        find_section(arguments.out, section)  # known before the hours that a comparison may take
    report = arguments.run(arguments)
    text = f"`{_command(argv)}`, {date.today()}, {report}"
    print(text)
    if not arguments.toy:
        write_section(arguments.out, section, text)
        print(arguments.out)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    about = "Measure vqtok beside other libraries in one run; the tables go into docs/results.md."
    parser = argparse.ArgumentParser(prog="vqtok compare", description=about)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    speed = _add_kind(kinds, "speed", _speed, SPEED, "time and memory")
    speed.add_argument("--rounds", type=int, default=15, help="times that each one is measured [%(default)s]")
    learning = _add_kind(kinds, "learning", _learning, LEARNING, "what the same training makes of each")
    learning.add_argument("--steps", type=int, default=600, help="of each training [%(default)s]")
    seeds = "each is one training of everybody; several tell the noise [0]"
    learning.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="SEED", help=seeds)
    arguments = parser.parse_args(argv)
    for name in ("rounds", "steps", "threads"):
        if (value := getattr(arguments, name, None)) is not None and value < 1:
            parser.error(f"--{name} is {value}: at least 1")
    return arguments


def _add_kind(
    kinds: argparse._SubParsersAction,
    kind: str,
    run: Callable[[argparse.Namespace], str],
    names: Mapping[str, str],
    about: str,
) -> argparse.ArgumentParser:
    parser = kinds.add_parser(kind, help=about, description=f"Compare {about}.")
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("name", choices=[*names], help="what to compare")
    add("--device", default="cpu", help="cpu or cuda [%(default)s]")
    add("--threads", type=int, help="CPU threads [torch's choice]")
    out = "the file whose tables are replaced, between their two marks [%(default)s]"
    add("--out", type=Path, default=Path("docs", "results.md"), metavar="MARKDOWN", help=out)
    add("--toy", action="store_true", help="tiny sizes, to try the command; nothing is written")
    return parser


def _speed(arguments: argparse.Namespace) -> str:
    from workbench.compare.machine import prepare
    from workbench.compare.speed import compare

    module = SPEED[arguments.name]
    device = prepare(arguments.device, arguments.threads)
    return compare(module, import_module(module).COMPARISON, device, arguments.rounds, arguments.toy)


def _learning(arguments: argparse.Namespace) -> str:
    from workbench.compare.machine import prepare

    comparison = import_module(LEARNING[arguments.name]).COMPARISON
    device = prepare(arguments.device, arguments.threads)
    steps = 3 if arguments.toy else arguments.steps
    return comparison.run(device, steps, arguments.seeds, arguments.toy)


def _command(argv: Sequence[str]) -> str:
    return " ".join(("vqtok compare", *argv))
