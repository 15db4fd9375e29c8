"""Laws of sentences of pictures and of the pairs they are made of, over seeds and shapes."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm.layout import Layout
from lvm.origins import Picture
from lvm.sentences import Order, Rows, Sentences
from lvm.tasks import TASKS, row, tasks
from vqtok.data.views import mirror, rotate, upend

lawful = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
names = st.lists(st.sampled_from([task.name for task in TASKS]), unique=True, max_size=4).map(tuple)
layouts = st.builds(
    Layout, codes=st.integers(1, 5000), tokens=st.integers(1, 20), boundary=st.booleans(), tasks=names
)


def codes_of(layout: Layout, images: int, seed: int) -> torch.Tensor:
    """(images, tokens) random codes."""
    return torch.randint(layout.codes, (images, layout.tokens), generator=torch.Generator().manual_seed(seed))


@lawful
@given(layout=layouts, images=st.integers(0, 9), padding=st.integers(0, 5), seed=seeds, data=st.data())
def test_parse_of_build_is_the_same(
    layout: Layout, images: int, padding: int, seed: int, data: st.DataObject
) -> None:
    """The images of a sentence are those it was built of, padded or not, whatever task it tells or not."""
    task = data.draw(st.sampled_from([None, *layout.tasks]))
    codes = codes_of(layout, images, seed)
    sentence = torch.cat([layout.sentence(codes, task), torch.full((padding,), layout.pad)])
    assert torch.equal(layout.images(sentence), codes)
    assert len(sentence) - padding == layout.length(images)


@lawful
@given(layout=layouts)
def test_specials_are_never_codes(layout: Layout) -> None:
    """The vocabulary is the codes and, apart from them, distinct special ids: three, and those of options."""
    specials = {layout.bos, layout.eos, layout.pad} | ({layout.next} if layout.boundary else set())
    specials |= {id for task in (None, *layout.tasks) for id in layout.begin(task)}
    assert len(specials) == 3 + layout.boundary + (1 + len(layout.tasks) if layout.tasks else 0)
    assert specials == {*range(layout.codes, layout.vocab)}
    assert int(layout.drawable.sum()) == layout.codes and not layout.drawable[[*specials]].any()


@lawful
@given(layout=layouts, images=st.integers(0, 6), seed=seeds, data=st.data())
def test_a_prompt_is_the_sentence_before_its_answer(
    layout: Layout, images: int, seed: int, data: st.DataObject
) -> None:
    """What a model is asked to go on with is exactly what it was trained to go on with."""
    task = data.draw(st.sampled_from([None, *layout.tasks]))
    codes = codes_of(layout, images + 1, seed)
    prompt = layout.telling(task).prompt(codes[None, :-1])[0]
    sentence = layout.sentence(codes, task)
    assert torch.equal(prompt, sentence[: len(prompt)])
    assert torch.equal(sentence[len(prompt) :][: layout.tokens], codes[-1])


@lawful
@given(layout=layouts, asked=st.lists(st.booleans(), max_size=8), query=st.floats(0, 1), seed=seeds)
def test_weights_have_a_place_for_every_id(
    layout: Layout, asked: list[bool], query: float, seed: int
) -> None:
    """Codes asked for count 1, others `query`, EOS 1 and what is told 0; as many fit as `fitting` says."""
    sentence = layout.sentence(codes_of(layout, len(asked), seed))
    weights = layout.weights(asked, query)
    assert len(weights) == len(sentence)
    assert not weights[sentence >= layout.codes][:-1].any() and weights[-1] == 1
    expected = layout.tokens * (sum(asked) + query * (len(asked) - sum(asked)))
    torch.testing.assert_close(weights.double().sum().item() - 1, expected, rtol=1e-5, atol=1e-6)
    assert layout.fitting(len(sentence)) == len(asked) and layout.fitting(len(sentence) - 1) == max(
        len(asked) - 1, 0
    )


@lawful
@given(seed=seeds, index=st.integers(0, 10**9), start=seeds)
def test_rows_are_pure(seed: int, index: int, start: int) -> None:
    """A row depends on origin, seed and index only, and its task leaves the origin as it was."""
    picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(start))
    before = picture.clone()
    for task in tasks(of="picture"):
        first, again = (row(task, Picture(picture), seed, index, member=start % 99) for _ in range(2))
        assert torch.equal(first, again)
    assert torch.equal(picture, before)


@lawful
@given(seed=seeds)
def test_geometric_tasks_only_move_pixels(seed: int) -> None:
    """Mirror and upend are their own inverse, four quarters are a full turn."""
    image = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(mirror(mirror(image)), image) and torch.equal(upend(upend(image)), image)
    assert torch.equal(rotate(rotate(rotate(rotate(image)))), image)
    assert torch.equal(rotate(image, 2), mirror(upend(image)))


@lawful
@given(seed=seeds, index=st.integers(0, 10**9), pairs=st.integers(1, 4))
def test_a_sentence_is_of_one_task_and_repeats_no_pair(seed: int, index: int, pairs: int) -> None:
    """Every pair of a sentence is a row of one task, each once; the same again for the same index."""
    layout = Layout(codes=1000, tokens=4)
    rows = {task.name: Rows.every((100 * number + torch.arange(6)[:, None]).repeat(1, 8))
            for number, task in enumerate(TASKS[:5])}  # fmt: skip
    order = Order(rows=pairs, query=1.0, spoil=0.0, untold=1.0, length=layout.length(2 * pairs))
    source = Sentences(rows, np.full(5, 0.2), layout, order, seed)
    sample = source[index]
    assert torch.equal(sample.ids, source[index].ids) and torch.equal(sample.ids, sample.seen)
    images = layout.images(sample.ids)
    assert images.shape == (2 * pairs, 4)
    assert len(set((images // 100).flatten().tolist())) == 1
    assert len(set(images[::2, 0].tolist())) == pairs and torch.equal(images[::2], images[1::2])


@lawful
@given(seed=seeds, index=st.integers(0, 10**9), length=st.integers(20, 200), boundary=st.booleans())
def test_contexts_are_whole_sentences_and_padding(seed: int, index: int, length: int, boundary: bool) -> None:
    """However long: what stands between two BOS parses, and nothing but padding is left over."""
    layout = Layout(codes=1000, tokens=3, boundary=boundary)
    rows = {task.name: Rows.every((100 * number + torch.arange(9)[:, None]).repeat(1, 6))
            for number, task in enumerate(TASKS[:5])}  # fmt: skip
    order = Order(rows=2, query=1.0, spoil=0.5, untold=1.0, length=length)
    sample = Sentences(rows, np.full(5, 0.2), layout, order, seed)[index]
    assert all(part.shape == (length,) for part in sample)
    for number in sample.sentences.unique().tolist():
        ids = sample.ids[sample.sentences == number]
        assert len(layout.images(ids)) == 4 if ids[0] == layout.bos else (ids == layout.pad).all()
    assert int((sample.ids == layout.pad).sum()) < layout.length(4)
