"""Large vision models as Bai et al. published them, read strictly; and ours written for transformers."""

from lvm.published.loading import export_llama, import_lvm, is_lvm, load_lvm
from lvm.published.sizes import SIZES, official_config

__all__ = ["SIZES", "export_llama", "import_lvm", "is_lvm", "load_lvm", "official_config"]
