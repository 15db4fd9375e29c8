"""How far a run is: a bar on a terminal, a plain line every ten seconds elsewhere."""

import sys
import time
from datetime import timedelta
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

PLAIN_SECONDS = 10.0


class Meter:
    """Shows step, loss, learning rate, samples per second and time left; as a context, it ends with it.

    Args:
        start: Steps done when the meter starts.
        steps: Steps of the whole run.
        batch: Samples a step.
        shown: False keeps it silent, but it still measures.
        unit: What a step is called.
    """

    def __init__(self, start: int, steps: int, batch: int, shown: bool, unit: str = "step") -> None:
        self.start, self.steps, self.batch, self.shown, self.unit = start, steps, batch, shown, unit
        self.began = self.spoke = time.monotonic()
        self.bar = _bar() if shown and sys.stdout.isatty() else None
        if self.bar is not None:
            self.task = self.bar.add_task("", total=steps, completed=start, facts="")
            self.bar.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def rate(self, step: int) -> float:
        """Samples per second since the meter started."""
        return (step - self.start) * self.batch / max(time.monotonic() - self.began, 1e-9)

    def show(self, step: int, facts: dict[str, float]) -> None:
        """Tell that `step` steps are done, with some numbers by name."""
        late = time.monotonic() - self.spoke >= PLAIN_SECONDS or step == self.steps
        if not self.shown or not (self.bar or late):
            return
        rate = self.rate(step)
        left = timedelta(seconds=round((self.steps - step) * self.batch / max(rate, 1e-9)))
        told = "  ".join(
            [*(f"{name} {value:.4g}" for name, value in facts.items()), f"{rate:,.0f} samples/s"]
        )
        if self.bar is not None:
            self.bar.update(self.task, completed=step, facts=f"{told}  {left} left")
            return
        self.spoke = time.monotonic()
        print(f"{self.unit} {step:,}/{self.steps:,}  {told}  {left} left", flush=True)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _bar() -> Progress:
    return Progress(BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"))
