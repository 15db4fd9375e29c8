"""Every kind of picture that the three formats have, and every way one can be broken."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqtok.data.pictures import fitted, picture_shape, read_picture, read_pixels, write_picture

FORMATS = ("png", "jpg", "webp")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(h, w, 3) uint8 of random colors."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(picture: Image.Image | np.ndarray, path: Path, **options: object) -> Path:
    """Where the picture now lies."""
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    picture.save(path, **options)
    return path


def raw_png(path: Path, size: tuple[int, int], depth: int, color: int, rows: bytes, **chunks: bytes) -> Path:
    """A PNG written byte by byte, for kinds that Pillow reads but does not write, and for lies."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))
    extra = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + extra + body)
    return path


@pytest.mark.parametrize("options", [{}, {"optimize": True}])
def test_color_is_exact(tmp_path: Path, options: dict) -> None:
    """A lossless picture arrives as (3, h, w) float32, each value its byte over 255."""
    for suffix, more in (("png", options), ("webp", {"lossless": True, "exact": True})):
        image = read_picture(saved(noise(5, 7), tmp_path / f"a.{suffix}", **more))
        assert image.dtype == torch.float32
        expected = torch.from_numpy(noise(5, 7)).permute(2, 0, 1).float() / 255
        assert torch.equal(image, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """A picture stored turned or mirrored, and tagged so by the camera, comes out upright."""
    upright = noise(4, 6)
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),  # "turn me 90 degrees clockwise"
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(np.ascontiguousarray(turned), tmp_path / "a.png", exif=exif)
    assert torch.equal(read_pixels(path), torch.from_numpy(upright).permute(2, 0, 1))


@pytest.mark.parametrize("suffix", FORMATS)
def test_orientation_in_every_format(tmp_path: Path, suffix: str) -> None:
    """JPEG, PNG and WebP all carry the tag."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(noise(8, 16), tmp_path / f"a.{suffix}", exif=exif)
    assert read_pixels(path).shape == (3, 16, 8)


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    """Opaque stays, transparent is white, half-transparent black is mid gray."""
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    for suffix, options in (("png", {}), ("webp", {"lossless": True, "exact": True})):
        image = read_pixels(saved(pixels, tmp_path / f"a.{suffix}", **options))
        assert image[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255], [127, 127, 127]]


def test_transparent_pixels_bleed_no_color(tmp_path: Path) -> None:
    """The black under transparent pixels does not darken the edge of a white shape when it is resized."""
    pixels = np.zeros((32, 32, 4), dtype=np.uint8)
    pixels[8:24, 8:24] = 255
    assert read_pixels(saved(pixels, tmp_path / "a.png"), size=9).min() == 255


def test_gray_kinds(tmp_path: Path) -> None:
    """1-bit, 8-bit and gray with alpha become three equal channels."""
    gray = Image.fromarray(noise(4, 4)[..., 0])
    assert torch.equal(read_pixels(saved(gray, tmp_path / "l.png"))[1], torch.from_numpy(np.array(gray)))
    assert torch.equal(*read_pixels(saved(gray, tmp_path / "l.jpg"))[:2])
    assert read_pixels(saved(gray.convert("1"), tmp_path / "1.png")).unique().tolist() == [0, 255]
    gray.putalpha(0)
    assert read_pixels(saved(gray, tmp_path / "la.png")).min() == 255


def test_16_bit_gray_is_scaled(tmp_path: Path) -> None:
    """0..65535 is mapped onto 0..255 to the nearest, where a plain conversion cuts at 255."""
    deep = np.array([[0, 128, 129, 257, 32896, 65278, 65535]], dtype=np.uint16)
    image = read_pixels(saved(deep, tmp_path / "a.png"))
    assert image[0, 0].tolist() == [0, 0, 1, 1, 128, 254, 255]


def test_16_bit_gray_with_a_transparent_gray(tmp_path: Path) -> None:
    """The one gray that the file declares transparent is white; a gray that rounds alike is not."""
    rows = b"\0" + struct.pack(">3H", 1000, 1001, 65535)
    path = raw_png(tmp_path / "a.png", (3, 1), 16, 0, rows, tRNS=struct.pack(">H", 1000))
    assert read_pixels(path)[0, 0].tolist() == [255, 4, 255]


def test_16_bit_color_keeps_its_high_byte(tmp_path: Path) -> None:
    """A 16-bit RGB PNG loses its low bytes and nothing else."""
    rows = b"\0" + struct.pack(">6H", 0x0102, 0x8081, 0xFFFE, 0x0000, 0x1234, 0xABCD)
    image = read_pixels(raw_png(tmp_path / "a.png", (2, 1), 16, 2, rows))
    assert image[:, 0].T.tolist() == [[0x01, 0x80, 0xFF], [0x00, 0x12, 0xAB]]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 255])])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    """Palette entries are looked up; a transparent one, however declared, is white."""
    picture = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image = read_pixels(saved(picture, tmp_path / "a.png", transparency=transparency))
    assert image[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]


def test_color_declared_transparent(tmp_path: Path) -> None:
    """An RGB PNG may name one color as transparent; it is white."""
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)
    image = read_pixels(saved(pixels, tmp_path / "a.png", transparency=(1, 2, 3)))
    assert image[:, 0].T.tolist() == [[255, 255, 255], [4, 5, 6]]


def test_cmyk(tmp_path: Path) -> None:
    """Printers' inks become colors: cyan is no red, black is none at all."""
    inks = Image.new("CMYK", (16, 8), (255, 0, 0, 0))
    inks.paste((0, 0, 0, 255), (8, 0, 16, 8))
    image = read_pixels(saved(inks, tmp_path / "a.jpg", quality=100)).int()
    assert (image[:, 4, 2] - torch.tensor([0, 255, 255])).abs().max() <= 2
    assert image[:, 4, 13].max() <= 2


def test_animation_is_its_first_frame(tmp_path: Path) -> None:
    """Of an animated WebP or PNG the first frame is taken."""
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for suffix, options in (("webp", {"lossless": True}), ("png", {})):
        path = saved(frames[0], tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
        assert read_pixels(path)[:, 0, 0].tolist() == [255, 0, 0]


def test_fits(tmp_path: Path) -> None:
    """A wide picture: crop keeps the middle, stretch keeps all, pad adds white above and below."""
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("red", (10, 0, 30, 20))
    path = saved(picture, tmp_path / "a.png")
    crop, stretch, pad = (read_pixels(path, 20, fit) for fit in ("crop", "stretch", "pad"))
    assert crop[0, :, 1:-1].min() == 255 and crop[1:].max() == 0
    assert stretch[0, :, 0].max() == 0 and stretch[0, :, 10].min() == 255
    assert pad[:, :5].min() == 255 and pad[:, 15:].min() == 255 and pad[1, 5:15].max() == 0
    with pytest.raises(ValueError, match="no fit named 'cover': choose one of crop, stretch, pad"):
        read_picture(path, 20, "cover")
    with pytest.raises(ValueError, match="at least 1"):
        read_picture(path, 0)


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (1, 1), (7, 3)])
def test_any_shape_fits(tmp_path: Path, shape: tuple[int, int], fit: str) -> None:
    """Slivers and single pixels too become squares of the size asked for."""
    assert read_picture(saved(noise(*shape), tmp_path / "a.png"), 16, fit).shape == (3, 16, 16)


def test_resize_filters_against_aliasing(tmp_path: Path) -> None:
    """A fine checkerboard becomes even gray, not a coarser checkerboard."""
    board = (np.indices((63, 63)).sum(0) % 2 * 255).astype(np.uint8)
    image = read_picture(saved(board, tmp_path / "a.png"), 9)
    assert (image - 0.5).abs().max() < 0.06  # Lanczos rings a little at the border


def test_reduced_jpeg_decoding_looks_the_same(tmp_path: Path) -> None:
    """A JPEG decoded at a smaller scale differs from one decoded whole and then resized by less than 1 %."""
    smooth = Image.fromarray(noise(16, 16)).resize((512, 512), Image.Resampling.BICUBIC)
    path = saved(smooth, tmp_path / "a.jpg", quality=95)
    whole = Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS)
    expected = torch.from_numpy(np.array(whole)).permute(2, 0, 1) / 255
    assert (read_picture(path, 32) - expected).abs().mean() < 0.01


@pytest.mark.parametrize("suffix", FORMATS)
def test_truncation_is_found(tmp_path: Path, suffix: str) -> None:
    """No beginning of a file passes for the whole: ValueError names the file, wherever it was cut."""
    whole = saved(noise(8, 8), tmp_path / f"whole.{suffix}").read_bytes()
    end = len(whole) - 4 * (suffix == "png")  # a PNG's last four bytes are a constant that no decoder reads
    cut = tmp_path / f"cut.{suffix}"
    for length in range(end):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"cannot read .*cut.{suffix}: ."):
            read_picture(cut)


def test_png_damage_is_found(tmp_path: Path) -> None:
    """A PNG carries checksums: a flipped bit anywhere before the end mark is found."""
    whole = saved(noise(8, 8), tmp_path / "whole.png").read_bytes()
    for place in range(len(whole) - 12):
        (tmp_path / "bad.png").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="cannot read .*bad.png: ."):
            read_picture(tmp_path / "bad.png")


@pytest.mark.parametrize("suffix", FORMATS)
def test_damage_raises_nothing_else(tmp_path: Path, suffix: str) -> None:
    """Whatever bytes are changed, the answer is a picture or a ValueError, never another exception."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a caption"
    whole = saved(noise(16, 16), tmp_path / f"whole.{suffix}", exif=exif).read_bytes()
    rng = np.random.default_rng(0)
    for place in range(min(len(whole), 400)):
        damaged = bytearray(whole)
        for at in (place, *rng.integers(0, len(whole), 2)):
            damaged[at] ^= rng.integers(1, 256)
        (tmp_path / "bad").write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks about bad EXIF
            try:
                assert read_picture(tmp_path / "bad").isfinite().all()
            except ValueError as error:
                assert "bad: " in str(error)


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_bombs_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    """Eighty bytes that declare billions of pixels are refused by their header, with the limit."""
    path = raw_png(tmp_path / "bomb.png", (side, side), 8, 2, b"")
    with pytest.raises(ValueError, match=r"bomb.png: .*\d{8,} .* exceeds? .*limit of \d{8,}.*: shrink it"):
        read_picture(path)


def test_pixel_limit_is_an_argument(tmp_path: Path) -> None:
    """A picture of exactly the limit is read; one more pixel is not."""
    path = saved(noise(10, 10), tmp_path / "a.png")
    assert read_picture(path, pixel_limit=100).shape == (3, 10, 10)
    with pytest.raises(ValueError, match="10 x 10 = 100 pixels exceed the limit of 99: shrink it, or raise"):
        read_picture(path, pixel_limit=99)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A text, an empty file, another format under a wrong name: ValueError; a missing file: its own error."""
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    saved(noise(4, 4), tmp_path / "gif.png", format="GIF")
    for name in ("text", "empty", "gif"):
        with pytest.raises(ValueError, match=f"{name}.png: not a PNG, JPEG or WebP picture"):
            read_picture(tmp_path / f"{name}.png")
    with pytest.raises(FileNotFoundError, match="gone.png"):
        read_picture(tmp_path / "gone.png")


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    """A JPEG named .png is read as what it is."""
    assert read_picture(saved(noise(4, 4), tmp_path / "a.png", format="JPEG")).shape == (3, 4, 4)


def test_written_pictures_come_back(tmp_path: Path) -> None:
    """Read after written is the image, rounded to 8 bits and clamped."""
    image = torch.rand(3, 5, 9)
    write_picture(tmp_path / "new" / "a.png", image)
    assert torch.equal(read_picture(tmp_path / "new" / "a.png"), (image * 255).round() / 255)
    write_picture(tmp_path / "b.png", image * 4 - 1)
    assert torch.equal(read_picture(tmp_path / "b.png"), ((image * 4 - 1).clamp(0, 1) * 255).round() / 255)


def test_unwritable_images_are_refused(tmp_path: Path) -> None:
    """A batch, a NaN and a name that is no PNG's are refused, and nothing is left behind."""
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\).*give \(3, h, w\)"):
        write_picture(tmp_path / "a.png", torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match="1 values are not finite"):
        write_picture(tmp_path / "a.png", torch.tensor([0.0, 1.0, torch.nan]).reshape(3, 1, 1))
    with pytest.raises(ValueError, match="end in .png"):
        write_picture(tmp_path / "a.jpg", torch.rand(3, 4, 4))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("shape", [(9, 31), (64, 48), (3, 3), (16, 16)])
def test_an_image_is_fitted_as_its_file_is(tmp_path: Path, shape: tuple[int, int], fit: str) -> None:
    """To the last bit, larger, smaller or of the size already."""
    path = saved(noise(*shape), tmp_path / "a.png")
    assert torch.equal(fitted(read_picture(path), 16, fit), read_picture(path, 16, fit))


def test_images_that_cannot_be_fitted_are_refused() -> None:
    """The value and the way out; an image of the size already is given back untouched."""
    image = torch.rand(3, 8, 8)
    assert fitted(image, 8) is image
    with pytest.raises(ValueError, match=r"\(1, 8, 8\): give \(3, h, w\) floats"):
        fitted(image[:1], 16)
    with pytest.raises(ValueError, match=r"torch.uint8 \(3, 8, 8\): give \(3, h, w\) floats"):
        fitted(image.byte(), 16)
    with pytest.raises(ValueError, match="divide by 255"):
        fitted(image * 255, 16)
    with pytest.raises(ValueError, match="to nan, not within"):
        fitted(image / 0 * 0, 16)
    with pytest.raises(ValueError, match="no fit named 'zoom': choose one of crop, stretch, pad"):
        fitted(image, 16, "zoom")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", FORMATS)
def test_the_shape_is_told_without_decoding(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Height and width as they will be read, upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(noise(4, 6), tmp_path / f"a.{suffix}", exif=exif)
    assert picture_shape(path) == tuple(read_picture(path).shape[1:])
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=rf"cannot read .*a\.{suffix}: not a PNG"):
        picture_shape(path)
