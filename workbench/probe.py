"""`vqtok probe`: what an ImageGPT's layers know of classes, as a table, a report and a curve.

The probe itself is `imagegpt.probe`.
"""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from imagegpt.probe import Job, Solver, probe
from vqtok.storage.folders import write_file
from workbench.curves import chart

STYLE = (
    "<style>svg{--line-1:#1f6fb2;--line-2:#c2571a;--ink:#1e1e1e;--faint:#666;--grid:#ddd;background:#fff}"
    "text{font:12px sans-serif;fill:var(--faint)}.title{font-size:14px;fill:var(--ink)}"
    ".end{text-anchor:end}.middle{text-anchor:middle}</style>"
)


def curve(report: dict[str, Any]) -> str:
    """A picture as SVG: accuracy in percent by layer, beside that of pixels."""
    layers, pixels = report["layers"], report["pixels"]
    ends = (0, len(layers) - 1)
    lines = {
        "features": [(layer, 100 * found["test"]) for layer, found in enumerate(layers)],
        "pixels": [(layer, 100 * pixels["test"]) for layer in ends],
    }
    title = f"Linear probe, {report['train_pictures']:,} pictures of {report['classes']} classes"
    svg = chart(lines, title, x="layer, the last norm behind all blocks last", y="test accuracy, %")
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f">{STYLE}", 1)


def table(report: dict[str, Any]) -> Table:
    """Accuracies, a line a layer; the chosen one is marked."""
    title = f"{report['model']}, {report['solver']}, {report['train_pictures']:,} training pictures"
    lines = Table("layer", "held out %", "test %", "setting", title=title)
    rows = {str(layer): found for layer, found in enumerate(report["layers"])} | {"pixels": report["pixels"]}
    for name, found in rows.items():
        mark = " *" if name == str(report["layer"]) else ""
        held_out, test = (f"{100 * found[part]:.2f}" for part in ("held_out", "test"))
        lines.add_row(name + mark, held_out, test, f"{found['setting']:g}")
    return lines


def main(argv: list[str] | None = None) -> None:
    """Probe, print the table, and write report.json and curve.svg."""
    parser = argparse.ArgumentParser(
        "vqtok probe",
        description="Fit a linear classifier to each layer of an ImageGPT, and measure it on other pictures.",
    )
    add = parser.add_argument
    add("--model", required=True, help="folder or hub id of an ImageGPT")
    add("--train", required=True, type=Path, metavar="SHARDS", help="with classes, by the model's tokenizer")
    add("--test", required=True, type=Path, metavar="SHARDS", help="of other pictures of these classes")
    add("--count", type=int, metavar="N", help="training pictures [all]")
    add("--test-count", type=int, metavar="N", help="pictures of the test [all]")
    held_out = "share of training pictures that layer and fit are chosen on [%(default)s]"
    add("--held-out", type=float, default=0.1, metavar="SHARE", help=held_out)
    add("--solver", choices=get_args(Solver), default="lbfgs", help="[%(default)s]")
    add("--steps", type=int, default=2000, metavar="N", help="of sgd, 256 pictures each [%(default)s]")
    add("--batch", type=int, default=32, metavar="N", help="pictures at once [%(default)s]")
    add("--seed", type=int, default=0, help="of what is held out [%(default)s]")
    add("--out", type=Path, default=Path("runs/probe"), help="for report.json and curve.svg [%(default)s]")
    arguments = vars(parser.parse_args(argv))
    out = arguments.pop("out")
    report = probe(Job(**arguments))
    write_file(out / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    write_file(out / "curve.svg", curve(report).encode())
    Console().print(table(report))
    best = f"layer {report['layer']}, chosen on held-out pictures: {report['test']:.2%} of the test are right"
    print(best, out / "report.json", out / "curve.svg", sep="\n")
