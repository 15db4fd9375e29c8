"""Trains a transformer on captions and their pictures, and bundles it with both tokenizers.

    accelerate launch -m dalle.train --config recipes/dalle/emoji64.yaml

Letters: b rows, n places of text, t tokens of a picture.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dalle.data import CaptionsConfig, Order, Rows, rows_of
from dalle.evaluate import drawings, held_out_nats
from dalle.layout import Layout
from dalle.model import Dalle, DalleConfig
from dalle.network import Network, ObjectiveConfig, losses
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.text import TextTokenizer, load_text_tokenizer
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.interface import ImageTokenizer
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig, optimizer_for
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, cosine


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A DALL-E's training.

    Args:
        run: Folder, seed, precision.
        data: Pictures and captions.
        text_length: Places of text before every picture.
        gpt: Shape of the transformer; it begins with a start token, and its head has two ranges.
        optim: Weight decay, betas, clipping.
        lr: Learning rate by the step; its `steps` are the length of the run.
        objective: What text and pictures count.
        average: Decay of the moving average of the weights, which is what is evaluated and saved.
        recompute: Whether blocks are computed once more for the gradient: a third more work, for memory.
        eval_steps: Steps between two evaluations.
        save_steps: Steps between two checkpoints.
    """

    run: RunConfig
    data: CaptionsConfig
    text_length: int
    gpt: GPTConfig
    optim: OptimConfig
    lr: LRConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    average: float = 0.999
    recompute: bool = False
    eval_steps: int = 500
    save_steps: int = 250


def train(config: TrainConfig) -> None:
    """Train a transformer; `config.run.folder` receives checkpoints, pictures, metrics and `model/`.

    Raises:
        ValueError: if shards, tokenizers and transformer do not belong together.
    """
    run = Run(config.run)
    text, tokenizer = load_text_tokenizer(config.data.text), load_tokenizer(config.data.tokenizer)
    layout = Layout.of(text.vocab, config.text_length, tokenizer)
    layout.check(config.gpt)
    rows = rows_of(config.data.shards, tokenizer, config.data.tokenizer, text, layout)
    source, kept = samples(config, tokenizer, rows)
    found = rows.found(config.data.overflow)
    network = Network(GPT(config.gpt), layout)
    network.gpt.recompute = config.recompute
    network, optimizer = run.prepare(network, optimizer_for(network, config.optim, inside=network.gpt.blocks))
    average = run.ema(network, config.average)
    if not run.resume():
        run.log({**found.facts, "tokens/text": layout.places, "tokens/image": layout.tokens})
    if run.main:
        print(found)
    for ids in run.batches(source, config.data.batch, config.lr.steps, config.data.workers):  # (b, n + t)
        with run.accumulate(network):
            terms = losses(network(ids), ids, layout, config.objective.padding)
            loss = sum(config.objective.weights[name] * term for name, term in terms.items())
            run.update(loss, optimizer, lr=cosine(run.step, config.lr), clip=config.optim.clip)
            run.note({f"loss/{name}": term for name, term in terms.items()})
            run.note({"tokens/words": layout.worded(ids[:, : layout.places]).float().sum(1).mean()})
        if run.every(config.run.log_steps):
            run.log({"tokens/seen": run.step * config.data.batch * layout.length})
        if run.every(config.eval_steps):
            run.log(held_out_nats(average.model, kept))
            run.show("pictures", drawings(bundle(average.model, tokenizer, text), kept, config.run.seed))
        if run.every(config.save_steps):
            run.save()
    if run.main:
        bundle(average.model, tokenizer, text).save_pretrained(config.run.folder / "model")
    run.finish()


def samples(config: TrainConfig, tokenizer: ImageTokenizer, rows: Rows) -> tuple[Order, Tensor]:
    """The training order, and held-out rows (r, n + t).

    Raises:
        ValueError: if nothing is left for training or validation.
    """
    data = config.data
    if data.validation is None:
        if not 0 < data.held_out < len(rows):
            raise ValueError(
                f"data.held_out is {data.held_out} of {len(rows)} pairs: leave at least one for validation "
                "and one for training"
            )
        order = np.random.default_rng(0).permutation(len(rows)).tolist()
        shown, kept = order[data.held_out :], rows.part(order[: data.held_out])
    else:
        unseen = rows_of(data.validation, tokenizer, data.tokenizer, rows.text, rows.layout)
        shown, kept = range(len(rows)), unseen.part(unseen.evenly(data.held_out))
    return Order(rows, shown, config.run.seed, data.merges_dropped, data.captions_dropped), kept


def bundle(network: Network, tokenizer: ImageTokenizer, text: TextTokenizer) -> Dalle:
    """Transformer and tokenizers as one DALL-E in evaluation mode, sharing their weights."""
    config = DalleConfig(
        text=text.config,
        tokenizer=tokenizer.config,
        gpt=network.gpt.config,
        text_length=network.layout.places,
    )
    with torch.device("meta"):
        model = Dalle(config)
    model.gpt, model.text = network.gpt, text
    model.tokenizer = tokenizer.to(model.device)
    return model.eval()


if __name__ == "__main__":
    launch(train, TrainConfig)
