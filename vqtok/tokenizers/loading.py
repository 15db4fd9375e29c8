"""`load_tokenizer`: the one call that turns a folder or a hub id into a tokenizer."""

from pathlib import Path

from vqtok.tokenizers.tokenizer import VQTokenizer

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "emoji64"


def load_tokenizer(source: str | Path = DEFAULT_WEIGHTS) -> VQTokenizer:
    """A tokenizer in evaluation mode; its codebook and networks are float32.

    Args:
        source: A folder that `save_pretrained` wrote, such as a run's `model/`, or a hub id; the shipped
            emoji tokenizer if left out.

    Raises:
        ValueError: if the folder holds no tokenizer, or a tensor is missing, extra or mis-shaped.
    """
    return VQTokenizer.from_pretrained(source)
