"""Which id means what in a sentence of pictures."""

import pytest
import torch

from lvm.layout import BareConfig, BareLayout, Layout, MarkedConfig


def test_special_ids_are_above_all_codes(layout: Layout):
    """Codes keep the tokenizer's ids; BOS, EOS and PAD are three other ids, and none may be drawn."""
    specials = {layout.bos, layout.eos, layout.pad}
    assert specials == {32, 33, 34} and layout.vocab == 35
    assert layout.drawable.nonzero().flatten().tolist() == list(range(32))


def test_a_sentence_begins_ends_and_has_its_length(layout: Layout):
    """BOS, every image whole, EOS; `length` counts all of them."""
    images = torch.randint(32, (4, 16))
    sentence = layout.sentence(images)
    assert sentence[0] == layout.bos and sentence[-1] == layout.eos
    assert len(sentence) == layout.length(4) == 66
    assert torch.equal(sentence[1:-1], images.flatten())


def test_a_prompt_is_a_sentence_before_its_answer(layout: Layout):
    """What a model is asked to go on with is exactly what it was trained to go on with."""
    images = torch.randint(32, (2, 4, 16))
    for prompt, whole in zip(layout.prompt(images[:, :3]), images, strict=True):
        assert torch.equal(prompt, layout.sentence(whole)[: 1 + 3 * 16])


@pytest.fixture
def marked() -> Layout:
    """Three tokens an image, an id before every image, and ids of two tasks."""
    return MarkedConfig(boundary=True, tasks=("invert", "mirror")).build(codes=32, tokens=3)


def test_weights_stand_on_what_is_asked_for(layout: Layout, marked: Layout):
    """One weight an id: asked for 1, others `query`, EOS 1, so that the end is learned; what is told, 0."""
    weights = layout.weights([False, True, True], query=0.25)
    assert len(weights) == layout.length(3)
    assert weights.tolist() == [0.0] + [0.25] * 16 + [1.0] * 32 + [1.0]
    assert marked.weights([True, False], query=0.5).tolist() == [0, 0, 0, 1, 1, 1, 0, 0.5, 0.5, 0.5, 1]


def test_a_sentence_with_boundaries_says_its_task(marked: Layout):
    """BOS, the task or that it is not told, NEXT before every image, EOS; a prompt ends with NEXT."""
    assert (marked.next, marked.vocab, marked.lead, marked.stride) == (35, 39, 2, 4)
    images = torch.tensor([[1, 2, 3], [4, 5, 6]])
    untold, invert, mirror = 36, 37, 38
    for task, number in ((None, untold), ("invert", invert), ("mirror", mirror)):
        expected = [32, number, 35, 1, 2, 3, 35, 4, 5, 6, 33]
        assert marked.sentence(images, task).tolist() == expected
        assert marked.telling(task).prompt(images[None, :1]).tolist() == [expected[:7]]
        assert torch.equal(marked.images(marked.sentence(images, task)), images)
    assert marked.prompt(images[None, :0]).tolist() == [[32, untold, 35]]
    assert marked.length(2) == 11 and [marked.fitting(length) for length in (0, 6, 7, 11)] == [0, 0, 1, 2]


def test_ids_that_are_not_there_are_refused(layout: Layout, marked: Layout, bare: BareLayout):
    """A task without an id, by the names there are; and NEXT where images have none."""
    with pytest.raises(ValueError, match="task 'tint' has no id: choose one of invert, mirror, or none"):
        marked.begin("tint")
    with pytest.raises(ValueError, match="task 'tint' cannot be told: this model was trained without"):
        layout.begin("tint")
    with pytest.raises(ValueError, match="task 'tint' cannot be told: a bare layout has images alone"):
        bare.begin("tint")
    with pytest.raises(AttributeError, match="build it with boundary=True"):
        _ = layout.next
    with pytest.raises(ValueError, match="layout.tasks names one twice: tint, tint"):
        MarkedConfig(tasks=("tint", "tint"))


def test_an_image_without_its_boundary_is_refused(marked: Layout):
    """Wherever NEXT is missing, or another id stands for it."""
    sentence = marked.sentence(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    other = sentence.clone()
    other[6] = marked.eos
    without = sentence[sentence != marked.next]
    for broken in (other, without, torch.cat([sentence[:6], sentence[7:]]), sentence[3:]):
        with pytest.raises(ValueError, match="an image lacks the id that stands before it"):
            marked.images(broken)
    assert torch.equal(marked.images(sentence[2:]), marked.images(sentence))


def test_ids_that_are_no_codes_are_refused(layout: Layout):
    """And images of another size, by what is expected."""
    with pytest.raises(ValueError, match="id 32 is no code, they end at 31: encode with this model's"):
        layout.sentence(torch.full((1, 16), 32))
    with pytest.raises(ValueError, match="images of 15 tokens meet a layout of 16: an image is never cut"):
        layout.prompt(torch.zeros(1, 2, 15, dtype=torch.int64))


@pytest.mark.parametrize(("cut", "message"), [(1, "16 codes"), (5, "codes are no whole number")])
def test_a_cut_sentence_is_refused_or_whole(layout: Layout, cut: int, message: str):
    """Without EOS a sentence still parses; with an image cut it does not, and the message says so."""
    sentence = layout.sentence(torch.randint(32, (2, 16)))[:-cut]
    if cut == 1:
        assert layout.images(sentence).shape == (2, 16)
    else:
        with pytest.raises(ValueError, match=message):
            layout.images(sentence)


@pytest.mark.parametrize("special", ["bos", "eos", "pad"])
@pytest.mark.parametrize("place", [5, 17, 20])
def test_a_special_id_among_codes_is_refused(layout: Layout, special: str, place: int):
    """Wherever it stands before the last code, and though the codes left over make whole images."""
    sentence = layout.sentence(torch.randint(32, (2, 16)))
    broken = torch.cat([sentence[:place], torch.tensor([getattr(layout, special)]), sentence[place:]])
    with pytest.raises(ValueError, match=f"special id {getattr(layout, special)} stands among the codes"):
        layout.images(broken)


@pytest.fixture
def bare() -> BareLayout:
    """As the published model is asked, over the tiny model's codes."""
    return BareConfig().build(codes=32, tokens=16)


def test_a_bare_sentence_is_its_images(bare: BareLayout):
    """No id stands before, between or after whole images, and they come back."""
    images = torch.randint(32, (2, 4, 16))
    assert torch.equal(bare.prompt(images), images.flatten(1))
    assert torch.equal(bare.sentence(images[0]), images[0].flatten())
    assert bare.length(4) == 64 and torch.equal(bare.images(bare.sentence(images[0])), images[0])


def test_a_bare_vocabulary_has_ids_that_are_never_drawn(bare: BareLayout):
    """100 ids lie above the codes; none of them may stand in an image, nor is one a mark."""
    assert bare.vocab == 132 and bare.drawable.nonzero().flatten().tolist() == list(range(32))
    for name in ("bos", "eos", "pad"):
        with pytest.raises(AttributeError, match=f"a bare layout has no {name}"):
            getattr(bare, name)
    with pytest.raises(ValueError, match="special id 131 stands among the codes"):
        bare.images(torch.tensor([131, *range(16)]))
    with pytest.raises(ValueError, match="15 codes are no whole number of images"):
        bare.images(torch.arange(15))


def test_bare_weights_are_those_of_images(bare: BareLayout):
    """No EOS is there to be learned."""
    weights = bare.weights([False, True] * 2, query=0.25)
    assert weights.tolist() == [0.25] * 16 + [1.0] * 16 + [0.25] * 16 + [1.0] * 16


def test_layouts_are_built(layout: Layout):
    """Each configuration makes its layout; a count below zero is refused."""
    assert MarkedConfig().build(32, 16) == layout
    assert BareConfig(reserved=0).build(32, 16).vocab == 32
    with pytest.raises(ValueError, match="reserved -1 is below 0"):
        BareConfig(reserved=-1)
