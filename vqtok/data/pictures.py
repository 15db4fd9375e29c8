"""One picture: from a PNG, JPEG or WebP file to a tensor, to another size, and back to PNG.

What becomes of the many kinds of picture, all 8-bit sRGB afterwards:

* EXIF orientation is applied; of an animation the first frame is taken.
* Transparency (alpha channel, transparent palette entries, a transparent color) is composited on white.
* Gray is repeated over the three channels. 16-bit gray is divided by 257, not cut off at 255; 16-bit color
  keeps its high byte.
* CMYK is converted by the plain formula. Color profiles are ignored.
* A resize filters against aliasing (Lanczos), after the compositing, so transparent pixels bleed no color.
  JPEGs at least four times too large are first decoded at a smaller scale, still at least twice `size`.

Letters: c channels, h w rows and columns of pixels.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from einops import rearrange
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from vqtok.storage.folders import write_file

Fit = Literal["crop", "stretch", "pad"]
FORMATS = ("PNG", "JPEG", "WEBP")
PIXEL_LIMIT = 64_000_000  # a file of some kilobytes may declare gigabytes; cameras stay below this
LANCZOS = Image.Resampling.LANCZOS


def read_picture(
    path: str | Path, size: int | None = None, fit: Fit = "crop", pixel_limit: int = PIXEL_LIMIT
) -> Tensor:
    """A picture as (3, h, w) float32 in [0, 1].

    Args:
        path: A PNG, JPEG or WebP file; the content decides, not the name.
        size: Height and width of the result, in pixels; None keeps the picture's own.
        fit: What gives way where the picture is not square: "crop" cuts the ends off the long side, "stretch"
            gives up the proportions, "pad" adds white.
        pixel_limit: Refuse to decode more pixels than these; Pillow itself refuses more than 179 million.

    Raises:
        ValueError: if the file is no whole picture or too large; it names the file and the reason.
        OSError: if the file cannot be opened.
    """
    return read_pixels(path, size, fit, pixel_limit).float() / 255


def read_pixels(
    path: str | Path, size: int | None = None, fit: Fit = "crop", pixel_limit: int = PIXEL_LIMIT
) -> Tensor:
    """As `read_picture`, but (3, h, w) uint8 in [0, 255]: a quarter of the memory, and nothing lost."""
    check_form(size, fit)
    with _opened(path) as file:
        return _sized(file, size, fit, pixel_limit)


def pixels_of(
    content: bytes, name: str, size: int | None = None, fit: Fit = "crop", pixel_limit: int = PIXEL_LIMIT
) -> Tensor:
    """As `read_pixels`, of the bytes of a file of that name, as they lie in an archive or a table."""
    check_form(size, fit)
    with _told(name):
        return _sized(io.BytesIO(content), size, fit, pixel_limit)


def picture_shape(path: str | Path) -> tuple[int, int]:
    """Height and width, in pixels, that `read_picture` would give a file; its pixels are not decoded.

    Raises:
        ValueError: if the file is no picture; it names the file and the reason.
        OSError: if the file cannot be opened.
    """
    with _opened(path) as file, Image.open(file, formats=FORMATS) as picture:
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # a quarter, mirrored or not
        return picture.size if turned else picture.size[::-1]


def fitted(image: Tensor, size: int, fit: Fit = "crop") -> Tensor:
    """An image (3, h, w) in [0, 1] as (3, size, size), by the same filter and fits as a file that is read.

    One of that size is given back as it is. Any other passes through 8 bits, so that it is to the last bit
    what `read_picture` makes of a PNG of it; no gradient does.

    Raises:
        ValueError: if the image has another shape or range, or there is no such size or fit.
    """
    check_form(size, fit)
    if image.ndim != 3 or len(image) != 3 or not image.numel() or not image.is_floating_point():
        raise ValueError(f"an image is {image.dtype} {tuple(image.shape)}: give (3, h, w) floats in [0, 1]")
    if image.shape[1:] == (size, size):
        return image
    low, high = image.aminmax()
    if not (low >= 0 and high <= 1):  # also where a pixel is no number
        raise ValueError(
            f"pixels reach from {float(low):.3g} to {float(high):.3g}, not within [0, 1]: divide by 255, or "
            "clamp them"
        )
    return (_pixels(FITS[fit](_picture(image), size)).float() / 255).to(image.device)


def check_form(size: int | None, fit: str) -> None:
    """Raise ValueError unless a picture can be given this size by this fit."""
    if fit not in FITS:
        raise ValueError(f"no fit named {fit!r}: choose one of {', '.join(FITS)}")
    if size is not None and size < 1:
        raise ValueError(f"a picture {size} pixels wide holds nothing: give a size of at least 1")


def check_png(path: str | Path) -> None:
    """Raises ValueError unless this is a name for a PNG, which is what is written."""
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"{path} is no name for a PNG, which is what is written: let it end in .png")


def write_picture(path: str | Path, image: Tensor) -> None:
    """Write one image as PNG; the file appears whole or not at all.

    Args:
        path: Where to; the name ends in .png.
        image: (3, h, w) in [0, 1]; what lies outside is clamped.

    Raises:
        ValueError: if the name, the shape or a value that is no number forbids it.
    """
    check_png(path)
    if image.ndim != 3 or len(image) != 3:
        raise ValueError(f"an image of shape {tuple(image.shape)} cannot be written: give (3, h, w)")
    if not image.isfinite().all():
        wrong = int((~image.isfinite()).sum())
        raise ValueError(f"{wrong} values are not finite, so {path} was not written: check its source")
    buffer = io.BytesIO()
    _picture(image).save(buffer, "PNG")
    write_file(Path(path), buffer.getvalue())


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    """The file, while it is read as a picture; what goes wrong names it."""
    with open(path, "rb") as file, _told(path):
        yield file


@contextmanager
def _told(name: str | Path) -> Iterator[None]:
    """What goes wrong with a picture names it."""
    try:
        yield
    except Exception as error:  # damaged files raise almost anything: struct.error, SyntaxError ...
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
            raise  # the machine's trouble, not the picture's
        raise ValueError(f"cannot read {name}: {_reason(error)}") from error


def _pixels(picture: Image.Image) -> Tensor:
    """(3, h, w) uint8 of RGB."""
    return rearrange(torch.from_numpy(np.array(picture)), "h w c -> c h w").contiguous()


def _picture(image: Tensor) -> Image.Image:
    """RGB of (3, h, w); what lies outside of [0, 1] is clamped."""
    pixels = (image.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    return Image.fromarray(rearrange(pixels, "c h w -> h w c").numpy())


def _sized(file: BinaryIO, size: int | None, fit: Fit, pixel_limit: int) -> Tensor:
    """(3, h, w) uint8 of the picture in `file`, brought to `size`."""
    picture = _decoded(file, size, pixel_limit)
    return _pixels(picture if size is None else FITS[fit](picture, size))


def _decoded(file: BinaryIO, size: int | None, pixel_limit: int) -> Image.Image:
    """The upright RGB picture in `file`, not smaller than `size` unless the file's is."""
    picture = Image.open(file, formats=FORMATS)
    pixels = picture.width * picture.height
    if pixels > pixel_limit:
        raise ValueError(
            f"{picture.width} x {picture.height} = {pixels} pixels exceed the limit of {pixel_limit}: "
            f"shrink it, or raise pixel_limit if you trust it"
        )
    if picture.format == "PNG":  # decoding alone overlooks wrong checksums and a missing end
        picture.verify()
        file.seek(0)
        picture = Image.open(file, formats=FORMATS)
    if size is not None:
        picture.draft(None, (2 * size, 2 * size))
    return _on_white(ImageOps.exif_transpose(picture))


def _on_white(picture: Image.Image) -> Image.Image:
    """RGB of any mode that the three formats have, transparency composited on white."""
    if picture.mode.startswith("I"):
        picture = _eight_bits(picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit gray to 8-bit gray, with alpha where one gray is declared transparent."""
    deep = np.asarray(picture).astype(np.int64)  # Pillow's own conversion would cut at 255
    gray = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    transparent = picture.info.get("transparency")
    if transparent is not None:
        gray.putalpha(Image.fromarray(np.where(deep == transparent, 0, 255).astype(np.uint8)))
    return gray


def _cropped(picture: Image.Image, size: int) -> Image.Image:
    """The middle square, resized."""
    return ImageOps.fit(picture, (size, size), method=LANCZOS)


def _stretched(picture: Image.Image, size: int) -> Image.Image:
    """The whole picture, resized to a square."""
    return picture.resize((size, size), LANCZOS)


def _padded(picture: Image.Image, size: int) -> Image.Image:
    """The whole picture in its proportions, on the middle of a white square."""
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = Image.new("RGB", (size, size), "white")
    square.paste(picture.resize((width, height), LANCZOS), ((size - width) // 2, (size - height) // 2))
    return square


FITS = {"crop": _cropped, "stretch": _stretched, "pad": _padded}


def _reason(error: Exception) -> str:
    """What is wrong, without the file's name or the buffer's address, which differ from run to run."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a PNG, JPEG or WebP picture, or damaged at its start"
    if isinstance(error, Image.DecompressionBombError):  # Pillow's own limit, met while the header is read
        return f"{error} Way out: shrink it"
    return f"{error}" or type(error).__name__
