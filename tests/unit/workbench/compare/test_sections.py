"""Tables replace what stands between their marks, and nothing else."""

from pathlib import Path

import pytest

from workbench.compare.sections import find_section, table, write_section

TEXT = """# Results

<!-- one -->
old
<!-- /one -->
between
<!-- two -->
<!-- /two -->
end
"""


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A file with two sections."""
    path = tmp_path / "results.md"
    path.write_text(TEXT)
    return path


def test_only_the_section_changes(notebook: Path):
    """The other section and all text around stay as they are."""
    write_section(notebook, "one", "new\nlines\n")
    assert notebook.read_text() == TEXT.replace("\nold\n", "\n\nnew\nlines\n\n")


def test_writing_twice_is_writing_once(notebook: Path):
    """The last text counts; nothing grows."""
    write_section(notebook, "two", "first")
    write_section(notebook, "two", "second")
    once = notebook.read_text()
    write_section(notebook, "two", "second")
    assert notebook.read_text() == once
    assert "first" not in once and once.count("second") == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- one -->\n",
        "<!-- /one -->\n<!-- one -->\n",
        "<!-- one -->\n<!-- /one -->\n" * 2,
        "<!-- one -->\n<!-- one -->\n<!-- /one -->\n",
    ],
)
def test_a_file_without_marks_is_refused(text: str, tmp_path: Path):
    """Missing, swapped and repeated marks are refused by their names, and the file stays as it is."""
    path = tmp_path / "results.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="put the line <!-- one --> where they begin"):
        write_section(path, "one", "new")
    assert path.read_text() == text


def test_the_notebook_has_a_place_for_every_comparison():
    """docs/results.md holds the marks of all comparisons that there are."""
    from workbench.compare.command import LEARNING, SPEED

    notebook = Path(__file__).parents[4] / "docs" / "results.md"
    for kind, names in {"speed": SPEED, "learning": LEARNING}.items():
        for name in names:
            find_section(notebook, f"compare {kind} {name}")


def test_table():
    """Words to the left, figures to the right."""
    assert table(["", "ms"], [["ours", "1"]]) == "|  | ms |\n| --- | ---: |\n| ours | 1 |"
