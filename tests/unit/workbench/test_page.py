"""The page: well-formed, escaped, and complete in one file."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from workbench import page

VOID = {"meta", "img", "br"}


class Nesting(HTMLParser):
    """Raises where a tag ends that has not begun, and keeps what is still open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        """Remember a tag that begins."""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Forget the innermost one."""
        assert self.open.pop() == tag


def test_every_tag_is_closed(tmp_path: Path) -> None:
    """A page with one of each part nests as HTML must, and is written as UTF-8."""
    image = Image.new("RGB", (4, 4), "red")
    parts = [
        page.heading("a"), page.paragraph("b `c`"), page.facts("d"), page.figure(image, "e"),
        page.table(["f", "g"], [["1", "2"]], "h"), page.charts("<svg></svg>"),
        page.folded("i", page.facts("j")),
    ]  # fmt: skip
    page.write_page(tmp_path / "new" / "index.html", "ö", *parts)
    text = (tmp_path / "new" / "index.html").read_text(encoding="utf-8")
    nesting = Nesting()
    nesting.feed(text)
    assert nesting.open == []
    assert "<title>ö</title>" in text


def test_a_picture_is_inside() -> None:
    """The figure's data are the picture, pixel by pixel."""
    image = Image.effect_noise((8, 6), 50).convert("RGB")
    data = re.search(r'src="data:image/png;base64,([^"]+)"', page.figure(image, "noise"))[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as found:
        assert found.tobytes() == image.tobytes()


@pytest.mark.parametrize("part", [page.heading, page.paragraph, page.facts])
def test_text_is_escaped(part) -> None:
    """Signs of markup stay text, in code too."""
    assert "&lt;b&gt; <code>&amp;</code>" in part("<b> `&`").replace("`&amp;`", "<code>&amp;</code>")


def test_cells_are_escaped_and_counted() -> None:
    """A cell is text; a row that does not fit its titles is refused."""
    assert "<td>&lt;</td>" in page.table(["a"], [["<"]], "")
    with pytest.raises(ValueError, match="a row of 1 cells under 2 titles"):
        page.table(["a", "b"], [["1"]], "")
