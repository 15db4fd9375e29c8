"""Transformers over captions and images that others published, read strictly: minDALL-E."""

from dalle.published.mindalle import load_mindalle

__all__ = ["load_mindalle"]
