"""Laws of sentences of pictures and of the pairs they are made of, over seeds and shapes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm.layout import Layout
from lvm.sentences import Sentences, TaskPairs
from lvm.tasks import TASKS, Picture, pair, tasks
from vqtok.data.views import mirror, rotate, upend

lawful = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
layouts = st.builds(Layout, codes=st.integers(1, 5000), tokens=st.integers(1, 20))


def codes_of(layout: Layout, images: int, seed: int) -> torch.Tensor:
    """(images, tokens) random codes."""
    return torch.randint(layout.codes, (images, layout.tokens), generator=torch.Generator().manual_seed(seed))


@lawful
@given(layout=layouts, images=st.integers(0, 9), padding=st.integers(0, 5), seed=seeds)
def test_parse_of_build_is_the_same(layout: Layout, images: int, padding: int, seed: int) -> None:
    """The images of a sentence are those it was built of, padded or not."""
    codes = codes_of(layout, images, seed)
    sentence = torch.cat([layout.sentence(codes), torch.full((padding,), layout.pad)])
    assert torch.equal(layout.images(sentence), codes)


@lawful
@given(layout=layouts)
def test_specials_are_never_codes(layout: Layout) -> None:
    """The vocabulary is the codes and, apart from them, three distinct special ids."""
    specials = {layout.bos, layout.eos, layout.pad}
    assert len(specials) == 3 and all(layout.codes <= special < layout.vocab for special in specials)
    assert int(layout.drawable.sum()) == layout.codes and not layout.drawable[[*specials]].any()


@lawful
@given(layout=layouts, pairs=st.integers(1, 5), query=st.floats(0, 1), seed=seeds)
def test_weights_have_a_place_for_every_target(layout: Layout, pairs: int, query: float, seed: int) -> None:
    """As many weights as targets, and queries and answers swap places without changing the sum."""
    sentence = layout.sentence(codes_of(layout, 2 * pairs, seed))
    weights = layout.weights(2 * pairs, query)
    assert len(weights) == len(sentence) - 1
    expected = pairs * layout.tokens * (1 + query) + 1
    torch.testing.assert_close(weights.double().sum().item(), expected, rtol=1e-5, atol=0)


@lawful
@given(seed=seeds, index=st.integers(0, 10**9), start=seeds)
def test_pairs_are_pure(seed: int, index: int, start: int) -> None:
    """A pair depends on source, seed and index only, and its task leaves the source as it was."""
    picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(start))
    before = picture.clone()
    for task in tasks(drawn=False):
        first, again = (pair(task, Picture(picture), seed, index) for _ in range(2))
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
    names = [task.name for task in TASKS[:5]]
    rows = {name: (first + torch.zeros(1, 8, dtype=torch.int64)) for name, first in
              ((name, 100 * number + torch.arange(6)[:, None]) for number, name in enumerate(names))}
    source = Sentences({name: TaskPairs.every(held) for name, held in rows.items()}, layout, pairs, seed)
    sentence, seen = source[index]
    assert torch.equal(sentence, source[index][0]) and torch.equal(sentence, seen)
    images = layout.images(sentence)
    assert images.shape == (2 * pairs, 4)
    assert len(set((images // 100).flatten().tolist())) == 1
    assert len(set(images[::2, 0].tolist())) == pairs and torch.equal(images[::2], images[1::2])
