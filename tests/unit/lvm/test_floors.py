"""Misleading prompts: no pair is right, or all are of another task that the query belongs to as well."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from lvm.exam import exam, questions
from lvm.floors import shuffled_answers, wrong_exam, wrong_task_prompts
from lvm.rules import Task
from lvm.tasks import PAIR_TASKS, task
from vqtok.tokenizers.tokenizer import VQTokenizer

VIEWS = {"edges", "invert", "mirror", "rotate"}


@pytest.mark.parametrize("shots", [2, 3])
def test_no_shuffled_pair_is_right(tiny_tokenizer: Callable[..., VQTokenizer], shots: int):
    """Queries, all the answers shown, and the question itself stay; each answer stands beside another x."""
    sat = exam(task("invert"), questions(4, 3, seed=0), tiny_tokenizer())
    right, wrong = sat.sentences(shots), shuffled_answers(sat, shots)
    assert torch.equal(wrong[:, ::2], right[:, ::2]) and torch.equal(wrong[:, -2:], right[:, -2:])
    before, after = right[:, 1:-2:2], wrong[:, 1:-2:2]
    assert torch.equal(after[:, 1:], before[:, :-1]) and torch.equal(after[:, 0], before[:, -1])


def test_one_answer_cannot_be_shuffled(tiny_tokenizer: Callable[..., VQTokenizer]):
    """There is no other to exchange it for."""
    sat = exam(task("invert"), questions(2, 1, seed=0), tiny_tokenizer())
    with pytest.raises(ValueError, match="1 pairs have no answers to exchange: show at least 2"):
        shuffled_answers(sat, 1)


@pytest.mark.parametrize("one", PAIR_TASKS, ids=lambda one: one.name)
def test_a_wrong_task_is_asked_of_the_same_x(tiny_tokenizer: Callable[..., VQTokenizer], one: Task):
    """For every task a trained one is found that takes its x to the pixel and mostly answers otherwise."""
    sat = exam(one, questions(4, 2, seed=0), tiny_tokenizer(), range(one.members))
    wrong = wrong_exam(sat, tiny_tokenizer())
    assert wrong.task.name != one.name and not wrong.task.held_out
    assert torch.equal(wrong.pairs[:, 0], sat.pairs[:, 0])
    errors = (wrong.pairs[:, 1] - sat.pairs[:, 1]).square().mean((1, 2, 3))
    assert (errors > 0.004).float().mean() > 0.5
    assert all(wrong.task.name in fit for fit in wrong.fit)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("shaded to line", {"shaded to flat", "shaded to mask"}),
        ("find the hole", {"fill the hole"}),
        ("noisy to mask", {"denoise"}),
        ("mirror", VIEWS - {"mirror"}),
        ("upend", VIEWS),
        ("tint", VIEWS),
        ("line to shaded", VIEWS),
        ("deblur", VIEWS),
    ],
)
def test_tasks_whose_x_are_drawn_alike_come_first(
    tiny_tokenizer: Callable[..., VQTokenizer], name: str, allowed: set[str]
):
    """One with the same x, and no composition; line drawings and blurred ones have none and go to a view."""
    sat = exam(task(name), questions(3, 1, seed=0), tiny_tokenizer())
    assert wrong_exam(sat, tiny_tokenizer()).task.name in allowed


def test_wrong_tasks_take_turns(tiny_tokenizer: Callable[..., VQTokenizer]):
    """Views are asked wrongly by different views, the same ones every time."""
    asked = questions(3, 1, seed=0)
    sat = [exam(task(name), asked, tiny_tokenizer()) for name in sorted(VIEWS)]
    first, again = ([wrong_exam(each, tiny_tokenizer()).task.name for each in sat] for _ in range(2))
    assert first == again and len({*first}) > 1


@pytest.mark.parametrize("name", ["upend", "line to shaded"])
def test_a_wrong_answer_is_the_other_tasks(tiny_tokenizer: Callable[..., VQTokenizer], name: str):
    """What is right for the prompt is the other task's view of the very query."""
    sat = exam(task(name), questions(3, 1, seed=0), tiny_tokenizer())
    wrong = wrong_exam(sat, tiny_tokenizer(), [task("invert"), task(name)])
    torch.testing.assert_close(wrong.pairs[:, 1], 1 - sat.pairs[:, 0])


def test_a_prompt_of_the_wrong_task_ends_with_the_usual_question(tiny_tokenizer: Callable[..., VQTokenizer]):
    """Pairs of the other task, then this task's query and its right answer."""
    sat = exam(task("shaded to flat"), questions(3, 2, seed=0), tiny_tokenizer())
    wrong = wrong_exam(sat, tiny_tokenizer())
    prompts = wrong_task_prompts(sat, wrong, 2)
    assert torch.equal(prompts[:, :4], wrong.sentences(2)[:, :4])
    assert torch.equal(prompts[:, 4:], sat.sentences(0))
    assert torch.equal(prompts[:, ::2], sat.sentences(2)[:, ::2])  # x are the same
    assert not torch.equal(prompts[:, 1:-2:2], sat.sentences(2)[:, 1:-2:2])


def test_without_another_task_it_is_refused(tiny_tokenizer: Callable[..., VQTokenizer]):
    """Neither itself, nor a held-out or parametrised one, nor one that answers the same will do."""
    sat = exam(task("mirror"), questions(2, 1, seed=0), tiny_tokenizer())
    same = replace(task("mirror"), name="the same again")
    with pytest.raises(ValueError, match="no trained task takes the x of 'mirror': leave out the floors"):
        wrong_exam(sat, tiny_tokenizer(), [*map(task, ("mirror", "upend", "zoom", "shaded to flat")), same])
