"""Goes on from a trained ImageGPT: to name classes beside learning pictures, or with other pictures.

    accelerate launch -m imagegpt.tune --config recipes/imagegpt/fashion28-classes.yaml

Chen et al. 2020, section 2.4: the loss of ids beside that of classes does better than the latter alone.
"""

from dataclasses import dataclass

from imagegpt.model import ImageGPT
from imagegpt.train import LoopConfig, learn
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.training.config import launch
from vqtok.training.run import Run


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopConfig):
    """The fine-tuning of an ImageGPT; `objective.classes` above 0 makes a classifier.

    Args:
        start: Folder or hub id of the ImageGPT to go on from.
    """

    start: str


def train(config: TrainConfig) -> None:
    """Train on; `config.run.folder` receives checkpoints, pictures, metrics and `model/`.

    Raises:
        ValueError: if shards, tokenizer and model do not belong together.
    """
    run = Run(config.run)
    model, tokenizer = ImageGPT.from_pretrained(config.start), load_tokenizer(config.data.tokenizer)
    if fingerprint(model.tokenizer) != fingerprint(tokenizer):
        raise ValueError(f"{config.start} has another tokenizer than {config.data.tokenizer}: name its own")
    learn(run, config, model.gpt, tokenizer, model.classifier, model.config.classes)


if __name__ == "__main__":
    launch(train, TrainConfig)
