"""What must be exact in a training loop: steps, seeds, batches, gradients, checkpoints, configuration.

A family's `train.py` owns the `for`; `Run` owns what `docs/architecture.md` promises of it; `launch` turns a
recipe and the command line into a configuration.
"""

from vqtok.training.config import launch, parse
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Diverged, Run, RunConfig
from vqtok.training.schedule import LRConfig, Ramp, cosine, ramped

__all__ = [
    "Diverged",
    "LRConfig",
    "OptimConfig",
    "Ramp",
    "Run",
    "RunConfig",
    "cosine",
    "launch",
    "optimizer_for",
    "parse",
    "ramped",
]
