"""Images and captions in one space: a small CLIP of one's own, and anybody's behind one interface.

`Clip` is ours, `load_scorer` opens it or a published one as a `Scorer`; `matched` and `classify` ask any of
them which caption fits an image.
"""

from vqtok.clip.model import Clip, ClipConfig
from vqtok.clip.retrieval import classify, matched, recalls
from vqtok.clip.scorers import Scorer, load_scorer

__all__ = ["Clip", "ClipConfig", "Scorer", "classify", "load_scorer", "matched", "recalls"]
