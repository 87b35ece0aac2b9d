from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from scrubjay.config import Config
from scrubjay.data.images import ImageOptions, decode
from scrubjay.errors import ConfigError, ImageError

RED, WHITE = (255, 0, 0), (255, 255, 255)


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), "blue")
    image.paste(RED, (0, 0, width // 2, height))
    return image


def close(pixel: object, expected: tuple[int, ...], tolerance: int = 6) -> bool:
    return bool(np.abs(np.asarray(pixel, int) - expected).max() <= tolerance)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif", ".gif", ".ppm", ".jp2", ".avif"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    path = tmp_path / f"x{suffix}"
    halves().save(path)
    image = decode(path)
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert close(image.getpixel((4, 4)), RED, 12)


def test_exif_orientation_turns_every_way(tmp_path: Path) -> None:
    corners = np.zeros((16, 32, 3), np.uint8)
    corners[:8, :16], corners[:8, 16:], corners[8:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    upright = {  # where row 0 and column 0 of the stored image belong, by the EXIF standard
        1: corners,
        2: corners[:, ::-1],
        3: corners[::-1, ::-1],
        4: corners[::-1],
        5: corners.transpose(1, 0, 2),
        6: corners.transpose(1, 0, 2)[:, ::-1],
        7: corners.transpose(1, 0, 2)[::-1, ::-1],
        8: corners.transpose(1, 0, 2)[::-1],
    }
    for orientation, expected in upright.items():
        path = tmp_path / f"{orientation}.png"
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(corners).save(path, exif=exif)
        np.testing.assert_array_equal(np.asarray(decode(path)), expected)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("exif", [b"MM\x00\x2a\x00\x00\xff\xff garbage", b"garbage", b"II"])
def test_damaged_exif_leaves_the_pixels(tmp_path: Path, exif: bytes, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    halves().save(path, exif=b"Exif\x00\x00" + exif)
    assert decode(path).size == (40, 20)


def test_palette_gif_with_transparency_is_composited_onto_white(tmp_path: Path) -> None:
    path = tmp_path / "x.gif"
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((0, 0), 0)
    image.save(path, transparency=0)
    decoded = decode(path)
    assert decoded.getpixel((0, 0)) == WHITE
    assert decoded.getpixel((5, 5)) == RED


def test_the_first_frame_of_an_animation_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.gif"
    Image.new("RGB", (8, 8), "red").save(path, save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert decode(path).getpixel((0, 0)) == RED


def test_alpha_is_composited_onto_white(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    image = Image.new("RGBA", (4, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))
    image.save(path)
    decoded = decode(path)
    assert [decoded.getpixel((x, 0)) for x in range(3)] == [RED, WHITE, (204, 204, 204)]


def test_grey_with_alpha_is_composited_onto_white(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    image = Image.new("LA", (2, 1), (100, 255))
    image.putpixel((1, 0), (100, 0))
    image.save(path)
    assert [decode(path).getpixel((x, 0)) for x in range(2)] == [(100, 100, 100), WHITE]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    halves().convert("CMYK").save(path, quality=95)
    image = decode(path)
    assert image.mode == "RGB"
    assert close(image.getpixel((4, 4)), RED, 12)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.png"
    Image.new(mode, (4, 4), 255).save(path)
    assert decode(path).getpixel((0, 0)) == WHITE


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(path)
    assert [decode(path).getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 32896, 65535]], np.int32), [0, 128, 255]),
        (np.array([[0, 1 << 19, 1 << 20]], np.int32), [0, 128, 255]),
        (np.array([[-1.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 100.0, 200.0]], np.float32), [0, 128, 255]),
    ],
)
def test_wide_tiffs_are_scaled(tmp_path: Path, values: np.ndarray, expected: list[int]) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(values).save(path)
    assert [decode(path).getpixel((x, 0))[0] for x in range(3)] == expected


def test_box_is_cut_after_turning_and_clamped(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    halves().save(path, exif=exif)
    image = decode(path, box=(-5, 0, 20, 99))
    assert image.size == (20, 20)
    assert image.getpixel((0, 0)) == (0, 0, 255)


def test_box_outside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    halves().save(path)
    with pytest.raises(ImageError, match=r"x\.png: box \(50, 0, 60, 10\) lies outside the 40 x 20 image; correct"):
        decode(path, box=(50, 0, 60, 10))


def test_large_jpeg_is_decoded_smaller_but_never_below_twice_the_side(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    halves(1600, 800).save(path)
    assert decode(path, short_side=100).size == (400, 200)
    assert decode(path, short_side=150).size == (800, 400)
    assert decode(path, short_side=500).size == (1600, 800)
    assert decode(path, short_side=100, box=(0, 0, 800, 800)).size == (800, 800)


def bomb(path: Path, width: int, height: int) -> Path:
    """A PNG whose header announces far more than it holds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(("width", "height"), [(10_500, 10_000), (12_000, 12_000), (60_000, 60_000)])
def test_bomb_is_refused_from_its_header(tmp_path: Path, width: int, height: int) -> None:
    with pytest.raises(ImageError, match=r"bomb\.png: .*pixels.*shrink it"):
        decode(bomb(tmp_path / "bomb.png", width, height))


def test_limit_on_pixels_is_an_option(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    halves().save(path)
    assert decode(path, max_pixels=800).size == (40, 20)
    with pytest.raises(ImageError, match=r"x\.png: 40 x 20 pixels, the limit is 799; shrink it or raise max_pixels"):
        decode(path, max_pixels=799)


def noise_jpeg() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"this is a letter, not an image", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (noise_jpeg()[:1500], "truncated"),
        (noise_jpeg()[:100], r"not an image|cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, r"not an image|cannot be decoded"),
        (b"GIF89a\xff\xff\xff\xff\xff", r"not an image|cannot be decoded"),
        (b"II*\0" + b"\xff" * 60, r"not an image|cannot be decoded"),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\0" * 60, r"not an image|cannot be decoded"),
    ],
)
def test_a_file_that_is_not_an_image_is_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        decode(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("save it again as JPEG or PNG.")
    assert "\n" not in message


def test_random_damage_gives_an_image_error_or_an_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    outcomes, suffixes = set(), ("png", "gif", "tif", "webp", "bmp", "jpg")
    for suffix in suffixes:
        path = tmp_path / f"x.{suffix}"
        halves().save(path)
        whole = path.read_bytes()
        for _ in range(40):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole), 4):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                outcomes.add(decode(path, max_pixels=10**6).mode)
            except ImageError as error:
                outcomes.add(str(error).partition(": ")[0])
    assert outcomes == {"RGB", *(str(tmp_path / f"x.{suffix}") for suffix in suffixes)}


def test_missing_file_folder_and_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "gone.jpg", tmp_path, tmp_path / "pipe.jpg", tmp_path / ("x" * 5000)):
        with pytest.raises(ImageError, match="no such file; restore it or take it off the list"):
            decode(path)


def test_filters_of_warnings_are_left_as_they_were(tmp_path: Path) -> None:
    before = list(warnings.filters)
    with pytest.raises(ImageError):
        decode(bomb(tmp_path / "bomb.png", 10_500, 10_000))
    assert warnings.filters == before


def test_real_photographs(grocery: Path) -> None:
    for path in sorted(grocery.glob("test/*/*/*.jpg"))[:5] + sorted(grocery.glob("train/*/*/*/*.jpg"))[:5]:
        image = decode(path)
        assert image.mode == "RGB"
        assert min(image.size) == 192
        assert np.asarray(image).std() > 10


def test_defaults_are_the_papers_recipe() -> None:
    options = ImageOptions()
    assert (options.size, options.resize, options.scale, options.flip) == (224, 256, (0.16, 1.0), 0.5)
    assert isinstance(options, Config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 64, "resize": 32}, "resize = 32 is smaller than size = 64"),
        ({"scale": [0.9, 0.2]}, "ends swapped"),
        ({"scale": [0, 1]}, "scale"),
        ({"flip": 1.5}, "flip = 1.5"),
        ({"on_error": "ignore"}, "'skip' or 'raise'"),
        ({"cache_mb": -1}, "cache_mb = -1"),
        ({"workers": -1}, "workers = -1"),
        ({"max_pixels": 10**9}, "max_pixels"),
        ({"sise": 64}, "Did you mean 'size'"),
    ],
)
def test_options_out_of_range(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageOptions.parse(values)
