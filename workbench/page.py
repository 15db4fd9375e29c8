"""A page of HTML that stands alone: pictures inside as data, plain CSS, no script, nothing fetched."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from vqtok.storage.folders import write_file

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #ffffff; --ink: #1f2328; --faint: #5c636b;
  --grid: #e3e3df; --line-1: #2a6fbb; --line-2: #c2571a; --line-3: #2e8b57; --line-4: #8a4fae; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --card: #1e2125; --ink: #e8e8e4;
  --faint: #a2a8ae; --grid: #363a3f;
  --line-1: #6ba6e8; --line-2: #e8905a; --line-3: #5fbf8a; --line-4: #bd8ade; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 75rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .5rem; padding-top: 1.5rem; border-top: 1px solid var(--grid); }
p { max-width: 46rem; margin: .6rem 0; }
figure { margin: 1.25rem 0; overflow-x: auto; }
figure img { display: block; max-width: 100%; height: auto; border-radius: 6px; }
figcaption, caption, .facts { color: var(--faint); font-size: .9rem; text-align: left; padding: .4rem 0; }
summary { cursor: pointer; color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--grid); text-align: right;
  vertical-align: bottom; }
th { font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.chart { flex: 1 1 30rem; max-width: 36rem; background: var(--card); border: 1px solid var(--grid);
  border-radius: 6px; }
.chart text { font: 12px system-ui, sans-serif; fill: var(--faint); }
.chart .title { font-size: 14px; font-weight: 600; fill: var(--ink); } .chart .name { fill: var(--ink); }
.chart .end { text-anchor: end; } .chart .middle { text-anchor: middle; }
code { font-size: .9em; background: var(--card); border: 1px solid var(--grid); border-radius: 4px;
  padding: 0 .25em; }
"""


def page(title: str, *parts: str) -> str:
    """A whole document with `title` above parts of HTML."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def write_page(path: Path, title: str, *parts: str) -> None:
    """Write the document, whole or not at all."""
    write_file(path, page(title, *parts).encode())


def heading(text: str) -> str:
    """Begin a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Plain text; what stands between backticks is set as code."""
    return f"<p>{_inline(text)}</p>"


def facts(text: str) -> str:
    """As `paragraph`, in small gray letters."""
    return f'<p class="facts">{_inline(text)}</p>'


def folded(summary: str, *parts: str) -> str:
    """Parts that are seen once their summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def figure(image: Image.Image, caption: str) -> str:
    """A picture with a line below; the picture's bytes are in the page."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f'width="{image.width}" height="{image.height}"'
    alt = escape(caption, quote=True)
    return (
        f'<figure><img {size} alt="{alt}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Rows of text under titles; the first column names the row.

    Raises:
        ValueError: if a row is longer or shorter than the titles.
    """
    for row in rows:
        if len(row) != len(titles):
            raise ValueError(f"a row of {len(row)} cells under {len(titles)} titles: give one cell a title")
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def charts(*drawn: str) -> str:
    """Charts of `workbench.curves` side by side where there is room."""
    return f'<div class="charts">{"".join(drawn)}</div>'


def _inline(text: str) -> str:
    """Escaped text; what stands between backticks is code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if number % 2 else piece for number, piece in enumerate(pieces))
