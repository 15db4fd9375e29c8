"""The identity of a tokenizer as an encoder: two that have the same fingerprint make the same ids.

Shards carry it, so that ids of different tokenizers are not mixed, and a model meets its own tokenizer only.
"""

import hashlib
import json
import re

import numpy as np

from vqtok.storage.records import changed
from vqtok.tokenizers.interface import ImageTokenizer

# What turns ids into images, and counts that only training reads.
NO_PART = re.compile(r"decoder\.|post_quant_conv\.|quantize\.(.+\.)?usage$")


def fingerprint(tokenizer: ImageTokenizer) -> str:
    """SHA-256 in hex of what decides the ids of an image: settings other than defaults, encoder and codebook.

    A setting that a later version adds, with a default, does not change it.
    """
    found = hashlib.sha256(json.dumps(changed(tokenizer.config), sort_keys=True).encode())
    for name, tensor in sorted(tokenizer.state_dict().items()):
        if not NO_PART.match(name):
            found.update(f"{name} {tuple(tensor.shape)}".encode())
            found.update(np.ascontiguousarray(tensor.cpu().float().numpy()).tobytes())
    return found.hexdigest()
