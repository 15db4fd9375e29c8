"""`vqtok compare speed gpt`: training steps and drawn images of small transformers, ours and transformers'.

All have the same depth, width, heads, length and vocabulary, in float32 unless the row says otherwise, and
weights as they are initialized. ImageGPT has biases, learned positions and an MLP of 4 x width; Llama and we
have none of these, and one of three matrices of 8/3 x width, which is as large. Dropout is off unless the row
says so. Drawing is at temperature 1 from all ids, by each package's own `generate`.

Letters: b batch, t tokens, d width.
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
from vqtok.gpt.sampling import Sampling, draw
from workbench.compare.speed import Call, Comparison, Contestant


@dataclass(frozen=True, kw_only=True)
class Case:
    """A transformer of this shape, and how many sequences it is given; the last id starts an image."""

    batch: int
    depth: int = 8
    width: int = 256
    heads: int = 8
    length: int = 1024
    vocab: int = 513

    @property
    def config(self) -> GPTConfig:
        """Of our transformer."""
        return GPTConfig(
            vocab=self.vocab, length=self.length, width=self.width, depth=self.depth, heads=self.heads
        )

    def ids(self, count: int) -> Tensor:
        """(b, count): the start of an image and random colors."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.vocab - 1, (self.batch, count), generator=generator)
        ids[:, 0] = self.vocab - 1
        return ids


@dataclass(frozen=True, kw_only=True)
class Training(Case):
    """One step on whole images."""

    @property
    def tokens(self) -> int:
        """That one call handles."""
        return self.batch * self.length

    @property
    def operations(self) -> float:
        """Floating-point, forward and backward, with the causal half of attention only."""
        products = self.config.parameters - self.vocab * self.width  # the embedding is looked up
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
    model: nn.Module, scores: Callable[[Tensor], Tensor], case: Training, device: torch.device, bf16: bool
) -> Call:
    """A step of AdamW on whole images, every token of them predicted."""
    ids = case.ids(case.length + 1).to(device)
    seen, next_ids = ids[:, :-1].contiguous(), ids[:, 1:]
    optimizer = torch.optim.AdamW(model.to(device).train().parameters(), fused=True)

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = scores(seen)
        next_token_loss(logits, next_ids).backward()
        optimizer.step()

    return call


def _ours(bf16: bool = False, convert: Callable[[GPT], GPT] | None = None) -> Contestant:
    """Our transformer; `convert` makes of it what draws, which does not train."""

    def prepare(case: Case, device: torch.device) -> Call | None:
        torch.manual_seed(0)
        gpt = GPT(case.config).to(device)
        if isinstance(case, Training):
            return None if convert and not bf16 else _training(gpt, gpt, case, device, bf16)
        gpt, ids = (convert(gpt) if convert else gpt), case.ids(case.prompt).to(device)
        once, candidates = (ids[:1], case.batch) if isinstance(case, Continuing) else (ids, 1)
        return lambda: generate(gpt, once, case.count, Sampling(), _generator(), candidates=candidates)

    return Contestant(prepare=prepare, package="vqtok")


def _ours_continuing(separately: bool) -> Contestant:
    """Our transformer without sharing: prompts written out into one batch, or drawn one after the other."""

    def prepare(case: Case, device: torch.device) -> Call | None:
        if not isinstance(case, Continuing):
            return None
        torch.manual_seed(0)
        gpt, ids = GPT(case.config).to(device), case.ids(case.prompt).to(device)
        batches = ids.split(1 if separately else case.batch)
        return lambda: [generate(gpt, batch, case.count, Sampling(), _generator()) for batch in batches]

    return Contestant(prepare=prepare, package="vqtok")


def _uncached(case: Case, device: torch.device) -> Call | None:
    """Our transformer, reading all tokens anew for each."""
    if not isinstance(case, Uncached):
        return None
    torch.manual_seed(0)
    gpt, start = GPT(case.config).to(device).eval(), case.ids(case.prompt).to(device)

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
    """Theirs, in the usual shape of the package."""

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
        torch.manual_seed(0)
        return _theirs(ImageGPTForCausalImageModeling(config), case, device)

    return Contestant(prepare=prepare, package="transformers")


def _llama(case: Case, device: torch.device) -> Call:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=case.vocab,
        hidden_size=case.width,
        intermediate_size=case.config.inner,
        num_hidden_layers=case.depth,
        num_attention_heads=case.heads,
        max_position_embeddings=case.length,
        bos_token_id=None,
        eos_token_id=None,  # or theirs would stop at a color
    )
    return _theirs(LlamaForCausalLM(config), case, device)


def _theirs(model: nn.Module, case: Case, device: torch.device) -> Call:
    """A call of a transformers model; it continues one prompt in several ways by its own means."""
    if isinstance(case, Training):
        return _training(model, lambda ids: model(input_ids=ids, use_cache=False).logits, case, device, False)
    model.to(device).eval()
    ids, times = case.ids(case.prompt).to(device), 1
    if isinstance(case, Continuing):
        ids, times = ids[:1], case.batch
    options = {"min_new_tokens": case.count, "max_new_tokens": case.count, "num_return_sequences": times}

    def call() -> Tensor:
        torch.manual_seed(0)
        return model.generate(ids, do_sample=True, top_k=0, **options)

    return call


def _ceiling(case: Case, device: torch.device) -> Call:
    """In training, as many operations in products of large matrices; in drawing, the linear layers alone."""
    if isinstance(case, Training):
        return _products(case.operations, device)
    torch.manual_seed(0)
    gpt = GPT(case.config).to(device)
    matrices = [module.weight for module in gpt.modules() if isinstance(module, nn.Linear)]
    prompts = 1 if isinstance(case, Continuing) else case.batch
    inputs = {
        rows: {width: torch.randn(rows, width, device=device) for width in (case.width, case.config.inner)}
        for rows in (prompts * case.prompt, case.batch)
    }

    @torch.inference_mode()
    def call() -> None:
        for step in range(case.count):
            rows = inputs[case.batch if step else prompts * case.prompt]
            for matrix in matrices:
                F.linear(rows[matrix.shape[1]], matrix)

    return call


def _products(operations: float, device: torch.device, side: int = 2048) -> Call:
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
        "layers alone, in float32."
    ),
    cases={
        "A training step, batch 4": Training(batch=4),
        "An image of 1,024 tokens, batch 1": Drawing(batch=1, count=1024),
        "An image of 1,024 tokens, batch 8": Drawing(batch=8, count=1024),
        "The first 256 tokens of an image, batch 1": Uncached(batch=1, count=256),
        "Eight continuations of 64 tokens of one prompt of 960": Continuing(batch=8, prompt=960, count=64),
    },
    contestants={
        "vqtok": _ours(),
        "vqtok, bfloat16": _ours(bf16=True, convert=lambda gpt: gpt.bfloat16()),
        "vqtok, int8 weights": _ours(convert=int8_copy),
        "vqtok, prompt written out": _ours_continuing(separately=False),
        "vqtok, one after the other": _ours_continuing(separately=True),
        "vqtok, no cache": Contestant(prepare=_uncached, package="vqtok"),
        "transformers ImageGPT": _image_gpt(),
        "transformers ImageGPT, its dropout of 0.1": _image_gpt(dropout=0.1),
        "transformers Llama": Contestant(prepare=_llama, package="transformers"),
        "ceiling": Contestant(prepare=_ceiling),
    },
    ours="vqtok",
    ceiling="ceiling",
    unit=lambda case: 4 * case.config.parameters,
    unit_name="the float32 weights",
    rate=lambda case: case.tokens,
    rate_name="tokens/s",
    toy=_toy,
)
