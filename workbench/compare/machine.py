"""Where a comparison runs: device, threads, processor, load, versions."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def prepare(device: str, threads: int | None) -> torch.device:
    """The device, with that many CPU threads in use (None: torch's choice).

    Raises:
        ValueError: if there is no such device.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if device not in ("cpu", "cuda"):
        raise ValueError(f"--device {device}: choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU here; choose cpu")
    return torch.device(device)


def require(packages: Iterable[str], extra: str = "peers") -> None:
    """Raise a ValueError that names the first of these distributions that is not installed."""
    for package in packages:
        try:
            version(package)
        except PackageNotFoundError:
            raise ValueError(
                f"{package} is not installed, and this comparison is with it: pip install 'vqtok[{extra}]'"
            ) from None


def described(device: torch.device, packages: Iterable[str]) -> str:
    """Processor or GPU, threads, load and versions, in one sentence without its end."""
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores of {processor()}"
    place = threads if device.type == "cpu" else f"{torch.cuda.get_device_name(device)}, {threads}"
    told = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"on {place} (load {os.getloadavg()[0]:.1f}); {told}"


def processor() -> str:
    """The processor's name as it gives it itself, where the system tells that."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
