"""Captions <-> text ids: normalization, sentencepiece tokenizers of one's own captions, minDALL-E's files."""

from vqtok.text.loading import load_text_tokenizer
from vqtok.text.normalization import normalized
from vqtok.text.tokenizer import TextConfig, Texts, TextTokenizer

__all__ = ["TextConfig", "TextTokenizer", "Texts", "load_text_tokenizer", "normalized"]
