"""What a model has learned of classes without being told: linear classifiers of its features, layer by layer.

The feature of layer l is the mean over all places of the normed stream that block l attends with, and of the
last norm's for the layer after the last (Chen et al. 2020, section 2.4). The layer, and how the classifier is
fitted, are chosen on a held-out part of the training pictures, which then joins the others.

Letters: n pictures, t tokens of a picture, d width, l layers, c classes, h w pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor

from imagegpt.layout import Layout
from imagegpt.logistic import Logistic, fit_lbfgs, fit_sgd
from imagegpt.model import ImageGPT
from imagegpt.network import Network
from imagegpt.rows import Rows, classes_of, open_shards
from vqtok.gpt.model import GPT
from vqtok.gpt.prefix import ClassesConfig

Solver = Literal["lbfgs", "sgd"]
DECAYS = (1e-5, 1e-4, 1e-3, 1e-2)  # of L-BFGS, tried one by one
RATES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # of SGD, tried from the paper's down


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to probe, with what.

    Args:
        model: Folder or hub id of an ImageGPT.
        train: Shards with classes, by the model's tokenizer.
        test: Shards of other pictures of the same classes.
        count: Training pictures; None takes all.
        test_count: Pictures of the test; None takes all.
        held_out: Share of the training pictures that layer and fit are chosen on.
        solver: "lbfgs" on all pictures at once, or "sgd".
        steps: Of SGD, each on 256 pictures.
        batch: Pictures at once through the model.
        seed: Of the choice of held-out pictures, and of SGD's order.
    """

    model: str
    train: Path
    test: Path
    count: int | None = None
    test_count: int | None = None
    held_out: float = 0.1
    solver: Solver = "lbfgs"
    steps: int = 2000
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out {self.held_out} is a share of the training pictures: 0.1 is usual")


@contextmanager
def tapped(gpt: GPT) -> Iterator[list[Tensor]]:
    """Collects features (b, d) of every layer, in order, of each pass of `gpt` within."""
    found: list[Tensor] = []
    norms = [*(block.attention_norm for block in gpt.blocks), gpt.norm]
    hooks = [norm.register_forward_hook(lambda _, __, out: found.append(out.mean(1))) for norm in norms]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def features(network: Network, ids: Tensor, batch: int = 32) -> Tensor:
    """(l + 1, n, d) float32 features of pictures (n, t), of all blocks and of the last norm, on the CPU.

    Args:
        network: In evaluation mode; one that begins with a class is told none.
        ids: (n, t).
        batch: Pictures at once.
    """
    gpt, layers = network.gpt, []
    prefix = gpt.config.prefix
    with tapped(gpt) as found:
        for part in ids.split(batch):
            labels = None
            if isinstance(prefix, ClassesConfig):
                labels = torch.full((len(part),), prefix.classes, device=gpt.embed.weight.device)
            network.features(part.to(gpt.embed.weight.device), labels)
            layers.append(torch.stack(found).float().cpu())
            found.clear()
    return torch.cat(layers, dim=1)


@torch.inference_mode()
def pixels(model: ImageGPT, ids: Tensor, batch: int = 256) -> Tensor:
    """(n, 3 h w) pixels of pictures (n, t), as the tokenizer gives them back."""
    grids = (model.layout.grid(part.to(model.device)) for part in ids.split(batch))
    images = torch.cat([model.tokenizer.decode(part).cpu() for part in grids])
    return rearrange(images, "n c h w -> n (c h w)")


def probe(job: Job) -> dict[str, Any]:
    """The report: for every layer and for pixels, held-out and test accuracy; and the layer that was chosen.

    Raises:
        ValueError: if model and shards do not belong together, or shards tell no classes.
    """
    model = ImageGPT.from_pretrained(job.model).to("cuda" if torch.cuda.is_available() else "cpu")
    layout = Layout.of(model.tokenizer)
    shards = [open_shards(folder, model.tokenizer, job.model, layout) for folder in (job.train, job.test)]
    names = classes_of(shards[0])
    if not names:
        raise ValueError(f"{job.train} does not tell the classes of its pictures: encode a gallery that has")
    ids, labels = Rows(shards[0], names).evenly(job.count)
    test_ids, test_labels = Rows(shards[1], names).evenly(job.test_count)
    seen, unseen = (features(model.network, part, job.batch) for part in (ids, test_ids))
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(job.seed))
    trial = Trial(job, len(names), order, labels, test_labels)
    layers = [trial.run(*pair) for pair in zip(seen, unseen, strict=True)]
    best = max(range(len(layers)), key=lambda layer: layers[layer]["held_out"])
    return {
        "model": job.model,
        "solver": job.solver,
        "classes": len(names),
        "train_pictures": len(ids),
        "test_pictures": len(test_ids),
        "width": model.config.gpt.width,
        "layer": best,
        "test": layers[best]["test"],
        "layers": layers,
        "pixels": trial.run(pixels(model, ids), pixels(model, test_ids)),
    }


@dataclass(frozen=True)
class Trial:
    """The same test for features of any kind.

    Args:
        job: Says which solver, and how much is held out.
        classes: How many.
        order: (n,) of the training pictures; the first of them are held out.
        labels: (n,) classes of the training pictures.
        test_labels: Classes of the others.
    """

    job: Job
    classes: int
    order: Tensor
    labels: Tensor
    test_labels: Tensor

    def run(self, seen: Tensor, unseen: Tensor) -> dict[str, float]:
        """Held-out and test accuracy, and the setting of the solver that was chosen.

        Args:
            seen: (n, d) of the training pictures.
            unseen: (m, d) of the test's.
        """
        cut = max(1, round(len(self.order) * self.job.held_out))
        held_out, rest = self.order[:cut], self.order[cut:]
        settings = DECAYS if self.job.solver == "lbfgs" else RATES
        fits = {setting: self._fit(seen[rest], self.labels[rest], setting) for setting in settings}
        accuracy = {
            setting: fit.accuracy(seen[held_out], self.labels[held_out]) for setting, fit in fits.items()
        }
        best = max(accuracy, key=accuracy.__getitem__)
        whole = self._fit(seen, self.labels, best)
        return {"held_out": accuracy[best], "setting": best, "test": whole.accuracy(unseen, self.test_labels)}

    def _fit(self, x: Tensor, labels: Tensor, setting: float) -> Logistic:
        if self.job.solver == "lbfgs":
            return fit_lbfgs(x, labels, self.classes, decay=setting)
        return fit_sgd(x, labels, self.classes, rate=setting, steps=self.job.steps, seed=self.job.seed)
