"""`Run`: what must be exact in a training loop. It knows no batch content, no loss and no model.

Shapes: c h w an image.
"""

import io
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    GradientAccumulationPlugin,
    ProjectConfiguration,
    broadcast_object_list,
    send_to_device,
)
from PIL import Image
from torch import Tensor, nn

from vqtok.storage.folders import write_file
from vqtok.storage.tensors import check_tensors
from vqtok.training import checkpoints
from vqtok.training.batches import Slices, Source, load, seed_of
from vqtok.training.ema import EMA
from vqtok.training.journal import Journal
from vqtok.training.progress import Meter


class Diverged(RuntimeError):
    """The loss was not finite several steps in a row."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run lives and how it goes.

    Args:
        folder: Receives checkpoints, metrics.jsonl, pictures and what trackers write; nothing is written elsewhere.
        seed: Initial weights and all random numbers of training follow from it.
        precision: "bf16" computes the models' forward passes in bfloat16 where that is safe; weights stay float32.
        micro_batches: Parts of a process's share of the batch that go through the model one after the other.
        keep: Checkpoints that stay on disk.
        log_steps: Steps between two records of the loss.
        patience: Steps in a row whose loss may be not finite before the run stops.
        trackers: Of accelerate: tensorboard, wandb, ...; they need their packages.
    """

    folder: Path
    seed: int = 0
    precision: Literal["no", "bf16"] = "no"
    micro_batches: int = 1
    keep: int = 2
    log_steps: int = 10
    patience: int = 5
    trackers: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        for name in ("micro_batches", "keep", "log_steps", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"run.{name} is {getattr(self, name)}, the least is 1: raise it")


class Run:
    """One training run, resumable at every checkpoint.

    Make it first, so that the model's initial weights follow from the seed; then `prepare`, `ema`, `resume`, and
    loop over `batches`. `step` counts batches whose optimiser steps are done; it moves when the `accumulate` block of
    a batch's last micro-batch ends, so that all `update` calls of one batch see the same step.

    Args:
        config: Where and how.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.step = 0
        self.skipped = 0
        self.accelerator = _accelerator(config)
        self.main = self.accelerator.is_main_process
        self.journal = Journal(config.folder / "metrics.jsonl")
        self._models: list[nn.Module] = []
        self._optimizers: list[torch.optim.Optimizer] = []
        self._averages: list[EMA] = []
        self._window: dict[str, list[float]] = {}
        self._pending: dict[int, Tensor] = {}
        self._streak: list[int] = []
        self._bad = False
        self._micro: int | None = None
        self._batch, self._steps, self._meter = 0, 0, None
        self._tracking = False
        torch.manual_seed(seed_of(config.seed))

    def prepare(self, *objects: Any) -> Any:
        """Models and optimizers moved to the device and wrapped for several processes; one alone comes back alone."""
        prepared = self.accelerator.prepare(*objects)
        for item in prepared if len(objects) > 1 else (prepared,):
            if isinstance(item, nn.Module):
                self._models.append(item)
            elif isinstance(item, torch.optim.Optimizer):
                self._optimizers.append(item)
        return prepared

    def unwrap(self, model: nn.Module) -> nn.Module:
        """The model inside what `prepare` returned, with its own attributes and methods."""
        return self.accelerator.unwrap_model(model)

    def ema(self, model: nn.Module, decay: float) -> EMA:
        """A moving average of `model`'s weights, updated at every step and kept in checkpoints."""
        self._averages.append(EMA(self.unwrap(model), decay))
        return self._averages[-1]

    def resume(self) -> bool:
        """Go on from the newest whole checkpoint of the folder; False if there is none."""
        found = [str(checkpoints.newest(self._checkpoints) or "") if self.main else ""]
        broadcast_object_list(found)
        if found[0]:
            self._restore(Path(found[0]))
        elif self.main:
            self.journal.rewind(0)
        return bool(found[0])

    def batches(self, source: Source, batch: int, steps: int, workers: int = 0) -> Iterator[Any]:
        """This process's micro-batches on its device, from the current step to the last.

        Args:
            source: Sample number k of the run is source[k].
            batch: Samples a step, over all processes and micro-batches.
            steps: Steps of the whole run, those before a resume included.
            workers: Processes that read ahead; 0 reads in this one.

        Yields:
            Collated samples: the structure of one sample, each tensor with a new first axis.
        """
        world = self.accelerator
        slices = Slices(batch, world.process_index, world.num_processes, self.config.micro_batches)
        loaded = load(source, slices, range(self.step, steps), workers, self.device.type == "cuda")
        self._batch, self._steps = batch, steps
        self._meter = Meter(self.step, steps, batch, self.main)
        try:
            for step in range(self.step, steps):
                for self._micro in range(self.config.micro_batches):
                    samples = send_to_device(next(loaded), self.device, non_blocking=True)
                    torch.manual_seed(seed_of(self.config.seed, step, self._micro, world.process_index))
                    yield samples
                if self.step != step + 1:
                    raise RuntimeError("a batch went by without `with run.accumulate(model):` around its update")
        finally:
            self._micro = None
            self._meter.stop()

    @contextmanager
    def accumulate(self, *models: nn.Module) -> Iterator[None]:
        """Around forward and `update`: gradients of `models` travel between processes with the last micro-batch."""
        if self._micro is None:
            raise RuntimeError("`run.accumulate` belongs inside `for ... in run.batches(...)`, once a micro-batch")
        last = self._micro == self.config.micro_batches - 1
        self.accelerator.sync_gradients = last
        with ExitStack() as stack:
            for model in () if last else models:
                stack.enter_context(self.accelerator.no_sync(model))
            yield
        if last:
            self._advance()

    def update(
        self,
        loss: Tensor,
        optimizer: torch.optim.Optimizer,
        lr: float | None = None,
        weight: float | Tensor | None = None,
        clip: float | None = None,
    ) -> bool:
        """Backward, and with the last micro-batch one step of `optimizer` along the weighted mean gradient.

        Only the parameters of `optimizer` receive gradients. A step whose loss or gradient is not finite anywhere is
        left out by all processes.

        Args:
            loss: () mean over this micro-batch.
            optimizer: As `prepare` returned it.
            lr: Learning rate of this step; None leaves the optimizer's own.
            weight: What this micro-batch counts for, such as its number of tokens; alike for all if None.
            clip: Largest norm of the gradient.

        Returns:
            Whether weights have changed.
        """
        if self._micro is None:
            raise RuntimeError("`run.update` belongs inside `with run.accumulate(model):`")
        index = self._optimizers.index(optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        counts = torch.as_tensor(1.0 if weight is None else weight, dtype=torch.float32, device=loss.device).detach()
        only = {"inputs": parameters} if len(self._optimizers) > 1 else {}
        self.accelerator.backward(loss * counts, **only)
        value = loss.detach().float()
        tally = torch.stack([counts, counts * value, (~torch.isfinite(value)).float()])
        self._pending[index] = self._pending[index] + tally if index in self._pending else tally
        if not self.accelerator.sync_gradients:
            return False
        norm, mean = self._reduce(parameters, self._pending.pop(index), clip)
        self._bad = self._bad or not math.isfinite(norm + mean)
        if not self._bad:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] if lr is None else lr
            optimizer.step()
            self._note(index, loss=mean, gradient_norm=norm, lr=optimizer.param_groups[0]["lr"])
        optimizer.zero_grad()
        return not self._bad

    def every(self, steps: int) -> bool:
        """Whether a multiple of `steps` steps, or the whole run, has just been completed."""
        whole = self._micro in (None, self.config.micro_batches - 1)
        return steps > 0 and self.step > 0 and whole and (self.step % steps == 0 or self.step == self._steps)

    def log(self, values: dict[str, float]) -> None:
        """Record numbers by name, in metrics.jsonl and with the trackers, under the current step."""
        if self.main:
            numbers = {name: float(value) for name, value in values.items()}
            self.journal.append({"step": self.step, **numbers})
            self._track()
            self.accelerator.log(numbers, step=self.step)

    def show(self, name: str, image: Tensor) -> None:
        """Keep a picture (3, h, w) in [0, 1] as pictures/<name>-<step>.png and with the trackers."""
        if not self.main:
            return
        pixels = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        write_file(self.config.folder / "pictures" / f"{name}-{self.step:06d}.png", png.getvalue())
        self._track()
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({name: pixels[None]}, step=self.step, **options)

    def save(self) -> None:
        """Write a checkpoint of the current step; all processes call it, the main one writes."""
        error = None
        if self.main:
            try:
                state = {"step": self.step, "skipped": self.skipped, "streak": self._streak, "window": self._window}
                state["journal"] = self.journal.size()
                checkpoints.save(self._checkpoints, self.step, self._tensors(), state, self.config.keep)
            except OSError as problem:
                error = problem
        failed = self.accelerator.reduce(torch.tensor(float(error is not None), device=self.device), "sum")
        if error is not None:
            raise error
        if failed.item():
            raise OSError("the main process could not save the checkpoint")

    def finish(self) -> None:
        """Close the progress display and the trackers; the run may not go on."""
        if self._meter is not None:
            self._meter.stop()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.trackers = []
        self.accelerator.wait_for_everyone()

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device

    @property
    def _checkpoints(self) -> Path:
        return self.config.folder / "checkpoints"

    def _reduce(self, parameters: list[Tensor], tally: Tensor, clip: float | None) -> tuple[float, float]:
        """Make gradients the weighted mean over micro-batches and processes; its norm and the mean loss."""
        counts, total, bad = self.accelerator.reduce(tally, "sum")
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # Backward summed weight x gradient; several processes then took the plain mean.
        torch._foreach_mul_(gradients, self.accelerator.num_processes / counts)
        norm = self.accelerator.clip_grad_norm_(parameters, math.inf if clip is None else clip)
        norm, mean = torch.stack([norm.float(), torch.where(bad > 0, math.nan, total / counts)]).tolist()
        return norm, mean

    def _note(self, index: int, **values: float) -> None:
        for name, value in values.items():
            entry = self._window.setdefault(name if index == 0 else f"{name}_{index + 1}", [0.0, 0])
            entry[:] = [entry[0] + value, entry[1] + 1]

    def _advance(self) -> None:
        """One batch is done: count it, average weights, record."""
        self.step += 1
        if self._bad:
            self.skipped += 1
            self._streak.append(self.step - 1)
            self._bad = False
        else:
            self._streak = []
            for average in self._averages:
                average.update(self.step)
        if len(self._streak) >= self.config.patience:
            raise Diverged(self._story())
        if self.step % self.config.log_steps == 0 or self.step == self._steps:
            self._record()

    def _record(self) -> None:
        means = {name: total / count for name, (total, count) in self._window.items()}
        self._window = {}
        self._meter.show(self.step, means)
        self.log({**means, "skipped": self.skipped, "samples_per_second": self._meter.rate(self.step)})

    def _story(self) -> str:
        spans = ", ".join(f"{step * self._batch}-{(step + 1) * self._batch - 1}" for step in self._streak)
        return (
            f"the loss was not finite in {len(self._streak)} steps in a row, with samples {spans} of the training "
            f"order: look at them, or lower the learning rate, and resume from the last checkpoint"
        )

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        models = {f"model-{i}": self.unwrap(model).state_dict() for i, model in enumerate(self._models)}
        memory = {f"optimizer-{i}": checkpoints.optimizer_tensors(o) for i, o in enumerate(self._optimizers)}
        averages = {f"ema-{i}": average.model.state_dict() for i, average in enumerate(self._averages)}
        return {**models, **memory, **averages}

    def _restore(self, place: Path) -> None:
        tensors, state = checkpoints.load(place)
        if sorted(tensors) != sorted(self._tensors()):
            raise ValueError(
                f"{place} holds {', '.join(sorted(tensors))}, this run has {', '.join(sorted(self._tensors()))}: "
                f"use a new run.folder"
            )
        targets = {f"model-{i}": self.unwrap(model) for i, model in enumerate(self._models)}
        targets |= {f"ema-{i}": average.model for i, average in enumerate(self._averages)}
        for name, model in targets.items():
            check_tensors(tensors[name], model.state_dict(), place / f"{name}.safetensors")
            model.load_state_dict(tensors[name])
        for i, optimizer in enumerate(self._optimizers):
            checkpoints.load_optimizer(optimizer, tensors[f"optimizer-{i}"], place)
        self.step, self.skipped = state["step"], state["skipped"]
        self._streak, self._window = state["streak"], state["window"]
        if self.main:
            self.journal.rewind(state["journal"])

    def _track(self) -> None:
        """Start the trackers when there is something to track, so that they know the step they resume from."""
        if self._tracking or not self.config.trackers:
            return
        self._tracking = True
        folder = str(self.config.folder)
        options = {"tensorboard": {"purge_step": self.step}, "wandb": {"dir": folder, "name": self.config.folder.name}}
        self.accelerator.init_trackers("vqtok", init_kwargs=options)


def _accelerator(config: RunConfig) -> Accelerator:
    """accelerate as `config` wants it, whatever an earlier run of this process wanted."""
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != config.precision:
        AcceleratorState._reset_state()
    folder = str(config.folder)
    return Accelerator(
        mixed_precision=config.precision,
        log_with=list(config.trackers) or None,
        project_config=ProjectConfiguration(project_dir=folder, logging_dir=f"{folder}/trackers"),
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1, sync_with_dataloader=False),
    )
