"""A large vision model: a tokenizer and a transformer that continues sentences of images.

Bai et al. 2023, "Sequential Modeling Enables Scalable Learning for Large Vision Models".

Letters: c h w image, b batch, i j grid of codes, v vocabulary, d width of a code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvm.generate import answers
from lvm.layout import LayoutConfig, MarkedConfig
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
    """

    tokenizer: TokenizerConfig
    gpt: GPTConfig
    layout: LayoutConfig = MarkedConfig()

    def __post_init__(self) -> None:
        codes = self.tokenizer.quantizer.vocab
        vocab = self.layout.build(codes, tokens=0).vocab
        if self.gpt.vocab != vocab:
            raise ValueError(
                f"gpt.vocab is {self.gpt.vocab}, but {codes} codes and the special ids make {vocab}: "
                "set it to that"
            )


class LVM(nn.Module, Pretrained):
    """Prompt it with pairs of pictures and a query, and it does to the query what the pairs show."""

    def __init__(self, config: LVMConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = VQTokenizer(config.tokenizer)
        self.gpt = GPT(config.gpt)
        self.layout = config.layout.build(self.tokenizer.vocab, self.tokenizer.tokens)

    @property
    def shots(self) -> int:
        """Most pairs that fit before a query and its answer."""
        return self.config.gpt.length // (2 * self.layout.tokens) - 1

    @torch.inference_mode()
    def prompt(
        self,
        pairs: Sequence[tuple[Tensor, Tensor]],
        query: Tensor,
        candidates: int = 1,
        sampling: Sampling | None = None,
        seed: int = 0,
    ) -> Tensor:
        """What the model answers to `query` after `pairs`: (candidates, 3, h, w) in [0, 1].

        Args:
            pairs: (x, y) pictures, each (3, h, w) in [0, 1], of the tokenizer's size.
            query: (3, h, w), the next x.
            candidates: Answers to draw.
            sampling: Greedy if left out for one candidate, temperature 1 for several.
            seed: Of the draws.

        Raises:
            ValueError: if a picture has another size, or more pairs are given than fit.
        """
        size = self.config.tokenizer.size
        pictures = [picture for pair in pairs for picture in pair] + [query]
        for number, picture in enumerate(pictures):
            if tuple(picture.shape) != (3, size, size):
                raise ValueError(
                    f"picture {number + 1} of the prompt is {tuple(picture.shape)}, this model sees "
                    f"(3, {size}, {size}): read it with vqtok.data.read_picture(path, size={size})"
                )
        if len(pairs) > self.shots:
            raise ValueError(
                f"{len(pairs)} pairs are too many, {self.shots} fit before a query: leave some out"
            )
        sampling = sampling or Sampling(temperature=0.0 if candidates == 1 else 1.0)
        device = self.gpt.embed.weight.device
        ids = self.tokenizer.encode(torch.stack(pictures).to(device)).flatten(1)
        generator = torch.Generator().manual_seed(seed)
        drawn = answers(self.gpt, self.layout, ids[None], sampling, generator, candidates)
        side = size // self.tokenizer.factor
        return self.tokenizer.decode(drawn.view(-1, side, side))


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
