"""Images <-> token ids: quantizers, the autoencoder around them, training and evaluation."""

from vqtok.tokenizers.loading import load_tokenizer
from vqtok.tokenizers.lookup import nearest_code
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer

__all__ = ["TokenizerConfig", "VQTokenizer", "load_tokenizer", "nearest_code"]
