"""ImageGPT: pictures as sequences of colors or codes, to draw, complete, fill in, measure and classify."""

from imagegpt.model import ImageGPT, ImageGPTConfig

__all__ = ["ImageGPT", "ImageGPTConfig"]
