"""What the same training makes of several quantizers: same pictures, same network, same steps, same seed.

Only the quantizer inside the autoencoder differs. Training is that of the recipe `emoji64-cpu` (loss, rate,
optimizer), shorter and in float32, on the embedded emoji as drawn, each in one of eight turns; what is
measured are emoji of other names.

A second training starts with a codebook that has collapsed: all but 1 % of the codes are one and the same.

Letters: b images, c channels, h w size.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtok.data.emoji import load_emoji
from vqtok.metrics.images import psnr
from vqtok.metrics.tokens import perplexity, usage
from vqtok.tokenizers.autoencoder import AutoencoderConfig
from vqtok.tokenizers.quantizers.quantizer import Quantizer
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.schedule import LRConfig, cosine
from workbench.compare.machine import described, require
from workbench.compare.sections import table

STYLES = ("shaded", "flat", "line")
CODES, WIDTH, BATCH = 1024, 8, 16
NETWORK = AutoencoderConfig(channels=16, multipliers=(1, 2, 4), blocks=1, latent=64, groups=8, patch=2)
ABSOLUTE, SQUARED = 0.5, 4.0  # weights of the errors; the quantizer's own loss has weight 1
OPTIM = OptimConfig(decay=0.01)
PEAK, FLOOR = 3e-3, 0.03  # of the learning rate
RESTARTS = 0.7  # share of the steps in which codes out of use may start again
KEPT = 0.01  # share of a collapsed codebook's codes that are of use


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A quantizer that learns.

    Args:
        build: From the number of codes and their width to the quantizer.
        collapse: Leaves the quantizer 1 % of its codes, by `collapse_codes`, as if all had been in use.
        package: Distribution that it comes from.
        restart: Whether its `learn` may start codes again.
    """

    build: Callable[[int, int], Quantizer]
    collapse: Callable[[Quantizer], None]
    package: str = "vqtok"
    restart: bool = True


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Who learns from a usual start, and who from a collapsed codebook; by the name of their row."""

    learners: Mapping[str, Learner]
    collapsed: Mapping[str, Learner]

    @property
    def packages(self) -> list[str]:
        """Distributions that take part, ours first."""
        everybody = [*self.learners.values(), *self.collapsed.values()]
        return ["vqtok", "torch", *sorted({learner.package for learner in everybody} - {"vqtok"})]

    def run(self, device: torch.device, steps: int, seeds: Sequence[int], toy: bool = False) -> str:
        """As `compare`, of this comparison."""
        return compare(self, device, steps, seeds, toy)


@dataclass(frozen=True)
class Pictures:
    """Images (b, 3, h, w) as uint8: to learn from, and held out under other names."""

    train: Tensor
    test: Tensor


@dataclass(frozen=True)
class Outcome:
    """PSNR (dB, mean over images), share of codes in use and their perplexity on held-out names.

    With the share of codes in use before training, and the CPU seconds that training took.
    """

    psnr: float
    usage: float
    perplexity: float
    usage_before: float
    seconds: float


def compare(
    comparison: Comparison, device: torch.device, steps: int, seeds: Sequence[int], toy: bool = False
) -> str:
    """Train everybody with every seed, and tell it in Markdown.

    Raises:
        ValueError: if a package to compare with is not installed.
    """
    require(comparison.packages)
    pictures = emoji(names=4 if toy else None)
    images, ids = len(pictures.test), len(pictures.test) * (64 // NETWORK.factor) ** 2
    told = [
        f"{described(device, comparison.packages)}. {steps} steps of {BATCH} images, {CODES} codes of width "
        f"{WIDTH}, float32; seeds {', '.join(map(str, seeds))}: mean [lowest, highest]. PSNR is the mean "
        f"over {images} images of {images // len(STYLES)} held-out names; usage and perplexity are of their "
        f"{ids:,} ids."
    ]
    for title, learners, collapse in (
        ("From the usual start", comparison.learners, False),
        ("From a codebook collapsed to 1 % of its codes", comparison.collapsed, True),
    ):
        rows = []
        for name, learner in learners.items():
            outcomes = [outcome(learner, pictures, device, steps, seed, collapse) for seed in seeds]
            rows.append([name, *_cells(outcomes)])
            print(f"{title.lower()}: {name}: {', '.join(rows[-1][1:])}", flush=True)
        head = ["", "PSNR, dB", "usage before, %", "usage, %", "perplexity", "CPU s a training"]
        told.append(f"**{title}**\n\n{table(head, rows)}")
    return "\n\n".join(told)


def emoji(names: int | None = None) -> Pictures:
    """The embedded emoji in three styles; with `names`, only so many of train and test."""

    def images(split: str) -> Tensor:
        drawn = [one.image(style) for one in load_emoji(split)[:names] for style in STYLES]
        return (torch.stack(drawn) * 255).round().byte()

    return Pictures(images("train"), images("test"))


def outcome(
    learner: Learner, pictures: Pictures, device: torch.device, steps: int, seed: int, collapse: bool = False
) -> Outcome:
    """Train one network around one quantizer, and measure it."""
    tokenizer = network(learner, seed)
    if collapse:
        learner.collapse(tokenizer.quantize)
    tokenizer.to(device)
    before = usage(_reconstructed(tokenizer, pictures.test)[1], CODES)
    began = time.process_time()
    train(tokenizer, pictures.train, steps, seed, learner.restart)
    seconds = time.process_time() - began
    decoded, ids = _reconstructed(tokenizer, pictures.test)
    quality = float(psnr(decoded, pictures.test / 255).mean())
    return Outcome(quality, usage(ids, CODES), perplexity(ids, CODES), before, seconds)


def network(learner: Learner, seed: int) -> VQTokenizer:
    """The autoencoder around a learner's quantizer; its other weights are a function of the seed alone."""
    torch.manual_seed(seed)
    config = TokenizerConfig(autoencoder=NETWORK, quantizer=VQConfig(codes=CODES, width=WIDTH), size=64)
    tokenizer = VQTokenizer(config)
    torch.manual_seed(seed)
    tokenizer.quantize = learner.build(CODES, WIDTH)
    return tokenizer


@torch.no_grad()
def collapse_codes(codes: Tensor) -> None:
    """Make all of the codes (..., k, d) but 1 % one and the same: at most 1 % are ever the nearest."""
    kept = max(1, int(KEPT * codes.shape[-2])) - 1
    codes[..., kept:, :] = codes[..., kept : kept + 1, :].clone()


def train(tokenizer: VQTokenizer, images: Tensor, steps: int, seed: int, restart: bool) -> None:
    """Train in place. What is seen when depends on seed and step alone."""
    device = next(tokenizer.parameters()).device
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rate = LRConfig(peak=PEAK, warmup_steps=steps // 20, steps=steps, floor=FLOOR)
    optimizer = optimizer_for(tokenizer.train(), OPTIM)
    for step in range(steps):
        batch = _draw(images, generator).to(device)  # (b, 3, h, w)
        out = tokenizer(batch)
        loss = ABSOLUTE * F.l1_loss(out.images, batch) + SQUARED * F.mse_loss(out.images, batch)
        optimizer.zero_grad()
        (loss + out.quantizer_loss).backward()
        torch.nn.utils.clip_grad_norm_(tokenizer.parameters(), OPTIM.clip)
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, rate)
        optimizer.step()
        tokenizer.quantize.learn(out.vectors.detach(), out.ids, restart and step < RESTARTS * steps)


def _draw(images: Tensor, generator: torch.Generator) -> Tensor:
    """(b, 3, h, w) random images, in one of the eight turns of a square, the same for all of a batch."""
    chosen = torch.randint(len(images), (BATCH,), generator=generator)
    quarters, mirror = torch.randint(4, (2,), generator=generator).tolist()
    turned = torch.rot90(images[chosen], quarters, (2, 3))
    return (turned.flip(3) if mirror % 2 else turned) / 255


@torch.no_grad()
def _reconstructed(tokenizer: VQTokenizer, images: Tensor) -> tuple[Tensor, Tensor]:
    """Decoded images (b, 3, h, w) and their ids (b, i, j), both on the CPU."""
    device = next(tokenizer.parameters()).device
    tokenizer.eval()
    ids = [tokenizer.encode((part / 255).to(device)) for part in images.split(64)]
    return torch.cat([tokenizer.decode(part).cpu() for part in ids]), torch.cat(ids).cpu()


def _cells(outcomes: Sequence[Outcome]) -> list[str]:
    """PSNR, usage before and after, perplexity and seconds, each over all seeds."""

    def over_seeds(name: str, scale: float, digits: int) -> str:
        values = [getattr(outcome, name) * scale for outcome in outcomes]
        middle, low, high = (f"{x:.{digits}f}" for x in (statistics.fmean(values), min(values), max(values)))
        return middle if len(values) < 2 else f"{middle} [{low}, {high}]"

    columns = (
        ("psnr", 1, 2),
        ("usage_before", 100, 1),
        ("usage", 100, 1),
        ("perplexity", 1, 0),
        ("seconds", 1, 0),
    )
    return [over_seeds(*column) for column in columns]
