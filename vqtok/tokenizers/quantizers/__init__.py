"""Quantizers: vectors <-> ids. Each is a small class with a configuration, from which `build` makes it."""

from vqtok.tokenizers.quantizers.choice import QuantizerConfig, build
from vqtok.tokenizers.quantizers.fsq import FSQConfig
from vqtok.tokenizers.quantizers.lfq import LFQConfig
from vqtok.tokenizers.quantizers.quantizer import Quantized, Quantizer
from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig

__all__ = [
    "FSQConfig",
    "LFQConfig",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "VQConfig",
    "VectorQuantizer",
    "build",
]
