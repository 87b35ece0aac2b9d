"""An embedder as ONNX: how near to torch, how large, how fast.

Both sides get the same images as uint8 and one thread; torch runs in channels_last, its fastest layout here. Rounds
alternate between the two, and the median of the rounds' ratios is printed.

    python benchmarks/export.py [--run FOLDER] [--images 256] [--rounds 7]

`FOLDER` holds `generations/` as a run or a catalogue does; its newest one is exported. Without it, an untrained network
of the default backbone is. Images: grocery's (SCRUBJAY_GROCERY or ../shared/data/grocery), else drawn birds.
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
    """As the run has them; the defaults where it does not say."""
    for name in ("config.json", "catalogue.json"):
        if run is not None and (run / name).exists():
            said = json.loads((run / name).read_text(encoding="utf-8"))
            return ImageOptions(**said.get("images", {}))
    return ImageOptions()


def sample_images(number: int, folder: Path) -> tuple[str, list[Sample]]:
    beside = Path(__file__).parents[2] / "shared" / "data" / "grocery"
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
        made = export(embedder, generation, images, samples, folder / "embedder.onnx")
        print(f"{embedder.kind}, {generation.name}, {images.size} px, {made.images} images of {source}")
        print(f"largest difference {made.max_difference:.2g}, smallest cosine {made.min_cosine:.7f}")
        print(f"{made.bytes / 1e6:.1f} MB")
        run = session(made.path, threads=1)
        loader = ImageLoader(samples, images, train=False, cache=Cache(0))
        for batch in BATCHES:
            pixels = torch.stack([loader[index % len(samples)] for index in range(batch)])
            repeats = max(1, 32 // batch)
            pairs = []
            for _ in range(arguments.rounds + 1):  # the first warms up
                theirs = seconds(lambda: embedder(pixels), repeats)  # noqa: B023
                ours = seconds(lambda: run.run(None, {"images": pixels.numpy()}), repeats)  # noqa: B023
                pairs.append((batch / ours, batch / theirs))
            ratios = [ours / theirs for ours, theirs in pairs[1:]]
            ours, theirs = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
            print(
                f"batch {batch}: {statistics.median(ratios):.2f} times torch ({min(ratios):.2f} to {max(ratios):.2f}); "
                f"{ours:.1f} and {theirs:.1f} images/s, one thread"
            )


if __name__ == "__main__":
    main()
