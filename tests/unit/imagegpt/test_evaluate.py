"""Evaluation: losses of held-out pictures, always the same; a report that says what its bits are of."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from imagegpt.evaluate import drawings, held_out_losses, main, middle
from imagegpt.model import ImageGPT
from imagegpt.network import nats


def test_next_tokens(build: Callable[..., ImageGPT], ids: Tensor):
    """The mean over all tokens, whatever the batch; with a classifier its loss and share of right ones."""
    model = build(classifier=True)
    labels = torch.tensor([0, 1, 1, 0, 1])
    found, again = (held_out_losses(model.network, ids, labels, batch=batch) for batch in (2, 5))
    assert found == pytest.approx(again)
    assert {*found} == {f"validation/{name}" for name in ("ids", "classes", "right")}
    assert found["validation/ids"] == pytest.approx(nats(model.network, ids).mean().item())
    right = (model.network(ids)[1].argmax(1) == labels).float().mean()
    assert found["validation/right"] == pytest.approx(float(right))


def test_hidden_tokens(build: Callable[..., ImageGPT], ids: Tensor):
    """The same tokens are hidden every time, and the global random numbers stay as they are."""
    network, labels = build("both").network, torch.zeros(5, dtype=torch.int64)
    state = torch.get_rng_state()
    found = held_out_losses(network, ids, labels, share=0.3)
    assert found == held_out_losses(network, ids, labels, share=0.3)
    assert torch.equal(torch.get_rng_state(), state)
    assert {*found} == {"validation/ids"}


@pytest.mark.parametrize("kind", ["past", "both", "classes"])
def test_drawings(kind: str, build: Callable[..., ImageGPT], ids: Tensor):
    """Three rows of pictures: held-out ones above what is made of them."""
    model = build(kind)
    sheet = drawings(model, ids, seed=0, count=4)
    assert sheet.shape == (3, 12, 16)
    originals = model.tokenizer.decode(model.layout.grid(ids[:4]))
    assert torch.equal(sheet[:, :4, :4], originals[0])
    if kind == "both":
        kept = ~middle(4)
        assert torch.equal(sheet[:, 8:, :4][:, kept], originals[0][:, kept])
    else:
        assert torch.equal(sheet[:, 4:6, :4], originals[0][:, :2])


@pytest.mark.parametrize("kind", ["past", "both"])
def test_the_command(
    kind: str,
    build: Callable[..., ImageGPT],
    shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    """Figures in lines and in report.json, with what the tokenizer loses; seeing both sides has no bits."""
    model = build(kind)
    model.save_pretrained(tmp_path / "model")
    words = ["--model", tmp_path / "model", "--shards", shards, "--data", shards.parent / "pictures",
             "--count", 7, "--out", tmp_path / "out"]  # fmt: skip
    main([str(word) for word in words])
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["pictures"] == 7 and report["uniform_nats"] == pytest.approx(math.log(6))
    assert (tmp_path / "out" / "drawings.png").is_file()
    assert report["psnr"] > 50  # the pictures were drawn in the palette's colors
    if kind == "past":
        assert report["bits_per_pixel"] == pytest.approx(report["nats_per_token"] / math.log(2))
        assert "bits a pixel" in printed and "compare these bits with those of the same tokenizer" in printed
    else:
        assert "bits_per_pixel" not in report and "nats a token of hidden tokens" in printed
