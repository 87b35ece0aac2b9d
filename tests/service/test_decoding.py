"""Untrusted files are decoded under limits, or refused with a reason; a process that fails is replaced."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hostile import REFUSED, TAKEN, encoded, noise_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from scrubjay.data.images import decode
from scrubjay.errors import ImageError
from scrubjay.search.query_image import QueryImage
from scrubjay.service.decode_worker import perform, refuse_unsafe
from scrubjay.service.decoding import Decoder
from scrubjay.service.options import ServiceOptions
from tiny import IMAGES
from waiting import until

T = TypeVar("T")
OPTIONS = ServiceOptions(decode_processes=1)
TASK = {"ratio": 32, "max_pixels": 1_000_000, "size": 32, "resize": 36, "side": 64}


def decoding(work: Callable[[Decoder], Awaitable[T]], options: ServiceOptions = OPTIONS) -> T:
    async def run() -> T:
        decoder = Decoder(IMAGES, options)
        try:
            return await work(decoder)
        finally:
            await decoder.close()

    return asyncio.run(run())


def test_hostile_files_are_refused_and_the_process_goes_on() -> None:
    async def work(decoder: Decoder) -> dict[str, str]:
        reasons = {}
        for name, (data, _) in REFUSED.items():
            with pytest.raises(ImageError) as refused:
                await decoder.decode(data)
            reasons[name] = str(refused.value)
        await decoder.decode(encoded(noise_image()))
        return reasons

    reasons = decoding(work)
    for name, (_, part) in REFUSED.items():
        assert part in reasons[name], name
        assert "\n" not in reasons[name]
        assert "Traceback" not in reasons[name]


def test_unusual_images_are_taken() -> None:
    async def work(decoder: Decoder) -> dict[str, tuple[int, int]]:
        return {name: (await decoder.decode(data)).pixels.shape[1::-1] for name, (data, _) in TAKEN.items()}

    assert decoding(work) == {name: size for name, (_, size) in TAKEN.items()}


def test_image_is_the_one_that_a_file_gives(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(noise_image(300), "JPEG"))
    sent = decoding(lambda decoder: decoder.decode(path.read_bytes()))
    read = QueryImage.read(path, IMAGES)
    assert sent.content == read.content
    assert np.array_equal(sent.pixels, read.pixels)
    crop = (10, 20, 110, 90)
    sent = decoding(lambda decoder: decoder.decode(path.read_bytes(), crop))
    read = QueryImage.read(path, IMAGES, crop)
    assert sent.content == read.content
    assert np.array_equal(sent.pixels, read.pixels)


def test_thumbnail_has_no_metadata_and_is_small() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    data = encoded(noise_image(300).resize((300, 200)), "JPEG", exif=exif)
    thumbnail = decoding(lambda decoder: decoder.reencode(data, 64))
    assert b"secret" not in thumbnail
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert (image.format, image.size, len(image.getexif())) == ("JPEG", (64, 43), 0)


def test_file_of_another_type_than_it_is_said_to_be() -> None:
    data = encoded(noise_image())
    with pytest.raises(ImageError, match="said to be image/jpeg and is image/png"):
        decoding(lambda decoder: decoder.decode(data, declared="image/jpeg"))
    facts = decoding(lambda decoder: decoder.inspect(data, declared="application/octet-stream"))
    assert (facts.format, facts.width, facts.height, facts.extension) == ("PNG", 40, 40, "png")


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        ("JPEG", "image/jpg"),
        ("PNG", "image/png"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
        ("BMP", "image/x-ms-bmp"),
        ("TIFF", "image/tiff"),
        ("PPM", "image/x-portable-pixmap"),
        ("JPEG2000", "image/jp2"),
        ("AVIF", "image/avif"),
    ],
)
def test_usual_types_of_files_are_known(kind: str, declared: str) -> None:
    refuse_unsafe(encoded(noise_image(), kind), declared, 32, 10_000).close()


def test_file_with_too_many_bytes_is_refused_before_it_is_sent_on() -> None:
    options = OPTIONS.model_copy(update={"image_mb": 1})
    with pytest.raises(ImageError, match="the limit of an image is 1 MiB"):
        decoding(lambda decoder: decoder.decode(bytes(2**20 + 1)), options)


def test_process_that_takes_too_long_is_ended_and_replaced() -> None:
    async def work(decoder: Decoder) -> None:
        await decoder.decode(encoded(noise_image()))
        process = decoder._processes[0]._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(ImageError, match=r"more than 0\.5 s"):
            await decoder.decode(encoded(noise_image()))
        decoder._processes[0]._seconds = 600
        await decoder.decode(encoded(noise_image()))
        assert decoder._processes[0]._process is not process

    decoding(work, OPTIONS.model_copy(update={"decode_seconds": 0.5}))


def test_process_that_dies_is_replaced() -> None:
    async def work(decoder: Decoder) -> None:
        await decoder.decode(encoded(noise_image()))
        process = decoder._processes[0]._process
        assert process is not None
        process.kill()
        await asyncio.to_thread(until, lambda: process.poll() is not None)
        await decoder.decode(encoded(noise_image()))

    decoding(work)


def test_process_has_little_memory() -> None:
    noise = np.zeros((7000, 7000, 4), np.uint8)
    data = encoded(Image.fromarray(noise))
    options = OPTIONS.model_copy(update={"decode_memory_mb": 400})

    async def work(decoder: Decoder) -> None:
        with pytest.raises(ImageError):
            await decoder.decode(data)
        await decoder.decode(encoded(noise_image()))

    decoding(work, options)


def test_many_images_at_a_time() -> None:
    async def work(decoder: Decoder) -> int:
        images = await asyncio.gather(*(decoder.decode(encoded(noise_image(side))) for side in range(20, 60)))
        return len({image.content for image in images})

    assert decoding(work, OPTIONS.model_copy(update={"decode_processes": 2})) == 40


def attempt(data: bytes) -> None:
    """An image or a reason, never anything else."""
    for kind in ("query", "reencode", "inspect"):
        try:
            facts, content = perform({**TASK, "kind": kind}, data)
        except ImageError:
            continue
        assert facts["width"] * facts["height"] <= 1_000_000
        if kind == "reencode":
            decode(content)


@given(st.binary(max_size=400))
@settings(max_examples=200)
def test_any_bytes(data: bytes) -> None:
    attempt(data)


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_images(data: st.DataObject) -> None:
    original = data.draw(st.sampled_from(SEEDS))
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(0, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    attempt(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]))


SEEDS = [
    *(encoded(noise_image(24), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")),
    *(data for data, _ in TAKEN.values()),
]
