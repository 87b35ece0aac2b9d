"""The vector index of a large table: when it is built, and how many of its partitions a search probes.

IVF with 4-bit RaBitQ codes (Gao & Long, RaBitQ, SIGMOD 2024) is built many times faster than a graph index, and every
new model needs a new one. Its recall depends on the vectors, so it is measured when it is built: the number of probed
partitions is doubled until the neighbours of a sample are found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.stores._lance_rows import array
from scrubjay.stores._lance_search import nearest_rows
from scrubjay.stores._lance_table import Table

EXACT_ROWS = 50_000  # largest table whose vectors are all held in memory and compared exactly
RECALL = 0.98  # required share of the true ten nearest neighbours, over the sample
_PARTITION = 1024  # rows in a partition
_SAMPLE, _NEIGHBOURS = 128, 10
_GROWTH = 2.0  # factor of growth or shrinkage since the index was built after which it is built again
_DRIFT = 1.1  # factor of growth or shrinkage since the recall was measured after which it is measured again


@dataclass(frozen=True, slots=True)
class Index:
    """Measurements of an index.

    Attributes:
        rows: rows of the table when the index was built.
        measured: rows of the table when its recall was measured.
        probes: number of partitions that a search for ten neighbours probes.
        recall: recall of the true ten nearest rows with that number.
    """

    rows: int
    measured: int
    probes: int
    recall: float

    def probes_for(self, k: int) -> int:
        """Number of partitions to probe for k neighbours; more neighbours are spread over more partitions."""
        return self.probes * math.ceil(math.sqrt(max(1, k / _NEIGHBOURS)))


def read_index(table: Table) -> Index | None:
    """The measurements of a table's index; None without an index, or if it was not measured."""
    facts = table.read_facts()
    if "index_rows" not in facts or not table.indexed():
        return None
    return Index(
        rows=int(facts["index_rows"]),
        measured=int(facts["index_measured"]),
        probes=int(facts["index_probes"]),
        recall=float(facts["index_recall"]),
    )


def refresh(table: Table) -> None:
    """Build the index of a table that has become large; build or measure it again when its size has changed enough."""
    rows, index = table.count(), read_index(table)
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
    table.write_facts({f"index_{name}": str(value) for name, value in facts.items()})


def _measured(table: Table, partitions: int) -> tuple[int, float]:
    """The smallest number of probes, a power of two or all, that reaches the required recall; and its recall."""
    sample = table.sample(["id", "vector"], _SAMPLE, seed=0)
    names, queries = sample["id"].to_pylist(), array(sample)
    truth = _without_self(names, nearest_rows(table, queries, _NEIGHBOURS + 1))
    probes = 1
    while True:
        recall = _recall(table, names, queries, truth, probes)
        if recall >= RECALL or probes == partitions:
            return probes, recall
        probes = min(2 * probes, partitions)


def _recall(table: Table, names: list[str], queries: NDArray[np.float32], truth: list[list[str]], probes: int) -> float:
    results = [rows["id"].to_pylist() for rows in table.neighbours(queries, _NEIGHBOURS + 1, probes)]
    recalls = [
        len(set(found) & set(relevant)) / max(1, len(relevant))
        for found, relevant in zip(_without_self(names, results), truth, strict=True)
    ]
    return float(np.mean(recalls))


def _without_self(names: list[str], results: list[list[str]]) -> list[list[str]]:
    """The neighbours of each sampled row without the row itself, which every search finds."""
    return [[other for other in ids if other != name][:_NEIGHBOURS] for name, ids in zip(names, results, strict=True)]
