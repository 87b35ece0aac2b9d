"""Query images with their hits before and after learning, from the embeddings that runs store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrubjay.data.stream import Stream
from scrubjay.evaluation.ranks import top_k
from scrubjay.experiments import measurement
from scrubjay.experiments.measurement import Measured
from scrubjay.experiments.options import ExperimentOptions, load_stream
from scrubjay.experiments.run_folder import stored_config
from scrubjay.generations.lineage import Lineage
from scrubjay.report.html import Retrieval, Shown
from scrubjay.types import Embeddings

HITS = 4
"""Hits shown for each query."""


def retrievals(runs: Mapping[str, Path], queries: int = 8) -> list[Retrieval]:
    """Search g0's gallery with test images of the initial classes, evenly spaced and not chosen by their hits.

    Args:
        runs: folder of each finished run, by the name to show; all of one stream and one initial session.
        queries: number of queries.

    Returns:
        For each query one column for g0 before anything else was learned, and one for the last generation of each
        run.
    """
    first = next(iter(runs.values()))
    stream, _ = load_stream(ExperimentOptions.parse(stored_config(first), str(first)))
    before = _measured(first, 0)
    initial = np.flatnonzero(before.test.labels < stream.sessions[0].labels.stop)
    chosen = initial[np.linspace(0, len(initial) - 1, min(queries, len(initial))).round().astype(int)]
    positions = before.test.indices[chosen]
    columns = {"g0, before": before.test}
    for name, folder in runs.items():
        last = len(Lineage(folder / "generations").generations()) - 1
        if last:
            columns[f"{name} g{last}, on g0's gallery"] = _measured(folder, last).test
    hits = {title: _hits(test, positions, before.gallery, stream) for title, test in columns.items()}
    samples = measurement.test_samples(stream)
    return [
        Retrieval(
            samples[position].path,
            stream.classes[samples[position].label],
            tuple((title, by_position[position]) for title, by_position in hits.items()),
        )
        for position in positions.tolist()
    ]


def _hits(
    test: Embeddings, positions: NDArray[np.int64], gallery: Embeddings, stream: Stream
) -> dict[int, tuple[Shown, ...]]:
    """The best hits of the test images at some positions, by position."""
    rows = np.flatnonzero(np.isin(test.indices, positions))
    scores, items = top_k(test.vectors[rows], gallery.vectors, HITS)
    samples = measurement.gallery_samples(stream, 0)
    hits = {}
    for row, row_scores, row_items in zip(rows, scores, items, strict=True):
        hits[int(test.indices[row])] = tuple(
            (
                samples[gallery.indices[item]].path,
                stream.classes[gallery.labels[item]],
                float(score),
                bool(gallery.labels[item] == test.labels[row]),
            )
            for score, item in zip(row_scores, row_items, strict=True)
        )
    return hits


def _measured(folder: Path, number: int) -> Measured:
    return Measured.load(folder / "measured" / f"g{number}.safetensors")
