"""What a tokenizer keeps of images it never saw: PSNR, SSIM, use of the codebook, and pictures.

Letters: b images, c channels, h w size; i j grid of codes.
"""

import torch
from einops import rearrange
from torch import Tensor

from vqtok.data.emoji import load_emoji
from vqtok.metrics.images import psnr_of_set, ssim
from vqtok.metrics.tokens import perplexity, usage

from vqtok.tokenizers.tokenizer import VQTokenizer


def held_out(split: str = "test") -> dict[str, Tensor]:
    """Every emoji of a split as drawn, style by style: (b, 3, 64, 64) in [0, 1]."""
    emoji = load_emoji(split)
    return {style: torch.stack([drawn.image(style) for drawn in emoji]) for style in ("shaded", "flat", "line")}


@torch.inference_mode()
def round_trip(tokenizer: VQTokenizer, images: Tensor, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Decoded images (b, 3, h, w) in [0, 1] and their ids (b, i, j), on the images' device."""
    device = next(tokenizer.parameters()).device
    ids = [tokenizer.encode(part.to(device)) for part in images.split(batch)]
    decoded = [tokenizer.decode(part).to(images.device) for part in ids]
    return torch.cat(decoded), torch.cat(ids).to(images.device)


def measure(tokenizer: VQTokenizer, images: dict[str, Tensor]) -> dict[str, float]:
    """PSNR (dB, of the mean squared error of the set) and SSIM (mean) by name; usage and perplexity over all.

    Args:
        tokenizer: In evaluation mode.
        images: Name -> (b, 3, h, w) in [0, 1].
    """
    found, all_ids = {}, []
    for name, originals in images.items():
        decoded, ids = round_trip(tokenizer, originals)
        found[f"psnr/{name}"] = float(psnr_of_set(decoded, originals))
        found[f"ssim/{name}"] = float(ssim(decoded, originals).mean())
        all_ids.append(ids.flatten())
    ids = torch.cat(all_ids)
    return found | {"usage": float(usage(ids, tokenizer.vocab)), "perplexity": float(perplexity(ids, tokenizer.vocab))}


def reconstructions(tokenizer: VQTokenizer, images: dict[str, Tensor], count: int = 12) -> Tensor:
    """(3, H, W) sheet: for every name a row of `count` images above a row of what comes back."""
    rows = []
    for originals in images.values():
        chosen = originals[:: max(1, len(originals) // count)][:count]
        rows += [chosen, round_trip(tokenizer, chosen)[0]]
    return rearrange(torch.stack([row[: min(map(len, rows))] for row in rows]), "r b c h w -> c (r h) (b w)")
