"""Requests a second and latencies of searches over HTTP, against the bare model and store in the same run.

    python benchmarks/speed/service.py [--seconds 5] [--requests 10000] [--items 10000]

A catalogue of drawn birds learns in closed form with the default network; random items fill it. `scrubjay serve` runs
in a process of its own on loopback, and is asked by this process over connections that stay open: in a closed loop,
where each client sends its next search when it has its answer, and in an open loop, where searches are sent at a fixed
rate and a search that waits behind others is late by that. Nothing runs longer than --seconds, or than the number of
requests. Machine and load are printed, because all of it shares the processors.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import torch

from scrubjay import Catalogue, CatalogueOptions, Client
from scrubjay.data.aviary import Album
from scrubjay.generations.bridge_paths import space_of
from scrubjay.search.query_image import QueryImage
from scrubjay.stores import Item

CLIENTS = (1, 8, 32)
RATES = (0.5, 0.8)
"""Shares of the throughput of eight clients at which the open loop sends."""
PARTS = ("decode", "queue", "embed", "search")


@dataclass(frozen=True)
class Load:
    """What a load of searches took: seconds of each request, and how many were refused."""

    seconds: list[float]
    wall: float
    refused: int

    def row(self, name: str) -> str:
        cuts = statistics.quantiles([1000 * each for each in self.seconds], n=100, method="inclusive")
        figures = " | ".join(f"{cuts[percent - 1]:.1f}" for percent in (50, 95, 99))
        return f"| {name} | {self.rate:.1f} | {figures} | {self.refused} |"

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.wall


def catalogue(root: Path, species: int, items: int) -> tuple[Catalogue, list[bytes], list[Path]]:
    """A catalogue, images to search with, and images of a class that it does not know."""
    album = Album(str(root / "birds"), species=species + 1, train=12, test=6, size=240, seed=0)
    album.complete()
    new = sorted((root / "birds" / "train").iterdir())[-1]
    shutil.rmtree(root / "birds" / "test" / new.name)
    new = new.rename(root / "new")
    queries = [path.read_bytes() for path in sorted((root / "birds" / "test").rglob("*.jpg"))]
    shop = Catalogue.init(root / "shop", CatalogueOptions())
    shop.learn(root / "birds")
    shop.add([root / "birds" / "train"])
    (space,) = shop.gallery.store.spaces()
    draw = np.random.default_rng(0)
    count = max(0, items - shop.gallery.count())
    vectors = draw.normal(size=(count, space.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [Item(f"random{row}", f"/random/{row}.jpg", f"random{row}") for row in range(count)]
    shop.gallery.add(rows, vectors, space)
    shop.gallery.store.maintain()
    return shop, queries, sorted(new.iterdir())


@contextmanager
def served(folder: Path, *settings: str) -> Iterator[tuple[str, int]]:
    """A service in a process of its own: its address and its process."""
    options = [part for each in ("rate=1000000", "rate_burst=1000000", *settings) for part in ("--set", each)]
    command = [sys.executable, "-c", "from scrubjay.cli import main; main()", "serve", str(folder), "--port", "0"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        url = re.search(r"http://[^/ ]+", process.stdout.readline()).group()
        with Client(url, retries=10) as client:
            client.status()
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def searches(url: str, images: Sequence[bytes]) -> list[bytes]:
    """The bytes of one search for each image, made once, so that the load is not of this process's making."""
    made = []
    for content in images:
        request = httpx.Request(
            "POST",
            f"{url}/v1/search/upload",
            files={"images": ("q.jpg", content, "image/jpeg")},
            data={"settings": "{}"},
        )
        body = request.read()
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        made.append(f"POST /v1/search/upload HTTP/1.1\r\n{head}\r\n".encode() + body)
    return made


class Connection:
    """A connection that stays open, and sends one search after the other."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)

    async def open(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def ask(self, request: bytes) -> int:
        """Status of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])
        await self._reader.readexactly(length)
        return int(head[9:12])

    def close(self) -> None:
        self._writer.close()


async def closed_loop(url: str, requests: Sequence[bytes], clients: int, seconds: float, most: int) -> Load:
    """Clients that each send their next search when they have their answer."""
    taken, refused, number = [], 0, 0
    began = time.perf_counter()

    async def client() -> None:
        nonlocal refused, number
        connection = await Connection(url).open()
        while time.perf_counter() - began < seconds and number < most:
            number += 1
            sent = time.perf_counter()
            status = await connection.ask(requests[number % len(requests)])
            refused += status != 200
            taken.append(time.perf_counter() - sent)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(taken, time.perf_counter() - began, refused)


async def open_loop(url: str, requests: Sequence[bytes], rate: float, seconds: float, connections: int = 64) -> Load:
    """Searches that are sent at a fixed rate; each is timed from when it was due."""
    taken, refused = [], 0
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await Connection(url).open())
    began = time.perf_counter()

    async def one(number: int) -> None:
        nonlocal refused
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        connection = await free.get()
        refused += await connection.ask(requests[number % len(requests)]) != 200
        taken.append(time.perf_counter() - due)
        free.put_nowait(connection)

    await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
    wall = time.perf_counter() - began
    while not free.empty():
        free.get_nowait().close()
    return Load(taken, wall, refused)


def bare(shop: Catalogue, images: Sequence[bytes], batch: int, seconds: float) -> Load:
    """Decoding, the forward pass and the store in a plain loop, without HTTP, match decision or log."""
    workspace = shop.workspace
    generation = workspace.serving_generation()
    encoder, space, options = workspace.encoder(generation), space_of(generation), shop.options.images
    taken, number, began = [], 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        sent = time.perf_counter()
        pixels = [QueryImage.read(images[(number + row) % len(images)], options).pixels for row in range(batch)]
        shop.gallery.store.search(space, encoder.embed_pixels(pixels), 10)
        number += batch
        taken += [time.perf_counter() - sent] * batch
    return Load(taken, time.perf_counter() - began, 0)


def parts(url: str) -> dict[str, tuple[float, int]]:
    """Seconds and number of observations of each part of searches so far."""
    text = httpx.get(f"{url}/metrics").text
    found = re.findall(r'^scrubjay_part_seconds_(sum|count)\{part="(\w+)"\} (\S+)', text, re.MULTILINE)
    sums = {part: float(value) for kind, part, value in found if kind == "sum"}
    return {part: (sums[part], int(float(value))) for kind, part, value in found if kind == "count"}


def memory(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def measure_parts(url: str, requests: Sequence[bytes], seconds: float) -> None:
    before = parts(url)
    load = asyncio.run(closed_loop(url, requests, 1, seconds, 10**9))
    after = parts(url)
    print("\n| part of one search, one client | ms |\n| --- | ---: |")
    rest = 1000 * load.wall / len(load.seconds)
    for part in [name for name in after if name in PARTS] or list(after):
        total, count = (new - old for new, old in zip(after[part], before.get(part, (0, 0)), strict=True))
        if count:
            rest -= 1000 * total / len(load.seconds)
            print(f"| {part} | {1000 * total / count:.2f} |")
    print(f"| HTTP, multipart, JSON, waiting for threads and processes | {rest:.2f} |")
    print(f"| all | {1000 * load.wall / len(load.seconds):.2f} |")


def measure_teaching(url: str, photos: Sequence[Path]) -> None:
    with Client(url) as client:
        began = time.perf_counter()
        taught = client.teach("new bird", photos[:5])
        answered = time.perf_counter() - began
        (answer,) = client.search(photos[5]).answers
        found = [hit.label for hit in answer.hits]
        total = time.perf_counter() - began
    rank = found.index("new bird") + 1 if "new bird" in found else None
    print(
        f"\nA new class from five images: answered after {answered:.1f} s (generation {taught.generation}, serving: "
        f"{taught.serving}); another image of it found it at rank {rank} after {total:.1f} s."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--requests", type=int, default=10_000, help="requests between two looks at the memory")
    parser.add_argument("--longest", type=float, default=300, help="seconds after which these requests end")
    parser.add_argument("--species", type=int, default=20)
    parser.add_argument("--items", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        shop, images, new = catalogue(Path(name), given.species, given.items)
        load = "/".join(f"{each:.1f}" for each in os.getloadavg())
        print(
            f"{shop.gallery.count():,} items, {os.cpu_count()} processors, {torch.get_num_threads()} threads of torch, "
            f"load {load}\n"
        )
        print(
            "| searches | requests/s | p50 ms | p95 ms | p99 ms | refused |\n| --- | ---: | ---: | ---: | ---: | ---: |"
        )
        for batch in (1, 16):
            bare(shop, images, batch, 1)  # warms up
            print(bare(shop, images, batch, given.seconds).row(f"bare model and store, {batch} at a time"), flush=True)
        for title, settings in (("batches", ()), ("no batches", ("batch_images=1", "batch_ms=0"))):
            with served(shop.folder, *settings) as (url, _):
                requests = searches(url, images)
                asyncio.run(closed_loop(url, requests, 4, 2, 10**9))  # warms up
                rates = {}
                for clients in CLIENTS:
                    loaded = asyncio.run(closed_loop(url, requests, clients, given.seconds, 10**9))
                    rates[clients] = loaded.rate
                    print(loaded.row(f"closed loop, {clients} clients, {title}"), flush=True)
                for share in RATES:
                    rate = share * rates[8]
                    loaded = asyncio.run(open_loop(url, requests, rate, given.seconds))
                    print(loaded.row(f"open loop, {rate:.0f} a second, {title}"), flush=True)
        with served(shop.folder) as (url, pid):
            requests = searches(url, images)
            asyncio.run(closed_loop(url, requests, 8, given.longest, given.requests // 10))
            measure_parts(url, requests, given.seconds)
            before = memory(pid)
            loaded = asyncio.run(closed_loop(url, requests, 8, given.longest, given.requests))
            after = memory(pid)
            print(f"\nMemory of the service: {before:.0f} MiB; {len(loaded.seconds):,} searches later {after:.0f} MiB.")
            measure_teaching(url, new)


if __name__ == "__main__":
    main()
