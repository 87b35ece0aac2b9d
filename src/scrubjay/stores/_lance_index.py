"""The index of a large table: when it is built, and into how many of its partitions a search has to look.

IVF with RaBitQ codes of four bits (Gao & Long, RaBitQ, SIGMOD 2024) is built many times faster than a graph, and a new
space wants one after every model. How much it finds depends on the vectors, so it is measured when it is built: the
partitions to probe are doubled until the neighbours of a sample are found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.stores._lance_rows import array
from scrubjay.stores._lance_search import nearest_rows
from scrubjay.stores._lance_table import Table

EXACT_ROWS = 50_000  # up to which all vectors are kept in memory and compared
RECALL = 0.98  # of the true ten nearest, over the sample
_PARTITION = 1024  # rows
_SAMPLE, _NEIGHBOURS = 128, 10
_GROWTH = 2.0  # as many rows as when it was built, or half: partitions of the wrong size
_DRIFT = 1.1  # as many rows as when it was measured


@dataclass(frozen=True, slots=True)
class Index:
    """What was found out about an index.

    Attributes:
        rows: of the table when it was built.
        measured: rows of the table when its recall was measured.
        probes: partitions that a search looks into.
        recall: share of the true ten nearest rows that are found with these.
    """

    rows: int
    measured: int
    probes: int
    recall: float

    def probes_for(self, k: int) -> int:
        """Partitions to look into for k neighbours: more of them lie farther apart."""
        return self.probes * math.ceil(math.sqrt(max(1, k / _NEIGHBOURS)))


def remembered(table: Table) -> Index | None:
    """What is known of the index of a table; None when it has none, or none that was measured."""
    kept = table.remembered()
    if "index_rows" not in kept or not table.indexed():
        return None
    return Index(
        int(kept["index_rows"]), int(kept["index_measured"]), int(kept["index_probes"]), float(kept["index_recall"])
    )


def refresh(table: Table) -> None:
    """Build the index of a table that has grown large, or build it again when its size has changed much."""
    rows, index = table.count(), remembered(table)
    if rows <= EXACT_ROWS:
        return
    table.index_ids()
    if index is None or not index.rows / _GROWTH < rows < index.rows * _GROWTH:
        table.index_vectors(max(1, rows // _PARTITION))
        built = rows
    elif not index.measured / _DRIFT < rows < index.measured * _DRIFT:
        built = index.rows
    else:
        return
    probes, recall = _measured(table, max(1, built // _PARTITION))
    facts = {"rows": built, "measured": rows, "probes": probes, "recall": round(recall, 4)}
    table.remember({f"index_{name}": str(value) for name, value in facts.items()})


def _measured(table: Table, partitions: int) -> tuple[int, float]:
    """The fewest partitions, a power of two or all, that give the recall that is wanted, and what they give."""
    sample = table.sample(["id", "vector"], _SAMPLE, seed=0)
    names, queries = sample["id"].to_pylist(), array(sample)
    truth = _others(names, nearest_rows(table, queries, _NEIGHBOURS + 1))
    probes = 1
    while True:
        recall = _recall(table, names, queries, truth, probes)
        if recall >= RECALL or probes == partitions:
            return probes, recall
        probes = min(2 * probes, partitions)


def _recall(table: Table, names: list[str], queries: NDArray[np.float32], truth: list[list[str]], probes: int) -> float:
    found = [rows["id"].to_pylist() for rows in table.neighbours(queries, _NEIGHBOURS + 1, probes)]
    shares = [
        len(set(mine) & set(theirs)) / max(1, len(theirs))
        for mine, theirs in zip(_others(names, found), truth, strict=True)
    ]
    return float(np.mean(shares))


def _others(names: list[str], found: list[list[str]]) -> list[list[str]]:
    """The neighbours of each row of the sample without that row itself: every search finds it."""
    return [[other for other in ids if other != name][:_NEIGHBOURS] for name, ids in zip(names, found, strict=True)]
