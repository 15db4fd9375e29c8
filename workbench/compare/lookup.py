"""`vqtok compare speed lookup`: finding the nearest code, alone and inside of a quantizer.

Everybody gets the same vectors, as the feature maps that quantizers take. In training a call is forward,
backward of the quantizer's loss and of the output's mean square, and what moves the codebook without a
gradient. Peers have their defaults, but for diffusers' `legacy` weights, which cost the same.

Letters: n = b h w vectors, k codes, d their width.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn

from vqtok.tokenizers.lookup import nearest_code, whole_float32
from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig
from workbench.compare.speed import Call, Comparison, Contestant

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]  # vectors (b, d, h, w) -> what they become, and a loss ()


@dataclass(frozen=True, kw_only=True)
class Case:
    """Vectors of `images` maps of `side` x `side`, to be quantized to one of `codes`."""

    codes: int
    width: int
    train: bool
    images: int = 16
    side: int = 32

    @property
    def matrix(self) -> int:
        """Bytes of all vectors' float32 scores of all codes."""
        return 4 * self.images * self.side**2 * self.codes

    def maps(self, device: torch.device) -> Tensor:
        """(b, d, h, w) Gaussian."""
        shape = (self.images, self.width, self.side, self.side)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)

    def codebook(self, device: torch.device) -> Tensor:
        """(k, d) Gaussian."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(self.codes, self.width, generator=generator).to(device)


def _alone(look: Callable[[Tensor, Tensor], Tensor], everywhere: bool = False) -> Contestant:
    """A function of vectors (n, d) and codebook (k, d), in evaluation only or `everywhere`."""

    def prepare(case: Case, device: torch.device) -> Call | None:
        if case.train and not everywhere:
            return None
        vectors, codebook = rearrange(case.maps(device), "b d h w -> (b h w) d"), case.codebook(device)

        @torch.no_grad()
        def call() -> Tensor:
            with whole_float32(device.type):
                return look(vectors, codebook)

        return call

    return Contestant(prepare=prepare)


def _quantizer(make: Callable[[Case], tuple[nn.Module, Forward]], package: str) -> Contestant:
    """A module, which `make` gives with a forward that returns vectors and loss."""

    def prepare(case: Case, device: torch.device) -> Call:
        module, forward = make(case)
        module.to(device).train(case.train)
        vectors = case.maps(device).requires_grad_(case.train)

        @torch.no_grad()
        def evaluate() -> object:
            return forward(vectors)

        def train() -> None:
            vectors.grad = None
            module.zero_grad()
            out, loss = forward(vectors)
            (out.square().mean() + loss).backward()

        return train if case.train else evaluate

    return Contestant(prepare=prepare, package=package)


def _ours(normalize: bool, means: bool) -> Contestant:
    def make(case: Case) -> tuple[nn.Module, Forward]:
        module = VectorQuantizer(
            VQConfig(codes=case.codes, width=case.width, normalize=normalize, means=means)
        )

        def forward(vectors: Tensor) -> tuple[Tensor, Tensor]:
            out = module(vectors)
            if case.train:
                module.learn(vectors.detach(), out.ids, restart=False)
            return out.vectors, out.loss

        return module, forward

    return _quantizer(make, "vqtok")


def _lucidrains(cosine: bool) -> Contestant:
    def make(case: Case) -> tuple[nn.Module, Forward]:
        from vector_quantize_pytorch import VectorQuantize

        module = VectorQuantize(case.width, case.codes, use_cosine_sim=cosine, accept_image_fmap=True)

        def forward(vectors: Tensor) -> tuple[Tensor, Tensor]:
            out, _, loss = module(vectors)
            return out, loss.sum()

        return module, forward

    return _quantizer(make, "vector-quantize-pytorch")


def _diffusers(case: Case) -> tuple[nn.Module, Forward]:
    from diffusers.models.autoencoders.vae import VectorQuantizer as Theirs

    module = Theirs(case.codes, case.width, beta=0.25, legacy=False)
    return module, lambda vectors: module(vectors)[:2]


def _by_addmm(vectors: Tensor, codebook: Tensor) -> Tensor:
    return torch.addmm(codebook.square().sum(1).mul(-0.5), vectors, codebook.T).argmax(1)


CASES = {
    f"16,384 vectors, {codes:,} codes of width {width}, {'train + backward' if train else 'eval'}": Case(
        codes=codes, width=width, train=train
    )
    for codes, width in ((8192, 64), (16384, 8))
    for train in (False, True)
}
COMPARISON = Comparison(
    about="One call quantizes all vectors; in training it is forward, backward and what moves the codes.",
    cases=CASES,
    contestants={
        "vqtok VQ, running means": _ours(normalize=False, means=True),
        "vqtok VQ, running means, cosine": _ours(normalize=True, means=True),
        "vqtok VQ, gradient": _ours(normalize=False, means=False),
        "vector-quantize-pytorch, default": _lucidrains(cosine=False),
        "vector-quantize-pytorch, cosine": _lucidrains(cosine=True),
        "diffusers VectorQuantizer": _quantizer(_diffusers, "diffusers"),
        "vqtok nearest_code alone": replace(_alone(nearest_code), package="vqtok"),
        "cdist, argmin": _alone(lambda vectors, codebook: torch.cdist(vectors, codebook).argmin(1)),
        "addmm, argmax": _alone(_by_addmm),
        "ceiling: the bare product": _alone(lambda vectors, codebook: vectors @ codebook.T, everywhere=True),
    },
    ours="vqtok VQ, running means",
    ceiling="ceiling: the bare product",
    unit=lambda case: case.matrix,
    unit_name="the vectors × codes matrix",
    toy=lambda case: replace(case, codes=32, width=4, images=2, side=4),
)
