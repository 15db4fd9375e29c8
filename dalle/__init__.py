"""DALL-E: captions and pictures as one stream of tokens (Ramesh et al. 2021)."""

from dalle.model import Dalle, DalleConfig

__all__ = ["Dalle", "DalleConfig"]
