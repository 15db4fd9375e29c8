"""ImageGPT: a tokenizer and a transformer over the ids of one picture.

Chen et al. 2020, "Generative Pretraining from Pixels". Over a palette a token is a pixel; over the codes of a
VQ tokenizer, with a class as its prefix, the same is LlamaGen (Sun et al. 2024).

Letters: b pictures, h w pixels, i j grid of codes, t tokens of a picture, c classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import repeat
from torch import Tensor, nn

from imagegpt.generate import filled
from imagegpt.layout import Layout
from imagegpt.network import Network, classifier_for, nats
from vqtok.data.classes import number_of
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.generation import generate
from vqtok.gpt.model import GPT
from vqtok.gpt.prefix import ClassesConfig
from vqtok.gpt.prompts import Prompt
from vqtok.gpt.sampling import Sampling
from vqtok.storage.pretrained import Pretrained
from vqtok.tokenizers.choice import AnyTokenizerConfig, build
from vqtok.training.batches import seeds


@dataclass(frozen=True, kw_only=True)
class ImageGPTConfig:
    """Both parts of an ImageGPT, and what classes are called.

    Args:
        tokenizer: Pictures <-> ids.
        gpt: Its vocabulary is the codes. It sees the past, with a prefix, or both sides, without one.
        classes: Names of the classes by their numbers, where it draws or names any.
        classifier: Whether it names the class of a picture.
    """

    tokenizer: AnyTokenizerConfig
    gpt: GPTConfig
    classes: tuple[str, ...] = ()
    classifier: bool = False

    def __post_init__(self) -> None:
        if self.classifier and not self.classes:
            raise ValueError("a classifier needs classes: give their names")
        if isinstance(self.gpt.prefix, ClassesConfig) and len(self.classes) != self.gpt.prefix.classes:
            raise ValueError(
                f"gpt.prefix.classes is {self.gpt.prefix.classes}, the data have {len(self.classes)} "
                "classes: set it to that"
            )


class ImageGPT(nn.Module, Pretrained):
    """Draws, completes and measures pictures if it sees the past; fills holes if it sees both sides."""

    def __init__(self, config: ImageGPTConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = build(config.tokenizer)
        self.layout = Layout.of(self.tokenizer)
        self.layout.check(config.gpt)
        self.gpt = GPT(config.gpt)
        self.classifier = classifier_for(config.gpt, len(config.classes)) if config.classifier else None

    @property
    def network(self) -> Network:
        """What is trained of it."""
        return Network(self.gpt, self.classifier).train(self.training)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.gpt.embed.weight.device

    def sample(
        self, count: int, sampling: Sampling | None = None, seed: int = 0, classes: Sequence[int | str] = ()
    ) -> Tensor:
        """Pictures drawn from nothing, (count, 3, h, w) in [0, 1].

        Args:
            count: How many; of one seed, the first are the same whatever the count.
            sampling: How tokens are drawn; temperature 1 if left out.
            seed: Of the draws.
            classes: Classes by name or number, dealt out in turn; none leaves the class to chance.

        Raises:
            ValueError: if the model sees both sides, or a class is unknown.
        """
        self._require(causal=True, what="draw from nothing")
        if count < 1:
            raise ValueError(f"{count} pictures are none: ask for at least 1")
        start = torch.empty(count, 0, dtype=torch.int64, device=self.device)
        return self._drawn(Prompt(ids=start, prefix=self._prefix(classes, count)), 1, sampling, seed)

    def complete(
        self,
        images: Tensor,
        rows: int,
        sampling: Sampling | None = None,
        seed: int = 0,
        classes: Sequence[int | str] = (),
        candidates: int = 1,
    ) -> Tensor:
        """Images with all but their top rows drawn anew, (b candidates, 3, h, w); those of one side by side.

        Args:
            images: (b, 3, h, w) in [0, 1], of the model's size.
            rows: Rows of codes that are kept, from the top.
            sampling: How tokens are drawn; temperature 1 if left out.
            seed: Of the draws.
            classes: Classes by name or number, dealt out in turn.
            candidates: Ways to complete each image; what is kept of it is read once for all.

        Raises:
            ValueError: if the model sees both sides, there are no such rows, or an image has another size.
        """
        self._require(causal=True, what="complete")
        height = self.layout.shape[0]
        if not 0 <= rows < height:
            raise ValueError(f"{rows} rows cannot be kept of {height}: keep 0 to {height - 1}")
        kept = self._encoded(images)[:, : rows * self.layout.row]
        prompt = Prompt(ids=kept, prefix=self._prefix(classes, len(kept)))
        return self._drawn(prompt, candidates, sampling, seed)

    def fill(
        self, images: Tensor, holes: Tensor, passes: int = 12, sampling: Sampling | None = None, seed: int = 0
    ) -> Tensor:
        """Images with holes filled in from all sides, (b, 3, h, w) in [0, 1].

        Args:
            images: (b, 3, h, w) in [0, 1], of the model's size; what lies in a hole does not matter.
            holes: (b, h, w) or (h, w) bool, pixels to fill; a code is drawn anew if it has one of them.
            passes: More of them are slower, and agree better with one another.
            sampling: How tokens are drawn; temperature 1 if left out.
            seed: Of the draws.

        Raises:
            ValueError: if the model sees the past only, or images or holes have another size.
        """
        self._require(causal=False, what="fill holes")
        ids, hidden = self._encoded(images), self._codes(holes, len(images))
        drawn = filled(self.network, ids, hidden, passes, sampling or Sampling(), seeds(seed, len(ids)))
        return self.tokenizer.decode(self.layout.grid(drawn))

    @torch.inference_mode()
    def nll(self, images: Tensor, classes: Sequence[int | str] = ()) -> Tensor:
        """(b,) nats per token of images (b, 3, h, w) in [0, 1], given their classes if there are any.

        It is the likelihood of what the tokenizer keeps of an image, not of the image: figures of two models
        compare if both have the same tokenizer.

        Raises:
            ValueError: if the model sees both sides, which has no likelihood, or an image has another size.
        """
        self._require(causal=True, what="tell a likelihood")
        return nats(self.network, self._encoded(images), self._prefix(classes, len(images))).mean(1)

    def bits_per_pixel(self, nats: float | Tensor) -> float | Tensor:
        """Bits per pixel of nats per token; a third of them are called bits per dimension."""
        return nats / math.log(2) * self.layout.tokens / self.config.tokenizer.size**2

    @torch.inference_mode()
    def classify(self, images: Tensor) -> Tensor:
        """(b, c) probability of each class of images (b, 3, h, w) in [0, 1].

        Raises:
            ValueError: if the model has no classifier, or an image has another size.
        """
        if self.classifier is None:
            raise ValueError("this model names no classes: fine-tune it with objective.classes above 0")
        x = self.network.features(self._encoded(images), self._prefix((), len(images)))
        return self.classifier(x.mean(1)).float().softmax(-1)

    def _drawn(self, prompt: Prompt, candidates: int, sampling: Sampling | None, seed: int) -> Tensor:
        """Pictures that begin with a prompt, (b candidates, 3, h, w)."""
        start = prompt.ids.repeat_interleave(candidates, dim=0)
        rest = generate(
            self.gpt,
            prompt,
            count=self.layout.tokens - start.shape[1],
            sampling=sampling or Sampling(),
            generator=seeds(seed, len(start)),
            candidates=candidates,
        )
        return self.tokenizer.decode(self.layout.grid(torch.cat([start, rest], dim=1)))

    def _encoded(self, images: Tensor) -> Tensor:
        """(b, t) ids of images."""
        return self.layout.flat(self.tokenizer.encode(images.to(self.device)))

    def _codes(self, holes: Tensor, count: int) -> Tensor:
        """(b, t) bool, the tokens that have a pixel of a hole."""
        size, factor = self.config.tokenizer.size, self.tokenizer.factor
        if holes.dtype != torch.bool or holes.shape[-2:] != (size, size) or holes.ndim not in (2, 3):
            raise ValueError(
                f"holes are {holes.dtype} of shape {tuple(holes.shape)}: give bool ({count}, {size}, {size})"
            )
        blocks = holes.expand(count, size, size).unflatten(2, (-1, factor)).unflatten(1, (-1, factor))
        each = math.prod(self.tokenizer.id_shape)
        return repeat(blocks.any(4).any(2), "b i j -> b (i j q)", q=each).to(self.device)

    def _prefix(self, classes: Sequence[int | str], count: int) -> Tensor | None:
        """Classes (count,) dealt out in turn, or that of no class; None for a model that reads none."""
        prefix = self.config.gpt.prefix
        if not isinstance(prefix, ClassesConfig):
            if classes:
                raise ValueError("this model draws no classes: leave them out")
            return None
        chosen = [number_of(name, self.config.classes) for name in classes] or [prefix.classes]
        return torch.tensor([chosen[number % len(chosen)] for number in range(count)], device=self.device)

    def _require(self, causal: bool, what: str) -> None:
        if self.config.gpt.causal != causal:
            sees = "both sides" if causal else "the past only"
            raise ValueError(f"this model sees {sees} of a picture, and cannot {what}: take one that sees "
                             f"{'the past only' if causal else 'both sides'}")  # fmt: skip
