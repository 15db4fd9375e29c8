"""The weights in the repository: they open, they are small, and they do what their READMEs say."""

from pathlib import Path

import pytest
import torch

from lvm import DEFAULT_WEIGHTS as SHIPPED_LVM
from lvm import LVM
from lvm.evaluate import Job, evaluate
from lvm.kind import DEFAULT_KIND, KindClassifier
from lvm.tasks import PAIR_TASKS
from vqtok.data.emoji import PACK, load_emoji
from vqtok.data.scenes import alone
from vqtok.metrics.images import psnr
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.loading import DEFAULT_WEIGHTS as SHIPPED_TOKENIZER

MB = 1e6
# Tasks in which a copy of the query is still nearer, pixel by pixel, than the answer, as the README says.
LIKE_THE_QUERY = ("shaded to flat", "flat to shaded", "deblur", "colorize")


def megabytes(*folders: Path) -> float:
    """Size of all files under some folders."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()) / MB


def test_weights_are_small():
    """All of them together, and beside them the embedded pictures, stay within what a checkout may weigh."""
    assert megabytes(SHIPPED_TOKENIZER, SHIPPED_LVM, DEFAULT_KIND) <= 32
    assert megabytes(PACK.parent) <= 14


def test_the_tokenizer_gives_unseen_emoji_back():
    """Of sixteen test names, within a little of what its README says for all of them."""
    images = torch.stack([alone(emoji).image("shaded") for emoji in load_emoji("test")[:16]])
    tokenizer = load_tokenizer()
    assert psnr(tokenizer.decode(tokenizer.encode(images)), images).mean() > 24


def test_the_lvm_answers_from_pairs():
    """Shown two inverted emoji it inverts a third, and shown masks it masks the same one."""
    model = LVM.from_pretrained(SHIPPED_LVM)
    drawn, masks = (
        torch.stack([alone(emoji).image(style) for emoji in load_emoji("test")[20:23]])
        for style in ("shaded", "mask")
    )
    for answers, other in ((1 - drawn, masks), (masks, 1 - drawn)):
        answer = model.prompt([(drawn[0], answers[0]), (drawn[1], answers[1])], drawn[2])
        right, *wrong = (float(psnr(answer, image[2:])) for image in (answers, other, drawn))
        assert right > max(wrong)


@pytest.mark.slow
def test_the_lvm_keeps_its_promises():
    """Over the trained tasks, 100 unseen names each, greedy, three pairs: as its README says."""
    judge = KindClassifier.from_pretrained(DEFAULT_KIND)
    model = LVM.from_pretrained(SHIPPED_LVM)
    asked = [task for task in PAIR_TASKS if task.name in model.config.trained]
    report = evaluate(model, Job(floors=False), asked, judge)
    assert report.trained["kind"] >= 0.86
    assert report.trained["content"] >= 0.62
    assert report.trained["iou"] >= 0.9
    for name, task in report.tasks.items():
        rows = task.nats["first_row"]
        assert rows["0"] > max(rows["1"], rows["3"]), name
        if name not in LIKE_THE_QUERY:
            assert task.scores["answer"]["psnr"] > task.scores["copy query"]["psnr"], name
