"""`vqtok compare learning imagegpt`: our ImageGPT and transformers', by one loop on the same pictures.

Pixels of a palette that is fitted here: emoji, and Fashion-MNIST where its files are. Both models have one
shape, see the same pictures in the same order, and take as many steps of AdamW; what is measured are nats a
pixel of held-out pictures, the first and the last pixel too. transformers' is given its start token and every
pixel but the last, and its loss is taken here, since it cannot be asked for one of all pixels. The row of the
recipes has what they add: a position by row and column, and Muon.

Letters: n pictures, b of a batch, t pixels of a picture, v colors.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagegpt.network import Network
from vqtok.data.galleries import Gallery, open_gallery
from vqtok.data.idx import DEBIAN
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.mlps import QuickGELUConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.norms import RMSNormConfig
from vqtok.gpt.positions import LearnedConfig, RowColumnConfig
from vqtok.gpt.prefix import SOSConfig
from vqtok.tokenizers.fit_palette import COLORS, add, colors_of, improved, spread
from vqtok.tokenizers.palette import PaletteTokenizer
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.schedule import LRConfig, cosine
from workbench.compare.machine import described, require
from workbench.compare.sections import table

PACKAGES = ("vqtok", "torch", "transformers")
WIDTH, DEPTH, HEADS, BATCH = 128, 4, 4, 4
OPTIM = OptimConfig(decay=0.0)
FITTED = 500  # pictures that the palette is fitted to, in ROUNDS of Lloyd's
ROUNDS = 10
LOOKS = 4  # times that held-out pictures are measured, the last after the last step


@dataclass(frozen=True, kw_only=True)
class Task:
    """Pictures to learn from, and held-out ones.

    Args:
        train: Gallery, of which as many pictures are read as are needed.
        test: Gallery of others.
        held_out: How many of these are measured on.
        size: Pixels a side.
        codes: Colors.
    """

    train: str
    test: str
    held_out: int
    size: int
    codes: int


TASKS = {
    "emoji": Task(train="emoji:train:1000000", test="emoji:validation", held_out=96, size=32, codes=512),
    "Fashion-MNIST": Task(
        train=str(DEBIAN / "train-images-idx3-ubyte.gz"),
        test=str(DEBIAN / "t10k-images-idx3-ubyte.gz"),
        held_out=200,
        size=28,
        codes=16,
    ),
}
TOY = {"emoji": Task(train="emoji:train:1000", test="emoji:validation", held_out=3, size=8, codes=5)}


class Theirs(nn.Module):
    """transformers' ImageGPT, asked as ours is."""

    def __init__(self, task: Task) -> None:
        from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

        super().__init__()
        config = ImageGPTConfig(
            vocab_size=task.codes + 1,
            n_positions=task.size**2,
            n_embd=WIDTH,
            n_layer=DEPTH,
            n_head=HEADS,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        )
        self.model, self.start = ImageGPTForCausalImageModeling(config), task.codes

    def forward(self, ids: Tensor) -> Tensor:
        """Scores (b, t, v) of every pixel of pictures (b, t) given those before it."""
        start = torch.full_like(ids[:, :1], self.start)
        return self.model(torch.cat([start, ids[:, :-1]], dim=1), use_cache=False).logits


class Ours(nn.Module):
    """Our ImageGPT, without the biases that OpenAI's lacks too."""

    def __init__(self, task: Task, squared: bool = False) -> None:
        super().__init__()
        square = RowColumnConfig(columns=task.size, before=1)
        config = GPTConfig(
            vocab=task.codes,
            length=task.size**2,
            width=WIDTH,
            depth=DEPTH,
            heads=HEADS,
            norm=RMSNormConfig(eps=1e-5),
            mlp=QuickGELUConfig(bias=False),
            positions=square if squared else LearnedConfig(),
            prefix=SOSConfig(),
        )
        self.network = Network(GPT(config))

    def forward(self, ids: Tensor) -> Tensor:
        """Scores (b, t, v) of every pixel of pictures (b, t) given those before it."""
        return self.network(ids)[0]


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A model, and how it is trained.

    Args:
        build: Makes it.
        inside: Its blocks, if Muon trains them.
        peak: Of the learning rate.
    """

    build: Callable[[Task], nn.Module]
    inside: Callable[[nn.Module], nn.ModuleList] | None = None
    peak: float = 1e-3

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """For what `build` made."""
        inside = () if self.inside is None else self.inside(model)
        return optimizer_for(model, replace(OPTIM, muon=self.inside is not None), inside)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Who learns, by the name of their row."""

    learners: Mapping[str, Learner]

    def run(self, device: torch.device, steps: int, seeds: Sequence[int], toy: bool = False) -> str:
        """Train everybody on every task with every seed, and tell it in Markdown.

        Raises:
            ValueError: if transformers is not installed.
        """
        require(PACKAGES)
        told = [
            f"{described(device, PACKAGES)}. {steps} steps of {BATCH} pictures, {DEPTH} layers of width "
            f"{WIDTH}, float32; seeds {', '.join(map(str, seeds))}: means. Nats a pixel of held-out "
            "pictures."
        ]
        for name, task in (TOY if toy else TASKS).items():
            if not (task.train.startswith("emoji:") or Path(task.train).is_file()):
                told.append(f"**{name}** was left out: no file {task.train}.")
                continue
            told.append(self._task(name, task, device, steps, seeds))
        return "\n\n".join(told)

    def _task(self, name: str, task: Task, device: torch.device, steps: int, seeds: Sequence[int]) -> str:
        train, test = encoded(task, steps * BATCH)
        rows = []
        for title, learner in self.learners.items():
            outcomes = [learned(learner, task, train, test.to(device), steps, seed) for seed in seeds]
            columns = zip(*(outcome.cells for outcome in outcomes), strict=True)
            rows.append([title, *(f"{statistics.fmean(column):,.4g}" for column in columns)])
            print(f"{name}: {', '.join(rows[-1])}", flush=True)
        looks = [f"step {step:,}" for step in _looks(steps)]
        head = ["", "weights", "before", *looks, "CPU s a training"]
        colors = f"{task.size}x{task.size} pixels of {task.codes} colors, {len(test)} held-out pictures"
        return f"**{name}**, {colors}\n\n{table(head, rows)}"


@dataclass(frozen=True)
class Outcome:
    """Learned numbers, nats a pixel before training and at each look, and CPU seconds of training."""

    weights: int
    nats: tuple[float, ...]
    seconds: float

    @property
    def cells(self) -> tuple[float, ...]:
        """All in the order of the columns."""
        return (self.weights, *self.nats, self.seconds)


def encoded(task: Task, count: int) -> tuple[Tensor, Tensor]:
    """Ids (n, t) of pictures to learn from, as many as are asked for or there are, and of held-out ones."""
    train, test = (open_gallery(word, task.size) for word in (task.train, task.test))
    counts = torch.zeros(COLORS, dtype=torch.int64)
    add(counts, [(train[index] * 255).round().byte().numpy() for index in range(min(FITTED, len(train)))])
    colors = colors_of(counts)
    centers = spread(colors, task.codes, seed=0)
    for _ in range(ROUNDS):
        centers, _ = improved(colors, centers)
    palette = PaletteTokenizer.of(centers, task.size)
    return _ids(palette, train, count), _ids(palette, test, task.held_out)


def learned(learner: Learner, task: Task, train: Tensor, test: Tensor, steps: int, seed: int) -> Outcome:
    """Train one model, on the device of `test`. What is seen when depends on seed and step alone."""
    torch.manual_seed(seed)
    model = learner.build(task).to(test.device)
    torch.manual_seed(seed)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    rate = LRConfig(peak=learner.peak, warmup_steps=steps // 20, steps=steps)
    optimizer = learner.optimizer(model)
    nats, seconds = [held_out_nats(model, test)], 0.0
    for step in range(steps):
        began = time.process_time()
        chosen = order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(order)]
        ids = train[chosen].to(test.device)
        optimizer.zero_grad()
        F.cross_entropy(model.train()(ids).flatten(0, 1), ids.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), OPTIM.clip)
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, rate)
        optimizer.step()
        seconds += time.process_time() - began
        if step + 1 in _looks(steps):
            nats.append(held_out_nats(model, test))
    return Outcome(sum(weight.numel() for weight in model.parameters()), tuple(nats), seconds)


@torch.inference_mode()
def held_out_nats(model: nn.Module, test: Tensor) -> float:
    """Nats a pixel of pictures (n, t)."""
    model.eval()
    total = 0.0
    for ids in test.split(8):
        total += float(F.cross_entropy(model(ids).flatten(0, 1), ids.flatten(), reduction="sum"))
    return total / test.numel()


def _ids(palette: PaletteTokenizer, gallery: Gallery, count: int) -> Tensor:
    """(n, t) of the first `count` pictures, or of all there are."""
    indices = torch.arange(min(count, len(gallery)))
    parts = [torch.stack([gallery[int(index)] for index in part]) for part in indices.split(64)]
    return torch.cat([palette.encode(part).flatten(1) for part in parts])


def _looks(steps: int) -> list[int]:
    """Numbers of steps after which held-out pictures are measured."""
    return sorted({steps * look // LOOKS for look in range(1, LOOKS + 1)} - {0})


COMPARISON = Comparison(
    learners={
        "vqtok, as in the recipes": Learner(
            build=partial(Ours, squared=True), inside=lambda ours: ours.network.gpt.blocks, peak=2e-3
        ),
        "vqtok, in the same shape": Learner(build=Ours),
        "transformers, without its dropout": Learner(build=Theirs),
    }
)
