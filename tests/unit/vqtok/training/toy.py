"""A network of 76 weights, and a loop like a family's with a switch for everything `Run` promises.

Tests import it through the fixture `toy`; as a script it is one of several processes:
`python toy.py '[{"folder": ..., "steps": ..., "processes": 2}, ...]'` trains each configuration in turn and
process 0 writes result.safetensors into its folder; an error is written as error-<process>.txt.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.state import PartialState
from safetensors.torch import save_file
from torch import nn

from vqtok.training import Diverged, LRConfig, OptimConfig, Run, RunConfig, cosine, optimizer_for

LR = LRConfig(peak=1e-2, warmup_steps=3, steps=30)
NAN = float("nan")


class Numbers:
    """Endless samples: x (4,), its number, its weight; the samples numbered in `bad` are not finite."""

    def __init__(self, bad=()):
        self.bad = set(bad)

    def __getitem__(self, index):
        x = torch.randn(4, generator=torch.Generator().manual_seed(index))
        return {"x": x * (NAN if index in self.bad else 1), "index": index, "weight": 1.0 + index % 5}


def network(dropout=0.0):
    """A copier of four numbers."""
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4))


def mean_loss(x, y, weight):
    """Mean square error; with weights (b,), weighted, and their sum."""
    losses = (y - x).pow(2).mean(1)
    if weight is None:
        return losses.mean(), None
    return (losses * weight).sum() / weight.sum(), weight.sum()


def update_both(run, judge, optimizers, x, y, loss, rate):
    """The two players of an adversarial loss."""
    run.update(loss - judge(y).mean(), optimizers[0], lr=rate, clip=1.0)
    return run.update(judge(y.detach()).mean() - judge(x).mean(), optimizers[1], lr=rate, clip=0.5)


@dataclass(frozen=True)
class Loop:
    """Switches of the loop.

    Args:
        dropout: Of the network.
        bad: Numbers of samples that are not finite.
        weighted: Weigh samples by their weights.
        critic: Train a second network against the first.
        every: Steps between evaluations, and between checkpoints.
        stop: Step at which the process is as good as killed.
        workers: Processes that read ahead.
    """

    dropout: float = 0.0
    bad: tuple[int, ...] = ()
    weighted: bool = False
    critic: bool = False
    every: tuple[int, int] = (0, 0)
    stop: int | None = None
    workers: int = 0


def train(folder, steps, loop=None, **run):
    """Train in `folder` up to `steps`; returns (run, tensors)."""
    config = RunConfig(folder=Path(folder), **{"trackers": (), "log_steps": 2, **run})
    return walk(Run(config), steps, Loop(**(loop or {})))


def walk(run, steps, loop):
    """The loop; returns the run and, by name, what a checkpoint would hold and the samples read."""
    model, judge = network(loop.dropout), network()
    optimizers = [optimizer_for(model, OptimConfig()), optimizer_for(judge, OptimConfig())][: 1 + loop.critic]
    model, judge, *optimizers = run.prepare(model, judge, *optimizers)
    average = run.ema(model, 0.9)
    run.resume()
    seen = []
    for samples in run.batches(Numbers(loop.bad), 8, steps, loop.workers):
        if run.step == loop.stop:
            break
        x, weight = samples["x"], samples["weight"] if loop.weighted else None
        seen += [torch.tensor([run.step, index]) for index in samples["index"]]
        with run.accumulate(model, judge):
            y, rate = model(x), cosine(run.step, LR)
            loss, weight = mean_loss(x, y, weight)
            run.note({"size": y.square().mean()})
            if loop.critic:
                update_both(run, judge, optimizers, x, y, loss, rate)
            else:
                run.update(loss, optimizers[0], lr=rate, weight=weight, clip=1.0)
        if run.every(loop.every[0]):
            run.log({"held out": (average.model(torch.rand(2, 4)).mean() + torch.rand(())).item()})
        if run.every(loop.every[1]):
            run.save()
    run.finish()
    seen = torch.stack(seen) if seen else torch.zeros(0, 2)
    return run, {**flat(run), "seen": seen}


def flat(run):
    """All tensors that a checkpoint holds, by name."""
    groups = run._tensors()
    return {f"{group}.{name}": tensor.clone() for group in groups for name, tensor in groups[group].items()}


def no_space(*_):
    """Stands for `os.fsync` on a full disk."""
    raise OSError(28, "No space left on device")


def attempt(processes, full=False, device="cpu", **options):
    """One configuration of the command line."""
    folder = Path(options["folder"])
    fsync = os.fsync
    try:
        os.fsync = no_space if full else fsync
        run, tensors = train(**options)
    except (Diverged, OSError) as error:
        rank = PartialState().process_index
        Path(folder, f"error-{rank}.txt").write_text(f"{type(error).__name__}: {error}")
        return
    finally:
        os.fsync = fsync
    world = run.accelerator
    assert world.num_processes == processes, f"{world.num_processes} processes, not {processes}"
    assert world.device.type == device, f"on {world.device}, not {device}"
    tensors |= {
        "seen": world.gather(tensors["seen"]),
        "facts": torch.tensor([run.step, run.skipped, processes]),
    }
    if run.main:
        save_file(tensors, folder / "result.safetensors")


if __name__ == "__main__":
    for configuration in json.loads(sys.argv[1]):
        attempt(**configuration)
