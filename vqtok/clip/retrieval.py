"""How well images and captions find each other: recalls, accuracies, and classes named by captions.

Radford et al. 2021: section 3.1.4 for classes named by several captions each.

Letters: b images, n captions, k classes.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vqtok.clip.scorers import Scorer


def recalls(similarity: Tensor, places: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Shares of images whose own caption is among the best few, of captions likewise, and of blind guesses.

    Args:
        similarity: (n, n) of n images to their captions, all different, both in one order.
        places: How many are the best few.

    Returns:
        By name: `image_to_text@1`, `text_to_image@1`, `chance@1`, and so on. Whoever ties does not win, so
        that a model to which all are alike finds none.

    Raises:
        ValueError: if it is no square.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not len(similarity):
        raise ValueError(f"similarity has shape {tuple(similarity.shape)}: give (n, n), at least one of each")
    own = similarity.diagonal()
    found = {}
    for name, above in (
        ("image_to_text", (similarity >= own[:, None]).sum(1) - 1),
        ("text_to_image", (similarity >= own).sum(0) - 1),
    ):
        found |= {f"{name}@{k}": (above < k).float().mean().item() for k in places}
    return found | {f"chance@{k}": min(1.0, k / len(similarity)) for k in places}


def matched(scorer: Scorer, images: Tensor, captions: Sequence[str], distractors: Sequence[str]) -> float:
    """Share of images whose own caption fits better than every distractor.

    A blind guess is right once in as many times as there are captions to choose from: one more than
    distractors, or as many where an image's own is one of them, which is then no distractor to it. Whoever
    ties does not win.

    Args:
        scorer: Who says what fits.
        images: (b, 3, h, w) in [0, 1].
        captions: b, the own one of each image.
        distractors: Captions that fit none of them, or others of them.

    Raises:
        ValueError: if there are not as many captions as images, or an image has nothing to choose from.
    """
    if len(captions) != len(images):
        raise ValueError(f"{len(images)} images have {len(captions)} captions: give each its own")
    everything = list(dict.fromkeys([*captions, *distractors]))
    number = {caption: place for place, caption in enumerate(everything)}
    own = torch.tensor([number[caption] for caption in captions])
    others = torch.tensor([number[caption] for caption in dict.fromkeys(distractors)], dtype=torch.int64)
    if any(not {*distractors} - {caption} for caption in {*captions}):
        raise ValueError("there are no distractors: give captions to tell an image's own from")
    scores = scorer(images, everything).float().cpu()  # (b, captions and distractors)
    rivals = scores[:, others].masked_fill(own[:, None] == others, -torch.inf)
    return (scores.gather(1, own[:, None])[:, 0] > rivals.amax(1)).float().mean().item()


def classify(scorer: Scorer, images: Tensor, captions_by_class: Mapping[str, Sequence[str]]) -> list[str]:
    """The class of every image: the one whose captions fit best on average. No class was trained for.

    Args:
        scorer: Who says what fits.
        images: (b, 3, h, w) in [0, 1].
        captions_by_class: For each class, captions that fit what belongs to it: several ways to say it, or
            the same with different things in it.

    Raises:
        ValueError: if there are no classes, or one has no captions.
    """
    if empty := [name for name, captions in captions_by_class.items() if not captions]:
        raise ValueError(f"class {empty[0]!r} has no captions: give at least one")
    if not captions_by_class:
        raise ValueError("there are no classes: give captions by class")
    names, counts = [*captions_by_class], [len(captions) for captions in captions_by_class.values()]
    everything = [caption for captions in captions_by_class.values() for caption in captions]
    scores = scorer(images, everything).split(counts, dim=1)
    means = torch.stack([part.float().mean(1) for part in scores], dim=1)  # (b, k)
    return [names[place] for place in means.argmax(1).tolist()]
