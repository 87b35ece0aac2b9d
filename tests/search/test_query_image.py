from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scrubjay.data.images import ImageOptions
from scrubjay.data.photos import content_hash
from scrubjay.errors import ImageError
from scrubjay.search.query_image import QueryImage
from scrubjay.types import Sample
from tiny import IMAGES, paint


@pytest.mark.parametrize("box", [None, (3, 4, 30, 35)])
def test_content_and_file_give_the_same_image(tmp_path: Path, box: tuple[int, int, int, int] | None) -> None:
    path = paint(tmp_path / "a.png", 3, 1)
    file, sent = QueryImage.read(path, IMAGES, box), QueryImage.read(path.read_bytes(), IMAGES, box)
    assert file.content == sent.content == content_hash(Sample(path, 0, box=box))
    assert np.array_equal(file.pixels, sent.pixels)
    assert file.pixels.dtype == np.uint8
    assert file.pixels.shape == ((40, 40, 3) if box is None else (31, 27, 3))
    assert (file.path, sent.path) == (path, None)


def test_pixels_are_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert QueryImage.read(tmp_path / "a.jpg", IMAGES).pixels.shape == (40, 20, 3)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(ImageError, match=r"^the image: .*save it again"):
        QueryImage.read(content, IMAGES)


def test_limits_are_those_of_the_catalogue(tmp_path: Path) -> None:
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="the limit is 500"):
        QueryImage.read((tmp_path / "a.png").read_bytes(), ImageOptions(size=16, resize=16, max_pixels=500))
    Image.new("L", (9000, 1)).save(tmp_path / "b.png")
    with pytest.raises(ImageError, match="too elongated"):
        QueryImage.read(tmp_path / "b.png", ImageOptions(size=224, resize=224, max_pixels=100_000))


def test_reading_needs_no_torch() -> None:
    """A process that decodes what strangers send starts in a moment."""
    source = "import sys, scrubjay.search.query_image; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0
