"""An embedder exported to ONNX: its difference from torch, its size and its speed.

Both runtimes get the same images as uint8 and one thread; torch uses channels_last, its fastest layout here. Rounds
alternate between the two, and the median of the rounds' ratios is printed.

    python benchmarks/speed/export.py [--run FOLDER] [--images 256] [--rounds 7]

`FOLDER` is the folder of a run or a catalogue, whose newest generation is exported. Without it, an untrained network
with the default backbone is exported. Images: those of Grocery Store (SCRUBJAY_GROCERY or ../shared/data/grocery) if
available, else drawn birds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scrubjay.data.aviary import Album
from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import Cache, ImageLoader
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import Lineage
from scrubjay.generations.onnx_export import export, session
from scrubjay.models.embedder import Embedder, Network, NetworkOptions
from scrubjay.types import Sample

BATCHES = (1, 32)


def network(run: Path | None, folder: Path) -> tuple[Embedder, Generation]:
    if run is not None and (newest := Lineage(run / "generations").newest) is not None:
        return Lineage(run / "generations").network(newest).embedder, newest
    options = NetworkOptions(pretrained=False)
    info = {"fingerprint": "untrained", "network": options.model_dump(mode="json")}
    return Network(options).eval().embedder, Generation(folder / "g0", info)


def image_options(run: Path | None) -> ImageOptions:
    """The image options of the run or catalogue, or the defaults."""
    for name in ("config.json", "catalogue.json"):
        if run is not None and (run / name).exists():
            options = json.loads((run / name).read_text(encoding="utf-8"))
            return ImageOptions(**options.get("images", {}))
    return ImageOptions()


def sample_images(number: int, folder: Path) -> tuple[str, list[Sample]]:
    beside = Path(__file__).parents[3] / "shared" / "data" / "grocery"
    found = sorted(Path(os.environ.get("SCRUBJAY_GROCERY", beside)).glob("test/**/*.jpg"))
    if found:
        return "grocery, test", [Sample(path, 0) for path in found[:: max(1, len(found) // number)][:number]]
    birds = Album(str(folder), species=number, train=0, test=1, size=256, seed=0)
    birds.complete()
    return "drawn birds", [Sample(path, 0) for path in sorted((folder / "test").glob("*/*.jpg"))]


def seconds(work: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", "--catalogue", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        embedder, generation = network(arguments.run, folder)
        images = image_options(arguments.run)
        source, samples = sample_images(arguments.images, folder)
        exported = export(embedder, generation, images, samples, folder / "embedder.onnx")
        print(f"{embedder.kind}, {generation.name}, {images.size} px, {exported.images} images of {source}")
        print(f"largest difference {exported.max_difference:.2g}, smallest cosine {exported.min_cosine:.7f}")
        print(f"{exported.bytes / 1e6:.1f} MB")
        run = session(exported.path, threads=1)
        loader = ImageLoader(samples, images, train=False, cache=Cache(0))
        for batch in BATCHES:
            pixels = torch.stack([loader[index % len(samples)] for index in range(batch)])
            repeats = max(1, 32 // batch)
            pairs = []
            for _ in range(arguments.rounds + 1):  # the first warms up
                by_torch = seconds(lambda: embedder(pixels), repeats)  # noqa: B023
                by_onnx = seconds(lambda: run.run(None, {"images": pixels.numpy()}), repeats)  # noqa: B023
                pairs.append((batch / by_onnx, batch / by_torch))
            ratios = [onnx / torch_ for onnx, torch_ in pairs[1:]]
            onnx, torch_ = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
            print(
                f"batch {batch}: {statistics.median(ratios):.2f} times torch ({min(ratios):.2f} to {max(ratios):.2f}); "
                f"ONNX {onnx:.1f} images/s, torch {torch_:.1f} images/s, one thread"
            )


if __name__ == "__main__":
    main()
