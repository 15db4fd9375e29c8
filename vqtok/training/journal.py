"""metrics.jsonl: one JSON object a line, appended as a run goes and cut back when it resumes."""

import json
import math
import os
from pathlib import Path

from vqtok.storage.folders import flush


class Journal:
    """Rows of numbers in a file.

    Args:
        path: Made with the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, float]) -> None:
        """Add a row; numbers that are not finite become null."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        clean = {name: value if math.isfinite(value) else None for name, value in row.items()}
        with open(self.path, "a") as file:
            file.write(json.dumps(clean) + "\n")

    def size(self) -> int:
        """Bytes written so far, flushed to the disk: the place to rewind to."""
        if not self.path.exists():
            return 0
        flush(self.path)
        return self.path.stat().st_size

    def rewind(self, size: int) -> None:
        """Forget what was written after the first `size` bytes."""
        if self.path.exists() and self.path.stat().st_size > size:
            os.truncate(self.path, size)

    def rows(self) -> list[dict[str, float]]:
        """All rows, oldest first; a last line torn by a kill is left out."""
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]
