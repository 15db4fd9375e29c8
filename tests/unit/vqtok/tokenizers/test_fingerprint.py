"""The fingerprint is the identity of an encoder, and stays what it is when settings are added."""

from collections.abc import Callable
from dataclasses import field, make_dataclass, replace

import pytest
import torch

from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.quantizers.fsq import FSQConfig
from vqtok.tokenizers.quantizers.residual import ResidualVQConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer

Make = Callable[[TokenizerConfig], VQTokenizer]


@pytest.fixture
def zeroed() -> Make:
    """Make a tokenizer all of whose weights are zero."""

    def make(config: TokenizerConfig) -> VQTokenizer:
        tokenizer = VQTokenizer(config)
        for tensor in tokenizer.state_dict().values():
            tensor.zero_()
        return tokenizer

    return make


def test_it_follows_the_weights_that_decide(tokenizer: VQTokenizer):
    """Encoder and codebook count; decoder and counts of use do not, and bfloat16 is what it is rounded to."""
    before = fingerprint(tokenizer)
    with torch.no_grad():
        for name in ("decoder.conv_out.weight", "post_quant_conv.bias", "quantize.usage"):
            tokenizer.state_dict()[name].add_(1)
        assert fingerprint(tokenizer) == before
        for name in ("encoder.conv_in.weight", "quant_conv.bias", "quantize.embedding.weight"):
            tokenizer.state_dict()[name].add_(1)
            assert fingerprint(tokenizer) != before
            before = fingerprint(tokenizer)


def test_it_follows_the_settings(config: TokenizerConfig, zeroed: Make):
    """Other settings are another tokenizer, also where all tensors agree; so is another quantizer."""
    quantizer = config.quantizer
    configs = [
        config,
        replace(config, low=0.0),
        replace(config, quantizer=replace(quantizer, normalize=False)),
        replace(config, quantizer=FSQConfig(levels=(3, 5))),
        replace(config, quantizer=FSQConfig(levels=(5, 3))),
    ]
    assert len({fingerprint(zeroed(config)) for config in configs}) == len(configs)


def test_counts_of_stages_do_not_matter(config: TokenizerConfig, zeroed: Make):
    """Nor do those inside a residual quantizer."""
    tokenizer = zeroed(replace(config, quantizer=ResidualVQConfig(stages=2, codes=8, width=4)))
    before, counted = fingerprint(tokenizer), 0
    for name, tensor in tokenizer.state_dict().items():
        if name.endswith("usage"):
            counted += 1
            tensor.add_(1)
    assert counted and fingerprint(tokenizer) == before


def test_a_setting_that_is_added_later_changes_nothing(config: TokenizerConfig, zeroed: Make):
    """As long as it has its default; this one was written down when it was defined."""
    tokenizer = zeroed(config)
    before = fingerprint(tokenizer)
    assert before == "99a4a1d02b0705f211a2caa8066143457bb4491675764765e0175be0a7538d6c"
    added = [("added", float, field(default=0.5))]
    later = make_dataclass("VQConfig", added, bases=(VQConfig,), frozen=True, kw_only=True)
    for value, same in ((0.5, True), (0.6, False)):
        tokenizer.config = replace(config, quantizer=later(**vars(config.quantizer), added=value))
        assert (fingerprint(tokenizer) == before) == same
