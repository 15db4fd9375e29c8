"""`vqtok compare speed lvm`: answers to prompts, and training steps, of a model of the shipped one's size.

Tokenizer and transformer have the shipped model's shape, and random weights where contestants differ; all in
float32. As the published LVM's code has it, every answer reads its prompt anew: pictures are encoded,
transformers' Llama of the same shape draws the codes with a cache of its own, one sequence at a time, and
each answer is decoded.

Letters: q questions, i pictures of a prompt, t tokens of a picture, b contexts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvm import DEFAULT_WEIGHTS
from lvm.generate import answers
from lvm.layout import Layout
from lvm.model import LVM, LVMConfig
from lvm.sentences import Sample
from lvm.task_losses import TaskLosses
from lvm.train import losses
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.tokenizer import VQTokenizer
from workbench.compare.gpt import products
from workbench.compare.speed import Call, Comparison, Contestant

SHAPE = GPTConfig(vocab=4099, length=514, width=256, depth=6, heads=4, period=128)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A transformer of this shape, and how many questions of how many pairs it is asked.

    Args:
        gpt: Shape.
        questions: Prompts, or contexts of a training step.
        shots: Pairs before each query.
        candidates: Answers to each.
    """

    gpt: GPTConfig = SHAPE
    questions: int = 1
    shots: int = 3
    candidates: int = 1

    def pictures(self) -> Tensor:
        """(q, i, 3, 64, 64) random, in [0, 1]."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand(self.questions, 2 * self.shots + 1, 3, 64, 64, generator=generator)

    @property
    def tokens(self) -> int:
        """That one call draws, or learns from."""
        return self.questions * self.candidates * tokenizer().tokens


class Training(Case):
    """One step on contexts of pairs, of which answers count."""

    @property
    def tokens(self) -> int:
        """That one call reads."""
        return self.questions * self.gpt.length

    def sample(self) -> Sample:
        """Contexts (b, t) of one sentence each."""
        codes, images = tokenizer().vocab, 2 * self.shots + 2
        layout, generator = Layout(codes, tokenizer().tokens), torch.Generator().manual_seed(0)
        drawn = torch.randint(codes, (self.questions, images, layout.tokens), generator=generator)
        ids = torch.stack([layout.sentence(one) for one in drawn])
        weights = layout.weights([False, True] * (images // 2), query=0.0).expand(self.questions, -1)
        return Sample(ids, ids, weights, torch.zeros_like(ids), torch.zeros_like(ids))

    @property
    def operations(self) -> float:
        """Floating-point, forward and backward: of the head only where answers are."""
        inside = self.gpt.parameters - 2 * self.gpt.vocab * self.gpt.width
        head = self.gpt.vocab * self.gpt.width
        attention = 6 * self.gpt.depth * self.questions * self.gpt.length**2 * self.gpt.width
        return 6 * (inside * self.tokens + head * self.tokens / 2) + attention


def tokenizer() -> VQTokenizer:
    """The shipped model's."""
    return load_tokenizer(DEFAULT_WEIGHTS)


def _model(case: Case, device: torch.device) -> LVM:
    torch.manual_seed(0)
    model = LVM(LVMConfig(tokenizer=tokenizer().config, gpt=case.gpt))
    model.tokenizer.load_state_dict(tokenizer().state_dict())
    return model.to(device).eval()


def _ours(case: Case, device: torch.device) -> Call:
    """All questions at once, every prompt read once for all its answers; training as `lvm.train` does it."""
    if isinstance(case, Training):
        return _step(case, device, _as_trained)
    model, pictures = _model(case, device), case.pictures().to(device)

    @torch.inference_mode()
    def call() -> Tensor:
        ids = model.tokenizer.encode(pictures.flatten(0, 1)).flatten(1)
        prompts = ids.view(case.questions, -1, model.layout.tokens)
        drawn = answers(model.gpt, model.layout, prompts, Sampling(), _generator(), case.candidates)
        side = int(model.layout.tokens**0.5)
        return model.tokenizer.decode(drawn.view(-1, side, side))

    return call


def _apart(case: Case, device: torch.device) -> Call | None:
    """Ours, one answer after the other."""
    if isinstance(case, Training):
        return None
    model, pictures = _model(case, device), case.pictures().to(device)
    sampling = Sampling()

    def call() -> None:
        for one in pictures:
            pairs = [*zip(one[:-1:2], one[1::2], strict=True)]
            for seed in range(case.candidates):
                model.prompt(pairs, one[-1], sampling=sampling, seed=seed)

    return call


def _published(case: Case, device: torch.device) -> Call | None:
    """transformers' Llama, one answer after the other, its pictures encoded each time."""
    if isinstance(case, Training):
        return None
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=case.gpt.vocab,
        hidden_size=case.gpt.width,
        intermediate_size=case.gpt.inner,
        num_hidden_layers=case.gpt.depth,
        num_attention_heads=case.gpt.heads,
        max_position_embeddings=case.gpt.length,
        bos_token_id=None,
        eos_token_id=None,
    )
    gpt, codes, pictures = LlamaForCausalLM(config).to(device).eval(), tokenizer().to(device), case.pictures()
    count, side = codes.tokens, int(codes.tokens**0.5)
    options = {"min_new_tokens": count, "max_new_tokens": count, "do_sample": True, "top_k": 0}
    never = [*range(codes.vocab, case.gpt.vocab)]

    @torch.inference_mode()
    def call() -> None:
        for one in pictures.to(device):
            for _ in range(case.candidates):
                ids = codes.encode(one).view(1, -1)
                drawn = gpt.generate(ids, suppress_tokens=never, **options)[:, -count:]
                codes.decode(drawn.view(1, side, side).clamp(max=codes.vocab - 1))

    return call


def _bare(case: Case, device: torch.device) -> Call | None:
    """A step of the transformer alone, on the same ids, with the same places scored."""
    return _step(case, device, _as_gpt) if isinstance(case, Training) else None


def _step(case: Training, device: torch.device, loss_of: Callable[[Sample], Callable[[GPT], Tensor]]) -> Call:
    torch.manual_seed(0)
    gpt = GPT(case.gpt).to(device).train()
    optimizer = torch.optim.AdamW(gpt.parameters(), fused=True)
    loss = loss_of(Sample(*(part.to(device) for part in case.sample())))

    def call() -> None:
        optimizer.zero_grad()
        loss(gpt).backward()
        optimizer.step()

    return call


def _as_trained(sample: Sample) -> Callable[[GPT], Tensor]:
    means = TaskLosses(("one",)).to(sample.ids.device)

    def loss(gpt: GPT) -> Tensor:
        nats, weights, which = losses(gpt, sample)
        means.count(nats, which, step=0)
        means.settle(lambda sums: sums)
        return (nats * weights * means.factors(which)).sum() / weights.sum()

    return loss


def _as_gpt(sample: Sample) -> Callable[[GPT], Tensor]:
    where = sample.weights[:, 1:] > 0
    return lambda gpt: F.cross_entropy(gpt(sample.ids[:, :-1], where=where), sample.ids[:, 1:][where])


def _ceiling(case: Case, device: torch.device) -> Call:
    """In training, as many operations in products of large matrices; in drawing, the linear layers alone."""
    if isinstance(case, Training):
        return products(case.operations, device)
    gpt = GPT(case.gpt).to(device)
    matrices = [module.weight for module in gpt.modules() if isinstance(module, nn.Linear)]
    tokens = tokenizer().tokens
    sizes = case.questions * (2 * case.shots + 1) * tokens, case.questions * case.candidates
    inputs = [{width: torch.randn(rows, width, device=device) for width in (case.gpt.width, case.gpt.inner)}
              for rows in sizes]

    @torch.inference_mode()
    def call() -> None:
        for step in range(tokens):
            for matrix in matrices if step else matrices[:-1]:
                F.linear(inputs[step > 0][matrix.shape[1]], matrix)

    return call


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _toy(case: Case) -> Case:
    shape = replace(case.gpt, width=16, depth=1, heads=2)
    return replace(case, gpt=shape, questions=min(case.questions, 2), candidates=min(case.candidates, 2))


COMPARISON = Comparison(
    about=(
        "A call answers the questions, each after three pairs, from pictures to pictures; or it is a step of "
        "AdamW on contexts of four pairs of which answers count. The ceiling of a step is torch.mm with as "
        "many operations, that of answers the transformer's linear layers alone."
    ),
    cases={
        "Eight answers to one question": Case(candidates=8),
        "Two answers to each of 32 questions": Case(questions=32, candidates=2),
        "A training step, batch 4": Training(questions=4),
    },
    contestants={
        "vqtok": Contestant(prepare=_ours, package="vqtok"),
        "vqtok, one after the other": Contestant(prepare=_apart, package="vqtok"),
        "the published LVM's way, by transformers": Contestant(prepare=_published, package="transformers"),
        "vqtok.gpt alone": Contestant(prepare=_bare, package="vqtok"),
        "ceiling": Contestant(prepare=_ceiling),
    },
    ours="vqtok",
    ceiling="ceiling",
    unit=lambda case: 4 * case.gpt.parameters,
    unit_name="the float32 weights",
    rate=lambda case: case.tokens,
    rate_name="tokens/s",
    toy=_toy,
)
