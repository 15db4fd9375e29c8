"""Protocols of others on photographs of the user's: Bar et al. 2022, "Visual Prompting via Image Inpainting".

Foreground segmentation and single object detection on PASCAL VOC, colorization on a folder like ImageNet's;
`lvm.protocols.evaluate` measures.
"""

from lvm.protocols.pools import Pool, colorization, detection, questions, segmentation
from lvm.protocols.voc import Voc

__all__ = ["Pool", "Voc", "colorization", "detection", "questions", "segmentation"]
