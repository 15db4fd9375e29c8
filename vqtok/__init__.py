"""vqtok: images become tokens, one transformer learns the tokens, families say what the tokens mean.

This is the users' front door. It opens on what lies below only when asked, so that `import vqtok` costs
nothing. No family imports from it.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load_tokenizer"]


def __getattr__(name: str) -> Any:
    """Import a public name the first time somebody asks for it."""
    if name == "load_tokenizer":
        from vqtok.tokenizers import load_tokenizer

        return load_tokenizer
    raise AttributeError(f"vqtok has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    """Public names, for completion."""
    return sorted([*globals(), *__all__])
