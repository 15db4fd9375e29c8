"""What a network may be given."""

from torch import Tensor


def check_images(x: Tensor, channels: int, factor: int) -> None:
    """Raise a ValueError unless x is (b, channels, h, w) floating, h and w divisible by `factor`."""
    if x.ndim != 4 or x.shape[1] != channels or not x.is_floating_point():
        raise ValueError(
            f"x is {x.dtype} of shape {tuple(x.shape)}: give floating-point (b, {channels}, h, w)"
        )
    if not len(x) or not x.shape[2] or x.shape[2] % factor or x.shape[3] % factor:
        raise ValueError(
            f"x of {len(x)} images of {x.shape[2]} x {x.shape[3]}: give one or more whose sides divide by "
            f"{factor}, or a network that halves less often"
        )
