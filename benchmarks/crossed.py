"""Every generation of a finished run sees every image of the stream: what questions across generations need.

`crossed(folder)` opens the folder of a `scrubjay run`, or of one run of a `scrubjay compare`. Test images were
embedded when the run was measured; training images of sessions that a generation had not learned yet are embedded
now, once, and kept in `crossed/gN.safetensors`: `python benchmarks/crossed.py DIR …` does that and says what is there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scrubjay.config import read_json
from scrubjay.data.loading import Cache
from scrubjay.data.stream import Stream
from scrubjay.experiments.measurement import Measured, gallery_samples
from scrubjay.experiments.run import ExperimentOptions, load_stream
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import Lineage
from scrubjay.models.checkpoint import load_tensors, save_tensors
from scrubjay.models.embedding import embed


@dataclass(frozen=True)
class ImageLoader:
    """The same images, seen by every generation.

    Attributes:
        vectors: of generation t: float32 (N, d_t), unit rows.
        labels: int64 (N,).
        sessions: int64 (N,), the session that each one's class is learned in; −1 for classes kept unseen.
    """

    vectors: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    sessions: NDArray[np.int64]


@dataclass(frozen=True)
class Crossed:
    """A run whose every generation has seen every image.

    Attributes:
        folder: of the run.
        method: its name.
        seed: of the run.
        generations: g0, g1, …, each the parent of the next.
        classes: the labels of each session.
        test: test images of all classes.
        train: training images of all sessions.
    """

    folder: Path
    method: str
    seed: int
    generations: tuple[Generation, ...]
    classes: tuple[range, ...]
    test: ImageLoader
    train: ImageLoader


def crossed(folder: Path) -> Crossed:
    """Open the folder of a run and embed what is missing.

    Raises:
        UserError: there is no finished run in the folder, or its images are gone.
        CheckpointError: a file in it is damaged.
    """
    options = ExperimentOptions.parse(read_json(folder / "config.json"), str(folder))
    stream, _ = load_stream(options)
    lineage, cache = Lineage(folder / "generations"), Cache(options.images.cache_mb)
    generations = tuple(lineage.generations())
    measured = [Measured.load(folder / "measured" / f"{each.name}.safetensors") for each in generations]
    train = [_all_training(*pair, folder, stream, options, cache) for pair in zip(generations, measured, strict=True)]
    kept = measured[-1]
    return Crossed(
        folder,
        options.method["name"],
        options.seed,
        generations,
        tuple(session.labels for session in stream.sessions),
        ImageLoader(
            tuple(each.test.vectors for each in measured), kept.test.labels, _sessions(kept.test.labels, stream)
        ),
        ImageLoader(tuple(train), kept.gallery.labels, _sessions(kept.gallery.labels, stream)),
    )


def _all_training(
    generation: Generation,
    measured: Measured,
    folder: Path,
    stream: Stream,
    options: ExperimentOptions,
    cache: Cache,
) -> NDArray[np.float32]:
    """Training images of all sessions by one generation: of those learned as measured, of the others embedded now."""
    later = gallery_samples(stream, len(stream.sessions) - 1)[len(gallery_samples(stream, generation.number)) :]
    if not later:
        return measured.gallery.vectors
    path = folder / "crossed" / f"{generation.name}.safetensors"
    if not path.exists():
        embedder = Lineage(folder / "generations").network(generation).embedder
        found = embed(embedder, later, options.images, cache)
        assert found.fingerprint == measured.gallery.fingerprint, f"{path}: another space than was measured"
        save_tensors(path, {"vectors": torch.from_numpy(found.vectors)}, {"fingerprint": found.fingerprint})
    vectors = load_tensors(path, "delete it, and it is made again")[0]["vectors"].numpy()
    return np.concatenate([measured.gallery.vectors, vectors])


def _sessions(labels: NDArray[np.int64], stream: Stream) -> NDArray[np.int64]:
    """The session of each label."""
    ends = np.array([session.labels.stop for session in stream.sessions])
    found = np.searchsorted(ends, labels, side="right")
    return np.where(found < len(ends), found, -1)


def main() -> None:
    for name in sys.argv[1:]:
        run = crossed(Path(name))
        shapes = ", ".join(str(len(loader.labels)) for loader in (run.test, run.train))
        print(f"{name}: {run.method}, seed {run.seed}, {len(run.generations)} generations, test, training: {shapes}")


if __name__ == "__main__":
    main()
