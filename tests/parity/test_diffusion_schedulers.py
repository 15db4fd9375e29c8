"""Samplers against diffusers' schedulers: the same where theirs are right, and where they are not, why.

Theirs keep tables in float32, so chains of steps agree to 2e-4 of pictures of size 1, single steps to 1e-5.
"""

import diffusers
import pytest
import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput

from diffusion.corrections import Clip
from diffusion.noise import Noise
from diffusion.oracle import GaussianOracle
from diffusion.process import Process, ProcessConfig
from diffusion.samplers import Options, ancestral, ddim
from diffusion.schedules import CosineConfig, LinearConfig, ScaledLinearConfig
from diffusion.spacing import spaced
from diffusion.targets import ImageTarget, NoiseTarget, VelocityTarget
from diffusion.variances import LargeVariance, LearnedRange, SmallVariance

pytestmark = pytest.mark.peer

SHORT = LinearConfig(steps=200)
BETAS = {"linear": LinearConfig(), "squaredcos_cap_v2": CosineConfig()}
TARGETS = {"epsilon": NoiseTarget(), "sample": ImageTarget(), "v_prediction": VelocityTarget()}
VARIANCES = {"fixed_small": SmallVariance(), "fixed_large": LargeVariance(), "learned_range": LearnedRange()}
SHAPE = (4, 1, 4, 4)


def theirs(kind: type, **settings) -> object:
    """A scheduler with 1000 steps of linear betas, that clips nothing unless told to."""
    betas = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    return kind(**(betas | {"clip_sample": False} | settings))


def network(process: Process) -> GaussianOracle:
    """Exact for pictures of mean 0.2 and variance 0.25."""
    return GaussianOracle(process, torch.full((1, 4, 4), 0.2), torch.full((1, 4, 4), 0.25))


def noise() -> Noise:
    """Draws what theirs draw from the same generator."""
    return Noise(SHAPE, torch.Generator().manual_seed(0))


def walk(scheduler, process: Process, steps: int, **settings) -> torch.Tensor:
    """Their loop; their time t is our t + 1."""
    generator, ask = torch.Generator().manual_seed(0), network(process)
    x = torch.randn(SHAPE, generator=generator)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        output = ask(x, torch.full((len(x),), int(t) + 1))
        found: SchedulerOutput = scheduler.step(output, t, x, generator=generator, **settings)
        x = found.prev_sample
    return x


@pytest.mark.parametrize("betas", [*BETAS, "scaled_linear"])
def test_tables(betas):
    """alpha_bar of the same names, to float32."""
    ends = {"beta_start": 0.00085, "beta_end": 0.012} if betas == "scaled_linear" else {}
    scheduler = theirs(diffusers.DDPMScheduler, beta_schedule=betas, **ends)
    config = ScaledLinearConfig() if betas == "scaled_linear" else BETAS[betas]
    ours = config.build().alpha_bar[1:]
    assert torch.allclose(scheduler.alphas_cumprod.double(), ours, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("target", TARGETS)
def test_ancestral_of_all_steps(target, variance):
    """DDPMScheduler gives our pictures, from the same noise, whatever is predicted: all of 200 steps."""
    config = ProcessConfig(schedule=SHORT, target=TARGETS[target], variance=VARIANCES[variance])
    process = config.build()
    betas = {"num_train_timesteps": 200, "beta_start": 5e-4, "beta_end": 0.1}
    scheduler = theirs(diffusers.DDPMScheduler, prediction_type=target, variance_type=variance, **betas)
    ours = ancestral(process, network(process), noise(), spaced(200, 200))
    assert torch.allclose(walk(scheduler, process, 200), ours, atol=2e-4)


def test_ancestral_of_1000_steps():
    """And all of DDPM's own 1000, with its large variance."""
    process = ProcessConfig().build()
    ours = ancestral(process, network(process), noise(), spaced(1000, 1000))
    scheduler = theirs(diffusers.DDPMScheduler, variance_type="fixed_large")
    assert torch.allclose(walk(scheduler, process, 1000), ours, atol=2e-4)


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize("variance", VARIANCES)
def test_ancestral_of_some_steps(variance, spacing):
    """DDPMScheduler with 50 steps, too: since its #9384 it looks up the next time."""
    process = ProcessConfig(variance=VARIANCES[variance]).build()
    scheduler = theirs(diffusers.DDPMScheduler, variance_type=variance, timestep_spacing=spacing)
    ours = ancestral(process, network(process), noise(), spaced(1000, 50, spacing))
    assert torch.allclose(walk(scheduler, process, 50), ours, atol=2e-4)


def test_why_trailing_ancestral_differs():
    """At trailing, DDPMScheduler with the large variance ends in a noisy picture.

    It leaves the noise out at its time 0, our 1, and trailing steps of 20 end with our 20: its last step,
    which goes to the clean picture, adds noise of the variance of 20 steps. Without that its picture is ours.
    """
    process = ProcessConfig().build()
    scheduler = theirs(diffusers.DDPMScheduler, variance_type="fixed_large", timestep_spacing="trailing")
    drawn = noise()
    ours = ancestral(process, network(process), drawn, spaced(1000, 50))
    added = float(process.schedule.added(20)) ** 0.5
    assert added == pytest.approx(0.076, abs=0.001)
    assert torch.allclose(walk(scheduler, process, 50), ours + added * drawn.draw(), atol=2e-4)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("spacing", "steps"), [("trailing", 50), ("leading", 50), ("leading", 30), ("trailing", 10)]
)
def test_ddim(spacing, steps, eta):
    """DDIMScheduler gives our pictures where its stride is right: trailing if steps divide T, and leading."""
    process = ProcessConfig().build()
    scheduler = theirs(diffusers.DDIMScheduler, timestep_spacing=spacing)
    ours = ddim(process, network(process), noise(), spaced(1000, steps, spacing), eta=eta)
    assert torch.allclose(walk(scheduler, process, steps, eta=eta), ours, atol=1e-4)


def test_clipping():
    """Clip() is clip_sample for DDPM, and for DDIM with use_clipped_model_output: noise fits the picture."""
    process = ProcessConfig().build()
    options, ask = Options(correction=Clip(limit=0.5)), network(process)
    clipped = {"clip_sample": True, "clip_sample_range": 0.5}
    ours = ancestral(process, ask, noise(), spaced(1000, 50, "leading"), options)
    scheduler = theirs(diffusers.DDPMScheduler, variance_type="fixed_large", **clipped)
    assert torch.allclose(walk(scheduler, process, 50), ours, atol=2e-4)
    ours = ddim(process, ask, noise(), spaced(1000, 50), options)
    scheduler = theirs(diffusers.DDIMScheduler, timestep_spacing="trailing", **clipped)
    assert torch.allclose(walk(scheduler, process, 50, use_clipped_model_output=True), ours, atol=1e-4)


@pytest.mark.parametrize(("spacing", "steps"), [("linspace", 10), ("linspace", 30), ("trailing", 30)])
def test_why_ddim_differs_elsewhere(spacing, steps):
    """Where times are not T // S apart, DDIMScheduler steps to t - T // S: where nobody asks the network.

    At linspace 10 times are 111 apart, and it removes the noise of 100: from 445 it steps to 345, and the
    network is then asked about 334. Its step is ours to t - T // S, and not ours to the next time.
    """
    process = ProcessConfig().build()
    schedule, ask, times = process.schedule, network(process), spaced(1000, steps, spacing)
    scheduler = theirs(diffusers.DDIMScheduler, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert [int(t) + 1 for t in scheduler.timesteps] == [t for t, _ in times]  # they visit the same times
    t, s = next(pair for pair in times if pair[0] < 500 and pair[0] - pair[1] != 1000 // steps)
    x = noise().draw()
    output = ask(x, torch.full((len(x),), t))
    estimate = process.split(output, x, t)

    def stepped(goal: int) -> torch.Tensor:
        image, rest = float(schedule.kept(goal)) ** 0.5, float(schedule.added(goal)) ** 0.5
        return image * estimate.image + rest * estimate.noise

    theirs_step = scheduler.step(output, t - 1, x).prev_sample
    assert torch.allclose(theirs_step, stepped(t - 1000 // steps), atol=1e-5)
    assert not torch.allclose(theirs_step, stepped(s), atol=1e-3)
    ours = ddim(process, ask, noise(), times)
    assert float((walk(scheduler, process, steps) - ours).abs().max()) > 5e-3
