"""Token shift: a token's embedding is joined by those of tokens at fixed distances before it.

In a row of images what stands at the same place of the image before is as near as the neighbor. A transformer
that sees both at once compares a pair of images place by place in its first layer, which it else has to learn
first. Peng et al. 2023 (RWKV) shift by one token.

Letters: b batch, t tokens, s tokens seen and new, n shifts, d width.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

NOTHING = -1  # the id of what does not stand in a stream: before its begin, or in another document


class TokenShift(nn.Module):
    """Vectors (b, t, d) of the embeddings at n distances."""

    def __init__(self, shifts: Sequence[int], width: int) -> None:
        super().__init__()
        self.matrix = nn.Linear(len(shifts) * width, width, bias=False)

    def forward(self, earlier: Tensor, embed: nn.Embedding) -> Tensor:
        """What the ids `earlier` (b, n, t) add to the stream; `NOTHING` adds nothing."""
        x = embed(earlier.clamp(min=0)) * (earlier != NOTHING)[..., None]
        return self.matrix(rearrange(x, "b n t d -> b t (n d)"))


def earlier_ids(
    ids: Tensor, places: Tensor, shifts: Sequence[int], documents: Tensor | None = None
) -> Tensor:
    """Ids (b, n, t) that stand at each distance before `places`, `NOTHING` where there are none.

    Args:
        ids: (b, s) of a stream from its begin on.
        places: (t,) in it.
        shifts: (n,) distances.
        documents: (b, s), the number of each token's document; another document's tokens are not seen.
    """
    wanted = torch.stack([places - shift for shift in shifts])  # (n, t)
    there = wanted.clamp(min=0)
    seen = wanted >= 0
    if documents is not None:
        seen = seen & (documents[:, there] == documents[:, None, places])
    return torch.where(seen, ids[:, there], NOTHING)
