"""`vqtok evaluate lvm`: what examples are worth to a large vision model, and curves of it.

The evaluation itself is `lvm.evaluate`.
"""

import json
from collections.abc import Sequence
from typing import Any

from PIL import Image

from lvm.evaluate import main as evaluate
from workbench.panels import Panel, panels
from workbench.sheets import write_sheet

PARTS = {"first_row": "first row", "answer": "all of it"}


def curves(report: dict[str, Any]) -> Image.Image:
    """Nats of right answers by shots, a line a task: trained tasks and held-out ones in panels of their own.

    Args:
        report: What `lvm.evaluate` writes as report.json.
    """
    groups = {"trained tasks": False, "held out of training": True}
    rows = []
    for part, said in PARTS.items():
        row = []
        for group, held_out in groups.items():
            lines = {name: [(int(shots), nats) for shots, nats in task["nats"][part].items()]
                     for name, task in report["tasks"].items() if task["held_out"] == held_out}
            if lines:
                title = f"Nats per token of the right answer, {said}: {group}"
                row.append(Panel(title, "pairs shown", lines))
        rows.append(row)
    return panels(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate, print the tables, and write report.json, sheet.png and curves.png."""
    path = evaluate(argv)
    write_sheet(path.parent / "curves.png", curves(json.loads(path.read_text(encoding="utf-8"))))
    print(f"{path.parent}/curves.png: losses by shots")
