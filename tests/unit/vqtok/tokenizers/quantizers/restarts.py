"""One of two processes that restart codes: `restarts.py RENDEZVOUS RANK OUT`. Run by test_quantizer.py."""

import sys

import torch
import torch.distributed as distributed
from safetensors.torch import save_file

from vqtok.tokenizers.quantizers.vq import VectorQuantizer, VQConfig

meeting, rank, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.manual_seed(0)
quantizer = VectorQuantizer(VQConfig(codes=64, width=4, means=True))
distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
found = {"world": torch.tensor(distributed.get_world_size())}
torch.manual_seed(100 + rank)  # every rank draws its own vectors, and its own places to start again
for step in (1, 2, 3):
    vectors = found[f"vectors-{step}"] = torch.randn(2, 4, 8, 8)
    ids = found[f"ids-{step}"] = quantizer(vectors).ids
    found[f"restarted-{step}"] = torch.tensor(quantizer.learn(vectors, ids))
    found[f"usage-{step}"] = quantizer.usage.clone()
    found[f"embedding-{step}"] = quantizer.embedding.weight.detach().clone()
save_file(found, out)
distributed.destroy_process_group()
