"""Devices and processes, as accelerate arranges them for one run."""

import atexit
import time
from pathlib import Path

from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import GradientAccumulationPlugin, ProjectConfiguration

from vqtok.training.journal import check_trackers


def accelerator(folder: Path, precision: str, trackers: tuple[str, ...]) -> Accelerator:
    """accelerate as one run wants it, whatever an earlier run of this process wanted.

    Raises:
        ValueError: if a tracker is not installed, or the launch splits weights over processes.
    """
    check_trackers(trackers)
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # it refuses a second precision in one process
    made = Accelerator(
        mixed_precision=precision,
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=f"{folder}/trackers"),
        # A plugin, because `accelerate launch` sets a plain number by environment; `Run` counts itself.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1, sync_with_dataloader=False),
    )
    kinds = (
        DistributedType.NO,
        DistributedType.MULTI_CPU,
        DistributedType.MULTI_GPU,
        DistributedType.MULTI_XPU,
    )
    if made.distributed_type not in kinds:
        raise ValueError(
            f"{made.distributed_type} splits weights over processes, which checkpoints cannot hold: "
            f"launch without it"
        )
    if made.num_processes > 1:
        atexit.unregister(_part)  # of an earlier run
        atexit.register(_part)
    return made


def _part() -> None:
    """Part from the other processes, while the interpreter is whole.

    DistributedDataParallel keeps gloo's threads alive beyond that (torch 2.15). One that is about to release
    a tensor would abort the process if the interpreter ended first: the pause leaves them time.
    """
    PartialState().destroy_process_group()
    time.sleep(0.5)
