"""What a run leaves for people: numbers in metrics.jsonl, pictures as PNG, and both in accelerate's trackers.

metrics.jsonl holds one JSON object a line, appended as a run goes and cut back when it resumes.

Shapes: c h w an image.
"""

import io
import json
import math
import os
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from PIL import Image
from torch import Tensor

from vqtok.storage.folders import flush, write_file

PROJECT = "vqtok"  # the name under which trackers file the run


class Journal:
    """Writes into one run's folder.

    Args:
        folder: Of the run; made with the first row.
        accelerator: Holds the trackers.
    """

    def __init__(self, folder: Path, accelerator: Accelerator) -> None:
        self.folder, self.accelerator = folder, accelerator
        self.path = folder / "metrics.jsonl"
        self._from = 0
        self._started = False

    def append(self, step: int, values: dict[str, float]) -> None:
        """Add a row; in the file, numbers that are not finite become null."""
        clean = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps({"step": step, **clean}) + "\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._start()
        self.accelerator.log(values, step=step)

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """Keep a picture (3, h, w) in [0, 1] as pictures/<name>-<step>.png."""
        pixels = (
            (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        )
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        write_file(self.folder / "pictures" / f"{name}-{step:06d}.png", png.getvalue())
        self._start()
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({name: pixels[None]}, step=step, **options)

    def size(self) -> int:
        """Bytes of metrics.jsonl, flushed to the disk: the place to rewind to."""
        if not self.path.exists():
            return 0
        flush(self.path)
        return self.path.stat().st_size

    def rewind(self, step: int, size: int) -> None:
        """Forget what was written after `step`: all but the first `size` bytes of metrics.jsonl."""
        self._from = step + 1
        if self.path.exists() and self.path.stat().st_size > size:
            os.truncate(self.path, size)

    def close(self) -> None:
        """Close the trackers."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.trackers = []

    def _start(self) -> None:
        """Start the trackers with the first entry, when it is known which step the run resumes from."""
        if self._started or not self.accelerator.log_with:
            return
        self._started = True
        wandb = {"dir": str(self.folder), "name": self.folder.name}
        options = {"tensorboard": {"purge_step": self._from}, "wandb": wandb}
        self.accelerator.init_trackers(PROJECT, init_kwargs=options)


def read_rows(folder: Path | str) -> list[dict[str, float | None]]:
    """The rows of a run's metrics.jsonl, oldest first; a last line torn by a kill is left out."""
    path = Path(folder, "metrics.jsonl")
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise a ValueError for a tracker whose package is not installed."""
    available = [str(tracker) for tracker in get_available_trackers()]
    for name in names:
        if name not in available:
            raise ValueError(
                f"tracker {name!r} is not installed (there are: {', '.join(available) or 'none'}): "
                f"install its package, or leave it out of run.trackers"
            )
