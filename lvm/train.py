"""Trains a transformer on visual sentences, and bundles it with its tokenizer.

    accelerate launch -m lvm.train --config recipes/lvm/emoji64.yaml

Letters: b sentences, t tokens, v vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path

from lvm.layout import Layout
from lvm.model import LVM, LVMConfig, seed_embeddings, usable
from lvm.sentences import Sentences, SentencesConfig, sources
from lvm.shots import answer_sheet, validation_losses
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.loss import next_token_loss
from vqtok.gpt.model import GPT
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.tokenizer import VQTokenizer
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """An LVM's training.

    Args:
        run: Folder, seed, precision.
        data: Sentences.
        gpt: Shape of the transformer.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: SentencesConfig
    gpt: GPTConfig
    optim: OptimConfig
    lr: LRConfig
    average: float = 0.998
    eval_steps: int = 500
    save_steps: int = 250


def train(config: TrainConfig) -> None:
    """Train a transformer; `config.run.folder` receives checkpoints, pictures, metrics and `model/`."""
    run = Run(config.run)
    tokenizer = usable(load_tokenizer(config.data.tokenizer), config.data.tokenizer)
    layout = Layout(tokenizer.vocab, tokenizer.tokens)
    LVMConfig(tokenizer=tokenizer.config, gpt=config.gpt)  # refuses a wrong vocabulary before all is trained
    tasks, kept = sources(config.data, tokenizer)
    gpt = GPT(config.gpt)
    seed_embeddings(gpt, tokenizer, config.run.seed)
    gpt, optimizer = run.prepare(gpt, optimizer_for(gpt, config.optim, inside=gpt.blocks))
    average = run.ema(gpt, config.average)
    source = Sentences(tasks, layout, config.data.pairs, config.run.seed, config.data.spoil)
    weights = layout.weights(2 * config.data.pairs, config.data.query_weight).to(run.device)  # (t - 1,)
    counted = weights > 0
    run.resume()
    for ids, seen in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):  # (b, t)
        with run.accumulate(gpt):
            where = counted.expand(len(ids), -1)
            logits = gpt(seen[:, :-1], where=where)  # (b counted, v)
            loss = next_token_loss(logits, ids[:, 1:][where], weights.expand(len(ids), -1)[where])
            run.update(loss, optimizer, lr=cosine(run.step, config.lr), clip=config.optim.clip)
        if run.every(config.eval_steps):
            run.log(validation_losses(average.model, layout, kept))
            run.show("answers", answer_sheet(average.model, tokenizer, layout, kept))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        save(average.model, tokenizer, config.run.folder / "model")
    run.finish()


def save(gpt: GPT, tokenizer: VQTokenizer, folder: Path) -> None:
    """Write transformer and tokenizer as one LVM."""
    model = LVM(LVMConfig(tokenizer=tokenizer.config, gpt=gpt.config))
    model.gpt.load_state_dict(gpt.state_dict())
    model.tokenizer.load_state_dict(tokenizer.state_dict())
    model.save_pretrained(folder)


if __name__ == "__main__":
    launch(train, TrainConfig)
