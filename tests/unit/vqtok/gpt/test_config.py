"""GPTConfig: defaults filled in, parameters counted, older files read, mistakes refused."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from vqtok.gpt.config import AttentionConfig, GPTConfig, HeadConfig, RangeConfig
from vqtok.gpt.masks import FullConfig, GridConfig
from vqtok.gpt.mlps import GELUConfig, QuickGELUConfig, SwiGLUConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.norms import LayerNormConfig, RMSNormConfig
from vqtok.gpt.positions import LearnedConfig, RoPE2DConfig, RoPEConfig, RowColumnConfig
from vqtok.gpt.prefix import ClassesConfig, FeaturesConfig, SOSConfig
from vqtok.storage.records import decode, encode
from vqtok.training import parse

TINY = {"vocab": 11, "length": 16, "width": 32, "depth": 2, "heads": 4}


def test_defaults_are_filled_in():
    """As many key heads as heads, and an inner width of 8/3 rounded up to a multiple of 32."""
    config = GPTConfig(**TINY)
    assert (config.key_heads, config.head_width, config.inner) == (4, 8, 96)
    assert GPTConfig(**TINY | {"width": 40}).inner == 128
    assert GPTConfig(**TINY, kv_heads=2, hidden=50).inner == 50


PARTS = [
    {"kv_heads": 2},
    {"period": 4},
    {"shifts": (1, 4)},
    {"hidden": 40, "mlp": SwiGLUConfig(bias=True)},
    {"norm": LayerNormConfig(), "mlp": GELUConfig(), "attention": AttentionConfig(bias=True, qk_norm=True)},
    {"norm": LayerNormConfig(bias=False), "mlp": QuickGELUConfig(bias=False), "head": HeadConfig(tied=True)},
    {"positions": LearnedConfig(), "prefix": SOSConfig()},
    {"positions": RoPE2DConfig(columns=4, before=1), "prefix": ClassesConfig(classes=7)},
    {"positions": RowColumnConfig(columns=4, before=3), "prefix": FeaturesConfig(tokens=3, channels=5)},
    {
        "attention": AttentionConfig(mask=GridConfig(columns=4, before=4, kernel=3)),
        "head": HeadConfig(
            ranges=(RangeConfig(start=0, low=0, high=5), RangeConfig(start=4, low=5, high=11))
        ),
    },
    {"attention": AttentionConfig(mask=FullConfig()), "norm": RMSNormConfig(eps=1e-5)},
]


@pytest.mark.parametrize("changes", [{}, *PARTS])
def test_a_config_knows_its_own_parameter_count(changes):
    """`parameters` is what the built model holds."""
    config = GPTConfig(**TINY | changes)
    assert config.parameters == sum(weight.numel() for weight in GPT(config).parameters())


@pytest.mark.parametrize("changes", [{}, *PARTS])
def test_parts_survive_a_file(changes):
    """A config reads back from JSON as the same, each part by its kind."""
    config = GPTConfig(**TINY | changes)
    assert decode(GPTConfig, json.loads(json.dumps(encode(config))), "config.json") == config


def test_files_of_older_versions_mean_what_they_meant():
    """config.json with rope_base and norm_eps beside the sizes: LLaMA's parts, with these settings."""
    older = {"vocab": 4099, "length": 514, "width": 256, "depth": 6, "heads": 4, "kv_heads": None}
    older |= {"hidden": None, "rope_base": 500.0, "norm_eps": 1e-5, "dropout": 0.1, "period": 128}
    expected = GPTConfig(
        vocab=4099,
        length=514,
        width=256,
        depth=6,
        heads=4,
        dropout=0.1,
        period=128,
        positions=RoPEConfig(base=500.0),
        norm=RMSNormConfig(eps=1e-5),
    )
    assert decode(GPTConfig, older, "config.json") == expected


def test_the_weights_that_are_shipped_are_such_files():
    """lvm/weights/emoji64 was written before there were parts."""
    folder = Path(__file__).parents[4] / "lvm" / "weights" / "emoji64"
    data = json.loads((folder / "config.json").read_text())["gpt"]
    assert decode(GPTConfig, data, "config.json").positions == RoPEConfig(base=10_000.0)


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
        ({"shifts": (3, 0)}, r"shifts \(3, 0\) must be different whole numbers from 1"),
        ({"shifts": (3, 3)}, r"shifts \(3, 3\) must be different whole numbers from 1"),
        ({"heads": 5}, "width 32 does not divide by heads 5"),
        ({"heads": 32}, "head width 1 .* does not divide by 2, but rotary"),
        (
            {"heads": 16, "positions": RoPE2DConfig(columns=4)},
            "head width 2 .* does not divide by 4, but rotary .* rows",
        ),
        ({"kv_heads": 3}, "heads 4 do not divide by kv_heads 3"),
        ({"dropout": 1.0}, r"dropout 1.0 is outside \[0, 1\)"),
        ({"prefix": FeaturesConfig(tokens=17, channels=5)}, "length 16 has no room after 17 places"),
        (
            {"prefix": SOSConfig(), "positions": RowColumnConfig(columns=4)},
            "positions.before 0 must hold the 1 places of the prefix",
        ),
        (
            {"attention": AttentionConfig(mask=GridConfig(columns=4, before=16))},
            "attention.mask.before 16 .* leave some of length 16 for the grid",
        ),
        (
            {"head": HeadConfig(ranges=(RangeConfig(start=16, low=0, high=2),))},
            r"head.ranges start at \[16\]",
        ),
        (
            {"head": HeadConfig(ranges=(RangeConfig(start=0, low=3, high=12),))},
            "has ids 3 to 11, .* 0 to 10",
        ),
    ],
)
def test_mistakes_are_refused(changes, message):
    """A setting that cannot work raises when the config is made: the value, the limit, the way out."""
    with pytest.raises(ValueError, match=message):
        GPTConfig(**TINY | changes)


@pytest.mark.parametrize(
    ("part", "settings", "message"),
    [
        (RoPEConfig, {"base": 0.0}, "positions.base 0.0 is not above 0: 10000 is usual"),
        (RoPE2DConfig, {"columns": 0}, "a grid of 0 columns after 0 places"),
        (RowColumnConfig, {"columns": 2, "before": -1}, "a grid of 2 columns after -1 places"),
        (RMSNormConfig, {"eps": float("nan")}, "norm.eps nan"),
        (LayerNormConfig, {"eps": 0.0}, "norm.eps 0.0 is not above 0"),
        (ClassesConfig, {"classes": 0}, "prefix.classes 0 is below 1"),
        (ClassesConfig, {"classes": 2, "drop": 1.0}, r"prefix.drop 1.0 is outside \[0, 1\)"),
        (FeaturesConfig, {"tokens": 0, "channels": 4}, "a prefix of 0 features"),
        (GridConfig, {"columns": 4, "kernel": 4}, "kernel 4 has no middle"),
        (GridConfig, {"columns": 4, "layers": ()}, "in layers .*at least one kind"),
    ],
)
def test_mistakes_in_parts_are_refused(part, settings, message):
    """A part's setting that cannot work raises when the part is made."""
    with pytest.raises(ValueError, match=message):
        part(**settings)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a family's trainer has.

    Args:
        gpt: The transformer's shape.
    """

    gpt: GPTConfig


def test_parts_are_chosen_by_recipes_and_flags(tmp_path: Path):
    """A recipe names kinds, a flag changes one setting or names another kind; what is not said is default."""
    recipe = tmp_path / "imagegpt.yaml"
    recipe.write_text(
        """
gpt:
  {vocab: 11, length: 17, width: 32, depth: 2, heads: 4, mlp: {kind: quick_gelu, bias: false},
   positions: {kind: rope_2d, columns: 4, before: 1}, prefix: {kind: classes, classes: 3},
   head: {ranges: [{start: 0, low: 0, high: 9}]}}
"""
    )
    flags = ["--gpt.prefix.drop=0.2", "--gpt.attention.mask.kind=grid", "--gpt.attention.mask.columns=4"]
    flags += ["--gpt.attention.mask.before=1", "--gpt.norm.eps=1e-5"]
    expected = GPTConfig(
        vocab=11,
        length=17,
        width=32,
        depth=2,
        heads=4,
        mlp=QuickGELUConfig(bias=False),
        positions=RoPE2DConfig(columns=4, before=1),
        prefix=ClassesConfig(classes=3, drop=0.2),
        attention=AttentionConfig(mask=GridConfig(columns=4, before=1)),
        norm=RMSNormConfig(eps=1e-5),
        head=HeadConfig(ranges=(RangeConfig(start=0, low=0, high=9),)),
    )
    assert parse(Recipe, ["--config", str(recipe), *flags]).gpt == expected
    learned = parse(Recipe, ["--config", str(recipe), "--gpt.positions.kind=learned"]).gpt
    assert learned.positions == LearnedConfig()


def test_settings_of_another_kind_are_refused(tmp_path: Path):
    """The message names the file and the setting."""
    recipe = tmp_path / "wrong.yaml"
    recipe.write_text(
        "gpt: {vocab: 11, length: 17, width: 32, depth: 2, heads: 4, positions: {kind: learned, base: 3.0}}"
    )
    with pytest.raises(ValueError, match="wrong.yaml: unknown setting `gpt.positions.base`"):
        parse(Recipe, ["--config", str(recipe)])
