"""`vqtok compare speed gpt`: training steps and drawn images of small transformers, ours and transformers'.

All have the same depth, width, heads, length and vocabulary, and weights as they are initialized, in float32
unless the row says otherwise. Two shapes are compared: Llama's, which is our usual one, and ImageGPT's, with
biases, learned positions and an MLP of two matrices. Dropout is off unless the row says so. Drawing is at
temperature 1 from all ids, by each package's own `generate`.

Letters: b batch, t tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtok.gpt.config import GPTConfig
from vqtok.gpt.generation import generate
from vqtok.gpt.int8 import int8_copy
from vqtok.gpt.loss import next_token_loss
from vqtok.gpt.model import GPT
from vqtok.gpt.published.imagegpt import imagegpt_config
from vqtok.gpt.sampling import Sampling, draw
from workbench.compare.speed import Call, Comparison, Contestant


@dataclass(frozen=True, kw_only=True)
class Case:
    """A transformer of this size, and how many sequences it is given; the last id starts an image."""

    batch: int
    depth: int = 8
    width: int = 256
    heads: int = 8
    length: int = 1024
    vocab: int = 513

    @property
    def llama(self) -> GPTConfig:
        """In Llama's shape."""
        return GPTConfig(
            vocab=self.vocab, length=self.length, width=self.width, depth=self.depth, heads=self.heads
        )

    @property
    def image_gpt(self) -> GPTConfig:
        """In ImageGPT's shape, which starts an image by itself."""
        settings = {"vocab_size": self.vocab, "n_positions": self.length, "n_embd": self.width}
        return imagegpt_config(settings | {"n_layer": self.depth, "n_head": self.heads})

    def ids(self, count: int) -> Tensor:
        """(b, count): the start of an image and random colors."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.vocab - 1, (self.batch, count), generator=generator)
        ids[:, 0] = self.vocab - 1
        return ids


@dataclass(frozen=True, kw_only=True)
class Training(Case):
    """One step on whole images, every token of them predicted."""

    @property
    def tokens(self) -> int:
        """That one call handles."""
        return self.batch * self.length

    @property
    def operations(self) -> float:
        """Floating-point, forward and backward, with the causal half of attention only."""
        looked_up, norms = self.vocab * self.width, (2 * self.depth + 1) * self.width
        products = self.llama.parameters - looked_up - norms
        attention = 6 * self.depth * self.batch * self.length**2 * self.width
        return 6 * products * self.tokens + attention


@dataclass(frozen=True, kw_only=True)
class Drawing(Case):
    """So many tokens after prompts of so many, a sequence for each prompt."""

    count: int
    prompt: int = 1

    @property
    def tokens(self) -> int:
        """That one call draws."""
        return self.batch * self.count


class Uncached(Drawing):
    """Few tokens, so that those who read everything anew for each can take part."""


class Continuing(Drawing):
    """Continuations of one and the same prompt."""

    def ids(self, count: int) -> Tensor:
        """(b, count) the same in every row."""
        return super().ids(count)[:1].expand(self.batch, -1).contiguous()


def _training(
    model: nn.Module, scores: Callable[[Tensor], Tensor], ids: Tensor, next_ids: Tensor, bf16: bool = False
) -> Call:
    """A step of AdamW on ids (b, t) and what they predict."""
    optimizer = torch.optim.AdamW(model.train().parameters(), fused=True)

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=bf16):
            logits = scores(ids)
        next_token_loss(logits, next_ids).backward()
        optimizer.step()

    return call


def _gpt(config: GPTConfig, device: torch.device) -> GPT:
    torch.manual_seed(0)
    return GPT(config).to(device)


def _ours(
    config: Callable[[Case], GPTConfig], bf16: bool = False, lighten: Callable[[GPT], GPT] | None = None
) -> Contestant:
    """Our transformer of a shape; bf16 is by autocast in training, and `lighten` makes what draws."""

    def prepare(case: Case, device: torch.device) -> Call | None:
        gpt = _gpt(config(case), device)
        own_start = gpt.config.prefix_places
        if isinstance(case, Training):
            ids = case.ids(case.length + 1).to(device)
            if lighten and not bf16:
                return None
            return _training(gpt, gpt, ids[:, own_start:-1].contiguous(), ids[:, 1:], bf16)
        gpt = lighten(gpt) if lighten else gpt
        ids, candidates = case.ids(case.prompt)[:, own_start:].to(device), 1
        if isinstance(case, Continuing):
            ids, candidates = ids[:1], case.batch
        return lambda: generate(gpt, ids, case.count, Sampling(), _generator(), candidates=candidates)

    return Contestant(prepare=prepare, package="vqtok")


def _unshared(separately: bool) -> Contestant:
    """Ours, with the prompt written out for every continuation, in one batch or one after the other."""

    def prepare(case: Case, device: torch.device) -> Call | None:
        if not isinstance(case, Continuing):
            return None
        gpt, ids = _gpt(case.llama, device), case.ids(case.prompt).to(device)
        batches = ids.split(1 if separately else case.batch)
        return lambda: [generate(gpt, batch, case.count, Sampling(), _generator()) for batch in batches]

    return Contestant(prepare=prepare, package="vqtok")


def _uncached(case: Case, device: torch.device) -> Call | None:
    """Ours, reading all tokens anew for each."""
    if not isinstance(case, Uncached):
        return None
    gpt, start = _gpt(case.llama, device).eval(), case.ids(case.prompt).to(device)

    @torch.inference_mode()
    def call() -> Tensor:
        ids, generator = start, _generator()
        for _ in range(case.count):
            last = torch.zeros_like(ids, dtype=torch.bool)
            last[:, -1] = True
            ids = torch.cat((ids, draw(gpt(ids, where=last), Sampling(), generator)[:, None]), dim=1)
        return ids

    return call


def _image_gpt(dropout: float = 0.0) -> Contestant:
    def prepare(case: Case, device: torch.device) -> Call | None:
        from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

        if dropout and not isinstance(case, Training):
            return None
        config = ImageGPTConfig(
            vocab_size=case.vocab,
            n_positions=case.length,
            n_embd=case.width,
            n_layer=case.depth,
            n_head=case.heads,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout),
        )
        return _theirs(ImageGPTForCausalImageModeling(config), case, device)

    return Contestant(prepare=prepare, package="transformers")


def _llama(case: Case, device: torch.device) -> Call:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=case.vocab,
        hidden_size=case.width,
        intermediate_size=case.llama.inner,
        num_hidden_layers=case.depth,
        num_attention_heads=case.heads,
        max_position_embeddings=case.length,
        bos_token_id=None,
        eos_token_id=None,  # or theirs would stop at a color
    )
    return _theirs(LlamaForCausalLM(config), case, device)


def _theirs(model: nn.Module, case: Case, device: torch.device) -> Call:
    """A call of a transformers model, which continues one prompt in several ways by its own means."""
    model.to(device)
    if isinstance(case, Training):
        ids = case.ids(case.length + 1).to(device)
        return _training(model, lambda ids: model(ids, use_cache=False).logits, ids[:, :-1], ids[:, 1:])
    ids, times = case.ids(case.prompt).to(device), 1
    if isinstance(case, Continuing):
        ids, times = ids[:1], case.batch
    model.eval()
    options = {"min_new_tokens": case.count, "max_new_tokens": case.count, "num_return_sequences": times}

    def call() -> Tensor:
        torch.manual_seed(0)
        return model.generate(ids, do_sample=True, top_k=0, **options)

    return call


def _ceiling(case: Case, device: torch.device) -> Call:
    """In training, as many operations in products of large matrices; in drawing, the linear layers alone."""
    if isinstance(case, Training):
        return products(case.operations, device)
    gpt = _gpt(case.llama, device)
    matrices = [module.weight for module in gpt.modules() if isinstance(module, nn.Linear)]
    prompts = 1 if isinstance(case, Continuing) else case.batch
    inputs = {
        rows: {width: torch.randn(rows, width, device=device) for width in (case.width, gpt.config.inner)}
        for rows in (prompts * case.prompt, case.batch)
    }

    @torch.inference_mode()
    def call() -> None:
        for step in range(case.count):
            rows = inputs[case.batch if step else prompts * case.prompt]
            for matrix in matrices:
                F.linear(rows[matrix.shape[1]], matrix)

    return call


def products(operations: float, device: torch.device, side: int = 2048) -> Call:
    """So many floating-point operations in products of square matrices, the last of them cut short."""
    left, right = torch.randn(2, side, side, device=device)
    whole, rest = divmod(operations, 2 * side**3)
    columns = round(rest / (2 * side**2))

    @torch.no_grad()
    def call() -> None:
        for _ in range(int(whole)):
            torch.mm(left, right)
        torch.mm(left, right[:, :columns])

    return call


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _toy(case: Case) -> Case:
    tiny = {"batch": min(case.batch, 2), "depth": 1, "width": 16, "heads": 2, "length": 12, "vocab": 9}
    if isinstance(case, Drawing):
        tiny |= {"count": 3, "prompt": min(case.prompt, 6)}
    return replace(case, **tiny)


COMPARISON = Comparison(
    about=(
        "A step is forward, backward and AdamW on images of 1,024 tokens; else one call draws the tokens. "
        "The ceiling of a step is torch.mm of float32 matrices of 2,048 x 2,048 with as many operations, so "
        "that 1 / `to the ceiling` is the share of torch.mm that is reached; that of drawing is its linear "
        "layers alone, in float32. Ours is bfloat16 by autocast in a step, and by its weights in drawing."
    ),
    cases={
        "A training step, batch 4": Training(batch=4),
        "An image of 1,024 tokens, batch 1": Drawing(batch=1, count=1024),
        "An image of 1,024 tokens, batch 8": Drawing(batch=8, count=1024),
        "The first 256 tokens of an image, batch 1": Uncached(batch=1, count=256),
        "Eight continuations of 64 tokens of one prompt of 960": Continuing(batch=8, prompt=960, count=64),
    },
    contestants={
        "vqtok": _ours(lambda case: case.llama),
        "vqtok, bfloat16": _ours(lambda case: case.llama, bf16=True, lighten=lambda gpt: gpt.bfloat16()),
        "vqtok, int8 weights": _ours(lambda case: case.llama, lighten=int8_copy),
        "vqtok, in ImageGPT's shape": _ours(lambda case: case.image_gpt),
        "vqtok, prompt written out": _unshared(separately=False),
        "vqtok, one after the other": _unshared(separately=True),
        "vqtok, no cache": Contestant(prepare=_uncached, package="vqtok"),
        "transformers ImageGPT": _image_gpt(),
        "transformers ImageGPT, its dropout of 0.1": _image_gpt(dropout=0.1),
        "transformers Llama": Contestant(prepare=_llama, package="transformers"),
        "ceiling": Contestant(prepare=_ceiling),
    },
    ours="vqtok",
    ceiling="ceiling",
    unit=lambda case: 4 * case.llama.parameters,
    unit_name="the float32 weights",
    rate=lambda case: case.tokens,
    rate_name="tokens/s",
    toy=_toy,
)
