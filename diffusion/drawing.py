"""Samplers by name, as a recipe or a command line chooses one.

Letters: b pictures, c h w picture, T steps of the process; t, s times with s < t.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from diffusion import samplers
from diffusion.conditioning import Network
from diffusion.noise import Noise
from diffusion.process import Process
from diffusion.samplers import PLAIN, Options
from diffusion.spacing import Pairs, Spacing, spaced


class _Stepped:
    """What all of them have in common: some of the process's times."""

    steps: int | None
    spacing: Spacing

    def pairs(self, process: Process) -> Pairs:
        """Its steps (t, s); raises ValueError if there are more of them than times."""
        return spaced(process.steps, process.steps if self.steps is None else self.steps, self.spacing)


@dataclass(frozen=True, kw_only=True)
class Ancestral(_Stepped):
    """DDPM's: every step is a draw.

    Args:
        kind: Names this sampler in recipes.
        steps: None takes all T.
        spacing: How the times lie.
    """

    kind: Literal["ancestral"] = "ancestral"
    steps: int | None = None
    spacing: Spacing = "linspace"

    def draw(self, process: Process, network: Network, noise: Noise, options: Options = PLAIN) -> Tensor:
        """x_0 (b, c, h, w)."""
        return samplers.ancestral(process, network, noise, self.pairs(process), options)


@dataclass(frozen=True, kw_only=True)
class DDIM(_Stepped):
    """Deterministic at eta 0.

    Args:
        kind: Names this sampler in recipes.
        steps: None takes all T.
        spacing: How the times lie.
        eta: Share of noise; 1 is ancestral.
    """

    kind: Literal["ddim"] = "ddim"
    steps: int | None = 50
    spacing: Spacing = "trailing"
    eta: float = 0.0

    def draw(self, process: Process, network: Network, noise: Noise, options: Options = PLAIN) -> Tensor:
        """x_0 (b, c, h, w)."""
        return samplers.ddim(process, network, noise, self.pairs(process), options, self.eta)


@dataclass(frozen=True, kw_only=True)
class DPMSolver(_Stepped):
    """DPM-Solver++(2M): deterministic, of second order, one call of the network a step.

    Args:
        kind: Names this sampler in recipes.
        steps: None takes all T.
        spacing: How the times lie.
    """

    kind: Literal["dpm_solver"] = "dpm_solver"
    steps: int | None = 25
    spacing: Spacing = "trailing"

    def draw(self, process: Process, network: Network, noise: Noise, options: Options = PLAIN) -> Tensor:
        """x_0 (b, c, h, w)."""
        return samplers.dpm_solver_pp_2m(process, network, noise, self.pairs(process), options)


@dataclass(frozen=True, kw_only=True)
class Heun(_Stepped):
    """Deterministic, of second order, two calls of the network a step.

    Args:
        kind: Names this sampler in recipes.
        steps: None takes all T.
        spacing: How the times lie.
    """

    kind: Literal["heun"] = "heun"
    steps: int | None = 18
    spacing: Spacing = "quadratic"

    def draw(self, process: Process, network: Network, noise: Noise, options: Options = PLAIN) -> Tensor:
        """x_0 (b, c, h, w)."""
        return samplers.heun(process, network, noise, self.pairs(process), options)


Sampler = DDIM | Ancestral | DPMSolver | Heun  # the first is what a mapping without `kind` means
SAMPLERS = {sampler.kind: sampler for sampler in (DDIM, Ancestral, DPMSolver, Heun)}
