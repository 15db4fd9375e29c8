"""How learning gets past a choice: gradients for the encoder, and the two errors that train a codebook.

Forward values are the codes to the last bit, so what a decoder trains on is what ids decode to.

Bengio et al. 2013 and van den Oord et al. 2017 (straight through); Fifty et al. 2024, "Restructuring Vector
Quantization with the Rotation Trick".

Letters: b images, d width, h w grid.
"""

import torch.nn.functional as F
from torch import Tensor

SHORTEST = 1e-12  # below this length a vector has no direction


def straight_through(vectors: Tensor, codes: Tensor) -> Tensor:
    """`codes`, whose gradient arrives at `vectors` as it is and does not reach the codes."""
    return (vectors - vectors.detach()).add_(codes.detach())


def rotated(vectors: Tensor, codes: Tensor) -> Tensor:
    """`codes`, whose gradient is turned and scaled with its code on the way to `vectors`, all (b, d, h, w).

    Each code is its vector turned and stretched: q = |q|/|e| R e. The map is held constant, so the gradient
    at e is |q|/|e| R' g: it has the angle to e that g has to q. R is the rotation in the plane of both that
    takes the direction a of e to the direction c of q. With m halfway between them, R v = v - 2 (v.m) m + 2
    (v.a) c: reflecting along m takes a to -c and c to -a, and the last term, which is zero across a, turns -c
    into c.
    """
    start, end = vectors.detach(), codes.detach()
    a, c = F.normalize(start, dim=1), F.normalize(end, dim=1)
    m = F.normalize(a + c, dim=1)
    turned = vectors - 2 * _dot(vectors, m) * m + 2 * _dot(vectors, a) * c
    stretched = turned * (end.norm(dim=1, keepdim=True) / start.norm(dim=1, keepdim=True).clamp_min(SHORTEST))
    return end + (stretched - stretched.detach())


def squared_errors(
    vectors: Tensor, codes: Tensor, beta: float, legacy: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Codebook + beta * commitment, as means over vectors and channels, and their common value by name.

    van den Oord et al. 2017, equation 3 without its first term: the codebook term moves codes to vectors, the
    commitment moves vectors to codes.

    Args:
        vectors: (b, d, h, w).
        codes: Of the same shape.
        beta: Weight of the commitment.
        legacy: Put beta on the codebook term instead, as taming's default does: its published tokenizers were
            trained so. With Adam, to whose steps the size of a codebook's gradient is nothing, it is beta 1.
    """
    codebook, commitment = F.mse_loss(codes, vectors.detach()), F.mse_loss(vectors, codes.detach())
    loss = beta * codebook + commitment if legacy else codebook + beta * commitment
    return loss, {"error": commitment.detach()}


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(1, keepdim=True)
