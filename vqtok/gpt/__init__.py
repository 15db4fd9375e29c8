"""The one decoder-only transformer: scores of the next token, cache, sampling, loss, published weights."""

from vqtok.gpt.cache import KVCache
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.generation import generate
from vqtok.gpt.loss import NextTokenObjective, next_token_loss
from vqtok.gpt.model import GPT
from vqtok.gpt.prompts import Prompt
from vqtok.gpt.sampling import Sampling

__all__ = [
    "GPT",
    "GPTConfig",
    "KVCache",
    "NextTokenObjective",
    "Prompt",
    "Sampling",
    "generate",
    "next_token_loss",
]
