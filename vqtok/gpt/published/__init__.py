"""Transformers that others published, read strictly: LLaMA, GPT-2, ImageGPT, LlamaGen; and LLaMA written."""

from vqtok.gpt.published.gpt2 import gpt2_config, load_gpt2
from vqtok.gpt.published.imagegpt import imagegpt_config, load_imagegpt
from vqtok.gpt.published.llama import llama_config, load_llama, save_llama
from vqtok.gpt.published.llamagen import llamagen_config, load_llamagen

__all__ = [
    "gpt2_config",
    "imagegpt_config",
    "llama_config",
    "llamagen_config",
    "load_gpt2",
    "load_imagegpt",
    "load_llama",
    "load_llamagen",
    "save_llama",
]
