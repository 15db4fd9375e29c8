"""The Gaussians of the forward process: noise added, and what a noisy picture says of a cleaner one.

    q(x_t | x_s)        mean sqrt(a_t / a_s) x_s,  variance 1 - a_t / a_s                        for any s < t
    q(x_s | x_t, x_0)   mean c_0 x_0 + c_t x_t,    variance (1 - a_t / a_s) (1 - a_s) / (1 - a_t)
                        c_0 = sqrt(a_s) (1 - a_t / a_s) / (1 - a_t)
                        c_t = sqrt(a_t / a_s) (1 - a_s) / (1 - a_t)

With s = t - 1 these are eq. 2 to 7 of DDPM; note the square root of the cumulative a_s in c_0, where some
lectures print that of a single step.

Letters: a is alpha_bar; t, s times with s < t; b batch, c h w picture.

Source: Ho et al. 2020, DDPM, eq. 2, 4, 6 and 7; Song et al. 2021, DDIM (any pair of times).
"""

import torch
from torch import Tensor

from diffusion.schedules import Schedule, Times


def shaped(coefficient: Tensor, like: Tensor) -> Tensor:
    """A coefficient () or (b,) in the type of `like` (b, ...), ready to multiply it, on whatever device."""
    if coefficient.ndim == 0:
        return coefficient.to(like.dtype)  # a number of the CPU goes with every device, and waits for none
    return coefficient.to(like.device, like.dtype).reshape(-1, *(1,) * (like.ndim - 1))


def diffuse(schedule: Schedule, x_s: Tensor, t: Times, noise: Tensor, s: Times = 0) -> Tensor:
    """A draw of q(x_t | x_s): the picture at time s with noise added until time t.

    Args:
        schedule: Of the process.
        x_s: (b, c, h, w); with s = 0 the clean picture, within [-1, 1].
        t: One time, or (b,).
        noise: Of the shape of x_s, standard normal.
        s: Times before t.

    Raises:
        ValueError: if not 0 <= s < t <= T, or the noise has another shape.
    """
    schedule.check_pair(t, s)
    if noise.shape != x_s.shape:
        raise ValueError(f"noise {tuple(noise.shape)} is not shaped as x_s {tuple(x_s.shape)}")
    return shaped(schedule.kept(t, s).sqrt(), x_s) * x_s + shaped(schedule.added(t, s).sqrt(), x_s) * noise


def posterior_weights(schedule: Schedule, t: Times, s: Times) -> tuple[Tensor, Tensor]:
    """c_0 and c_t: what x_0 and x_t weigh in the mean of q(x_s | x_t, x_0); () or (b,) float64 each."""
    step, whole = schedule.added(t, s), schedule.added(t)
    image = schedule.kept(s).sqrt() * step / whole
    return image, schedule.kept(t, s).sqrt() * schedule.added(s) / whole


def posterior_mean(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Times, s: Times) -> Tensor:
    """Mean of q(x_s | x_t, x_0), (b, c, h, w).

    Raises:
        ValueError: if not 0 <= s < t <= T.
    """
    schedule.check_pair(t, s)
    image, noisy = posterior_weights(schedule, t, s)
    return shaped(image, x_t) * x_0 + shaped(noisy, x_t) * x_t


def posterior_variance(schedule: Schedule, t: Times, s: Times) -> Tensor:
    """Variance of q(x_s | x_t, x_0), the same for every pixel; () or (b,) float64, 0 where s is.

    Raises:
        ValueError: if not 0 <= s < t <= T.
    """
    schedule.check_pair(t, s)
    return schedule.added(t, s) * schedule.added(s) / schedule.added(t)


def posterior_log_variance(schedule: Schedule, t: Times, s: Times) -> Tensor:
    """Log of the posterior variance, where s = 0 that of the step from 2 to 1; () or (b,) float64.

    The variance of a step to 0 is 0. As in DDPM its log is cut at that of time 2, which the decoder of the
    last step needs: a Gaussian that has a width.
    """
    variance = posterior_variance(schedule, t, s)
    return torch.where(torch.as_tensor(s).cpu() == 0, posterior_variance(schedule, 2, 1), variance).log()
