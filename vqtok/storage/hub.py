"""Files on the hub, where having no network is not the same as there being no file."""

from pathlib import Path, PurePosixPath

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)


class OutOfReach(ValueError):
    """The hub cannot be asked for a file, and the cache does not know whether there is one."""


def on_hub(place: str) -> tuple[str, str]:
    """Repository `owner/name` of a place on the hub, and the folder behind it, empty if there is none."""
    owner, _, rest = place.partition("/")
    name, _, folder = rest.partition("/")
    return f"{owner}/{name}" if name else owner, folder


def find_file(source: str | Path, name: str) -> Path | None:
    """A file of a folder, or else of `owner/name[/folder...]` on the hub; None if there is none.

    Raises:
        ValueError: as `from_hub`.
    """
    place = Path(source)
    if place.exists() or isinstance(source, Path):
        return place / name if (place / name).is_file() else None
    return from_hub(source, name)


def from_hub(place: str, name: str) -> Path | None:
    """A file of `owner/name[/folder...]` on the hub, from the cache if it is there; None if there is none.

    Raises:
        OutOfReach: if the hub cannot be asked.
        ValueError: if it refuses.
    """
    repo, folder = on_hub(place)
    inside = str(PurePosixPath(folder, name))
    told = f"{place} is neither a file nor a folder here nor to be had from the hub with a {name}: "
    try:
        return Path(hf_hub_download(repo, inside)) if "/" in repo else None
    except LocalEntryNotFoundError as error:  # not asked: only the cache may know that there is none
        if try_to_load_from_cache(repo, inside) is _CACHED_NO_EXIST:
            return None
        raise OutOfReach(told + str(error).strip().splitlines()[0]) from error
    except EntryNotFoundError:
        return None
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise ValueError(told + str(error).strip().splitlines()[0]) from error
