"""The classes of a catalogue: how many items each has, which generation learned it, and what it looks like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scrubjay.workspace.workspace import Workspace

REPRESENTATIVE = 4
"""Number of items that show what a class looks like."""


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """A class: learned, or only a label of items.

    Attributes:
        name: its name.
        items: number of items with this label.
        learned_in: name of the generation that learned it first, on the line of the one that answers queries; None for
            a label that was not learned.
        representative: ids of up to `REPRESENTATIVE` items nearest to the mean of the class, nearest first.
    """

    name: str
    items: int
    learned_in: str | None
    representative: tuple[str, ...]


def class_summaries(workspace: Workspace) -> list[ClassSummary]:
    """All classes by name: the labels of items, and what the generation that answers has learned."""
    ids, labels = workspace.gallery.store.labels()
    of = {name: label for name, label in zip(ids, labels, strict=True) if label is not None}
    counts, learned = Counter(of.values()), learned_in(workspace)
    shown = _representative(workspace, of)
    return [
        ClassSummary(name, counts[name], learned.get(name), tuple(shown.get(name, ())))
        for name in sorted({*counts, *learned})
    ]


def learned_in(workspace: Workspace) -> dict[str, str]:
    """For each class that the generation that answers has learned, the oldest generation on its line that did."""
    serving = workspace.serving.read().generation
    if serving is None:
        return {}
    known, learned = workspace.lineage.by_name(), dict[str, str]()
    for name in workspace.lineage.line(serving):
        if name in known:
            learned |= {each: name for each in known[name].classes if name == serving or each in learned}
    return learned


def _representative(workspace: Workspace, labels: Mapping[str, str]) -> dict[str, list[str]]:
    """Ids of the items nearest to the mean of each class, in the first space that has vectors of the class."""
    serving = workspace.serving.read()
    if serving.generation is None:
        return {}
    store, shown = workspace.gallery.store, dict[str, list[str]]()
    wanted = set(labels.values())
    for space in workspace.searched_spaces(workspace.serving_generation(serving)):
        if wanted <= shown.keys():
            break
        ids, vectors = store.vectors(space.id)
        rows = [row for row, name in enumerate(ids) if labels.get(name) in wanted - shown.keys()]
        names = [ids[row] for row in rows]
        shown |= nearest_to_mean(names, [labels[name] for name in names], vectors[rows])
    return shown


def nearest_to_mean(
    ids: Sequence[str], labels: Sequence[str], vectors: NDArray[np.float32], number: int = REPRESENTATIVE
) -> dict[str, list[str]]:
    """By label the ids of the items with the largest cosine to the mean of their class, largest first.

    Args:
        ids: N of them.
        labels: label of each.
        vectors: float32 (N, d), unit rows.
        number: largest number of ids of a class.
    """
    if not ids:
        return {}
    names, codes = np.unique(np.array(labels, dtype=object), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    nearest: dict[str, list[str]] = {}
    for name, rows in zip(names, np.split(order, ends[:-1]), strict=True):
        own = vectors[rows]
        best = rows[np.argsort(-(own @ own.mean(axis=0)), kind="stable")[:number]]
        nearest[str(name)] = [ids[row] for row in best]
    return nearest
