"""All tokenizers by their configuration: the one place to edit for a new one."""

from vqtok.tokenizers.dvae import DVAEConfig, DVAETokenizer
from vqtok.tokenizers.interface import ImageTokenizer
from vqtok.tokenizers.magvit2 import MAGVIT2Config, MAGVIT2Tokenizer
from vqtok.tokenizers.maskgit import MaskGITConfig, MaskGITTokenizer
from vqtok.tokenizers.palette import PaletteConfig, PaletteTokenizer
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer

# The first is what a mapping without `kind` means: tokenizers saved before there were others have none.
AnyTokenizerConfig = TokenizerConfig | DVAEConfig | MAGVIT2Config | MaskGITConfig | PaletteConfig
TOKENIZERS: dict[str, type[ImageTokenizer]] = {
    TokenizerConfig.kind: VQTokenizer,
    DVAEConfig.kind: DVAETokenizer,
    MAGVIT2Config.kind: MAGVIT2Tokenizer,
    MaskGITConfig.kind: MaskGITTokenizer,
    PaletteConfig.kind: PaletteTokenizer,
}


def build(config: AnyTokenizerConfig) -> ImageTokenizer:
    """The tokenizer that a configuration describes, with random weights."""
    return TOKENIZERS[config.kind](config)
