"""`vqtok compare learning vq`: our VQ and vector-quantize-pytorch's in one autoencoder.

Everybody has the package's defaults, but for what the row says. Running means are Euclidean or of directions
(cosine); so each of theirs has one of ours to be compared with.

Letters: b images, d width, h w grid of vectors, k codes.
"""

from torch import Tensor

from vqtok.tokenizers.quantizers.quantizer import Quantized, Quantizer
from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig
from workbench.compare.learning import Comparison, Learner, collapse_codes


class Lucidrains(Quantizer):
    """vector-quantize-pytorch's VectorQuantize behind our interface, which gives it float32 as it gives us.

    It moves its codes itself, in the forward of training.
    """

    def __init__(self, codes: int, width: int, **options: object) -> None:
        from vector_quantize_pytorch import VectorQuantize

        super().__init__(VQConfig(codes=codes, width=width))
        self.theirs = VectorQuantize(width, codes, accept_image_fmap=True, **options)

    def _quantize(self, vectors: Tensor) -> Quantized:
        out, ids, loss = self.theirs(vectors)
        return Quantized(out, ids, loss.sum())

    def _encode(self, vectors: Tensor) -> Tensor:
        return self.theirs(vectors, freeze_codebook=True)[1]

    def _decode(self, ids: Tensor) -> Tensor:
        return self.theirs.get_output_from_indices(ids)


def _ours(restart: bool = True, **options: bool) -> Learner:
    def build(codes: int, width: int) -> VectorQuantizer:
        return VectorQuantizer(VQConfig(codes=codes, width=width, **options))

    def collapse(quantizer: VectorQuantizer) -> None:
        collapse_codes(quantizer.embedding.weight)
        quantizer.usage.fill_(1.0)  # or all of them would start again at the first step

    return Learner(build=build, collapse=collapse, restart=restart)


def _lucidrains(**options: object) -> Learner:
    def build(codes: int, width: int) -> Lucidrains:
        return Lucidrains(codes, width, **options)

    def collapse(quantizer: Lucidrains) -> None:
        for codes in (quantizer.theirs._codebook.embed, quantizer.theirs._codebook.embed_avg):
            collapse_codes(codes)

    return Learner(build=build, collapse=collapse, package="vector-quantize-pytorch")


COMPARISON = Comparison(
    learners={
        "vqtok, l2, gradient": _ours(normalize=True),
        "vqtok, l2, running means": _ours(normalize=True, means=True),
        "vector-quantize-pytorch, cosine": _lucidrains(use_cosine_sim=True),
        "vqtok, Euclidean, running means": _ours(normalize=False, means=True),
        "vector-quantize-pytorch, default": _lucidrains(),
    },
    collapsed={
        "vqtok, l2, gradient, restart": _ours(normalize=True),
        "vqtok, l2, running means, restart": _ours(normalize=True, means=True),
        "vqtok, l2, running means, no restart": _ours(restart=False, normalize=True, means=True),
        "vector-quantize-pytorch, default (no restart)": _lucidrains(),
        # Their manual's threshold, in vectors a step, and what ours is here: 3 % of the average code's one.
        "vector-quantize-pytorch, threshold_ema_dead_code=2": _lucidrains(threshold_ema_dead_code=2),
        "vector-quantize-pytorch, threshold_ema_dead_code=0.03": _lucidrains(threshold_ema_dead_code=0.03),
    },
)
