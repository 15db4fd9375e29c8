"""Rulers: image metrics and token metrics, pure functions of tensors.

Distances by pretrained networks are in `vqtok.metrics.frechet`, `vqtok.metrics.features` and
`vqtok.metrics.lpips`.
"""

from vqtok.metrics.images import iou, psnr, psnr_of_set, ssim
from vqtok.metrics.tokens import entropy, perplexity, usage

__all__ = ["entropy", "iou", "perplexity", "psnr", "psnr_of_set", "ssim", "usage"]
