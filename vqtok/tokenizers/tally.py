"""Figures of images and what a tokenizer gives back, gathered batch by batch.

This is the one convention that every tokenizer is measured by (docs/guides/measuring.md): images and
reconstructions are float in [0, 1], not rounded to 8 bits.

Letters: b images, c channels, h w size; i j grid of codes, d features.
"""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from vqtok.metrics.features import Lite0Features
from vqtok.metrics.frechet import Moments, frechet_distance
from vqtok.metrics.images import decibels, ssim
from vqtok.metrics.lpips import LPIPS
from vqtok.metrics.tokens import perplexity, usage

EXACT = 1e-10  # squared error that counts as none: 100 dB, where infinity would swallow the mean
Ruler = Callable[[Tensor, Tensor], Tensor]  # images, references (b, 3, h, w) -> (b,)


class Tally:
    """What `figures` are made of, in sets that have names.

    Args:
        vocab: Ids run from 0 to vocab - 1.
        lpips: Measures LPIPS too.
        features: Measures FD-lite0 too, the Fréchet distance of these features.

    Attributes:
        images: Images so far, over all sets.
    """

    def __init__(
        self, vocab: int, lpips: LPIPS | None = None, features: Lite0Features | None = None
    ) -> None:
        self.vocab, self.features, self.images = vocab, features, 0
        self.rulers: dict[str, Ruler] = {"ssim": ssim} | ({"lpips": lpips} if lpips else {})
        self.clouds = (Moments(Lite0Features.WIDTH), Moments(Lite0Features.WIDTH)) if features else None
        self._ids: list[Tensor] = []
        self._errors: dict[str, list[Tensor]] = defaultdict(list)
        self._scores: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, name: str, originals: Tensor, decoded: Tensor, ids: Tensor) -> None:
        """Take in images (b, 3, h, w) of a set, what became of them, and their ids (b, i, j)."""
        self.images += len(originals)
        self._ids.append(ids.flatten().cpu())
        self._errors[name].append((decoded - originals).square().mean((1, 2, 3)).cpu())
        for ruler, measure in self.rulers.items():
            self._scores[f"{ruler}/{name}"].append(measure(decoded, originals).cpu())
        if self.features:
            for cloud, images in zip(self.clouds, (originals, decoded), strict=True):
                cloud.add(self.features(images).cpu())

    def errors(self) -> Tensor:
        """(images,) mean squared error of every image, set after set."""
        return torch.cat([part for parts in self._errors.values() for part in parts])

    def figures(self) -> dict[str, float]:
        """PSNR (dB), SSIM and, if asked for, LPIPS by set; usage, perplexity and FD-lite0 over all of them.

        FD-lite0 needs two images.

        Papers on tokenizers average the PSNR of images; `psnr_of_set` beside it is that of the mean squared
        error, which a few bad images pull down (by about 0.8 dB on the emoji).
        """
        found = {}
        for name, parts in self._errors.items():
            error = torch.cat(parts)  # (b,)
            found[f"psnr/{name}"] = float(decibels(error.clamp(min=EXACT)).mean())
            found[f"psnr_of_set/{name}"] = float(decibels(error.mean()))
        found |= {name: float(torch.cat(parts).mean()) for name, parts in self._scores.items()}
        if self.clouds and self.images > 1:
            found["fd_lite0"] = frechet_distance(*self.clouds)
        ids = torch.cat(self._ids)
        return found | {
            "usage": usage(ids, self.vocab),
            "perplexity": perplexity(ids, self.vocab),
            "ids": len(ids),
        }
