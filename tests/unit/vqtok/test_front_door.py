"""`import vqtok`: light, and honest about what it has."""

import subprocess
import sys

import pytest

import vqtok


def test_importing_costs_nothing():
    """`import vqtok` alone imports no torch."""
    code = "import sys, vqtok; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_name_is_an_attribute_error():
    """The message lists what there is."""
    with pytest.raises(AttributeError, match="vqtok has no 'load_tokeniser'; it has load_tokenizer"):
        vqtok.load_tokeniser  # noqa: B018
