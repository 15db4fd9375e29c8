"""Waves that tell a step: both published conventions, written out."""

import math

import pytest
import torch

from diffusion.networks.times import TimeConfig, wave

T = torch.tensor([0.0, 1.0, 37.5, 999.0])


@pytest.mark.parametrize(("first", "shift"), [("sin", 1), ("cos", 0), ("sin", 0), ("cos", 1)])
def test_written_out(first, shift):
    """Entry i of a half is the sine or cosine of t / 10000^(i / (f - shift)), to 1e-4 at t near 1000."""
    found = wave(T, 8, TimeConfig(first=first, shift=shift))
    halves = (math.sin, math.cos) if first == "sin" else (math.cos, math.sin)
    angles = [[t / 10000 ** (i / (4 - shift)) for i in range(4)] for t in T.tolist()]
    expected = [[half(angle) for half in halves for angle in row] for row in angles]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=0)


def test_precision():
    """Steps in bfloat16 or of whole numbers are made float32 first."""
    assert wave(torch.tensor([999]), 8, TimeConfig()).dtype == torch.float32
