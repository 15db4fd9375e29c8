"""Large vision models as Bai et al. published them, read strictly; and ours written for transformers."""

from lvm.published.jsonl import form_of, import_jsonl, read_jsonl, write_jsonl
from lvm.published.loading import export_llama, import_lvm, is_lvm, load_lvm
from lvm.published.sizes import SIZES, official_config

__all__ = [
    "SIZES",
    "export_llama",
    "form_of",
    "import_jsonl",
    "import_lvm",
    "is_lvm",
    "load_lvm",
    "official_config",
    "read_jsonl",
    "write_jsonl",
]
