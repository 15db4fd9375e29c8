"""`from_pretrained` and `save_pretrained`: config.json and model.safetensors, here or on the hub.

The layout and the verbs are huggingface_hub's `PyTorchModelHubMixin`, made strict (every tensor and every
setting must fit) and atomic (a folder appears whole or not at all). Nothing is ever pickled.
"""

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any, Self, get_type_hints

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from vqtok.storage.folders import publish
from vqtok.storage.hub import on_hub
from vqtok.storage.records import decode, encode, read_json
from vqtok.storage.tensors import check_tensors, read_tensors, write_tensors

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


class Pretrained(PyTorchModelHubMixin):
    """Gives an `nn.Module` built from one dataclass, `__init__(self, config)`, a folder to live in.

    Write `class GPT(nn.Module, Pretrained)`. The dataclass may hold others, tuples and choices of
    dataclasses.
    """

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        part: str = "",
    ) -> Self:
        """The model of a folder or of a hub id, in evaluation mode, in the module's own float32.

        Args:
            pretrained_model_name_or_path: A folder is read without touching the network; else `owner/name` on
                the hub, with a folder behind it if need be.
            force_download: Ignore what the hub's cache holds.
            token: For private models on the hub.
            cache_dir: Where the hub's files are kept.
            local_files_only: Never touch the network.
            revision: Branch, tag or commit on the hub.
            part: What a larger model calls this one, such as `tokenizer` in an LVM, to load it alone.

        Raises:
            ValueError: if a file is missing or truncated, a setting unknown, missing or of a wrong type, or a
                tensor missing, extra or mis-shaped; it names the file, the setting or the tensor.
        """
        place, options = (
            str(pretrained_model_name_or_path),
            {"force_download": force_download, "token": token},
        )
        options |= {"cache_dir": cache_dir, "local_files_only": local_files_only, "revision": revision}
        paths = [_find(place, name, options) for name in (CONFIG, WEIGHTS)]
        with torch.random.fork_rng(devices=[]):  # loading draws nothing from the caller's random numbers
            model = cls(read_config(get_type_hints(cls.__init__)["config"], paths[0], part))
        load_weights(model, paths[1], part)
        return model.eval()

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        dtype: torch.dtype | None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write config.json, model.safetensors and a model card, whole or not at all.

        Args:
            save_directory: A new folder, or one that holds such a model already; its README.md is kept.
            dtype: Keep floating-point weights as this type, such as torch.bfloat16 for half the size.
            repo_id: Name on the hub; the folder's name if left out.
            push_to_hub: Upload too.
            model_card_kwargs: For the model card's template.
            push_to_hub_kwargs: For `push_to_hub`.

        Returns:
            Address of the commit on the hub, if pushed.

        Raises:
            ValueError: if the folder holds other files, which replacing it would delete.
        """
        place = Path(save_directory)
        others = (
            {path.name for path in place.iterdir()} - {CONFIG, WEIGHTS, CARD} if place.is_dir() else set()
        )
        if others:
            raise ValueError(f"{place} holds {', '.join(sorted(others)[:5])}: save to a folder of its own")
        with publish(place, replace=True) as folder:
            if (place / CARD).is_file():
                shutil.copyfile(place / CARD, folder / CARD)
            write_tensors(folder / WEIGHTS, self.state_dict(), dtype)
            (folder / CONFIG).write_text(json.dumps(encode(self._hub_mixin_config), indent=2) + "\n")
            if not (folder / CARD).exists():
                self.generate_model_card(**(model_card_kwargs or {})).save(folder / CARD)
        push_to_hub_kwargs.pop("config", None)  # ours is the only one
        return self.push_to_hub(repo_id or place.name, **push_to_hub_kwargs) if push_to_hub else None


def read_settings(place: str | Path) -> dict[str, Any]:
    """What the config.json of a folder or hub id says, unchecked: enough to tell of which kind a model is.

    Raises:
        ValueError: if there is none.
    """
    return read_json(_find(str(place), CONFIG, {}))


def read_config(kind: type, path: Path | str, part: str = "") -> Any:
    """The dataclass `kind` that a config.json, or its entry `part`, describes, every setting checked.

    Raises:
        ValueError: naming the file and the setting that does not fit.
    """
    data = read_json(path)
    if "architectures" in data:  # as transformers writes it, and nobody else
        named = ", ".join(data["architectures"] or ["model"])
        raise ValueError(f"{path} is of a {named} of transformers, not of a model of ours: import it first")
    return decode(kind, data.get(part, {}) if part else data, str(path))


def load_weights(model: torch.nn.Module, path: Path | str, part: str = "") -> None:
    """Load a safetensors file, or what it names `part`, into `model`; each tensor checked, in its own type.

    Raises:
        ValueError: naming missing, extra and mis-shaped tensors, or a truncated file.
    """
    tensors = read_tensors(path)
    if part:
        inside = f"{part}."
        tensors = {name.removeprefix(inside): tensor for name, tensor in tensors.items()
                   if name.startswith(inside)}
    check_tensors(tensors, model.state_dict(), path)
    model.load_state_dict(tensors)


def _find(place: str, name: str, options: dict[str, Any]) -> Path:
    """Path of a model's file: in a folder, or downloaded from the hub."""
    if Path(place).exists():
        if not Path(place, name).is_file():
            raise ValueError(f"{place} has no {name}: a model is a folder with {CONFIG} and {WEIGHTS}")
        return Path(place, name)
    repo, folder = on_hub(place)
    try:
        return Path(hf_hub_download(repo, str(PurePosixPath(folder, name)), **options))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{place} is neither a folder here nor a model on the hub with a {name}: {reason}"
        ) from error
