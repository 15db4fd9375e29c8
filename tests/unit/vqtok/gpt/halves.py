"""A GPT's loss and gradients, over a whole batch or over a half in each of two processes.

Tests import it; as a script, `python halves.py FOLDER`, it is one of two processes: first under
DistributedDataParallel, then sharded by FSDP2, and process 0 writes what came out.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from vqtok.gpt import GPT, GPTConfig, NextTokenObjective
from vqtok.gpt.config import AttentionConfig, HeadConfig
from vqtok.gpt.mlps import GELUConfig
from vqtok.gpt.positions import LearnedConfig
from vqtok.gpt.prefix import ClassesConfig

CONFIG = GPTConfig(
    vocab=19,
    length=12,
    width=16,
    depth=2,
    heads=2,
    mlp=GELUConfig(),
    positions=LearnedConfig(),
    attention=AttentionConfig(bias=True),
    prefix=ClassesConfig(classes=3, drop=0.0),
    head=HeadConfig(tied=True),
)


def objective() -> NextTokenObjective:
    """The same random model in every process, its blocks computed once more for the backward."""
    torch.manual_seed(0)
    model = NextTokenObjective(GPT(CONFIG), rows=7).train()
    model.gpt.recompute = True
    return model


def batch() -> tuple[Tensor, Tensor]:
    """Ids (4, 12) and their classes (4,)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(19, (4, 12), generator=generator), torch.tensor([0, 1, 2, 3])


def backward(model: nn.Module, rows: slice) -> Tensor:
    """The loss () of some rows of the batch, its gradients left in the model."""
    ids, classes = batch()
    loss = model(ids[rows, :-1], ids[rows], prefix=classes[rows])
    loss.backward()
    return loss.detach()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Whole ones, by name."""
    found = {name.removeprefix("module."): weight.grad for name, weight in model.named_parameters()}
    return {name: grad.full_tensor() if isinstance(grad, DTensor) else grad for name, grad in found.items()}


def ways() -> Iterator[tuple[str, nn.Module]]:
    """The model as each way of training it on several processes has it."""
    yield "ddp", nn.parallel.DistributedDataParallel(objective())
    sharded = objective()
    for block in sharded.gpt.blocks:
        fully_shard(block)
    yield "fsdp2", fully_shard(sharded)


if __name__ == "__main__":
    dist.init_process_group("gloo", world_size=2)
    rank = dist.get_rank()
    made = {}
    for name, model in ways():
        loss = backward(model, slice(2 * rank, 2 * rank + 2))
        dist.all_reduce(loss, dist.ReduceOp.SUM)
        made |= {f"{name}.loss": loss / 2}
        made |= {f"{name}.{key}": grad.clone() for key, grad in gradients(model).items()}
    if rank == 0:
        save_file(made, Path(sys.argv[1], "made.safetensors"), {"processes": os.environ["WORLD_SIZE"]})
    dist.destroy_process_group()
    time.sleep(0.5)  # for gloo's threads, which outlive it: see vqtok.training.devices
