"""Decodes untrusted image files in separate processes, under limits of time and memory."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from scrubjay.data.images import Box, ImageOptions
from scrubjay.data.photos import bytes_hash
from scrubjay.errors import ImageError
from scrubjay.search.query_image import QueryImage
from scrubjay.service.options import ServiceOptions

_START_SECONDS = 60.0
_HEADER_BYTES = 65_536
_PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
"""Extensions of file names by Pillow's name of the format, where they are not that name in small letters."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image file after it was decoded.

    Attributes:
        format: Pillow's name of the format, such as "JPEG".
        width: in pixels, as stored.
        height: in pixels, as stored.
    """

    format: str
    width: int
    height: int

    @property
    def extension(self) -> str:
        """The usual extension of such a file's name, without the dot."""
        return EXTENSIONS.get(self.format, self.format.lower())


class Decoder:
    """Decodes images in processes that are killed when they exceed their limits, and replaced.

    A file is refused that is not an image, or damaged; that exceeds the limits of bytes, pixels, memory or time; that
    is very elongated; that has several frames; that is a web page, PDF or archive as well; or that was sent as another
    type than it is. EXIF orientation is applied, and CMYK becomes RGB.

    Args:
        images: how the catalogue prepares images.
        options: limits.
        observe: called with the seconds of each task.
    """

    def __init__(
        self, images: ImageOptions, options: ServiceOptions, observe: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self._observe = observe
        self._bytes = options.image_mb * 2**20
        self._common = {
            "ratio": options.image_ratio,
            "max_pixels": min(options.image_pixels, images.max_pixels),
            "size": images.size,
            "resize": images.resize,
        }
        self._pool = ThreadPoolExecutor(options.decode_processes, thread_name_prefix="decode")
        self._free: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._processes = [_Process(options) for _ in range(options.decode_processes)]
        for process in self._processes:
            self._pool.submit(self._start, process)

    async def decode(self, data: bytes, crop: Box | None = None, declared: str | None = None) -> QueryImage:
        """An image to search with.

        Args:
            data: content of an image file.
            crop: left, top, right, bottom in pixels of the upright image.
            declared: media type that it was sent with.

        Raises:
            ImageError: the image is refused.
        """
        began = time.perf_counter()
        result, pixels = await self._ask("query", data, box=crop, declared=declared)
        array = np.frombuffer(pixels, np.uint8).reshape(int(result["height"]), int(result["width"]), 3)
        content = await asyncio.get_running_loop().run_in_executor(self._pool, bytes_hash, data, crop)
        self._observe(time.perf_counter() - began)
        return QueryImage(content, array)

    async def reencode(self, data: bytes, side: int, crop: Box | None = None) -> bytes:
        """The image as a JPEG file of at most `side` pixels on its long side, without any metadata.

        Raises:
            ImageError: the image is refused.
        """
        return (await self._ask("reencode", data, side=side, box=crop))[1]

    async def inspect(self, data: bytes, declared: str | None = None) -> ImageFacts:
        """Decode an image for the sake of finding out whether it can be, as `decode` would.

        Raises:
            ImageError: the image is refused.
        """
        result, _ = await self._ask("inspect", data, side=self._common["resize"], declared=declared)
        return ImageFacts(str(result["format"]), int(result["width"]), int(result["height"]))

    async def close(self) -> None:
        """End the processes."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for process in self._processes:
            process.kill()
        self._pool.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()  # one may have been started in the meantime

    async def _ask(self, kind: str, data: bytes, **values: Any) -> tuple[dict[str, Any], bytes]:
        if not data:
            raise ImageError("it is empty.")
        if len(data) > self._bytes:
            limit = self._bytes // 2**20
            raise ImageError(f"{len(data)} bytes, the limit of an image is {limit} MiB; shrink it.")
        task = json.dumps({**self._common, "kind": kind, **values}).encode()
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._perform, task, data)

    def _start(self, process: _Process) -> None:
        try:
            process.start()
        finally:  # where it could not start now, the next task tries again
            self._free.put(process)

    def _perform(self, task: bytes, data: bytes) -> tuple[dict[str, Any], bytes]:
        process = self._free.get()
        try:
            return process.ask(task, data)
        finally:
            self._free.put(process)


class _Process:
    """One process that decodes, started when needed and after it was killed."""

    def __init__(self, options: ServiceOptions) -> None:
        self._seconds, self._megabytes = options.decode_seconds, options.decode_memory_mb
        self._largest = 4 * options.image_pixels + 2**20
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self) -> Connection:
        """Start the process if it does not run; returns the connection to it."""
        if self._connection is not None and self._process is not None and self._process.poll() is None:
            return self._connection
        self.close()
        here, there = Pipe()
        command = [sys.executable, "-m", "scrubjay.service.decode_worker", str(there.fileno()), str(self._megabytes)]
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with there:
            self._process = subprocess.Popen(
                command,
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal is for the service alone
                env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        self._connection = here
        if not here.poll(_START_SECONDS) or here.recv_bytes(16) != b"ready":
            self.kill()
            raise EOFError
        return here

    def ask(self, task: bytes, data: bytes) -> tuple[dict[str, Any], bytes]:
        """The result of a task.

        Raises:
            ImageError: the image is refused, or the process exceeded a limit or died.
        """
        late = threading.Event()
        try:
            connection = self.start()
            timer = threading.Timer(self._seconds, self._end_late, [late])
            timer.start()
            try:
                connection.send_bytes(task)
                connection.send_bytes(data)
                result = json.loads(connection.recv_bytes(_HEADER_BYTES))
                content = connection.recv_bytes(self._largest)
            finally:
                timer.cancel()
        except (EOFError, OSError, ValueError):
            self.kill()
            if late.is_set():
                raise ImageError(f"it takes more than {self._seconds:g} s to decode; shrink it.") from None
            raise ImageError("the process that decoded it died; save it again as JPEG or PNG.") from None
        if "refused" in result:
            raise ImageError(str(result["refused"]))
        return result, content

    def _end_late(self, late: threading.Event) -> None:
        late.set()
        self.kill()

    def close(self) -> None:
        """End the process and close the connection to it."""
        self.kill()
        if self._connection is not None:
            self._connection.close()

    def kill(self) -> None:
        """End the process; the next task starts another one."""
        process = self._process
        if process is not None:
            with suppress(OSError):
                process.kill()
            process.wait()
