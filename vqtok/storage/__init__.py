"""A folder appears whole or not at all: atomic publishing, manifests with hashes, strict weights.

`publish` and `write_file` put things on disk, `write_manifest` and `read_manifest` say what must be there,
`Pretrained` gives a model `from_pretrained` and `save_pretrained`.
"""

from vqtok.storage.folders import publish, write_file
from vqtok.storage.manifests import read_manifest, sha256, write_manifest
from vqtok.storage.pretrained import Pretrained

__all__ = ["Pretrained", "publish", "read_manifest", "sha256", "write_file", "write_manifest"]
