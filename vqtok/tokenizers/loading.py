"""`load_tokenizer`: the one call that turns a folder, a file or a hub id into a tokenizer."""

from pathlib import Path

from vqtok.storage.pretrained import WEIGHTS
from vqtok.tokenizers.choice import TOKENIZERS
from vqtok.tokenizers.interface import ImageTokenizer
from vqtok.tokenizers.published.files import config_of, names_file, read_published
from vqtok.tokenizers.published.loading import plan_for, tokenizer_of
from vqtok.tokenizers.tokenizer import TokenizerConfig

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "emoji64"
PART = "tokenizer"  # what larger models call theirs


def load_tokenizer(source: str | Path = DEFAULT_WEIGHTS) -> ImageTokenizer:
    """A tokenizer in evaluation mode; its codebook and networks are float32.

    Args:
        source: A folder that `save_pretrained` wrote, such as a run's `model/`, also that of a larger model
            that carries its tokenizer, as an LVM does; a published tokenizer as its authors left it, a file
            or a folder (docs/guides/published_tokenizers.md lists the layouts); or either on the hub,
            `owner/name`, with a folder or a file behind it if need be. The shipped emoji tokenizer if left
            out.

    Raises:
        ValueError: if there is no tokenizer, or its layout is unknown, its file damaged or holding code, or a
            tensor missing, extra or mis-shaped.
    """
    place = Path(source)
    folder = place.parent if place.name == WEIGHTS and names_file(place) else source
    config = {} if names_file(folder) else config_of(folder)
    part = PART if isinstance(config.get(PART), dict) else ""
    config = config[PART] if part else config
    kind = config.get("kind", TokenizerConfig.kind if "autoencoder" in config else None)
    if kind in [*TOKENIZERS]:  # whatever JSON may hold
        return TOKENIZERS[kind].from_pretrained(folder, part=part)
    published = read_published(source)
    return tokenizer_of(published, plan_for(published))


def import_tokenizer(
    source: str | Path, folder: str | Path, size: int | None = None, low: float | None = None
) -> str:
    """Write a published tokenizer as a folder of ours, whole or not at all.

    Args:
        source: What `load_tokenizer` takes, but for folders of ours.
        folder: Where config.json and model.safetensors shall lie.
        size: Pixels a side of the images it was trained on, where its files do not tell.
        low: Black as its network sees it, -1 or 0, where its files do not tell.

    Returns:
        One line about what was found.

    Raises:
        ValueError: as `load_tokenizer`, or if `folder` holds other files.
    """
    published = read_published(source)
    plan = plan_for(published, size, low)
    tokenizer = tokenizer_of(published, plan)
    tokenizer.save_pretrained(folder)
    parameters = sum(parameter.numel() for parameter in tokenizer.parameters())
    only = "" if tokenizer.decodes else ", without its decoder"
    return (
        f"{plan.layout.name}{only}: {tokenizer.vocab} codes, {tokenizer.tokens} tokens for "
        f"{tokenizer.config.size} pixels a side, {parameters:,} parameters"
    )
