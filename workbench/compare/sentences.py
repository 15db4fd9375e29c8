"""`vqtok compare learning lvm`: what helps a model of visual sentences whose tasks differ.

All learn one shape of transformer on the same token shards, for as many steps of as many tokens. The suite is
unequal on purpose: most tasks have many rows, some few. The first learner does as the published LVM's code
does: sentences without marks, one after the other, cut wherever a context ends, no mask between them, all
tasks by their rows, one loss over all tokens. The others change one thing after another, or one thing beside
`BASE`.

What is measured is nats a token of right answers at three shots, on names that nobody was trained on, by
groups of tasks: those with many rows, those with few, members of parametrised tasks that were not trained,
and tasks that were held out.

Letters: b contexts, t tokens, i images of a sentence.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

import lvm
import vqtok
from lvm import DEFAULT_WEIGHTS
from lvm.data import Kept, SentencesConfig, contexts, sources
from lvm.embeddings import plain, share_looks
from lvm.encode import Job, encode
from lvm.layout import BareLayout, Layout
from lvm.model import seed_embeddings
from lvm.sentences import Mixture, Rows, Sample, Sentences
from lvm.shots import nats_of
from lvm.task_losses import TaskLosses
from lvm.tasks import PAIR_TASKS
from lvm.train import losses
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.storage.folders import write_file
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.tokenizer import VQTokenizer
from vqtok.training.ema import EMA
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.schedule import LRConfig, cosine
from workbench.compare.machine import described, require
from workbench.compare.sections import table

PLACE = Path("runs", "compare-lvm")
PACKAGES = ("vqtok", "torch")
PAIRS, BATCH, PEAK, AVERAGE = 4, 4, 3e-3, 0.99
OPTIM = OptimConfig(decay=0.05, betas=(0.9, 0.95), muon=True)
SCARCE = ("line to shaded", "find the hole", "colorize", "rotate")
SUITE = tuple(task for task in PAIR_TASKS if task.name not in ("turn", "zoom", "shift"))
SHAPE = GPTConfig(vocab=4099, length=515, width=128, depth=4, heads=4, period=128)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything.

    Args:
        many: Rows of most tasks.
        few: Origins of the scarce ones.
        times: Rows made of each of these where they are augmented.
        measured: Held-out rows of every task.
        steps: Of each training; None asks the command.
    """

    many: int = 1000
    few: int = 32
    times: int = 16
    measured: int = 64
    steps: int | None = None


class Stream:
    """Bare sentences one after the other, cut wherever a context ends, as the published trainer has them.

    All tokens count alike. A pure function of the context's number.

    Args:
        sentences: Each of one length.
        length: Of a context.
    """

    def __init__(self, sentences: Sentences, length: int) -> None:
        self.sentences, self.length, self.names = sentences, length, sentences.names

    def __getitem__(self, index: int) -> Sample:
        """Context number `index`."""
        number, start = divmod(index * self.length, self.sentences.order.length)
        last = (start + self.length - 1) // self.sentences.order.length
        parts = [self.sentences[number + place] for place in range(last + 1)]
        ids, tasks = (torch.cat([getattr(part, name) for part in parts])[start:][: self.length]
                      for name in ("ids", "tasks"))
        return Sample(ids, ids, torch.ones(self.length), torch.zeros_like(ids), tasks)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How sentences are made and counted.

    Args:
        official: Bare sentences, cut anywhere.
        query: What tokens of queries count.
        mixture: How often tasks come.
        augmented: Whether scarce tasks have rows that are changed alike.
        balance: Whether each task's loss is divided by its running mean.
        shifts: Whether tokens see what stands at the same place of the image before.
        looks: Whether embedding and head are partly a map of what codes look like.
        untold: Share of sentences whose task is not told.
        told: Whether the task is told when answers are measured.
    """

    official: bool = False
    query: float = 0.0
    mixture: Mixture = Mixture()
    augmented: bool = False
    balance: bool = False
    shifts: bool = False
    looks: bool = False
    untold: float = 1.0
    told: bool = False


BY_ROWS = Mixture(by_rows=True)
PLAIN = Way(query=1.0, mixture=BY_ROWS)
SHIFTED = replace(PLAIN, shifts=True)
BASE = replace(SHIFTED, looks=True)
WAYS: Mapping[str, Way] = {
    "as the published LVM": replace(PLAIN, official=True),
    "whole sentences, marks and a mask": PLAIN,
    "+ token shift": SHIFTED,
    "+ codes by their looks: the base": BASE,
    "base, queries count 0.2": replace(BASE, query=0.2),
    "base, loss on answers only": replace(BASE, query=0.0),
    "base, tasks by weight": replace(BASE, mixture=Mixture()),
    "base, by rows at temperature 3": replace(BASE, mixture=replace(BY_ROWS, temperature=3.0)),
    "base, scarce tasks augmented": replace(BASE, augmented=True),
    "base, losses balanced": replace(BASE, balance=True),
    "base, task told to half, not told when asked": replace(BASE, untold=0.5),
    "base, task told to half, told when asked": replace(BASE, untold=0.5, told=True),
    "base, task always told": replace(BASE, untold=0.0, told=True),
}


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What all learn on and are measured on.

    Attributes:
        tokenizer: Of all.
        rows: Training rows by task; plain, and with scarce tasks augmented.
        kept: Sentences of held-out names by group, then by task.
    """

    tokenizer: VQTokenizer
    rows: Mapping[bool, dict[str, Rows]]
    kept: Mapping[str, dict[str, Kept]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Ways to learn, by the name of their row."""

    ways: Mapping[str, Way]

    def run(self, device: torch.device, steps: int, seeds: Sequence[int], toy: bool = False) -> str:
        """Train in every way with every seed, and tell it in Markdown."""
        require(PACKAGES)
        sizes = Sizes(many=16, few=8, times=2, measured=8) if toy else Sizes()
        shape = replace(SHAPE, width=16, depth=1, heads=2) if toy else SHAPE
        place = PLACE / ("toy" if toy else "shards")
        suite, rows = encoded(sizes, place), []
        for name, way in self.ways.items():
            found = [remembered(place / "found", (way, sizes, shape, steps, seed, device.type),
                                partial(learned, way, suite, shape, steps, seed, device)) for seed in seeds]
            rows.append([name, *(f"{statistics.fmean(column):.3f}" for column in zip(*found, strict=True))])
            print(": ".join((name, ", ".join(rows[-1][1:]))), flush=True)
        groups = [f"{name} ({len(tasks)})" for name, tasks in suite.kept.items()]
        about = (
            f"{described(device, PACKAGES)}. {steps:,} steps of {BATCH} contexts of {shape.length} tokens, "
            f"{shape.parameters / 1e6:.1f} M weights, bfloat16; seeds {', '.join(map(str, seeds))}: means. "
            f"{sizes.many:,} rows of most tasks, {sizes.few} of {', '.join(SCARCE)}. Nats a token of right "
            "answers after three pairs, of names not trained on, mean over a group of tasks; of the first "
            "group, also those of the first row of pictures, without pairs and after three."
        )
        return f"{about}\n\n{table(['', *groups, 'first row, no pairs', 'three', 'CPU s'], rows)}"


def encoded(sizes: Sizes, folder: Path) -> Suite:
    """What all learn on, encoded where it is not there yet."""
    trained = tuple(task.name for task in SUITE if not task.held_out)
    many = tuple(name for name in trained if name not in SCARCE)
    held_out = tuple(task.name for task in PAIR_TASKS if task.held_out)
    members = tuple(task.name for task in SUITE if task.members > 1)
    whole = sizes.few * sizes.times
    for part, names, options in (
        ("many", many, {"pairs": sizes.many}),
        ("few", SCARCE, {"pairs": sizes.few}),
        ("augmented", SCARCE, {"pairs": whole, "augment": sizes.times}),
        ("test", trained + held_out, {"pairs": sizes.measured, "split": "test"}),
        ("members", members, {"pairs": sizes.measured, "split": "test", "untrained": True}),
    ):
        encode(Job(tokenizer=str(DEFAULT_WEIGHTS), out=folder / part, tasks=names, **options))
    tokenizer = load_tokenizer(DEFAULT_WEIGHTS)

    def opened(part: str, kept: str = "test") -> tuple[dict[str, Rows], dict[str, Kept]]:
        config = SentencesConfig(shards=folder / part, validation=folder / kept, pairs=PAIRS,
                                 tokenizer=str(DEFAULT_WEIGHTS), held_out=sizes.measured)
        return sources(config, tokenizer)

    common, kept = opened("many")
    groups = {"many rows": many, "few rows": SCARCE}
    found = {name: {task: kept[task] for task in tasks} for name, tasks in groups.items()}
    found["untrained members"] = opened("many", "members")[1]
    found |= {name: {name: kept[name]} for name in held_out}
    rows = {augmented: common | opened(part)[0] for augmented, part in ((False, "few"), (True, "augmented"))}
    return Suite(tokenizer=tokenizer, rows=rows, kept=found)


def remembered(folder: Path, key: object, work: Callable[[], list[float]]) -> list[float]:
    """What `work` gave when it was last asked with this key by this very code, or gives now.

    A comparison that is cut off goes on where it was.
    """
    code = sha256(b"".join(path.read_bytes() for path in _sources())).hexdigest()
    place = folder / f"{sha256(f'{code} {key!r}'.encode()).hexdigest()[:16]}.json"
    if not place.exists():
        found = work()
        folder.mkdir(parents=True, exist_ok=True)
        write_file(place, json.dumps(found).encode())
    return json.loads(place.read_text())


def _sources() -> list[Path]:
    folders = [Path(package.__file__).parent for package in (vqtok, lvm)]
    return sorted(path for folder in folders for path in folder.rglob("*.py")) + [Path(__file__)]


def learned(
    way: Way, suite: Suite, shape: GPTConfig, steps: int, seed: int, device: torch.device
) -> list[float]:
    """Train in one way; nats by group of tasks, those of first rows, and CPU seconds of training."""
    rows = suite.rows[way.augmented]
    layout, source = read(way, suite, rows, shape.length, seed)
    torch.manual_seed(seed)
    # Without marks no place in a context is the begin of an image, and there is nothing to embed.
    shifts = (layout.stride - 1, layout.stride) if way.shifts else ()
    period = None if way.official else shape.period
    gpt = GPT(replace(shape, vocab=layout.vocab, period=period, shifts=shifts))
    seed_embeddings(gpt, suite.tokenizer, seed)
    if way.looks:
        share_looks(gpt, suite.tokenizer)
    gpt.to(device).train()
    optimizer, average = optimizer_for(gpt, OPTIM, inside=gpt.blocks), EMA(gpt, AVERAGE)
    rate = LRConfig(peak=PEAK, warmup_steps=steps // 20, steps=steps, floor=0.05)
    means, seconds = TaskLosses(source.names).to(device), 0.0
    for step in range(steps):
        batch = [source[index] for index in range(step * BATCH, (step + 1) * BATCH)]
        sample = Sample(*(torch.stack(column).to(device) for column in zip(*batch, strict=True)))
        began = time.process_time()
        with torch.autocast(device.type, torch.bfloat16):
            nats, weights, which = losses(gpt, sample)
        factors = means.factors(which) if way.balance else 1.0
        means.count(nats, which, step)
        means.settle(lambda sums: sums)
        ((nats * weights * factors).sum() / weights.sum()).backward()
        nn.utils.clip_grad_norm_(gpt.parameters(), OPTIM.clip)
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, rate)
        optimizer.step()
        optimizer.zero_grad()
        average.update(step + 1)
        seconds += time.process_time() - began
    return [*measured(plain(average.model), way, layout, suite.kept), seconds]


def read(
    way: Way, suite: Suite, rows: dict[str, Rows], length: int, seed: int
) -> tuple[Layout, Sentences | Stream]:
    """Ids and contexts of one way."""
    codes, tokens = suite.tokenizer.vocab, suite.tokenizer.tokens
    config = SentencesConfig(
        shards=PLACE, tokenizer="", pairs=PAIRS, query_weight=way.query, untold=way.untold,
        mixture=way.mixture,
    )
    if way.official:
        layout = BareLayout(codes, tokens, reserved=3)
        whole = contexts(config, rows, layout, layout.length(2 * PAIRS), seed)
        return layout, Stream(whole, length)
    layout = Layout(codes, tokens, tasks=tuple(rows) if way.untold < 1 else ())
    return layout, contexts(config, rows, layout, length, seed)


def measured(
    gpt: GPT, way: Way, layout: Layout, groups: Mapping[str, Mapping[str, Kept]]
) -> list[float]:
    """Nats of answers after three pairs by group; of the first group's first rows, after none and three."""
    found, side = [], math.isqrt(layout.tokens)
    with torch.autocast(gpt.embed.weight.device.type, torch.bfloat16):
        nats = {
            group: [nats_of(gpt, layout.telling(name if way.told and name in layout.tasks else None),
                            held.images, held.asked.tolist())
                    for name, held in tasks.items()]
            for group, tasks in groups.items()
        }
    for group in nats.values():
        found.append(statistics.fmean(float(one[:, -1].mean()) for one in group))
    for shots in (0, -1):
        first = [float(one[:, shots, :side].mean()) for one in next(iter(nats.values()))]
        found.append(statistics.fmean(first))
    return found


COMPARISON = Comparison(ways=WAYS)
