"""What a model that is there already is trained on: sentences by its own tokenizer and layout."""

from dataclasses import replace
from typing import NamedTuple

from lvm.data import Kept, SentencesConfig, contexts, sources
from lvm.layout import Layout
from lvm.model import LVM
from lvm.sentences import Sentences


class Lessons(NamedTuple):
    """Sentences for a model.

    Args:
        source: To train on, without end.
        kept: To measure on, by task.
    """

    source: Sentences
    kept: dict[str, Kept]


def lessons(config: SentencesConfig, model: LVM, name: str, length: int, seed: int) -> Lessons:
    """The sentences that a config describes, made of the ids that a model knows.

    Args:
        config: Names no tokenizer: the model brings its own.
        model: Its tokenizer must have made the shards.
        name: What the user calls it.
        length: Tokens of a context.
        seed: Of the order.

    Raises:
        ValueError: if a tokenizer is named, the model is too short or has no ids for the tasks it shall be
            told; and as `sources` and `contexts`.
    """
    if config.tokenizer is not None:
        raise ValueError(f"data.tokenizer is {config.tokenizer}, but {name} brings its own: leave it out")
    if length > model.config.gpt.length:
        raise ValueError(
            f"contexts of {length} tokens do not fit {name}, whose length is {model.config.gpt.length}: "
            "lower gpt.length to that"
        )
    tasks, kept = sources(replace(config, tokenizer=name), model.tokenizer)
    if config.untold < 1:
        _check_told([*tasks], model.layout, name, config.untold)
    return Lessons(contexts(config, tasks, model.layout, length, seed), kept)


def _check_told(tasks: list[str], layout: Layout, name: str, untold: float) -> None:
    """Raises ValueError unless all tasks have ids."""
    if strange := [task for task in tasks if task not in layout.tasks]:
        known = ", ".join(layout.tasks) or "none"
        raise ValueError(
            f"data.untold {untold} tells task {strange[0]!r}, which has no id in {name} (with ids: {known}): "
            "set data.untold to 1"
        )
