"""One of two processes that train quantizers: `ranks.py RENDEZVOUS RANK OUT`. Run by test_ranks.py."""

import sys

import torch
import torch.distributed as distributed
from safetensors.torch import save_file
from torch import Tensor, nn

from vqtok.tokenizers.quantizers.choice import QuantizerConfig, build
from vqtok.tokenizers.quantizers.ibq import IBQConfig
from vqtok.tokenizers.quantizers.kmeans import kmeans
from vqtok.tokenizers.quantizers.lfq import LFQConfig
from vqtok.tokenizers.quantizers.ranks import draw_rows
from vqtok.tokenizers.quantizers.residual import ResidualVQConfig
from vqtok.tokenizers.quantizers.simvq import SimVQConfig
from vqtok.tokenizers.quantizers.vq import VQConfig

STEPS = 3
CONFIGS = {
    "gradient": VQConfig(codes=64, width=4),
    "means": VQConfig(codes=64, width=4, means=True, memory=0.8),
    "legacy": VQConfig(codes=64, width=4, normalize=False, legacy=True, restart_below=0.3),
    "kmeans": VQConfig(codes=24, width=4, normalize=False, means=True, kmeans=4),
    "residual": ResidualVQConfig(stages=2, codes=16, width=4, means=True, kmeans=2),
    "simvq": SimVQConfig(codes=64, width=4),
    "lfq": LFQConfig(bits=4, temperature=1.0),
    "ibq": IBQConfig(codes=24, width=4, temperature=1.0, entropy=1.0),
}


class Encoder(nn.Module):
    """A convolution, so that every quantizer has something to teach, and the quantizer behind it."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.conv, self.quantize = nn.Conv2d(3, 4, 1), build(config)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encoder's outputs, quantized vectors, ids, loss."""
        vectors = self.conv(images)
        out = self.quantize(vectors)
        return vectors, out.vectors, out.ids, out.loss


def train(config: QuantizerConfig, rank: int, world: int) -> dict[str, Tensor]:
    """What three steps leave, each with a global batch of 4 images in as many parts as there are ranks."""
    torch.manual_seed(0)
    model = Encoder(config)
    wrapped = nn.parallel.DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    restarted = []
    for step in range(STEPS):
        images = torch.randn(4, 3, 5, 7, generator=torch.Generator().manual_seed(step)).chunk(world)[rank]
        torch.manual_seed(100 * rank + step)  # every rank has its own random numbers
        vectors, quantized, ids, loss = wrapped(images)
        optimizer.zero_grad()
        (loss + (quantized - 1).square().mean()).backward()
        optimizer.step()
        restarted.append(model.quantize.learn(vectors.detach(), ids))
    return {**model.state_dict(), "restarted": torch.tensor(restarted)}


def everything(rank: int, world: int) -> dict[str, Tensor]:
    """One of each quantizer, and k-means and draws of vectors in unequal shares."""
    found = {}
    for name, config in CONFIGS.items():
        found |= {f"{name}/{key}": value for key, value in train(config, rank, world).items()}
    vectors = torch.randn(40, 3, generator=torch.Generator().manual_seed(5))
    share = vectors.split([7, 33])[rank] if world > 1 else vectors
    torch.manual_seed(rank)
    found["unequal"] = kmeans(share, 6, rounds=3)
    found["more than there are"] = draw_rows(share, 50)
    return {name: tensor.contiguous() for name, tensor in found.items()}


def main(meeting: str, rank: int, out: str) -> None:
    """Two ranks, and then rank 0 alone with all the data."""
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    save_file(everything(rank, 2), f"{out}-{rank}")
    distributed.destroy_process_group()
    if rank == 0:
        save_file(everything(0, 1), f"{out}-alone")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
