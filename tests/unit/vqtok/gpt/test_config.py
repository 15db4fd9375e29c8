"""GPTConfig: defaults filled in, parameters counted, mistakes refused."""

import pytest

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT

TINY = {"vocab": 11, "length": 16, "width": 32, "depth": 2, "heads": 4}


def test_defaults_are_filled_in():
    """As many key heads as heads, and an inner width of 8/3 rounded up to a multiple of 32."""
    config = GPTConfig(**TINY)
    assert (config.key_heads, config.head_width, config.inner) == (4, 8, 96)
    assert GPTConfig(**TINY | {"width": 40}).inner == 128
    assert GPTConfig(**TINY, kv_heads=2, hidden=50).inner == 50


@pytest.mark.parametrize("changes", [{}, {"kv_heads": 2}, {"period": 4}, {"hidden": 40}])
def test_a_config_knows_its_own_parameter_count(changes):
    """`parameters` is what the built model holds."""
    config = GPTConfig(**TINY | changes)
    assert config.parameters == sum(weight.numel() for weight in GPT(config).parameters())


@pytest.mark.parametrize(
    ("width", "depth", "heads", "hidden", "millions"),
    [
        (128, 2, 4, 256, 2.45),
        (640, 22, 10, 1664, 117.0),
        (3200, 26, 32, 8640, 3275),
        (4096, 32, 32, 11008, 6544),
    ],
)
def test_published_sizes(width, depth, heads, hidden, millions):
    """The shapes that LVM published have its parameter counts."""
    config = GPTConfig(vocab=8292, length=4096, width=width, depth=depth, heads=heads, hidden=hidden)
    assert config.parameters / 1e6 == pytest.approx(millions, rel=2e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab": 0}, "vocab 0 is below 1"),
        ({"period": 0}, "period 0 is below 1"),
        ({"heads": 5}, "width 32 does not divide by heads 5"),
        ({"heads": 32}, "head width 1 .* is odd"),
        ({"kv_heads": 3}, "heads 4 do not divide by kv_heads 3"),
        ({"dropout": 1.0}, r"dropout 1.0 is outside \[0, 1\)"),
        ({"rope_base": 0.0}, "rope_base 0.0 is not above 0: 10000 is usual"),
        ({"norm_eps": float("nan")}, "norm_eps nan"),
    ],
)
def test_mistakes_are_refused(changes, message):
    """A setting that cannot work raises when the config is made: the value, the limit, the way out."""
    with pytest.raises(ValueError, match=message):
        GPTConfig(**TINY | changes)
