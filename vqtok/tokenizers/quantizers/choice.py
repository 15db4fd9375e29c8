"""All quantizers by their configuration: the one place to edit for a new one."""

from vqtok.tokenizers.quantizers.bsq import BSQ, BSQConfig
from vqtok.tokenizers.quantizers.fsq import FSQ, FSQConfig
from vqtok.tokenizers.quantizers.gumbel import GumbelConfig, GumbelQuantizer
from vqtok.tokenizers.quantizers.ibq import IBQ, IBQConfig
from vqtok.tokenizers.quantizers.lfq import LFQ, LFQConfig
from vqtok.tokenizers.quantizers.quantizer import Quantizer
from vqtok.tokenizers.quantizers.residual import ResidualVQ, ResidualVQConfig
from vqtok.tokenizers.quantizers.simvq import SimVQ, SimVQConfig
from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig

# The first is what a mapping without `kind` means: tokenizers saved before there were others have none.
QuantizerConfig = (
    VQConfig | SimVQConfig | FSQConfig | LFQConfig | BSQConfig | GumbelConfig | ResidualVQConfig | IBQConfig
)
QUANTIZERS: dict[type, type[Quantizer]] = {
    VQConfig: VectorQuantizer,
    SimVQConfig: SimVQ,
    FSQConfig: FSQ,
    LFQConfig: LFQ,
    BSQConfig: BSQ,
    GumbelConfig: GumbelQuantizer,
    ResidualVQConfig: ResidualVQ,
    IBQConfig: IBQ,
}


def build(config: QuantizerConfig) -> Quantizer:
    """The quantizer that a configuration describes, with random weights."""
    return QUANTIZERS[type(config)](config)
