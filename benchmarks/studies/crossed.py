"""Embeddings of all images of a stream by every generation of a finished run, for comparisons across generations.

`crossed(folder)` opens the folder of a `scrubjay run`, or of one run of a `scrubjay compare`. Test images were
embedded when the run was measured. Training images of sessions that a generation had not learned yet are embedded on
the first call and stored in `crossed/gN.safetensors`; `python benchmarks/studies/crossed.py DIR …` does that and
reports the numbers of images.
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
from scrubjay.models.embedding import Encoder


@dataclass(frozen=True)
class EmbeddedImages:
    """The same images, embedded by every generation.

    Attributes:
        vectors: for generation t float32 (N, d_t), unit rows.
        labels: int64 (N,).
        sessions: int64 (N,), the session in which an image's class is learned; −1 for classes that are never learned.
    """

    vectors: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    sessions: NDArray[np.int64]


@dataclass(frozen=True)
class Crossed:
    """A run with the embeddings of all images by all generations.

    Attributes:
        folder: folder of the run.
        method: name of the method.
        seed: seed of the run.
        generations: g0, g1, …, each the parent of the next.
        classes: labels of the classes of each session.
        test: test images of all classes.
        train: training images of all sessions.
    """

    folder: Path
    method: str
    seed: int
    generations: tuple[Generation, ...]
    classes: tuple[range, ...]
    test: EmbeddedImages
    train: EmbeddedImages


def crossed(folder: Path) -> Crossed:
    """Open the folder of a run, and compute missing embeddings.

    Raises:
        UserError: there is no finished run in the folder, or its images no longer exist.
        CheckpointError: a file in the folder is damaged.
    """
    options = ExperimentOptions.parse(read_json(folder / "config.json"), str(folder))
    stream, _ = load_stream(options)
    lineage, cache = Lineage(folder / "generations"), Cache(options.images.cache_mb)
    generations = tuple(lineage.generations())
    measured = [Measured.load(folder / "measured" / f"{each.name}.safetensors") for each in generations]
    train = [_all_training(*pair, folder, stream, options, cache) for pair in zip(generations, measured, strict=True)]
    last = measured[-1]
    return Crossed(
        folder,
        options.method["name"],
        options.seed,
        generations,
        tuple(session.labels for session in stream.sessions),
        EmbeddedImages(
            tuple(each.test.vectors for each in measured), last.test.labels, _sessions(last.test.labels, stream)
        ),
        EmbeddedImages(tuple(train), last.gallery.labels, _sessions(last.gallery.labels, stream)),
    )


def _all_training(
    generation: Generation,
    measured: Measured,
    folder: Path,
    stream: Stream,
    options: ExperimentOptions,
    cache: Cache,
) -> NDArray[np.float32]:
    """Embeddings of all sessions' training images by one generation; those of later sessions are computed once."""
    later = gallery_samples(stream, len(stream.sessions) - 1)[len(gallery_samples(stream, generation.number)) :]
    if not later:
        return measured.gallery.vectors
    path = folder / "crossed" / f"{generation.name}.safetensors"
    if not path.exists():
        embedder = Lineage(folder / "generations").network(generation).embedder
        embedded = Encoder(embedder, options.images).embed(later, cache)
        assert embedded.fingerprint == measured.gallery.fingerprint, f"{path}: not the space that was measured"
        save_tensors(path, {"vectors": torch.from_numpy(embedded.vectors)}, {"fingerprint": embedded.fingerprint})
    vectors = load_tensors(path, "delete it, and it is computed again")[0]["vectors"].numpy()
    return np.concatenate([measured.gallery.vectors, vectors])


def _sessions(labels: NDArray[np.int64], stream: Stream) -> NDArray[np.int64]:
    """The session of each label."""
    ends = np.array([session.labels.stop for session in stream.sessions])
    sessions = np.searchsorted(ends, labels, side="right")
    return np.where(sessions < len(ends), sessions, -1)


def main() -> None:
    for name in sys.argv[1:]:
        run = crossed(Path(name))
        print(
            f"{name}: {run.method}, seed {run.seed}, {len(run.generations)} generations, "
            f"{len(run.test.labels)} test images, {len(run.train.labels)} training images"
        )


if __name__ == "__main__":
    main()
