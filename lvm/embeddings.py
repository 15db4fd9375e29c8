"""Embedding and head of a transformer in training, by what codes look like.

A code's row is one of its own and a linear map of the pixels that the code stands for. Many tasks are linear
in pixels: to invert, to recolor, to mirror a patch. What is learned of one code so holds for all that look
alike, and rare codes are known before they have been seen often. Once trained, both parts are one plain
matrix, and the model is like any other. Guo et al. 2024 (DeLVM) project the codebook, and keep it fixed.

Letters: v codes, p numbers of a patch's pixels, d width.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vqtok.gpt.model import GPT
from vqtok.tokenizers.tokenizer import VQTokenizer

SCALE = 0.02  # of rows at the start, as of all matrices; and of pixels, so that one rate serves rows and map


class Looks(nn.Module):
    """Adds to the first v rows of a matrix (rows, d) a learned map of their looks."""

    def __init__(self, looks: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("looks", looks)
        self.map = nn.Linear(looks.shape[1], width, bias=False)
        nn.init.normal_(self.map.weight, std=SCALE / float(looks.norm(dim=1).mean()))

    def forward(self, rows: Tensor) -> Tensor:
        """(rows, d)."""
        return rows + F.pad(self.map(self.looks), (0, 0, 0, len(rows) - len(self.looks)))


def share_looks(gpt: GPT, tokenizer: VQTokenizer) -> None:
    """Let the rows of `embed` and `head` be sums of their own and of what their codes look like, in place."""
    looks = looks_of(tokenizer)
    for module in (gpt.embed, gpt.head):
        parametrize.register_parametrization(module, "weight", Looks(looks.clone(), gpt.config.width))


@torch.no_grad()
def looks_of(tokenizer: VQTokenizer, batch: int = 128) -> Tensor:
    """(v, p) pixels that each code stands for among its like, less their mean; their RMS is `SCALE`."""
    device, factor = next(tokenizer.parameters()).device, tokenizer.factor
    parts = []
    for codes in torch.arange(tokenizer.vocab, device=device).split(batch):
        images = tokenizer.decode(codes[:, None, None].repeat(1, 3, 3))
        middle = images[..., factor : 2 * factor, factor : 2 * factor]
        parts.append(rearrange(middle, "v c h w -> v (c h w)").float())
    looks = torch.cat(parts)
    looks = looks - looks.mean(0)
    return looks * (SCALE / looks.square().mean().sqrt())


@torch.no_grad()
def plain(gpt: GPT) -> GPT:
    """The same transformer without any of this: itself, or a copy in evaluation mode with plain matrices."""
    if not parametrize.is_parametrized(gpt.embed):
        return gpt
    told = {name: tensor for name, tensor in gpt.state_dict().items() if ".parametrizations." not in name}
    told |= {"embed.weight": gpt.embed.weight, "head.weight": gpt.head.weight}
    copy = GPT(gpt.config).to(gpt.embed.weight.device).eval()
    copy.load_state_dict(told)
    return copy
