"""DDPM: a network and the process that it takes noise away of.

Ho et al. 2020, "Denoising Diffusion Probabilistic Models".

Letters: b pictures, c h w picture, T steps of the process.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from rich.progress import track
from torch import Tensor, nn

from diffusion.corrections import Clip, Correction
from diffusion.denoiser import Denoiser
from diffusion.drawing import DDIM, Sampler
from diffusion.inpainting import RePaint, inpaint
from diffusion.likelihood import EXACT, Bound, Measuring, elbo
from diffusion.networks import NetworkConfig
from diffusion.noise import Noise
from diffusion.pixels import unsigned
from diffusion.process import ProcessConfig
from diffusion.samplers import Options
from diffusion.schedules import Schedule
from diffusion.spacing import Pairs
from vqtok.data.classes import number_of
from vqtok.storage.pretrained import Pretrained
from vqtok.training.batches import seeds

CLIP = Clip()
REPAINT = RePaint()


@dataclass(frozen=True, kw_only=True)
class DDPMConfig:
    """Both parts of a DDPM, the pictures it draws, and what their classes are called.

    Args:
        network: Says how many channels pictures have.
        process: Schedule, what the network predicts, and variances.
        size: Pixels a side.
        classes: Names of the classes by their numbers, where the network knows any.
    """

    network: NetworkConfig
    process: ProcessConfig = field(default_factory=ProcessConfig)
    size: int = 32
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        network, process = self.network, self.process
        wanted = network.in_channels * (1 + process.variance.learned)
        if network.out_channels != wanted:
            raise ValueError(
                f"network.out_channels is {network.out_channels}; process.variance '{process.variance.kind}' "
                f"wants {wanted} for pictures of {network.in_channels} channels: set it to that"
            )
        if self.size < 1 or self.size % network.factor:
            raise ValueError(
                f"size {self.size} does not divide by {network.factor}, as the network needs: change it"
            )
        known = network.classes.count if network.classes else 0
        if len(self.classes) != known:
            raise ValueError(
                f"network.classes.count is {known}, there are {len(self.classes)} classes: set it to that"
            )


class DDPM(nn.Module, Pretrained):
    """Draws, completes and measures pictures.

    Attributes:
        network: Noisy images (b, c, h, w), steps (b,) from 0 on, and labels -> prediction.
        process: What is computed from it.
    """

    def __init__(self, config: DDPMConfig) -> None:
        super().__init__()
        self.config = config
        self.network = config.network.build()
        self.process = config.process.build()

    @property
    def schedule(self) -> Schedule:
        """How much of a picture is left at each time."""
        return self.process.schedule

    @property
    def denoiser(self) -> Denoiser:
        """The network, asked by times from 1 to T."""
        return Denoiser(self.network).train(self.training)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def sample(
        self,
        count: int,
        sampler: Sampler | None = None,
        seed: int = 0,
        classes: Sequence[int | str] = (),
        guidance: float | None = None,
        correction: Correction | None = CLIP,
        progress: bool = False,
    ) -> Tensor:
        """Pictures drawn from nothing, (count, c, h, w) in [0, 1].

        Args:
            count: How many; of one seed, the first are the same whatever the count.
            sampler: How; DDIM in 50 steps if left out.
            seed: Of the draws.
            classes: Classes by name or number, dealt out in turn; none draws from all.
            guidance: Scale of classifier-free guidance; None or 1 is none.
            correction: Of every estimate of the picture; clipping it to what pixels can be is usual.
            progress: Whether a bar is shown.

        Raises:
            ValueError: if there is nothing to draw, a class is unknown, or there is guidance without classes.
        """
        if count < 1:
            raise ValueError(f"{count} pictures are none: ask for at least 1")
        labels = self._labels(classes, count)
        options = self._options(labels, guidance, correction, progress)
        with _evaluated(self) as network:
            drawn = (sampler or DDIM()).draw(self.process, network, self._noise(count, seed), options)
        return unsigned(drawn)

    def complete(
        self,
        images: Tensor,
        rows: int | None = None,
        known: Tensor | None = None,
        repaint: RePaint = REPAINT,
        seed: int = 0,
        classes: Sequence[int | str] = (),
        progress: bool = False,
    ) -> Tensor:
        """Images with all but their known pixels drawn anew, (b, c, h, w) in [0, 1], by RePaint.

        Args:
            images: (b, c, h, w) in [0, 1], of the model's size.
            rows: Rows of pixels that are kept, from the top; or else give
            known: (b, h, w) or (h, w) bool, the pixels that are kept.
            repaint: How long is walked.
            seed: Of the draws.
            classes: Classes by name or number, dealt out in turn.
            progress: Whether a bar is shown.

        Raises:
            ValueError: if not just one of rows and known is given, they do not fit, or images have another
                size.
        """
        self._check(images)
        kept = self._kept(rows, known, len(images))
        pairs, moves = repaint.moves(self.process)
        options = self._options(self._labels(classes, len(images)), None, CLIP, progress)
        with _evaluated(self) as network:
            return inpaint(
                self.process,
                network,
                images.to(self.device),
                kept,
                self._noise(len(images), seed),
                pairs,
                moves,
                options,
            )

    def elbo(
        self, images: Tensor, seed: int = 0, classes: Sequence[int | str] = (), measuring: Measuring = EXACT
    ) -> Bound:
        """The bound on -log2 p(images) in bits per dimension, in its three terms.

        Args:
            images: (b, c, h, w) in [0, 1] on 256 levels.
            seed: Of the noise.
            classes: Class of each image, by name or number; none leaves them out.
            measuring: The exact sum over all times asks the network T times; `Measuring(times=50)` draws 50
                of them. Also the decoder.

        Raises:
            ValueError: if images have another size or are between levels.
        """
        self._check(images)
        if classes and len(classes) != len(images):
            raise ValueError(f"{len(classes)} classes for {len(images)} images: give one for each")
        generator = torch.Generator().manual_seed(seed)
        labels = self._labels(classes, len(images))
        with _evaluated(self) as network:
            return elbo(self.process, network, images.to(self.device), generator, labels, measuring)

    def _labels(self, classes: Sequence[int | str], count: int) -> Tensor | None:
        if not classes:
            return None
        chosen = [number_of(name, self.config.classes) for name in classes]
        return torch.tensor([chosen[number % len(chosen)] for number in range(count)])

    def _noise(self, count: int, seed: int) -> Noise:
        shape = (count, self.config.network.in_channels, self.config.size, self.config.size)
        return Noise(shape, seeds(seed, count), self.device)

    def _options(
        self, labels: Tensor | None, guidance: float | None, correction: Correction | None, progress: bool
    ) -> Options:
        show = _shown if progress else iter
        return Options(labels=labels, guidance=guidance, correction=correction, progress=show)

    def _check(self, images: Tensor) -> None:
        channels, size = self.config.network.in_channels, self.config.size
        if images.ndim != 4 or images.shape[1:] != (channels, size, size):
            raise ValueError(
                f"images are {tuple(images.shape)}, this model has (b, {channels}, {size}, {size}): resize "
                "them with vqtok.data.read_picture"
            )

    def _kept(self, rows: int | None, known: Tensor | None, count: int) -> Tensor:
        """(b or 1, 1, h, w) bool."""
        size = self.config.size
        if (rows is None) == (known is None):
            raise ValueError("give either rows, how many are kept from the top, or known, which pixels are")
        if known is None:
            if not 0 <= rows < size:
                raise ValueError(f"{rows} rows cannot be kept of {size}: keep 0 to {size - 1}")
            known = torch.arange(size).lt(rows)[:, None].expand(size, size)
        if known.dtype != torch.bool or known.shape not in [(size, size), (count, size, size)]:
            raise ValueError(
                f"known is {known.dtype} of shape {tuple(known.shape)}: give bool ({count}, {size}, {size})"
            )
        return known.view(-1, 1, size, size)


@contextmanager
def _evaluated(model: DDPM) -> Iterator[Denoiser]:
    """The network without dropout, in whatever mode it is afterwards as before."""
    training = model.network.training
    model.network.eval()
    try:
        yield model.denoiser
    finally:
        model.network.train(training)


def _shown(steps: Pairs) -> Iterable[tuple[int, int]]:
    """The steps, with a bar that says how far they are."""
    return track(steps, description="denoising")
