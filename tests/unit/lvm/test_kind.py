"""The judge of kinds: it learns, it comes back from its folder, and it accepts every name that fits."""

from pathlib import Path

import pytest
import torch

from lvm.kind import KindClassifier, KindConfig, Pairs, PairsConfig, TrainConfig, coarse, fitting, train
from lvm.origins import Picture
from lvm.tasks import PAIR_TASKS, row, task
from vqtok.data.emoji import load_emoji
from vqtok.data.scenes import alone
from vqtok.training.optim import OptimConfig
from vqtok.training.run import RunConfig
from vqtok.training.schedule import LRConfig


def test_it_scores_every_task_at_any_size():
    """One score a task; the names are those of the best scores; it is small."""
    judge = KindClassifier(KindConfig()).eval()
    x, y = torch.rand(2, 5, 3, 64, 64)
    scores = judge(x, y)
    assert scores.shape == (5, len(PAIR_TASKS))
    assert judge(x[..., :32, :32], y[..., :32, :32]).shape == scores.shape
    assert judge.names(x, y, batch=2) == [PAIR_TASKS[best].name for best in scores.argmax(1)]
    assert sum(parameter.numel() for parameter in judge.parameters()) < 400_000


def test_training_pairs_are_a_function_of_seed_and_index():
    """Real pairs of train names with their task's number; some y's are made coarse, some are to be coded."""
    first, again = (Pairs(KindConfig().tasks, seed=0) for _ in range(2))
    samples = [first[index] for index in range(60)]
    for index in (0, 31):
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b))
                   for a, b in zip(samples[index], again[index], strict=True))
    assert {label for _, _, label, _, _ in samples} <= set(range(len(PAIR_TASKS)))
    assert 0 < sum(coded_y for *_, coded_y in samples) < 60 > sum(coded_x for *_, coded_x, _ in samples) > 0
    with pytest.raises(ValueError, match="kind.tasks has 'mirorr': choose of shaded to flat"):
        Pairs(("mirorr",), seed=0)


def test_coarse_pictures_keep_their_means():
    """Reducing and enlarging blurs: the contrast falls, the brightness stays."""
    image = torch.rand(3, 64, 64)
    soft = coarse(image, 24)
    assert soft.shape == image.shape and soft.std() < 0.6 * image.std()
    torch.testing.assert_close(soft.mean(), image.mean(), atol=0.01, rtol=0)


def test_its_own_name_always_fits():
    """And what fits asks for a picture within 24 dB of the right one."""
    source = alone(load_emoji("validation")[5])
    for one in PAIR_TASKS:
        assert one.name in fitting(one, source, row(one, source, 0, 0))


def test_a_line_drawing_is_one_whatever_it_came_from():
    """From shaded or from flat, and a mask with noise or without: both names fit."""
    source = alone(load_emoji("validation")[5])
    for name, other in (("shaded to line", "flat to line"), ("noisy to mask", "shaded to mask")):
        assert fitting(task(name), source, row(task(name), source, 0, 0)) == {name, other}


def test_symmetric_pictures_fit_every_view():
    """A picture that is the same mirrored, turned and upended cannot tell these apart; others can."""
    x = torch.rand(3, 64, 64)
    x = sum(torch.rot90(image, turns, (-2, -1)) for image in (x, x.flip(-1)) for turns in range(4)) / 8
    source = alone(load_emoji("validation")[5])
    for name in ("mirror", "rotate", "upend"):
        made = row(task(name), Picture(x), 0, 0)
        assert fitting(task(name), source, made) == {"mirror", "rotate", "upend"}
    lopsided = row(task("mirror"), Picture(torch.rand(3, 64, 64)), 0, 0)
    assert fitting(task("mirror"), source, lopsided) == {"mirror"}


def test_gray_pictures_fit_every_change_of_color():
    """Colors made from gray, and hues that turn where there are none: the same picture is asked for."""
    source, gray = alone(load_emoji("validation")[5]), torch.rand(1, 64, 64).expand(3, -1, -1)
    for name in ("colorize", "recolor"):
        assert fitting(task(name), source, row(task(name), Picture(gray), 0, 0)) == {"colorize", "recolor"}
    colored = row(task("recolor"), Picture(torch.rand(3, 64, 64)), 0, 0)
    assert fitting(task("recolor"), source, colored) == {"recolor"}


def test_it_learns_and_comes_back(tokenizer_folder: Path, tmp_path: Path):
    """Twenty steps on easy tasks suffice; `model/` is half the size and names what the run named."""
    config = TrainConfig(
        run=RunConfig(folder=tmp_path / "run", log_steps=1, trackers=()),
        data=PairsConfig(tokenizer=str(tokenizer_folder), batch=8),
        kind=KindConfig(tasks=("invert", "denoise"), channels=(8, 16)),
        optim=OptimConfig(), lr=LRConfig(peak=1e-2, warmup_steps=1, steps=20), average=0.5,
        eval_steps=0, save_steps=10,
    )
    train(config)
    judge = KindClassifier.from_pretrained(config.run.folder / "model")
    assert judge.config == config.kind and not judge.training
    pairs = Pairs(config.kind.tasks, seed=1)
    x, y, labels = zip(*[pairs[index][:3] for index in range(32)], strict=True)
    named = judge.names(torch.stack(x), torch.stack(y))
    right = [name == config.kind.tasks[label] for name, label in zip(named, labels, strict=True)]
    assert sum(right) >= 28  # of 32; guessing gets 16
