"""The critic of a tokenizer: it learns to tell images from reconstructions, the tokenizer to mislead it.

Isola et al. 2017 (PatchGAN: one score a patch); Lim & Ye 2017 (hinge); Esser et al. 2021, equations 6 and 7
(the adaptive factor); Tseng et al. 2021 (LeCam). Most trouble with it is of timing: here the critic trains
before it counts, both are told in the tokenizer's steps, and its weight rises slowly.

Letters: b images, c channels, h w size.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtok.tokenizers.quantizers.ranks import mean_over_ranks
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run
from vqtok.training.schedule import Ramp, ramped

MEMORY = 0.99  # a step, of the mean scores that LeCam compares with


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """A critic, what its judgment weighs, and from when.

    Args:
        weight: Of its judgment in the tokenizer's loss, once it counts in full.
        train_from: Step of the tokenizer from which the critic trains.
        count_from: Step from which it counts, not before `train_from`. If they are one, as in taming and
            LlamaGen, an untrained critic has a say.
        ramp_steps: Steps in which its weight then rises from 0.
        adaptive: Largest of the factors, beside `weight`, that bring its pull on the last layer to the size
            of the other losses'; None has no such factor. Taming's may reach 10,000.
        lecam: Weight of the LeCam term, which keeps scores of images and of reconstructions near each other.
        channels: Channels of the first layer; they double with each, up to eightfold.
        layers: Layers that halve the size; a score sees 16 pixels a side with 1, 34 with 2, 70 with 3.
        norm: "batch" is as published, over the images that one process has at a time, so that with more
            processes or micro-batches it is another training; "none" does not depend on that.
        rate: Its learning rate, in units of the tokenizer's.
        optim: Its optimizer.
    """

    weight: float = 0.1
    train_from: int = 0
    count_from: int = 1000
    ramp_steps: int = 1000
    adaptive: float | None = None
    lecam: float = 0.0
    channels: int = 64
    layers: int = 3
    norm: Literal["batch", "none"] = "batch"
    rate: float = 1.0
    optim: OptimConfig = OptimConfig(decay=0.0, betas=(0.5, 0.9))

    def __post_init__(self) -> None:
        if not 0 <= self.train_from <= self.count_from or self.ramp_steps < 0:
            raise ValueError(
                f"the critic trains from step {self.train_from} and counts from {self.count_from}, over "
                f"{self.ramp_steps} steps: let it train no later than it counts, and neither before step 0"
            )
        for name in ("channels", "layers", "rate", "weight"):
            if getattr(self, name) <= 0:
                raise ValueError(f"the critic's {name} is {getattr(self, name)}, not above 0: raise it")
        if self.lecam < 0 or (self.adaptive is not None and self.adaptive <= 0):
            raise ValueError(
                f"the critic's lecam {self.lecam} must be at least 0, adaptive {self.adaptive} above: raise"
            )

    def check_size(self, size: int) -> None:
        """Raise a ValueError if images of `size` pixels a side are too small for the layers."""
        least = 3 * 2**self.layers
        if size < least:
            raise ValueError(
                f"a critic of {self.layers} layers needs images of {least} pixels a side, not {size}: lower "
                "critic.layers"
            )


class Critic(nn.Module):
    """Images (b, 3, h, w) in [0, 1] -> scores (b, 1, h', w') of patches, high for images."""

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        widths = [config.channels * min(2**level, 8) for level in range(config.layers + 1)]
        layers = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level, width in enumerate(widths[1:], start=1):
            stride = 2 if level < config.layers else 1
            layers += _layer(widths[level - 1], width, stride, config.norm == "batch")
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.register_buffer("means", torch.zeros(2))  # of the scores of images and of reconstructions
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """Score patches."""
        return self.layers(2 * images - 1)

    def lecam(self, real: Tensor, fake: Tensor) -> Tensor:
        """() how far scores are beyond the other side's mean, squared; cut at 0 as in its authors' code."""
        of_real, of_fake = self.means
        return F.relu(real - of_fake).square().mean() + F.relu(of_real - fake).square().mean()

    @torch.no_grad()
    def remember(self, means: Tensor) -> None:
        """Move the means towards these (2,) of a step's scores, over all processes."""
        self.means.lerp_(mean_over_ranks(means), 1 - MEMORY)


class Adversary:
    """A critic in a run: what it adds to the tokenizer's loss, and its own training.

    Args:
        config: Which critic, and from when.
        run: Prepares critic and optimizer, and keeps both in its checkpoints.
    """

    def __init__(self, config: CriticConfig, run: Run) -> None:
        critic = Critic(config)
        self.config, self.run = config, run
        self.scores: deque[Tensor] = deque(maxlen=run.config.micro_batches)  # (2,) means, those of one step
        self.weight = Ramp(start=0.0, end=config.weight, steps=config.ramp_steps, wait=config.count_from)
        optimizer = optimizer_for(critic, config.optim, critic.layers[1:-1])
        self.critic, self.optimizer = run.prepare(critic, optimizer)

    def penalty(self, decoded: Tensor, loss: Tensor, last_layer: nn.Parameter) -> Tensor:
        """() what the critic adds to the tokenizer's `loss`; 0 until it counts.

        Args:
            decoded: (b, 3, h, w) reconstructions, with their gradient.
            loss: () all other terms.
            last_layer: Where the pull of both is compared.
        """
        weight = ramped(self.run.step, self.weight)
        if not weight:
            return loss.new_zeros(())
        plea = -self.run.unwrap(self.critic)(decoded.float()).mean()
        weight = weight * self._factor(loss, plea, last_layer)
        self.run.note({"critic/weight": weight, "critic/plea": plea})
        return weight * plea

    def learn(self, images: Tensor, decoded: Tensor, lr: float) -> None:
        """One update of the critic on images and reconstructions (b, 3, h, w), if its time has come."""
        if self.run.step < self.config.train_from:
            return
        real, fake = self.critic(images), self.critic(decoded.detach().float())
        loss, critic = hinge(real, fake), self.run.unwrap(self.critic)
        if self.config.lecam:
            loss = loss + self.config.lecam * critic.lecam(real, fake)
        self.scores.append(torch.stack([real.mean(), fake.mean()]).detach())
        rate, clip = lr * self.config.rate, self.config.optim.clip
        if self.run.update(loss, self.optimizer, lr=rate, clip=clip):  # else scores may be no numbers
            critic.remember(torch.stack([*self.scores]).mean(0))
        self.run.note({"critic/real": real.mean(), "critic/fake": fake.mean()})

    def _factor(self, loss: Tensor, plea: Tensor, last_layer: nn.Parameter) -> Tensor | float:
        """Length of the gradient of `loss` at the last layer over that of `plea`, over all processes."""
        if self.config.adaptive is None:
            return 1.0
        pulls = [torch.autograd.grad(term, last_layer, retain_graph=True)[0] for term in (loss, plea)]
        ours, its = self.run.accelerator.reduce(torch.stack(pulls), "mean").flatten(1).norm(dim=1)
        return (ours / (its + 1e-4)).clamp(max=self.config.adaptive)


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """() the critic's loss: scores of images should be above 1, those of reconstructions below -1."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def _layer(before: int, width: int, stride: int, norm: bool) -> list[nn.Module]:
    """A convolution, its norm and its bend; no running statistics, as a critic is never evaluated."""
    convolution = nn.Conv2d(before, width, 4, stride=stride, padding=1, bias=not norm)
    norms = [nn.BatchNorm2d(width, track_running_stats=False)] if norm else []
    return [convolution, *norms, nn.LeakyReLU(0.2)]


def _initialize(module: nn.Module) -> None:
    """Weights as in pix2pix and taming."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
