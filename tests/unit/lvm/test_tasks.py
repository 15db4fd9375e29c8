"""The task library: exact pairs, the same every time, and which of them a model may train on."""

import numpy as np
import pytest
import torch

from lvm.tasks import TASKS, Picture, Task, pair, task, tasks
from vqtok.data.emoji import load_emoji
from vqtok.data.scenes import alone, scene


@pytest.fixture(params=TASKS, ids=lambda one: one.name)
def made_by(request: pytest.FixtureRequest) -> Task:
    """Every task of the library."""
    return request.param


def test_a_pair_is_a_function_of_its_seed_and_index(made_by: Task):
    """The same numbers give the same pictures, whatever was drawn before; they are RGB within [0, 1]."""
    source = scene(load_emoji("train"), 5, 6)
    made = pair(made_by, source, 1, 2)
    np.random.seed(9)
    pair(made_by, source, 3, 4)
    assert torch.equal(pair(made_by, source, 1, 2), made)
    assert made.shape == (2, 3, 64, 64) and made.dtype == torch.float32
    assert 0 <= float(made.min()) < float(made.max()) <= 1


def test_y_follows_from_the_same_drawing(made_by: Task):
    """Shaded, flat, line and mask are those of one composition; a view is the view of that very x."""
    source = alone(load_emoji("train")[3])
    x, y = pair(made_by, source, 0, 0)
    turned = torch.rot90(x, 1, (-2, -1))
    views = {"invert": 1 - x, "mirror": x.flip(-1), "rotate": turned, "upend": x.flip(-2)}
    before, _, after = made_by.name.partition(" to ")
    if made_by.name in views:
        assert torch.equal(y, views[made_by.name])
    elif made_by.kind in ("style", "mask") and after:
        assert torch.equal(y, source.image(after))
        assert before == "noisy" or torch.equal(x, source.image(before))
    else:
        assert made_by.name in ("find the hole", "fill the hole", "denoise")


def test_holes_are_found_where_they_are():
    """White marks exactly the square that is gray in x."""
    x, y = pair(task("find the hole"), Picture(torch.rand(3, 64, 64)), 0, 0)
    assert set(y.unique().tolist()) == {0.0, 1.0} and int(y[0].sum()) == 24 * 24
    assert bool((x[y > 0] == 0.5).all())


def test_noise_and_holes_differ_from_pair_to_pair():
    """Another index is another hole and other noise."""
    source = Picture(torch.rand(3, 64, 64))
    for name in ("fill the hole", "denoise"):
        first, second = (pair(task(name), source, 0, index) for index in (0, 1))
        assert not torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_held_out_tasks_are_no_training_tasks():
    """One style task and one geometric task are held out; the other list holds none of them."""
    held_out = tasks(held_out=True)
    assert sorted(one.kind for one in held_out) == ["geometric", "style"]
    assert not {one.name for one in held_out} & {one.name for one in tasks(held_out=False)}
    assert len(tasks(held_out=False)) + len(held_out) == len(tasks()) == len({one.name for one in TASKS})


def test_plain_pictures_serve_every_task_that_is_not_drawn():
    """A folder's pictures have no styles, so drawn tasks are left out; the rest need nothing else."""
    picture = Picture(torch.rand(3, 32, 32))
    for one in tasks(drawn=False):
        assert pair(one, picture, 0, 0).shape == (2, 3, 32, 32)
    assert {one.kind for one in tasks(drawn=True)} == {"style", "mask"}


def test_an_unknown_name_lists_the_known_ones():
    """The message is the list to choose from."""
    assert task("mirror").name == "mirror"
    with pytest.raises(ValueError, match=r"no task 'mirorr': choose one of shaded to flat, .*upend"):
        task("mirorr")
