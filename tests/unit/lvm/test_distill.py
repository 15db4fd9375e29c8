"""Distillation: the divergence by its definition, none from oneself, and a student that comes nearer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lvm.data import SentencesConfig
from lvm.distill import DistillLossConfig, Student, TrainConfig, divergence, train
from lvm.lessons import lessons
from lvm.model import LVM
from lvm.sentences import Sample
from lvm.train import losses
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.storage.tensors import read_tensors
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig


@pytest.fixture
def data(two_tasks: Path) -> SentencesConfig:
    """Of two tasks, two pairs a sentence, of which one or two fit in a context."""
    return SentencesConfig(shards=two_tasks, held_out=3, pairs=2, batch=4, query_weight=0.5)


@pytest.fixture
def config(data: SentencesConfig, lvm_folder: Path, tmp_path: Path) -> TrainConfig:
    """A narrower student, thirty steps."""
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "run", log_steps=10, trackers=()), teacher=str(lvm_folder), data=data,
        gpt=GPTConfig(vocab=35, length=130, width=8, depth=1, heads=2), optim=OptimConfig(),
        lr=LRConfig(peak=3e-2, warmup_steps=1, steps=30), average=0.5, eval_steps=30, save_steps=10,
    )  # fmt: skip


@pytest.fixture
def sample(model: LVM, data: SentencesConfig) -> Sample:
    """A batch of three contexts."""
    source = lessons(data, model, "mine", 130, seed=0).source
    return Sample(*(torch.stack(column) for column in zip(*(source[i] for i in range(3)), strict=True)))


def untrained(config: GPTConfig) -> GPT:
    """The same every time."""
    torch.manual_seed(3)
    return GPT(config)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_torchs(temperature: float):
    """That of `kl_div` from the teacher's odds to the student's, both softened; it is never below 0."""
    student, teacher = torch.randn(2, 50, 9, generator=torch.Generator().manual_seed(0)) * 5
    q, p = (F.log_softmax(scores / temperature, dim=1) for scores in (student, teacher))
    found = divergence(student, teacher, temperature)
    torch.testing.assert_close(found, F.kl_div(q, p, reduction="none", log_target=True).sum(1))
    assert found.min() >= 0


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it(model: LVM, sample: Sample):
    """Its divergence is zero and has no gradient; nats remain, and are those of plain training.

    To the rounding of float32: what has a backward of its own computes its forward in another order.
    """
    gpt = GPT(model.config.gpt)
    gpt.load_state_dict(model.gpt.state_dict())
    nats, apart = Student(gpt, DistillLossConfig())(sample, model.gpt)
    assert apart.abs().max() < 1e-6
    apart.sum().backward(retain_graph=True)
    assert max(float(weight.grad.abs().max()) for weight in gpt.parameters()) < 1e-4
    torch.testing.assert_close(nats, losses(gpt, sample)[0])


@pytest.mark.parametrize("rows", [7, 10_000])
def test_chunks_change_nothing(model: LVM, sample: Sample, rows: int):
    """Terms and gradients are those of all scores at once, for chunks that divide nothing evenly."""
    plain, chunked = (untrained(model.config.gpt) for _ in range(2))
    where = sample.weights[:, 1:] > 0
    seen = {"where": where, "documents": sample.sentences[:, :-1]}
    scores, wanted = (gpt(sample.seen[:, :-1], **seen) for gpt in (plain, model.gpt))
    truth = (
        F.cross_entropy(scores, sample.ids[:, 1:][where], reduction="none"),
        divergence(scores, wanted.detach()),
    )
    found = Student(chunked, DistillLossConfig(rows=rows))(sample, model.gpt)
    for one, other in zip(found, truth, strict=True):
        torch.testing.assert_close(one, other)
    sum(truth).mean().backward()
    sum(found).mean().backward()
    for one, other in zip(chunked.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert all(weight.grad is None for weight in model.gpt.parameters())


def test_a_student_comes_nearer_to_its_teacher(config: TrainConfig, model: LVM, sample: Sample):
    """Learning from it alone; what is saved has its tokenizer, its layout and the student's shape."""
    config = replace(config, loss=DistillLossConfig(hard=0.0))
    train(config)
    folder = config.run.folder
    found = LVM.from_pretrained(folder / "model")
    assert found.config == replace(model.config, gpt=config.gpt, trained=found.config.trained)
    assert found.config.trained
    for name, tensor in model.tokenizer.state_dict().items():
        assert torch.equal(found.tokenizer.state_dict()[name], tensor)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    apart = [row["divergence"] for row in rows if "divergence" in row]
    assert len(apart) == 3 and apart[-1] < 0.9 * apart[0]
    assert "teacher/loss" in rows[0] and "validation/loss" in rows[-1]
    with torch.no_grad():
        far, near = (Student(gpt, config.loss)(sample, model.gpt)[1].mean()
                     for gpt in (untrained(config.gpt), found.gpt))  # fmt: skip
    assert near < 0.9 * far
    checkpoint = sorted((folder / "checkpoints").iterdir())[-1]
    names = read_tensors(checkpoint / "model-0.safetensors")
    assert sum(name.endswith("embed.weight") for name in names) == 1  # the teacher's is not in it


def test_the_softer_the_odds_the_more_the_divergence_is_scaled(config: TrainConfig):
    """The loss is hard nats + soft T^2 divergence, as recorded."""
    lr = replace(config.lr, steps=2)
    config = replace(config, lr=lr, loss=DistillLossConfig(hard=0.5, soft=2.0, temperature=3.0))
    train(replace(config, data=replace(config.data, query_weight=1.0)))
    row = json.loads((config.run.folder / "metrics.jsonl").read_text().splitlines()[1])
    assert row["loss"] == pytest.approx(0.5 * row["nats"] + 2 * 9 * row["divergence"], rel=1e-4)


def test_a_student_that_cannot_be_is_refused(config: TrainConfig):
    """Another vocabulary, contexts that the teacher cannot read, another tokenizer: before training."""
    cases = {
        r"gpt\.vocab is 36": replace(config, gpt=replace(config.gpt, vocab=36)),
        "contexts of 131 tokens do not fit": replace(config, gpt=replace(config.gpt, length=131)),
        "brings its own": replace(config, data=replace(config.data, tokenizer="theirs")),
    }
    for told, wrong in cases.items():
        with pytest.raises(ValueError, match=told):
            train(wrong)
    assert not (config.run.folder / "checkpoints").exists()


@pytest.mark.parametrize(
    "setting", [{"hard": -1.0}, {"hard": 0.0, "soft": 0.0}, {"temperature": 0.0}, {"rows": 0}]
)
def test_senseless_settings_are_refused(setting: dict):
    """With the setting's name and what makes sense."""
    with pytest.raises(ValueError, match=[*setting][0]):
        DistillLossConfig(**setting)
