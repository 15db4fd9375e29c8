"""More rows of few origins: all images of a row are changed alike, in ways that leave its task the same.

Mirroring both pictures of a pair makes another pair of the same task, unless the task is about left and
right; each task says what it commutes with. What that is worth to scarce tasks, beside showing them oftener:
`vqtok compare learning lvm`.

Letters: u images of a row, c h w image.
"""

import numpy as np
import torch
from torch import Tensor

from lvm.rules import Task
from vqtok.data import views


def augmented(row: Tensor, task: Task, rng: np.random.Generator) -> Tensor:
    """A row (u, 3, h, w) with all its images mirrored by a coin, and their hues turned by one angle.

    Each only where the task commutes with it; a task that commutes with nothing keeps its row.
    """
    if "mirror" in task.commutes and rng.random() < 0.5:
        row = views.mirror(row)
    if "hue" in task.commutes:
        angle = float(rng.uniform(-np.pi, np.pi))
        row = torch.stack([views.hue_turned(image, angle) for image in row])
    return row
