"""How well a codebook is used: usage, entropy and perplexity of token ids. Pure functions of tensors.

ids are int64 in [0, vocab), of any shape; vocab is the number of codes, of which only `counts` makes a
tensor: there are codebooks of 2^36.
"""

import math

import torch
from torch import Tensor


def usage(ids: Tensor, vocab: int) -> float:
    """Share of the codes that occur at least once, in [0, 1].

    Grows with the number of ids: state that number beside it.

    Raises:
        ValueError: if there are no ids, or one lies outside [0, vocab).
    """
    _check(ids, vocab)
    return len(ids.unique()) / vocab


def entropy(ids: Tensor, vocab: int) -> float:
    """Entropy of the codes' frequencies in bits, between 0 and log2(vocab); biased low for few ids.

    Raises:
        ValueError: if there are no ids, or one lies outside [0, vocab).
    """
    _check(ids, vocab)
    shares = ids.unique(return_counts=True)[1].double() / ids.numel()
    return torch.special.entr(shares).sum().item() / math.log(2)


def perplexity(ids: Tensor, vocab: int) -> float:
    """2 to the power of the entropy in bits: how many equally likely codes would be as unpredictable.

    Raises:
        ValueError: if there are no ids, or one lies outside [0, vocab).
    """
    return 2 ** entropy(ids, vocab)


def counts(ids: Tensor, vocab: int) -> Tensor:
    """How often each code occurs, (vocab,) int64.

    Raises:
        ValueError: if there are no ids, or one lies outside [0, vocab).
    """
    _check(ids, vocab)
    return torch.bincount(ids.flatten(), minlength=vocab)


def _check(ids: Tensor, vocab: int) -> None:
    if not ids.numel():
        raise ValueError("0 ids have no statistics: encode at least one image")
    low, high = ids.min().item(), ids.max().item()
    if low < 0 or high >= vocab:
        wrong = low if low < 0 else high
        raise ValueError(f"id {wrong} lies outside [0, {vocab}): give the vocab of the ids' own tokenizer")
