"""Milliseconds of one query through `Catalogue.answer`: a catalogue of two generations, both spaces searched.

    python benchmarks/speed/query.py [--items 12 100000] [--queries 30] [--size 96]

The network is EfficientNet-Lite0 with all but its last block frozen. Items beyond the first dozen have random unit
vectors in the space of the first generation, so that every query is carried over a bridge.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from scrubjay import Catalogue, CatalogueOptions
from scrubjay.data.aviary import Album
from scrubjay.stores import Item

OPTIONS = {
    "network": {"frozen": "blocks.5", "features": "last"},
    "training": {"epochs": 1, "increment_epochs": 1, "classes_per_batch": 2, "images_per_class": 4},
    "gate": {"old_retention": 0.0, "negative_flips": 1.0, "new_gain": -1.0},
}


def catalogue(root: Path, size: int) -> tuple[Catalogue, list[Path]]:
    """Two species learned and added, two more learned and promoted."""
    Album(str(root / "birds"), species=4, train=6, test=3, size=size + 16, seed=0).complete()
    for split in ("train", "test"):
        for number, folder in enumerate(sorted((root / "birds" / split).iterdir())):
            season = "spring" if number < 2 else "summer"
            (root / season / split).mkdir(parents=True, exist_ok=True)
            folder.rename(root / season / split / folder.name)
    options = CatalogueOptions.parse({**OPTIONS, "images": {"size": size, "resize": size + 16}})
    shop = Catalogue.init(root / "shop", options)
    shop.learn(root / "spring")
    shop.add([root / "spring" / "train"])
    shop.learn(root / "summer")
    shop.promote("g1", force=True)
    return shop, sorted((root / "summer" / "test").rglob("*.jpg"))


def fill(shop: Catalogue, number: int) -> None:
    """Random items up to a number, with vectors of the first generation."""
    (space,) = shop.gallery.store.spaces()
    draw = np.random.default_rng(0)
    for start in range(shop.gallery.count(), number, 10_000):
        count = min(10_000, number - start)
        vectors = draw.normal(size=(count, space.dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        items = [Item(f"random{row}", f"/random/{row}.jpg", f"random{row}") for row in range(start, start + count)]
        shop.gallery.add(items, vectors, space)
    shop.gallery.store.maintain()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[12, 100_000])
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--size", type=int, default=96)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        shop, queries = catalogue(Path(name), arguments.size)
        for number in arguments.items:
            fill(shop, number)
            opened = Catalogue(shop.folder)
            times = []
            for index in range(arguments.queries + 3):  # the first ones load the network and warm up
                began = time.perf_counter()
                opened.answer(queries[index % len(queries)], 10)
                times.append(1000 * (time.perf_counter() - began))
            times = sorted(times[3:])
            print(
                f"{opened.gallery.count():,} items: median {statistics.median(times):.1f} ms, "
                f"least {times[0]:.1f}, most {times[-1]:.1f}"
            )


if __name__ == "__main__":
    main()
