"""DALL-E: a text tokenizer, an image tokenizer and a transformer over captions and their pictures.

Ramesh et al. 2021, "Zero-Shot Text-to-Image Generation".

Letters: b captions or images, n captions, m candidates, t tokens of a picture, c h w image.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dalle.generate import Scorer, Start, best, drawn, drawn_in_steps, guided
from dalle.layout import Layout
from dalle.network import Network, nats
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.guidance import Guidance
from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling
from vqtok.storage.pretrained import Pretrained
from vqtok.text import TextConfig, TextTokenizer
from vqtok.tokenizers.choice import AnyTokenizerConfig, build
from vqtok.training.batches import seeds


@dataclass(frozen=True, kw_only=True)
class DalleConfig:
    """The parts of a DALL-E.

    Args:
        text: Captions <-> words.
        tokenizer: Pictures <-> codes.
        gpt: Its vocabulary is the words, a padding for each place of text, and the codes.
        text_length: Places of text before every picture.
    """

    text: TextConfig
    tokenizer: AnyTokenizerConfig
    gpt: GPTConfig
    text_length: int


class Dalle(nn.Module, Pretrained):
    """Draws pictures of captions, completes pictures by them, and says how well captions fit pictures.

    Attributes:
        batch: Most pictures that are drawn or read at once; it changes nothing but memory and speed.
    """

    batch: int = 64

    def __init__(self, config: DalleConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextTokenizer(config.text)
        self.tokenizer = build(config.tokenizer)
        self.layout = Layout.of(config.text.vocab, config.text_length, self.tokenizer)
        self.layout.check(config.gpt)
        self.gpt = GPT(config.gpt)

    @property
    def network(self) -> Network:
        """What is trained of it."""
        return Network(self.gpt, self.layout).train(self.training)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.gpt.embed.weight.device

    @torch.inference_mode()
    def generate(
        self,
        captions: Sequence[str],
        count: int = 16,
        guidance: float | Guidance | None = 3.0,
        seed: int = 0,
        sampling: Sampling | None = None,
        rank: Scorer | None = None,
        keep: int | None = None,
    ) -> Tensor:
        """Pictures of captions, (b count, 3, h, w) in [0, 1], those of one caption side by side.

        Args:
            captions: One or more; longer ones than fit are cut, with a warning.
            count: Pictures of each. Number j is drawn from the seed and j alone, whatever the count and the
                other captions, so that pictures of two captions compare.
            guidance: How far to push away from what the null caption draws: a scale, 1 being not at all, or
                a schedule of `vqtok.gpt.guidance`.
            seed: Of the draws.
            sampling: How tokens are drawn; temperature 1 if left out.
            rank: Sorts the pictures of each caption by its score, the best first.
            keep: How many of each caption's are returned; all if left out. Only with `rank`.

        Raises:
            ValueError: if a caption is empty or no text, or there is nothing to draw or to keep.
        """
        if keep is not None and rank is None:
            raise ValueError(f"keep {keep} of what order: give rank= too, or a smaller count")
        _check_count(count)
        start = Start.of(self._texts(captions))
        ids = drawn(self.gpt, self.layout, start, guided(sampling, guidance), seeds(seed, count), self.batch)
        images = self._decoded(ids)
        return images if rank is None else best(images, captions, rank, count if keep is None else keep)

    def stream(
        self,
        captions: Sequence[str],
        count: int = 1,
        every: int = 8,
        guidance: float | Guidance | None = 3.0,
        seed: int = 0,
        sampling: Sampling | None = None,
        rest: int | None = None,
    ) -> Iterator[Tensor]:
        """The pictures of `generate` as they come: (b count, 3, h, w), again and again, the whole ones last.

        Args:
            captions: One or more.
            count: Pictures of each.
            every: Tokens between two states.
            guidance: As in `generate`.
            seed: Of the draws.
            sampling: As in `generate`.
            rest: Code that stands for what is not drawn yet; those of a plain gray picture if left out.

        Raises:
            ValueError: as `generate`, or if `rest` is no code.
        """
        _check_count(count)
        filling = self._filling(rest)
        steps = drawn_in_steps(
            self.gpt, self.layout, Start.of(self._texts(captions)), guided(sampling, guidance),
            seeds(seed, count), every,
        )  # fmt: skip
        whole = (torch.cat([ids, filling[ids.shape[1] :].expand(len(ids), -1)], dim=1) for ids in steps)
        return (self._decoded(ids) for ids in whole)

    @torch.inference_mode()
    def complete(
        self,
        images: Tensor,
        captions: Sequence[str],
        rows: int | None = None,
        candidates: int = 1,
        guidance: float | Guidance | None = 3.0,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Tensor:
        """Images whose top rows are given and whose rest is drawn by a caption, (b candidates, 3, h, w).

        An image that is drawn below another one, which the caption speaks of too ("the same as a sketch at
        the bottom"), is the paper's image-to-image: give the upper part alone.

        Args:
            images: (b, 3, h, w) in [0, 1], of the model's size, or of less height.
            captions: One for each image.
            rows: Rows of codes that are kept, from the top; all there are if left out.
            candidates: Ways to complete each image.
            guidance: As in `generate`; what it pushes away from has the same rows.
            seed: Of the draws; candidate j depends on the seed, j, its image and its caption alone.
            sampling: As in `generate`.

        Raises:
            ValueError: as `generate`, or if images and captions are not as many, or nothing is left to draw.
        """
        _check_count(candidates)
        _check_pairs(images, captions)
        kept = self._encoded(images)
        height, given = self.layout.shape[0], kept.shape[1] // self.layout.row
        rows = given if rows is None else rows
        if not 0 <= rows <= min(given, height - 1):
            raise ValueError(
                f"{rows} rows cannot be kept of {given} in a model of {height}: keep 0 to "
                f"{min(given, height - 1)}"
            )
        start = Start(self._texts(captions), kept[:, : rows * self.layout.row])
        chances = seeds(seed, candidates)
        return self._decoded(
            drawn(self.gpt, self.layout, start, guided(sampling, guidance), chances, self.batch)
        )

    @torch.inference_mode()
    def score(self, images: Tensor, captions: Sequence[str], against_null: bool = False) -> Tensor:
        """log p(image | caption) in nats of every image and every caption, (b, n) float32.

        The caption that fits an image best is the largest of its row. Rows of different images compare only
        `against_null`. The model itself is a scorer: `generate(..., rank=model.score)`.

        Args:
            images: (b, 3, h, w) in [0, 1], of the model's size.
            captions: Each is tried on each image, which costs a pass.
            against_null: Subtract log p(image | no caption): what the caption says about the image.

        Raises:
            ValueError: if a caption is empty, or an image has another size.
        """
        pictures, texts = self._encoded(images, whole=True), self._texts(captions)
        if against_null:
            texts = torch.cat([texts, self.layout.padding.to(texts)[None]])
        which = torch.cartesian_prod(torch.arange(len(pictures)), torch.arange(len(texts))).view(-1, 2)
        rows = [
            torch.cat([texts[part[:, 1]], pictures[part[:, 0]]], dim=1) for part in which.split(self.batch)
        ]
        found = torch.cat([-nats(self.network, ids)[1].sum(1) for ids in rows]).view(len(pictures), -1)
        return found[:, :-1] - found[:, -1:] if against_null else found

    @torch.inference_mode()
    def nll(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """(b,) nats per image token of images (b, 3, h, w) in [0, 1], given a caption each.

        It is the likelihood of what the tokenizer keeps of an image: figures of two models compare if both
        have the same image tokenizer.

        Raises:
            ValueError: if a caption is empty, images and captions are not as many, or an image has another
                size.
        """
        _check_pairs(images, captions)
        ids = torch.cat([self._texts(captions), self._encoded(images, whole=True)], dim=1)
        return torch.cat([nats(self.network, part)[1].mean(1) for part in ids.split(self.batch)])

    def _texts(self, captions: Sequence[str]) -> Tensor:
        """(b, n) of the stream; captions that are cut or have unknown characters are told in warnings."""
        if not len(captions):
            raise ValueError("0 captions are nothing to read: give at least one")
        texts = self.text.encode(captions, length=self.layout.places)
        if texts.unknown:
            warnings.warn(
                f"{texts.unknown} of {len(captions)} captions have characters that this model does not know",
                stacklevel=3,
            )
        return self.layout.text(texts.ids).to(self.device)

    def _encoded(self, images: Tensor, whole: bool = False) -> Tensor:
        """(b, t) of the stream, of images; fewer of their upper part alone, unless they must be `whole`."""
        ids = self.layout.image(self.tokenizer.encode(images.to(self.device)))
        if whole and ids.shape[1] < self.layout.tokens:
            rows = ids.shape[1] // self.layout.row
            raise ValueError(
                f"these images have {rows} of {self.layout.shape[0]} rows of codes: give whole ones, "
                f"{self.config.tokenizer.size} pixels a side"
            )
        return ids

    def _decoded(self, ids: Tensor) -> Tensor:
        """Images (b, 3, h, w) of ids (b, t) of the stream, at most `batch` at once."""
        grids = self.layout.grid(ids).split(self.batch)
        return torch.cat([self.tokenizer.decode(grid) for grid in grids])

    def _filling(self, code: int | None) -> Tensor:
        """(t,) of the stream: a picture of one code, or of plain gray."""
        if code is None:
            size = self.config.tokenizer.size
            return self._encoded(torch.full((1, 3, size, size), 0.5))[0]
        if not 0 <= code < self.layout.codes:
            raise ValueError(f"rest {code} is no code: give 0 to {self.layout.codes - 1}, or None for gray")
        return torch.full((self.layout.tokens,), self.layout.first_code + code, device=self.device)


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"{count} pictures are none: ask for at least 1 of each caption")


def _check_pairs(images: Tensor, captions: Sequence[str]) -> None:
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions: give one for each")
