"""Kind: a small network that names the task by which the second picture of a pair was made from the first.

It judges generated answers apart from their content: an answer of the right kind may still show something
else. It learns on real pairs only, some of them made coarse or as a tokenizer gives them back, since
generated answers are soft.

    python -m lvm.kind --config recipes/lvm/kind.yaml

Letters: b pairs, c h w image, k tasks, s the eight ways to turn and mirror a square.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor, nn

from lvm.origins import Origin, Picture
from lvm.rules import Task
from lvm.tasks import PAIR_TASKS, row
from vqtok.data.emoji import load_emoji
from vqtok.data.scenes import alone, scene
from vqtok.storage.pretrained import Pretrained
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.evaluate import round_trip
from vqtok.tokenizers.tokenizer import VQTokenizer
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine

DEFAULT_KIND = Path(__file__).parent / "weights" / "kind64"
NEAR = 0.004  # mean squared error, 24 dB: what a round trip through the tokenizer loses
SAME = 0.001  # 30 dB: what nobody sees
CONTRAST = 30.0  # shading changes by about 1/30 from a pixel to the next, flat areas by nothing
ALONE = 0.5  # share of training pairs of one emoji as drawn; the others are scenes
COARSE, CODED, CODED_X = 0.25, 0.5, 0.1  # shares of y's made coarse, of y's and x's through the tokenizer
MEMBERS = 10_000  # of a parametrised task, trained ones and others: the judge knows the task by any
SIDES = (20, 48)  # pixels a side that a picture is reduced to and enlarged from


@dataclass(frozen=True, kw_only=True)
class KindConfig:
    """Shape of the network, and what it tells apart.

    Args:
        tasks: Names in the order of the scores.
        channels: Of each level; every level halves the size.
    """

    tasks: tuple[str, ...] = tuple(task.name for task in PAIR_TASKS)
    channels: tuple[int, ...] = (32, 64, 96)


class KindClassifier(nn.Module, Pretrained):
    """Scores (b, k) of every task for pairs of pictures.

    Convolutions compare what lies at one place, but a mirrored picture has its likes elsewhere. So the
    network sees, beside x and y, how far y is from x turned and mirrored in each of the eight ways, place by
    place; and the fine contrasts of x and y, which tell a shaded drawing from a flat one.
    """

    def __init__(self, config: KindConfig) -> None:
        super().__init__()
        self.config = config
        widths = [3 + 3 + 8 + 3 + 3, *config.channels]
        strides = [2] * len(config.channels) + [1]
        widths.append(widths[-1])
        self.levels = nn.Sequential(*map(_level, widths, widths[1:], strides))
        self.head = nn.Linear(2 * widths[-1], len(config.tasks))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(b, k) of pictures x and y, each (b, 3, h, w) in [0, 1]."""
        ways = [torch.rot90(image, turns, (-2, -1)) for image in (x, x.flip(-1)) for turns in range(4)]
        far = reduce((torch.stack(ways, dim=1) - y[:, None]).abs(), "b s c h w -> b s h w", "mean")
        maps = self.levels(torch.cat([x - 0.5, y - 0.5, far, _contrast(x), _contrast(y)], dim=1))
        return self.head(torch.cat([maps.mean((-2, -1)), maps.amax((-2, -1))], dim=1))

    @torch.inference_mode()
    def names(self, x: Tensor, y: Tensor, batch: int = 64) -> list[str]:
        """The likeliest task of every pair of (b, 3, h, w) in [0, 1]."""
        device = self.head.weight.device
        parts = zip(x.split(batch), y.split(batch), strict=True)
        best = [self(a.to(device), b.to(device)).argmax(1).tolist() for a, b in parts]
        return [self.config.tasks[index] for part in best for index in part]


def fitting(made_by: Task, origin: Origin, made: Tensor) -> set[str]:
    """Names of all tasks that ask for the picture a pair ends with, within 24 dB; its own is one of them.

    A drawing that is symmetric looks the same mirrored, in line it is the same whatever style it came from,
    and a gray one keeps its colors when hues turn: whoever names one of these tasks has recognized the
    answer. Of parametrised tasks the first member is tried.

    Args:
        made_by: The task that made the pair.
        origin: Of what.
        made: (2, 3, h, w), the pair.
    """
    found = {made_by.name}
    for task in PAIR_TASKS:
        # Views are taken of the very x; what needs the drawing is asked of the drawing.
        of_x = task.of == "picture"
        x, y = row(task, Picture(made[0]) if of_x else origin, seed=0, index=0)
        asks = not of_x or F.mse_loss(x, made[0]) < SAME
        if asks and F.mse_loss(y, made[1]) < NEAR:
            found.add(task.name)
    return found


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """What the classifier learns on.

    Args:
        tokenizer: Folder or hub id; a share of the pictures goes through its round trip.
        batch: Pairs a step, over all processes.
        workers: Processes that draw ahead.
    """

    tokenizer: str
    batch: int = 64
    workers: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The classifier's training.

    Args:
        run: Folder, seed, precision.
        data: Pairs.
        kind: What is trained.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: PairsConfig
    kind: KindConfig
    optim: OptimConfig
    lr: LRConfig
    average: float = 0.99
    eval_steps: int = 200
    save_steps: int = 100


class Pairs:
    """Endless training order of pairs of train names, a pure function of (seed, index).

    A sample is x and y (3, 64, 64), the number of its task among `tasks`, and whether x and y shall go
    through the tokenizer.
    """

    def __init__(self, tasks: Sequence[str], seed: int) -> None:
        by_name = {task.name: task for task in PAIR_TASKS}
        for name in tasks:
            if name not in by_name:
                raise ValueError(f"kind.tasks has {name!r}: choose of {', '.join(by_name)}")
        self.tasks, self.seed = [by_name[name] for name in tasks], seed
        self.emoji = load_emoji("train")

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int, bool, bool]:
        """One pair."""
        rng = np.random.default_rng((self.seed, index, 2))
        label = int(rng.integers(len(self.tasks)))
        drawn = self.emoji[rng.integers(len(self.emoji))]
        source = alone(drawn) if rng.random() < ALONE else scene(self.emoji, self.seed, index)
        x, y = row(self.tasks[label], source, self.seed, index, member=int(rng.integers(MEMBERS)))
        wear = rng.random()
        if wear < COARSE:
            y = coarse(y, int(rng.integers(SIDES[0], SIDES[1] + 1)))
        return x, y, label, bool(rng.random() < CODED_X), bool(COARSE <= wear < COARSE + CODED)


def coarse(image: Tensor, side: int) -> Tensor:
    """(3, h, w) reduced to `side` pixels a side and enlarged again, as soft as generated pictures are."""
    small = F.interpolate(image[None], (side, side), mode="area")
    return F.interpolate(small, image.shape[-2:], mode="bilinear")[0]


def train(config: TrainConfig) -> None:
    """Train a classifier; `config.run.folder` receives checkpoints, metrics and `model/`, in bfloat16."""
    run = Run(config.run)
    tokenizer = load_tokenizer(config.data.tokenizer).to(run.device)
    source = Pairs(config.kind.tasks, config.run.seed)
    model = KindClassifier(config.kind)
    model, optimizer = run.prepare(model, optimizer_for(model, config.optim))
    average = run.ema(model, config.average)
    run.resume()
    for x, y, labels, *coded in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):
        x, y = (_coded(tokenizer, images, chosen) for images, chosen in zip((x, y), coded, strict=True))
        with run.accumulate(model):
            loss = F.cross_entropy(model(x, y).float(), labels)
            run.update(loss, optimizer, lr=cosine(run.step, config.lr), clip=config.optim.clip)
        if run.every(config.eval_steps):
            run.log(accuracy(average.model, tokenizer))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        average.model.save_pretrained(config.run.folder / "model", dtype=torch.bfloat16)
    run.finish()


def accuracy(model: KindClassifier, tokenizer: VQTokenizer) -> dict[str, float]:
    """Share of validation pairs that get a fitting name: as they are, and with y through the tokenizer."""
    sources = [alone(emoji) for emoji in load_emoji("validation")]
    hits = {"raw": [], "round_trip": []}
    for task in PAIR_TASKS:
        pairs = [row(task, source, 0, index, index) for index, source in enumerate(sources)]
        fit = [fitting(task, source, made) for source, made in zip(sources, pairs, strict=True)]
        x, y = torch.stack(pairs).unbind(1)
        for name, seen in (("raw", y), ("round_trip", round_trip(tokenizer, y)[0])):
            hits[name] += [named in names for named, names in zip(model.names(x, seen), fit, strict=True)]
    return {f"accuracy/{name}": float(np.mean(right)) for name, right in hits.items()}


def _coded(tokenizer: VQTokenizer, images: Tensor, chosen: Tensor) -> Tensor:
    """Images (b, 3, h, w), those that are `chosen` (b,) as the tokenizer gives them back."""
    if not chosen.any():
        return images
    images = images.clone()
    images[chosen] = round_trip(tokenizer, images[chosen])[0].clone()  # a clone is no inference tensor
    return images


def _contrast(images: Tensor) -> Tensor:
    """How far each pixel is from the next to the right and below, small differences enlarged."""
    padded = F.pad(images, (0, 1, 0, 1), mode="replicate")
    steps = (padded[..., :-1, 1:] - images).abs() + (padded[..., 1:, :-1] - images).abs()
    return torch.tanh(CONTRAST * steps)


def _level(before: int, after: int, stride: int) -> nn.Sequential:
    # Batch norm: with group norm it learned half as fast, because that hides how noisy a picture is.
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


if __name__ == "__main__":
    launch(train, TrainConfig)
