"""The task library: rows that are the same every time, and which of the tasks a model may train on."""

from collections import Counter

import numpy as np
import pytest
import torch

from lvm.origins import Picture, Supply
from lvm.rules import Task
from lvm.tasks import PAIR_TASKS, TASKS, named, row, task, tasks
from vqtok.data.emoji import load_emoji
from vqtok.data.scenes import alone


@pytest.fixture(params=TASKS, ids=lambda one: one.name)
def made_by(request: pytest.FixtureRequest) -> Task:
    """Every task of the library."""
    return request.param


@pytest.fixture(scope="module")
def supply() -> Supply:
    """Of the train split."""
    return Supply("train")


def test_a_row_is_a_function_of_its_numbers(made_by: Task, supply: Supply):
    """The same numbers give the same pictures, whatever was drawn before; as many as the form has, in RGB."""
    origin = supply.origin(made_by.of, 5, 6)
    made = row(made_by, origin, 1, 2, member=3)
    np.random.seed(9)
    row(made_by, origin, 3, 4, member=5)
    assert torch.equal(row(made_by, origin, 1, 2, member=3), made)
    assert made.shape == (made_by.form.images, 3, 64, 64) and made.dtype == torch.float32
    assert made.isfinite().all() and 0 <= float(made.min()) < float(made.max()) <= 1


def test_members_are_other_tasks_of_one_family(made_by: Task, supply: Supply):
    """Rows of other members differ, trained or not; a task without members has the same of all."""
    origin = supply.origin(made_by.of, 5, 6)
    rows = [row(made_by, origin, 1, 2, member) for member in (0, 1, made_by.members, made_by.members + 1)]
    alike = [torch.equal(one, other) for place, one in enumerate(rows) for other in rows[:place]]
    assert not any(alike) if made_by.members > 1 else all(alike)


def test_y_follows_from_the_same_drawing():
    """Shaded, flat, line and mask are those of one composition; a view is the view of that very x."""
    source = alone(load_emoji("train")[3])
    for one in PAIR_TASKS:
        x, y = row(one, source, 0, 0)
        turned = torch.rot90(x, 1, (-2, -1))
        views = {"invert": 1 - x, "mirror": x.flip(-1), "rotate": turned, "upend": x.flip(-2),
                 "mirror, invert": 1 - x.flip(-1), "rotate, invert": 1 - turned}  # fmt: skip
        before, _, after = one.name.partition(" to ")
        if one.name in views:
            assert torch.equal(y, views[one.name])
        elif after:
            assert torch.equal(y, source.image(after))
            assert before == "noisy" or torch.equal(x, source.image(before))


def test_noise_and_holes_differ_from_row_to_row():
    """Another index is another hole and other noise."""
    source = Picture(torch.rand(3, 64, 64))
    for name in ("fill the hole", "denoise"):
        first, second = (row(task(name), source, 0, index) for index in (0, 1))
        assert not torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_held_out_tasks_are_no_training_tasks():
    """One style, one geometric task and one composition are held out; the other list holds none of them."""
    held_out = tasks(held_out=True)
    assert sorted(one.kind for one in held_out) == ["composition", "geometric", "style"]
    assert not {one.name for one in held_out} & {one.name for one in tasks(held_out=False)}
    assert len(tasks(held_out=False)) + len(held_out) == len(tasks()) == len({one.name for one in TASKS})


def test_plain_pictures_serve_every_task_made_of_pictures():
    """A folder's pictures have no styles, so other tasks are left out; these need nothing else."""
    picture = Picture(torch.rand(3, 32, 32))
    for one in tasks(of="picture"):
        assert row(one, picture, 0, 0).shape == (one.form.images, 3, 32, 32)
    kinds = Counter(one.kind for one in TASKS if one.of != "picture")
    assert set(kinds) == {"style", "mask", "sequence", "annotated sequence", "groups", "modalities"}


def test_an_unknown_name_lists_the_known_ones():
    """The message is the list to choose from."""
    assert task("mirror").name == "mirror"
    with pytest.raises(ValueError, match=r"no task 'mirorr': choose one of shaded to flat, .*upend"):
        task("mirorr")


def test_kinds_stand_for_their_trained_tasks():
    """Names and kinds mix, each task once; a held-out one must be named itself."""
    found = [one.name for one in named(["geometric", "mirror", "upend"])]
    assert found == ["mirror", "rotate", "shift", "turn", "zoom", "upend"]
    with pytest.raises(ValueError, match="no task 'geometry'"):
        named(["geometry"])
