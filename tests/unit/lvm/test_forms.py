"""Forms: which image of which row stands where in a sentence, and whether it is asked for."""

import json

import numpy as np
import pytest

from lvm.forms import PAIRS, SINGLE, Form, annotated, groups, modalities, sequence

ALL = (SINGLE, PAIRS, sequence(5), annotated(3), groups(4, rows=2), modalities(4, rows=2))


def orders(form: Form, rows: int = 2, times: int = 40) -> set[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """All that are drawn."""
    drawn = [form.order(rows, np.random.default_rng(seed)) for seed in range(times)]
    return {(tuple(places.tolist()), tuple(asked.tolist())) for places, asked in drawn}


@pytest.mark.parametrize("form", ALL, ids=lambda form: form.name)
def test_every_image_stands_once_and_rows_stay_together(form: Form):
    """Row after row; of each the images given come before any that is asked for."""
    for places, asked in orders(form, rows=3):
        rows = np.reshape(places, (3, form.images))
        assert sorted(places) == [*range(3 * form.images)] and (rows // form.images == [[0], [1], [2]]).all()
        assert np.reshape(asked, rows.shape)[:, form.given :].sum() == 3 * (form.images - form.given)


def test_pairs_ask_for_every_second_image():
    """And single pictures for themselves."""
    assert orders(PAIRS) == {((0, 1, 2, 3), (False, True, False, True))}
    assert orders(SINGLE, rows=1) == {((0,), (True,))}


def test_annotated_frames_have_two_orders():
    """All frames, then all annotations; or each frame and its own. The first frame is given in both."""
    assert orders(annotated(3), rows=1) == {
        ((0, 1, 2, 3, 4, 5), (False,) + (True,) * 5),
        ((0, 3, 1, 4, 2, 5), (False,) + (True,) * 5),
    }


def test_modalities_have_one_order_for_all_rows():
    """Any of them; what stands first in a row is given."""
    found = orders(modalities(3, rows=2), times=100)
    assert len(found) == 6 and {asked for _, asked in found} == {(False, True, True) * 2}
    assert all(tuple(place + 3 for place in places[:3]) == places[3:] for places, _ in found)


@pytest.mark.parametrize("form", ALL, ids=lambda form: form.name)
def test_a_manifest_gives_the_form_back(form: Form):
    """Through JSON, as shards keep it."""
    assert Form.of(json.loads(json.dumps(form.facts()))) == form


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"images": 0}, "has 0 images a row"),
        ({"images": 2, "rows": 0}, "and 0 rows: give at least 1"),
        ({"images": 2, "given": 3}, "gives 3 of 2 images: give no more"),
        ({"images": 3, "flows": ("rows", "halves")}, "3 images, an odd number: pair every frame"),
    ],
)
def test_senseless_forms_are_refused(wrong: dict, told: str):
    """With what would make sense."""
    with pytest.raises(ValueError, match=told):
        Form(name="mine", **wrong)
