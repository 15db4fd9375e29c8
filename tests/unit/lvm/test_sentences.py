"""Sentences: whole, of one task and member, packed apart from one another, with errors on purpose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lvm.forms import PAIRS, SINGLE, Form, annotated, groups, modalities, sequence
from lvm.layout import Layout
from lvm.sentences import BLOCK, Mixture, Order, Rows, Sample, Sentences, member_of, rows_of
from lvm.train import losses
from vqtok.data.shards import Shards, write_shard
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT

CODES, TOKENS = 6000, 3
FORMS = {"pairs": PAIRS, "single": SINGLE, "film": sequence(5), "masks": annotated(2),
         "alike": groups(3, rows=2), "styles": modalities(3, rows=2)}  # fmt: skip


@pytest.fixture
def layout() -> Layout:
    """Three tokens an image."""
    return Layout(CODES, TOKENS)


def numbered(task: int = 0, count: int = 40, **options: object) -> Rows:
    """Rows of one task, each token of an image naming it: 1000 task + 10 row + place in the row."""
    form = options.get("form", PAIRS)
    names = 1000 * task + 10 * torch.arange(count)[:, None] + torch.arange(form.images)
    return Rows.every(names.repeat_interleave(TOKENS, dim=1), **options)


def mixed(count: int = 40) -> dict[str, Rows]:
    """A task of each form."""
    return {name: numbered(task, count, form=form) for task, (name, form) in enumerate(FORMS.items())}


def sentences(
    tasks: dict[str, Rows], layout: Layout, seed: int = 0, shares: list[float] | None = None, **order: object
) -> Sentences:
    """Of three rows, in contexts of 60 tokens, tasks alike, unless told."""
    shares = np.array(shares or [1 / len(tasks)] * len(tasks))
    usual = {"rows": 3, "query": 1.0, "spoil": 0.0, "untold": 1.0, "length": 60}
    return Sentences(tasks, shares, layout, Order(**usual | order), seed)


def parts(sample: Sample, layout: Layout) -> list[Sample]:
    """The sentences of a context, without padding."""
    apart = [Sample(*(part[sample.sentences == number] for part in sample))
             for number in sample.sentences.unique().tolist()]  # fmt: skip
    return [part for part in apart if part.ids[0] != layout.pad]


def names(sample: Sample, layout: Layout) -> list[int]:
    """What the images of one sentence are called."""
    images = layout.images(sample.ids)
    assert (images == images[:, :1]).all()
    return images[:, 0].tolist()


def test_contexts_are_a_function_of_seed_and_index(layout: Layout):
    """Read in any order, from sources made anew; another seed is another order."""
    first, again, other = (sentences(mixed(), layout, seed, spoil=0.3) for seed in (0, 0, 1))
    expected = [first[index] for index in range(8)]
    for index in reversed(range(8)):
        assert all(torch.equal(one, two) for one, two in zip(again[index], expected[index], strict=True))
    assert not all(torch.equal(other[index].ids, expected[index].ids) for index in range(8))


@pytest.mark.parametrize("boundary", [False, True])
def test_an_image_is_never_cut(boundary: bool):
    """Contexts are full of whole sentences: each parses, has rows of one task, in its form, none twice."""
    layout, seen = Layout(CODES, TOKENS, boundary), set()
    source = sentences(mixed(), layout, length=70)
    for index in range(60):
        context = source[index]
        assert all(part.shape == (70,) for part in context)
        for sentence in parts(context, layout):
            assert sentence.ids[0] == layout.bos and sentence.ids[-1] == layout.eos
            found = names(sentence, layout)
            task, form = found[0] // 1000, [*FORMS.values()][found[0] // 1000]
            assert (sentence.tasks == task).all() and {name // 1000 for name in found} == {task}
            rows = [name % 1000 // 10 for name in found]
            assert len(found) == len(set(rows)) * form.images and len(set(found)) == len(found)
            assert form.rows in (None, len(set(rows)))
            seen.add((task, len(set(rows))))
    assert {task for task, _ in seen} == set(range(6)) and {
        (0, 2),
        (0, 3),
    } <= seen  # pairs fill up what is left


def test_sentences_of_a_context_are_numbered(layout: Layout):
    """From 0 by their order, and what is left after the last is padding with a number of its own."""
    source, left, most = sentences(mixed(), layout), 0, 0
    for index in range(30):
        context = source[index]
        assert context.sentences[0] == 0 and set(context.sentences.diff().tolist()) <= {0, 1}
        begins = (context.ids == layout.bos).nonzero().flatten()
        assert context.sentences[begins].tolist() == [*range(len(begins))]
        padding = context.ids == layout.pad
        assert not context.weights[padding].any()
        assert (context.sentences[padding] == len(begins)).all()
        left, most = left + int(padding.sum()), max(most, len(begins))
    assert most >= 3 and 0 < left < 30 * layout.length(1)


@torch.no_grad()
def test_packed_sentences_do_not_see_each_other(layout: Layout):
    """Nats in company are those alone, positions from 0; a changed token changes its own sentence only."""
    gpt = GPT(GPTConfig(vocab=layout.vocab, length=60, width=16, depth=2, heads=2, period=2 * TOKENS)).eval()
    gpt.embed.weight.normal_(std=0.5), gpt.head.weight.normal_(std=0.5)
    context = next(
        one for one in map(sentences(mixed(), layout).__getitem__, range(20)) if one.sentences[-1] > 1
    )
    batch = Sample(*(part[None] for part in context))
    nats, documents = losses(gpt, batch)[0], context.sentences[1:][context.weights[1:] > 0]
    for number, sentence in enumerate(parts(context, layout)):
        alone = losses(gpt, Sample(*(part[None] for part in sentence)))[0]
        torch.testing.assert_close(nats[documents == number], alone, atol=1e-5, rtol=0)  # other sums, float32
    place = int((context.sentences == 1).nonzero()[3])
    changed = batch.seen.clone()
    changed[0, place] = (changed[0, place] + 7) % CODES
    moved = losses(gpt, batch._replace(seen=changed))[0]
    assert torch.equal(moved[documents != 1], nats[documents != 1])
    assert not torch.equal(moved[documents == 1], nats[documents == 1])


@torch.no_grad()
def test_padding_weighs_nothing(layout: Layout):
    """Other ids where it stands change no nats, in a context of one sentence and of several."""
    gpt = GPT(GPTConfig(vocab=layout.vocab, length=60, width=16, depth=1, heads=2)).eval()
    for tasks in ({"pairs": numbered()}, mixed()):
        context = next(one for one in map(sentences(tasks, layout, length=59).__getitem__, range(20))
                       if (one.ids == layout.pad).any())  # fmt: skip
        batch = Sample(*(part[None] for part in context))
        padding = batch.ids == layout.pad
        other = batch._replace(ids=batch.ids.masked_fill(padding, 5), seen=batch.seen.masked_fill(padding, 5))
        assert torch.equal(losses(gpt, other)[0], losses(gpt, batch)[0])


def test_weights_follow_the_form(layout: Layout):
    """What a form asks for counts 1, what it gives `query`, EOS 1, BOS nothing."""
    source = sentences(mixed(), layout, query=0.25)
    for index in range(20):
        for sentence in parts(source[index], layout):
            form, count = [*FORMS.values()][int(sentence.tasks[0])], len(names(sentence, layout))
            given = count // form.images * form.given
            assert sentence.weights[0] == 0 and sentence.weights[-1] == 1
            assert (sentence.weights[1:-1] == 0.25).sum() == given * TOKENS
            assert sentence.weights.sum() == (0.25 * given + count - given) * TOKENS + 1


def test_frames_keep_their_order_and_views_share_theirs(layout: Layout):
    """A film runs forward; masks follow all frames or each its own; views have one order in all rows."""
    found: dict[str, set[tuple[int, ...]]] = {name: set() for name in FORMS}
    source = sentences(mixed(), layout)
    for index in range(150):
        for sentence in parts(source[index], layout):
            name = source.names[int(sentence.tasks[0])]
            places = tuple(one % 10 for one in names(sentence, layout))
            width = FORMS[name].images
            assert len({places[start : start + width] for start in range(0, len(places), width)}) == 1
            found[name].add(places[:width])
    assert found["film"] == {(0, 1, 2, 3, 4)} and found["alike"] == {(0, 1, 2)} and found["pairs"] == {(0, 1)}
    assert found["masks"] == {(0, 1, 2, 3), (0, 2, 1, 3)}
    assert len(found["styles"]) == 6


def test_no_sentence_shows_a_picture_twice(layout: Layout):
    """Twelve rows of four pictures: any two of a sentence are of different ones."""
    source = sentences({"mirror": numbered(count=12, pictures=4)}, layout)
    for index in range(50):
        for sentence in parts(source[index], layout):
            shown = [name // 10 % 4 for name in names(sentence, layout)[::2]]
            assert len(set(shown)) == len(shown)


def test_a_sentence_is_of_one_member(layout: Layout):
    """Its rows have the same parameters, whichever; members with too few pictures are passed by."""
    count = 4 * BLOCK + 2  # of member 4 there are two rows
    rows = numbered(count=count, members=5)
    seen = set()
    for index in range(60):
        for sentence in parts(sentences({"recolor": rows}, layout, length=layout.length(6))[index], layout):
            members = {int(member_of(name // 10, 5)) for name in names(sentence, layout)}
            assert len(members) == 1
            seen |= members
    assert seen == {0, 1, 2, 3}
    assert [int(member_of(row, 5)) for row in (0, 7, 8, 39, 40)] == [0, 0, 1, 4, 0]


@pytest.mark.parametrize(("untold", "least", "most"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 200, 200)])
def test_tasks_are_told_by_their_ids(untold: float, least: int, most: int):
    """A share of sentences begins with the id for a task that is not told, the others with their own's."""
    layout = Layout(CODES, TOKENS, tasks=tuple(FORMS))
    source, counts = sentences(mixed(), layout, untold=untold), []
    for index in range(100):
        for sentence in parts(source[index], layout)[:2]:
            quiet = layout.begin()[1]
            own = layout.begin(source.names[int(sentence.tasks[0])])[1]
            assert sentence.ids[1] in (quiet, own) and torch.equal(sentence.seen[:2], sentence.ids[:2])
            assert not sentence.weights[:2].any()
            counts.append(bool(sentence.ids[1] == quiet))
    assert least <= sum(counts[:200]) <= most


def test_what_the_model_sees_has_errors_in_what_is_asked_for(layout: Layout):
    """Never in queries, tokens of the same sentence, from none up to the share asked for."""
    tasks = {"mirror": numbered()}
    source, shares = sentences(tasks, layout, spoil=0.5, length=layout.length(6)), []
    for index in range(100):
        context = source[index]
        ids, seen = layout.images(context.ids), layout.images(context.seen)  # (6, t)
        assert torch.equal(ids[::2], seen[::2]) and torch.isin(seen, ids).all()
        shares.append(float((ids != seen)[1::2].float().mean()))
    assert min(shares) < 0.1 and 0.3 < max(shares) < 0.9 and 0.1 < sum(shares) / 100 < 0.25
    plain = sentences(tasks, layout)
    assert all(torch.equal(plain[index].ids, plain[index].seen) for index in range(20))


def test_tasks_come_by_their_shares(layout: Layout):
    """One of share 0 never comes and has no number; the others begin contexts as often as asked for."""
    tasks = {name: numbered(task) for task, name in enumerate(("often", "never", "seldom"))}
    source = sentences(tasks, layout, shares=[0.75, 0.0, 0.25], length=layout.length(6))
    assert source.names == ["often", "seldom"]
    first = torch.stack([source[index].tasks[0] for index in range(800)])
    # Three standard errors of a share of a quarter among 800.
    assert float((first == 1).float().mean()) == pytest.approx(0.25, abs=0.046)
    assert set(first.tolist()) == {0, 1} and source[0].ids[1] // 1000 in (0, 2)


def test_mixtures():
    """Weights are the library's unless named here; rows and temperature change shares as they say."""
    tasks = {"mirror": numbered(count=30), "own": numbered(count=10)}
    usual = {"mirror": 3.0, "tint": 9.0}

    def shares(**options: object) -> list[float]:
        return Mixture(**options).shares(tasks, usual).tolist()

    assert shares() == pytest.approx([0.75, 0.25])
    assert shares(weights={"own": 9.0}) == pytest.approx([0.25, 0.75])
    assert shares(weights={"mirror": 0.0}, temperature=7.0) == [0.0, 1.0]
    assert shares(by_rows=True) == pytest.approx([0.9, 0.1])
    assert shares(by_rows=True, temperature=2.0) == pytest.approx(
        [0.75, 0.25]
    )  # 0.9 and 0.1 to the power 1/2
    assert shares(temperature=1e9) == pytest.approx([0.5, 0.5])


def test_senseless_mixtures_are_refused():
    """With what there is to choose from."""
    tasks = {"mirror": numbered(), "own": numbered()}
    with pytest.raises(
        ValueError, match="mixture.weights names 'mirorr', the shards have mirror, own: choose"
    ):
        Mixture(weights={"mirorr": 1.0}).shares(tasks, {})
    with pytest.raises(ValueError, match="mixture.weights leaves no task: give one of them"):
        Mixture(weights={"mirror": 0.0, "own": 0.0}).shares(tasks, {})
    with pytest.raises(ValueError, match=r"mixture.weights has -1.0 for 'own': give 0 or more"):
        Mixture(weights={"own": -1.0})
    for temperature in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="mixture.temperature .* is outside"):
            Mixture(temperature=temperature)


def test_what_does_not_fit_is_refused(layout: Layout):
    """A sentence longer than the context says how many rows fit, and what can be done about it."""
    told = (
        "a sentence of 3 rows of task 'mirror' has 20 tokens, the context holds 19, room for 2 rows: "
        "lower data.pairs, or raise gpt.length"
    )
    with pytest.raises(ValueError, match=told):
        sentences({"mirror": numbered()}, layout, length=19)
    told = (
        "2 rows of task 'alike' has 20 tokens, .* 1 rows: leave the task out by a weight of 0 in data.mixture"
    )
    with pytest.raises(ValueError, match=told):
        sentences({"alike": numbered(form=FORMS["alike"])}, layout, length=19)
    both = {"alike": numbered(form=groups(4, rows=2)), "mirror": numbered()}
    left_out = sentences(both, layout, shares=[0.0, 1.0], length=20)
    assert left_out.names == ["mirror"]


def test_too_few_rows_are_refused(layout: Layout):
    """With the task, what it has and what a sentence needs."""
    scattered = replace(numbered(count=10, members=5), which=np.arange(10) * BLOCK)
    cases = {"2 rows of 2 pictures": numbered(count=2), "9 rows of 2 pictures": numbered(count=9, pictures=2),
             "10 rows of 10 pictures, of 5 members": scattered}  # fmt: skip
    for told, rows in cases.items():
        with pytest.raises(ValueError, match=f"'mirror' has {told} to train on, a sentence needs 3 of each"):
            sentences({"mirror": rows}, layout)


def shard(folder: Path, first: int, rows: int = 2, **facts: object) -> None:
    """As `vqtok encode` writes it."""
    usual = {
        "task": "mirror",
        "pictures": 3,
        "first": first,
        "rows": rows,
        "form": PAIRS.facts(),
        "members": 4,
    }
    kept = {name: fact for name, fact in (usual | facts).items() if fact != "absent"}
    write_shard(folder / f"{first:05}", torch.zeros(rows, 32, dtype=torch.int64), 32, kept)


def test_shards_say_how_rows_make_sentences(tmp_path: Path):
    """The form, the members and the pictures come from their facts."""
    form = replace(annotated(1), name="mine")
    shard(tmp_path, 0, form=form.facts())
    shard(tmp_path, 2, form=form.facts())
    rows = rows_of(Shards(tmp_path))
    assert rows.form == form and rows.members == 4 and rows.pictures.tolist() == [0, 1, 2, 0]
    assert isinstance(rows.form, Form) and len(rows) == 4


def test_a_missing_shard_is_refused(tmp_path: Path):
    """Rows would be taken for those of other pictures; the message says which are missing."""
    shard(tmp_path, 0)
    shard(tmp_path, 4)
    with pytest.raises(ValueError, match="rows 2 to 3 are missing before .*00004"):
        rows_of(Shards(tmp_path))


def test_shards_of_another_kind_are_refused(tmp_path: Path):
    """Those that do not say what their rows are, by what they lack."""
    shard(tmp_path, 0, form="absent", members="absent")
    with pytest.raises(ValueError, match="00000 does not say its form, members: encode again"):
        rows_of(Shards(tmp_path))
