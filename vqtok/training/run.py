"""`Run`: what must be exact in a training loop. It knows no batch content, no loss and no model.

Shapes: c h w an image.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import broadcast_object_list, send_to_device
from torch import Tensor, nn

from vqtok.storage.tensors import check_tensors
from vqtok.training import checkpoints
from vqtok.training.batches import Slices, Source, load, seed_of
from vqtok.training.devices import accelerator
from vqtok.training.ema import EMA
from vqtok.training.journal import Journal
from vqtok.training.progress import Meter
from vqtok.training.window import Window


class Diverged(RuntimeError):
    """The loss was not finite several steps in a row."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run lives and how it goes.

    Args:
        folder: Receives checkpoints, metrics.jsonl, pictures and what trackers write; nothing is written
            elsewhere.
        seed: Initial weights and all random numbers of training follow from it.
        precision: "bf16" computes the models' forward passes in bfloat16 where that is safe; weights stay
            float32.
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

    Make it first, so that the model's initial weights follow from the seed; then `prepare`, `ema`, `resume`,
    and loop over `batches`. `step` counts batches whose optimiser steps are done; it moves when the
    `accumulate` block of a batch's last micro-batch ends, so that all `update` calls of one batch see the
    same step.

    Args:
        config: Where and how.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.step = 0
        self.skipped = 0
        self.accelerator = accelerator(config.folder, config.precision, config.trackers)
        self.main = self.accelerator.is_main_process
        self.journal = Journal(config.folder, self.accelerator)
        self._models: list[nn.Module] = []
        self._optimizers: list[torch.optim.Optimizer] = []
        self._averages: list[EMA] = []
        self._window = Window()
        self._pending: dict[int, Tensor] = {}
        self._streak: list[int] = []
        self._bad = self._stepped = False
        self._micro: int | None = None  # of the batch under way
        self._open = False  # inside `accumulate`
        self._batch, self._steps = 0, 0
        self._meter: Meter | None = None
        torch.manual_seed(seed_of(config.seed))

    def prepare(self, *objects: Any) -> Any:
        """Models and optimizers, moved to the device and wrapped for several processes, in their order."""
        prepared = self.accelerator.prepare(*objects)
        for item in prepared if len(objects) > 1 else (prepared,):
            if isinstance(item, nn.Module):
                self._models.append(item)
            elif isinstance(item, torch.optim.Optimizer):
                self._optimizers.append(item)
        return prepared

    def hold(self, state: nn.Module) -> nn.Module:
        """A module whose buffers are state of the loop, alike on all processes: checkpoints keep them."""
        self._models.append(state.to(self.device))
        return state

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
            self.journal.rewind(-1, 0)
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
        if self.main and self.step >= steps:
            print(f"{self.config.folder} is at step {self.step:,} of {steps:,}: nothing is left to train")
        self._meter = Meter(self.step, steps, batch, self.main)
        try:
            for step in range(self.step, steps):
                for micro in range(self.config.micro_batches):
                    self._micro = micro
                    samples = send_to_device(next(loaded), self.device, non_blocking=True)
                    torch.manual_seed(seed_of(self.config.seed, step, micro, world.process_index))
                    yield samples
                if self.step != step + 1:
                    raise RuntimeError(
                        "a batch went by without `with run.accumulate(model):` around its update"
                    )
        finally:
            self._micro, self._open = None, False
            self._meter.stop()

    @contextmanager
    def accumulate(self, *models: nn.Module) -> Iterator[None]:
        """Around forward and `update`: gradients of `models` are exchanged with the last micro-batch only."""
        if self._micro is None:
            raise RuntimeError("`run.accumulate` belongs inside `for ... in run.batches(...)`")
        self.accelerator.sync_gradients = not self._between
        self._open = True
        with ExitStack() as stack:
            for model in models if self._between else ():
                stack.enter_context(self.accelerator.no_sync(model))
            yield
        self._open = False
        if not self._between:
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

        Only the parameters of `optimizer` receive gradients. A step whose loss or gradient is not finite
        anywhere is left out by all processes, and so are the updates that would follow in it. Those before
        it stand: a critic's bad loss takes nothing back from the model, nor from its moving average.

        Args:
            loss: () mean over this micro-batch.
            optimizer: As `prepare` returned it.
            lr: Learning rate of this step; None leaves the optimizer's own.
            weight: What this micro-batch counts for, such as its number of tokens; alike for all if None.
            clip: Largest norm of the gradient.

        Returns:
            Whether weights have changed.
        """
        if not self._open:
            raise RuntimeError("`run.update` belongs inside `with run.accumulate(model):`")
        index = self._number(optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        counts = torch.as_tensor(
            1.0 if weight is None else weight, dtype=torch.float32, device=loss.device
        ).detach()
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
            self._stepped = True
            suffix = f"_{index + 1}" if index else ""
            facts = {"loss": mean, "gradient_norm": norm, "lr": optimizer.param_groups[0]["lr"]}
            for name, value in facts.items():
                self._window.add(name + suffix, value)
        optimizer.zero_grad()
        return not self._bad

    def every(self, steps: int) -> bool:
        """Whether a multiple of `steps` steps, or the whole run, has just been completed."""
        due = steps > 0 and (self.step % steps == 0 or self.step == self._steps)
        return due and self.step > 0 and not self._between

    def note(self, values: Mapping[str, float | Tensor]) -> None:
        """Record numbers () with the loss: means over micro-batches, processes and the steps in between.

        Called inside `accumulate`, with the same names on all processes. Of a step that is left out nothing
        is recorded. A name with a slash is not shown beside the progress.
        """
        for name, value in values.items():
            self._window.note(name, value, self.device)

    def log(self, values: dict[str, float]) -> None:
        """Record numbers by name, in metrics.jsonl and with the trackers, under the current step."""
        if self.main:
            self.journal.append(self.step, {name: float(value) for name, value in values.items()})

    def show(self, name: str, image: Tensor) -> None:
        """Keep a picture (3, h, w) in [0, 1] as pictures/<name>-<step>.png and with the trackers."""
        if self.main:
            self.journal.picture(self.step, name, image)

    def save(self) -> None:
        """Write a checkpoint of the current step; all processes call it, the main one writes.

        Raises:
            OSError: if the disk is full or cannot be written; older checkpoints are as they were.
        """
        if self._between:
            raise RuntimeError(
                "a checkpoint inside a batch would lose its gradients: save `if run.every(...)`"
            )
        error = None
        if self.main:
            try:
                state = {
                    "step": self.step,
                    "skipped": self.skipped,
                    "streak": self._streak,
                    "window": self._window.totals,
                }
                state["journal"] = self.journal.size()
                checkpoints.save(self._checkpoints, self.step, self._tensors(), state, self.config.keep)
            except OSError as problem:
                reason = f"{problem.strerror}: checkpoint not saved, older ones are untouched"
                error = OSError(problem.errno, f"{reason}; free some space and resume", str(problem.filename))
        failed = self.accelerator.reduce(torch.tensor(float(error is not None), device=self.device), "sum")
        if error is not None:
            raise error
        if failed.item():
            raise OSError("the main process could not save the checkpoint")

    def finish(self) -> None:
        """Close the progress display and the trackers; the run may not go on."""
        if self._meter is not None:
            self._meter.stop()
        self.journal.close()
        self.accelerator.wait_for_everyone()

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device

    @property
    def _between(self) -> bool:
        """Whether some but not all micro-batches of a batch are done."""
        return self._micro is not None and self._micro < self.config.micro_batches - 1

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

    def _number(self, optimizer: torch.optim.Optimizer) -> int:
        if optimizer not in self._optimizers:
            raise ValueError("`run.update` does not know this optimizer: give it what `run.prepare` returned")
        return self._optimizers.index(optimizer)

    def _advance(self) -> None:
        """One batch is done: count it, average weights, record."""
        self.step += 1
        if self._stepped:
            for average in self._averages:
                average.update(self.step)
        self._window.close(partial(self.accelerator.reduce, reduction="sum"), keep=not self._bad)
        if self._bad:
            self.skipped += 1
            self._streak.append(self.step - 1)
        else:
            self._streak = []
        self._bad = self._stepped = False
        if len(self._streak) >= self.config.patience:
            raise Diverged(self._story())
        means = self._window.means()
        self._meter.show(self.step, {name: mean for name, mean in means.items() if "/" not in name})
        if self.step % self.config.log_steps == 0 or self.step == self._steps:
            self._window = Window()
            self.log({**means, "skipped": self.skipped, "samples_per_second": self._meter.rate(self.step)})

    def _story(self) -> str:
        spans = ", ".join(f"{step * self._batch}-{(step + 1) * self._batch - 1}" for step in self._streak)
        return (
            f"the loss was not finite in {len(self._streak)} steps in a row, with the samples {spans} of the "
            f"training order: look at them, or lower the learning rate, and resume from the last checkpoint"
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
                f"{place} holds {', '.join(sorted(tensors))}, "
                f"this run has {', '.join(sorted(self._tensors()))}: use a new run.folder"
            )
        targets = {f"model-{i}": self.unwrap(model) for i, model in enumerate(self._models)}
        targets |= {f"ema-{i}": average.model for i, average in enumerate(self._averages)}
        for name, model in targets.items():
            check_tensors(tensors[name], model.state_dict(), place / f"{name}.safetensors")
            model.load_state_dict(tensors[name])
        for i, optimizer in enumerate(self._optimizers):
            checkpoints.load_optimizer(optimizer, tensors[f"optimizer-{i}"], place)
        self.step, self.skipped = state["step"], state["skipped"]
        self._streak, self._window = state["streak"], Window(state["window"])
        if self.main:
            self.journal.rewind(self.step, state["journal"])
