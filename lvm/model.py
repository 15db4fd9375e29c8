"""A large vision model: a tokenizer and a transformer that continues sentences of images.

Bai et al. 2023, "Sequential Modeling Enables Scalable Learning for Large Vision Models".

Letters: c h w image, n candidates, e prompts of an ensemble, k pairs, t tokens of an image, i j grid of codes
(i also images), v vocabulary, d width of a code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lvm.generate import continuation, room, scored_answers
from lvm.layout import LayoutConfig, MarkedConfig
from lvm.prompts import Allowed, allowed_ids, fitted_pictures, orders, pictures_of_pairs
from vqtok.data.pictures import Fit
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling
from vqtok.storage.pretrained import Pretrained
from vqtok.tokenizers.interface import ImageTokenizer
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "emoji64"


@dataclass(frozen=True, kw_only=True)
class LVMConfig:
    """Both parts of a large vision model.

    Args:
        tokenizer: Images <-> codes.
        gpt: Its vocabulary is the codes and the special ids of `layout`.
        layout: What stands around images.
        trained: Names of the tasks that it was trained on; none means that this is not known.
    """

    tokenizer: TokenizerConfig
    gpt: GPTConfig
    layout: LayoutConfig = MarkedConfig()
    trained: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        codes = self.tokenizer.quantizer.vocab
        vocab = self.layout.build(codes, tokens=0).vocab
        if self.gpt.vocab != vocab:
            raise ValueError(
                f"gpt.vocab is {self.gpt.vocab}, but {codes} codes and the special ids make {vocab}: "
                "set it to that"
            )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Candidates for one answer, the likeliest first.

    Args:
        images: (n, 3, h, w) in [0, 1].
        ids: (n, i, j) int64, their codes.
        nats: (n,) that a token of each costs on the mean by the model's own odds: at temperature 1, without
            guidance, whatever is allowed. An ensemble's are by the mean of its log-probabilities. Less is
            likelier.
    """

    images: Tensor
    ids: Tensor
    nats: Tensor


class LVM(nn.Module, Pretrained):
    """Prompt it with pairs of pictures and a query, and it does to the query what the pairs show.

    Attributes:
        layout: Its ids; `model.layout = model.layout.telling("invert")` tells a model that was trained with
            ids of tasks which one is meant.
        fit: What gives way where a picture has another size than the tokenizer's and is not square, as in
            `vqtok.data.fitted`: "crop", "stretch" or "pad".
    """

    fit: Fit = "crop"

    def __init__(self, config: LVMConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = VQTokenizer(config.tokenizer)
        self.gpt = GPT(config.gpt)
        self.layout = config.layout.build(self.tokenizer.vocab, self.tokenizer.tokens)

    @property
    def shots(self) -> int:
        """Most pairs that fit before a query and its answer."""
        return (room(self.layout, self.config.gpt.length) - 1) // 2

    def prompt(
        self,
        pairs: Sequence[Sequence[Tensor]],
        query: Tensor,
        candidates: int = 1,
        sampling: Sampling | None = None,
        seed: int = 0,
        ensemble: int = 1,
        allowed: Allowed = None,
    ) -> Tensor:
        """What the model answers to `query` after `pairs`: (candidates, 3, h, w) in [0, 1], best first.

        These are the images of `answer`, which takes the same.
        """
        return self.answer(pairs, query, candidates, sampling, seed, ensemble, allowed).images

    @torch.inference_mode()
    def answer(
        self,
        pairs: Sequence[Sequence[Tensor]],
        query: Tensor,
        candidates: int = 1,
        sampling: Sampling | None = None,
        seed: int = 0,
        ensemble: int = 1,
        allowed: Allowed = None,
    ) -> Answers:
        """What the model answers to `query` after `pairs`, and how likely it finds that; the best first.

        Args:
            pairs: (x, y) pictures, each (3, h, w) in [0, 1], x and y of one size.
            query: (3, h, w), the next x.
            candidates: Answers to draw; the prompt is read once for all.
            sampling: Greedy if left out for one candidate, temperature 1 for several. Guidance compares with
                the query without pairs.
            seed: Of the draws, and of an ensemble's orders.
            ensemble: Prompts that answer together, their log-probabilities averaged: the pairs in the order
                given and in others, and different sets of pairs where more are given than fit
                (`lvm.prompts.orders`).
            allowed: "seen" draws only codes that occur in the answers shown, which there must be;
                (codes,) bool those that are true; None any.

        Raises:
            ValueError: if pictures do not pair up or are none, the pairs do not fit or do not make so many
                prompts, guidance has no pairs to compare with, or nothing is allowed.
        """
        pictures = pictures_of_pairs(pairs)
        reads = orders(len(pairs), self.shots, ensemble, seed)
        if sampling is not None and sampling.guidance is not None and not pictures:
            raise ValueError("guidance compares with the prompt without pairs: give pairs, or no guidance")
        sampling = sampling or Sampling(temperature=0.0 if candidates == 1 else 1.0)
        ids = self._encoded([*pictures, query])
        examples = rearrange(ids[:-1], "(k two) t -> k two t", two=2)
        allowed = allowed_ids(self.layout, allowed, examples[:, 1])
        sentences = [torch.cat([examples[list(order)].flatten(0, 1), ids[-1:]]) for order in reads]
        generator = torch.Generator().manual_seed(seed)
        sentences = torch.stack(sentences)  # (e, i, t)
        drawn, nats = scored_answers(
            self.gpt, self.layout, sentences, sampling, generator, candidates, allowed, votes=ensemble
        )
        nats = nats.mean(1)
        best = nats.argsort(stable=True)
        return Answers(images=self._decoded(drawn[best]), ids=self._grids(drawn[best]), nats=nats[best])

    @torch.inference_mode()
    def continue_(
        self,
        frames: Sequence[Tensor],
        count: int = 1,
        sampling: Sampling | None = None,
        seed: int = 0,
        allowed: Allowed = None,
        slide: int = 1,
    ) -> Tensor:
        """The next pictures of a row: (count, 3, h, w) in [0, 1].

        Where the context is full, the window slides by whole pictures: the oldest are dropped, and the rest
        is read again.

        Args:
            frames: Pictures (3, h, w) in [0, 1], one or more; the last that fit are read.
            count: Pictures to draw, each of which the next ones follow.
            sampling: Greedy if left out.
            seed: Of the draws.
            allowed: "seen" draws only codes that occur in the frames; else as in `answer`.
            slide: Pictures that are dropped at a time; 2 keeps the pairs of a row whole.

        Raises:
            ValueError: if a frame is no picture, there is nothing to draw or to continue, or the window
                cannot slide so far.
        """
        if not len(frames):
            raise ValueError("0 frames are no row to continue: give at least one")
        ids = self._encoded(frames)
        allowed = allowed_ids(self.layout, allowed, ids)
        generator = torch.Generator().manual_seed(seed)
        sampling = sampling or Sampling(temperature=0.0)
        drawn = continuation(
            self.gpt, self.layout, ids[None], count, sampling, generator, allowed, slide=slide
        )
        return self._decoded(drawn[0])

    def _encoded(self, pictures: Sequence[Tensor]) -> Tensor:
        """(i, t) codes of pictures (3, h, w) of any size."""
        images = fitted_pictures(pictures, self.config.tokenizer.size, self.fit)
        return self.tokenizer.encode(images.to(self.gpt.embed.weight.device)).flatten(1)

    def _grids(self, ids: Tensor) -> Tensor:
        side = self.config.tokenizer.size // self.tokenizer.factor
        return rearrange(ids, "n (i j) -> n i j", i=side)

    def _decoded(self, ids: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) of codes (n, t)."""
        return self.tokenizer.decode(self._grids(ids))


def usable(tokenizer: ImageTokenizer, name: str) -> VQTokenizer:
    """The tokenizer, if an LVM can be made with it.

    Args:
        tokenizer: Any.
        name: What the user calls it.

    Raises:
        ValueError: if it is of another family, has several ids a code, or no decoder to show answers with.
    """
    if not isinstance(tokenizer, VQTokenizer):
        fault = f"is a {type(tokenizer).__name__}, not of the VQGAN family"
    elif tokenizer.id_shape:
        fault = f"has {tokenizer.id_shape[0]} ids for each code"
    elif not tokenizer.decodes:
        fault = "was published without its decoder"
    else:
        return tokenizer
    raise ValueError(f"{name} {fault}, and an LVM cannot use it: choose a VQTokenizer with one id a code")


@torch.no_grad()
def seed_embeddings(gpt: GPT, tokenizer: VQTokenizer, seed: int) -> None:
    """Start the embedding and the head from the codebook, so that codes that look alike start alike.

    Each code's vector goes through one random projection, scaled to the initialization's usual 0.02; special
    ids keep their random start. With few tokens to learn from this is worth many of them
    (recipes/lvm/emoji64.yaml).
    """
    codes = torch.arange(tokenizer.vocab, device=gpt.embed.weight.device)[None, None]  # a grid of one row
    book = F.normalize(tokenizer.quantize.decode(codes)[0, :, 0].T, dim=1)  # (v, d)
    projection = torch.randn(book.shape[1], gpt.config.width, generator=torch.Generator().manual_seed(seed))
    rows = (book @ projection.to(book)).mul_(0.02)
    gpt.embed.weight[: len(rows)] += rows
    gpt.head.weight[: len(rows)] += rows
