"""Pipelines of diffusers as DDPMs of ours, and ours as a `DDPMPipeline`: network and process together.

A pipeline's process is in its scheduler's file. What is there of sampling, such as clipping or how times are
spaced, is a choice of who samples here, and is not kept.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from diffusion.model import DDPM, DDPMConfig
from diffusion.process import ProcessConfig
from diffusion.published.diffusers import CONFIG, INDEX, load_diffusers, save_diffusers
from diffusion.schedules import CosineConfig, LinearConfig, ScaledLinearConfig, ScheduleConfig
from diffusion.targets import ImageTarget, NoiseTarget, Target, VelocityTarget
from diffusion.variances import LargeVariance, LearnedRange, SmallVariance, Variance
from vqtok.storage.hub import OutOfReach, find_file
from vqtok.storage.records import read_json

TARGETS: dict[str, Target] = {
    "epsilon": NoiseTarget(),
    "sample": ImageTarget(),
    "v_prediction": VelocityTarget(),
}
VARIANCES: dict[str, Variance] = {
    "fixed_small": SmallVariance(),
    "fixed_small_log": SmallVariance(),
    "fixed_large": LargeVariance(),
    "fixed_large_log": LargeVariance(),
    "learned_range": LearnedRange(),
}
NOT_HERE = ("trained_betas", "rescale_betas_zero_snr")  # settings of a scheduler that make another process
USUAL = {  # of diffusers' DDPMScheduler, for what a file leaves out
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
}


def is_diffusers(source: str | Path) -> bool:
    """Whether `source` is a folder or hub id of a diffusers network or pipeline.

    What the hub cannot be asked about is none.

    Raises:
        ValueError: if its file is damaged, or the hub refuses.
    """
    if Path(source).is_file():
        return False
    try:
        if find_file(source, INDEX) is not None:
            return True
        found = find_file(source, CONFIG)
    except OutOfReach:
        return False
    return found is not None and read_json(found).get("_class_name") == "UNet2DModel"


def load_pipeline(source: str | Path) -> DDPM:
    """A DDPM with the network and the process of a diffusers pipeline, in evaluation mode.

    Its classes, if it has any, are named by their numbers.

    Raises:
        ValueError: naming what is missing, damaged, or has no counterpart here.
    """
    published = load_diffusers(source)
    if not published.scheduler:
        raise ValueError(f"{source} has no scheduler: what noise its network was trained with is not told")
    if published.size is None:
        raise ValueError(f"{source}: {CONFIG} does not say sample_size, the side of its images: add it")
    network = published.unet.config
    known = network.classes.count if network.classes else 0
    config = DDPMConfig(
        network=network,
        process=process_of(published.scheduler),
        size=published.size,
        classes=tuple(map(str, range(known))),
    )
    with torch.random.fork_rng(devices=[]):  # a network is drawn in vain, but not from the caller's numbers
        model = DDPM(config)
    model.network = published.unet
    return model.eval()


def save_pipeline(model: DDPM, folder: str | Path) -> None:
    """Write a DDPM as a folder that diffusers' `DDPMPipeline.from_pretrained` runs.

    Raises:
        ValueError: if network or process have no counterpart there.
    """
    scheduler = scheduler_of(model.config.process)
    save_diffusers(model.network, folder, size=model.config.size, scheduler=scheduler)


def import_ddpm(source: str | Path, folder: str | Path) -> str:
    """Write a published pipeline as a folder of ours, and say what it is."""
    model = load_pipeline(source)
    model.save_pretrained(folder)
    weights = sum(weight.numel() for weight in model.parameters())
    size = model.config.size
    return f"DDPM: {weights / 1e6:.1f} M weights, {size}x{size} pixels, {model.process.steps:,} steps"


def process_of(scheduler: Mapping[str, Any]) -> ProcessConfig:
    """The process that a scheduler_config.json describes.

    Raises:
        ValueError: naming the setting that has no counterpart here.
    """
    for name in NOT_HERE:
        if scheduler.get(name):
            raise ValueError(f"the scheduler's {name} makes a process that is not known here")
    found = USUAL | {name: value for name, value in scheduler.items() if name in USUAL}
    return ProcessConfig(
        schedule=_schedule(found),
        target=_named(TARGETS, found, "prediction_type"),
        variance=_named(VARIANCES, found, "variance_type"),
    )


def scheduler_of(process: ProcessConfig) -> dict[str, Any]:
    """What a `DDPMScheduler`'s scheduler_config.json says of a process.

    Raises:
        ValueError: if diffusers has no such schedule or target.
    """
    schedule = process.schedule
    scale = 1000 / schedule.steps
    if isinstance(schedule, LinearConfig):
        shape = {"beta_schedule": "linear", "beta_start": schedule.first * scale}
        shape["beta_end"] = schedule.last * scale
    elif isinstance(schedule, ScaledLinearConfig):
        shape = {"beta_schedule": "scaled_linear", "beta_start": schedule.first, "beta_end": schedule.last}
    elif isinstance(schedule, CosineConfig) and schedule.offset == CosineConfig().offset:
        shape = {"beta_schedule": "squaredcos_cap_v2"}
    else:
        raise ValueError(f"{schedule} has no counterpart in diffusers: keep it as a folder of ours")
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": schedule.steps,
        **shape,
        "prediction_type": _name(TARGETS, process.target),
        "variance_type": _name(VARIANCES, process.variance),
        "clip_sample": True,
    }


def _schedule(found: Mapping[str, Any]) -> ScheduleConfig:
    steps, first, last = found["num_train_timesteps"], found["beta_start"], found["beta_end"]
    scale = 1000 / steps  # theirs is not rescaled with the number of steps
    schedules = {
        "linear": lambda: LinearConfig(steps=steps, first=first / scale, last=last / scale),
        "scaled_linear": lambda: ScaledLinearConfig(steps=steps, first=first, last=last),
        "squaredcos_cap_v2": lambda: CosineConfig(steps=steps),
    }
    return _named(schedules, found, "beta_schedule")()


def _named(table: Mapping[str, Any], found: Mapping[str, Any], setting: str) -> Any:
    if found[setting] not in table:
        raise ValueError(f"the scheduler's {setting} is {found[setting]!r}, known are {', '.join(table)}")
    return table[found[setting]]


def _name(table: Mapping[str, Any], wanted: Any) -> str:
    found = next((name for name, one in table.items() if one == wanted), None)
    if found is None:
        raise ValueError(f"{wanted} has no counterpart in diffusers: keep it as a folder of ours")
    return found
