"""Sentences for a model that is there: of its own tokenizer, of its own ids, of its length."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lvm.data import SentencesConfig
from lvm.layout import BareConfig, MarkedConfig
from lvm.lessons import lessons
from lvm.model import LVM, LVMConfig
from vqtok.tokenizers.tokenizer import VQTokenizer


@pytest.fixture
def data(two_tasks: Path) -> SentencesConfig:
    """Of two tasks, three pairs a sentence."""
    return SentencesConfig(shards=two_tasks, held_out=3, pairs=3)


def told(model: LVM, *tasks: str) -> LVM:
    """The same with ids of tasks, and one before every image."""
    layout = MarkedConfig(boundary=True, tasks=tasks)
    vocab = layout.build(32, 16).vocab
    settings = {"gpt": replace(model.config.gpt, vocab=vocab, length=256), "layout": layout}
    other = LVM(LVMConfig(tokenizer=model.config.tokenizer, **settings))
    other.tokenizer.load_state_dict(model.tokenizer.state_dict())
    return other


def test_sentences_have_the_ids_of_the_model(model: LVM, data: SentencesConfig):
    """Its marks and its ids of tasks, which need not be in the order of the shards."""
    other = told(model, "mirror", "upend", "invert")
    source, kept = lessons(replace(data, untold=0.0), other, "mine", 256, seed=0)
    assert source.names == ["invert", "mirror"] and {*kept} == {"invert", "mirror"}
    layout = other.layout
    for index in range(8):
        sample = source[index]
        begin = layout.begin(source.names[int(sample.tasks[0])])
        assert tuple(sample.ids[:2].tolist()) == begin and int(sample.ids[2]) == layout.next


def test_a_task_without_an_id_cannot_be_told(model: LVM, data: SentencesConfig):
    """The message names it, and the way out is to tell none."""
    other = told(model, "mirror")
    with pytest.raises(ValueError, match="tells task 'invert', which has no id in mine .*untold to 1"):
        lessons(replace(data, untold=0.5), other, "mine", 256, seed=0)
    source = lessons(data, other, "mine", 256, seed=0).source
    assert {tuple(source[index].ids[:2].tolist()) for index in range(8)} == {other.layout.begin()}


def test_another_tokenizer_is_refused(
    model: LVM, data: SentencesConfig, tiny_tokenizer: Callable[..., VQTokenizer]
):
    """One that is named, and one that the model has and the shards have not."""
    with pytest.raises(ValueError, match=r"data\.tokenizer is theirs, but mine brings its own: leave it out"):
        lessons(replace(data, tokenizer="theirs"), model, "mine", 130, seed=0)
    other = LVM(model.config)
    other.tokenizer.load_state_dict(tiny_tokenizer(seed=1).state_dict())
    with pytest.raises(ValueError, match=r"was encoded by tokenizer \w{12}, mine is \w{12}"):
        lessons(data, other, "mine", 130, seed=0)


def test_a_context_must_fit(model: LVM, data: SentencesConfig):
    """Longer ones than the model has places are refused, with both numbers."""
    with pytest.raises(ValueError, match="131 tokens do not fit mine, whose length is 130"):
        lessons(data, model, "mine", 131, seed=0)
    assert isinstance(lessons(data, model, "mine", 130, seed=0).source[0].ids, torch.Tensor)


@pytest.mark.parametrize(("reserved", "filler"), [(3, 32), (0, 0)])
def test_bare_sentences_fill_a_context_and_leave_the_rest_out(
    model: LVM, data: SentencesConfig, reserved: int, filler: int
):
    """Two of two pairs fit in nine images, a third does not: what is left is told and asked of nobody.

    The first code of a sentence is no target either, since nothing of it stands before.
    """
    gpt = replace(model.config.gpt, vocab=32 + reserved, length=9 * 16)
    bare = LVM(replace(model.config, gpt=gpt, layout=BareConfig(reserved=reserved)))
    bare.tokenizer.load_state_dict(model.tokenizer.state_dict())
    sample = lessons(replace(data, pairs=2), bare, "mine", 9 * 16, seed=0).source[0]
    assert sample.sentences.unique_consecutive(return_counts=True)[1].tolist() == [64, 64, 16]
    assert sample.ids[:128].max() < 32 and sample.ids[128:].unique().tolist() == [filler]
    assert (sample.weights == 0).nonzero().flatten().tolist() == [0, 64, *range(128, 144)]
