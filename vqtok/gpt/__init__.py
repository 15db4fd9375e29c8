"""The one decoder-only transformer: scores of the next token, cache, sampling, loss, published weights."""

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.loss import NextTokenObjective, next_token_loss
from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling, draw, generate

__all__ = [
    "GPT",
    "GPTConfig",
    "KVCache",
    "NextTokenObjective",
    "Sampling",
    "draw",
    "generate",
    "next_token_loss",
]
