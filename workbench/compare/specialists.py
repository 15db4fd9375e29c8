"""`vqtok compare learning specialists`: how well a task of the LVM can be done from the same names at all.

A UNet of its own for each task learns to make y of x, by squared error on pixels, on scenes of the training
names, and is asked what `vqtok evaluate lvm` asks: same drawings, same marks, same judge. It needs no
examples, no tokens and no sampling, so its figures are about what the names allow: where a specialist does
not come near the round trip, neither can a model that has to be everything. Squared error asks for the mean
of all likely answers, which is what PSNR rewards; whatever a generative model draws has less of it.

Letters: b pairs, q questions, c h w image.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion.networks import UNetConfig
from lvm import DEFAULT_WEIGHTS
from lvm.exam import Exam, exam, questions
from lvm.kind import DEFAULT_KIND, KindClassifier
from lvm.marks import scores
from lvm.origins import Supply
from lvm.rules import Task
from lvm.tasks import named, number, row
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.evaluate import round_trip
from vqtok.training.ema import EMA
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.schedule import LRConfig, cosine
from workbench.compare.machine import described, require
from workbench.compare.sections import table

TASKS = ("style", "mask", "invert")
NETWORK = UNetConfig(channels=32, multipliers=(1, 2, 3, 4), blocks=1, attention_levels=(3,), groups=8)
TOY = UNetConfig(channels=8, multipliers=(1, 1), blocks=1, attention_levels=(), groups=4)
BATCH, PEAK, AVERAGE = 8, 3e-3, 0.99
OPTIM = OptimConfig(decay=0.01, betas=(0.9, 0.99), muon=True)
MARKS = ("kind", "content", "psnr", "iou")
PACKAGES = ("vqtok", "torch")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Specialists in these tasks, or kinds of tasks."""

    tasks: Sequence[str]

    def run(self, device: torch.device, steps: int, seeds: Sequence[int], toy: bool = False) -> str:
        """Train one for every task with every seed, and tell it in Markdown."""
        require(PACKAGES)
        names, shape = (4, TOY) if toy else (100, NETWORK)
        tokenizer = load_tokenizer(DEFAULT_WEIGHTS).to(device)
        judge = KindClassifier.from_pretrained(DEFAULT_KIND)
        asked, rows = questions(names, shots=3, seed=0), []
        for task in named(self.tasks):
            sat = exam(task, asked, tokenizer)
            drawn = [measured(trained(task, shape, steps, seed, device), sat) for seed in seeds]
            ends = sat.contenders(sat.ceiling)
            for title, images in {
                "": drawn,
                ", through the tokenizer": [round_trip(tokenizer, one.to(device))[0].cpu() for one in drawn],
                ": round trip of the right answer": [ends["round trip"]],
                ": copy of the query": [ends["copy query"]],
            }.items():
                rows.append([task.name + title, *_cells([scores(sat, one, judge) for one in images])])
                print(", ".join(rows[-1]), flush=True)
        about = (
            f"{described(device, PACKAGES)}. {steps:,} steps of {BATCH} pairs; seeds "
            f"{', '.join(map(str, seeds))}: means. {names} drawings of the test split, those that "
            "`vqtok evaluate lvm` asks about."
        )
        return f"{about}\n\n{table(['', *MARKS], rows)}"


def trained(task: Task, shape: UNetConfig, steps: int, seed: int, device: torch.device) -> nn.Module:
    """A UNet that makes y of x; its moving average. What it sees follows from the seed."""
    torch.manual_seed(seed)
    network = shape.build().to(device).train()
    supply, average = Supply("train"), EMA(network, AVERAGE)
    optimizer = optimizer_for(network, OPTIM, inside=network.inside)
    rate, began = LRConfig(peak=PEAK, warmup_steps=steps // 20, steps=steps, floor=0.02), time.monotonic()
    for step in range(steps):
        origins = [(index, supply.origin(task.of, seed, (number(task) << 32) + index))
                   for index in range(step * BATCH, (step + 1) * BATCH)]
        pairs = torch.stack([row(task, origin, seed, index) for index, origin in origins]).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            guessed = answered(network, pairs[:, 0])
        F.mse_loss(guessed.float(), pairs[:, 1]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), OPTIM.clip)
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, rate)
        optimizer.step()
        optimizer.zero_grad()
        average.update(step + 1)
    print(f"{task.name}: {time.monotonic() - began:.0f} s of training", flush=True)
    return average.model


def answered(network: nn.Module, x: Tensor) -> Tensor:
    """(b, 3, h, w) y of x, both in [0, 1], not clipped; a network of zeros gives x."""
    return x + network(2 * x - 1, torch.zeros(len(x), device=x.device))


@torch.inference_mode()
def measured(network: nn.Module, sat: Exam, batch: int = 25) -> Tensor:
    """(q, 3, h, w) what it makes of the queries of an exam, on the CPU."""
    device = next(network.parameters()).device
    parts = sat.pairs[sat.asked, 0].split(batch)
    return torch.cat([answered(network, part.to(device)).clamp(0, 1).cpu() for part in parts])


def _cells(marks: Sequence[dict[str, float]]) -> list[str]:
    return [f"{statistics.fmean(found[name] for found in marks):.{1 if name == 'psnr' else 2}f}"
            if name in marks[0] else "" for name in MARKS]


COMPARISON = Comparison(tasks=TASKS)
