"""Fine-tunes an LVM with LoRA: adapters of low rank learn, its own weights stay as they are.

    accelerate launch -m lvm.tune --config recipes/lvm/lora64.yaml

Letters: b contexts, n tokens that count.
"""

from dataclasses import dataclass, replace
from functools import partial

from lvm.adapters import Adapted, AdapterConfig
from lvm.data import Kept, SentencesConfig
from lvm.lessons import lessons
from lvm.model import LVM
from lvm.shots import answer_sheet, validation_losses
from lvm.task_losses import TaskLosses
from lvm.train import losses
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """An LVM's fine-tuning.

    Args:
        run: Folder, seed, precision.
        model: Folder or hub id of the LVM; published ones are imported first (`vqtok import`).
        data: Sentences; the tokenizer and the ids around images are the model's.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        adapter: Rank, and how much it counts.
        recompute: Whether blocks are computed again for the gradient: a third more work, for less memory.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    model: str
    data: SentencesConfig
    optim: OptimConfig
    lr: LRConfig
    adapter: AdapterConfig = AdapterConfig()
    recompute: bool = False
    eval_steps: int = 500
    save_steps: int = 250

    def __post_init__(self) -> None:
        if self.optim.muon:
            raise ValueError("optim.muon is for whole matrices, adapters are narrow ones: set it to false")


def train(config: TrainConfig) -> None:
    """Train adapters; `config.run.folder` receives checkpoints, metrics, `adapter/` and the merged `model/`.

    Checkpoints hold the adapters alone. Held-out losses before the first step are recorded as of step 0.
    """
    run = Run(config.run)
    model = LVM.from_pretrained(config.model)
    length = model.config.gpt.length
    source, kept = lessons(config.data, model, config.model, length, config.run.seed)
    model.gpt.recompute = config.recompute
    plain = Adapted(model.gpt, config.adapter, config.model).train()
    adapted, optimizer = run.prepare(plain, optimizer_for(plain, config.optim))
    means = run.hold(TaskLosses(source.names))
    if not run.resume():
        _measure(run, model, kept)
    for sample in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):
        with run.accumulate(adapted):
            nats, weights, which = losses(adapted, sample)  # (n,) each
            means.count(nats, which, run.step)
            total = weights.sum()
            loss, rate = (nats * weights).sum() / total, cosine(run.step, config.lr)
            if run.update(loss, optimizer, lr=rate, weight=total, clip=config.optim.clip):
                means.settle(partial(run.accelerator.reduce, reduction="sum"))
        if run.every(config.run.log_steps):
            run.log(means.facts())
        if run.every(config.eval_steps):
            _measure(run, model, kept)
        if run.every(config.save_steps):
            run.save()
    if run.main:
        plain.save(config.run.folder / "adapter")
        model.gpt = plain.merged().cpu()
        if model.config.trained:
            both = dict.fromkeys([*model.config.trained, *source.names])
            model.config = replace(model.config, trained=tuple(both))
        model.save_pretrained(config.run.folder / "model")
    run.finish()


def _measure(run: Run, model: LVM, kept: dict[str, Kept]) -> None:
    """Record held-out losses and a sheet of answers."""
    model.gpt.eval()
    run.log(validation_losses(model.gpt, model.layout, kept))
    run.show("answers", answer_sheet(model.gpt, model.tokenizer, model.layout, kept))
    model.gpt.train()


if __name__ == "__main__":
    launch(train, TrainConfig)
