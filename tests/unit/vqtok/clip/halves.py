"""The loss and gradients of two towers, over a whole batch or over a half in each of two processes.

`python halves.py FOLDER PROCESSES` is one of them; process 0 writes what came out.
"""

import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from vqtok.clip.loss import contrastive_loss, gathered
from vqtok.clip.towers import TextTowerConfig, Towers, TowersConfig

if __name__ == "__main__":
    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    if processes > 1:
        dist.init_process_group("gloo", world_size=processes)
    rank = dist.get_rank() if processes > 1 else 0
    torch.manual_seed(0)
    text = TextTowerConfig(length=5, width=16, depth=2, heads=2)
    towers = Towers(TowersConfig(image="test_vit", size=32, width=8, text=text), vocab=11)
    images, ids = torch.rand(8, 3, 32, 32), torch.randint(0, 11, (8, 5))
    ids[2, 3:] = -1
    ids[5] = ids[1]  # one caption in both halves
    captions = torch.tensor([0, 1, 2, 3, 4, 1, 6, 7])
    model = nn.parallel.DistributedDataParallel(towers) if processes > 1 else towers
    share = 8 // processes
    own = slice(rank * share, (rank + 1) * share)
    seen, read, scale = model(images[own], ids[own])
    loss = contrastive_loss(gathered(seen), gathered(read), scale, gathered(captions[own]))
    loss.backward()
    if rank == 0:
        made = {name: weight.grad for name, weight in towers.named_parameters()}
        save_file(made | {"loss": loss.detach()}, folder / f"{processes}.safetensors")
    if processes > 1:
        dist.destroy_process_group()
        time.sleep(0.5)  # for gloo's threads, which outlive it: see vqtok.training.devices
