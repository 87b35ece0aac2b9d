"""Vectors that cannot be right, images that are still what they were, leftovers: found, and removed."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from scrubjay.gallery.ingest import sample_of
from scrubjay.generations.lineage import Generation
from scrubjay.learning.bridge_pairs import intact
from scrubjay.search.searcher import Answering
from scrubjay.stores import NORM_TOLERANCE, Space

BATCH = 64
ALIKE = 0.999
"""The least cosine of a vector with the same image embedded again."""


def mend(answering: Answering, thorough: bool = False) -> list[str]:
    """Remove what cannot be right: vectors that are damaged, double or of nothing, and what killed work left behind.

    Items stay; those whose vectors went count as not embedded, and a backfill embeds them again.

    Args:
        answering: of the catalogue.
        thorough: embed every image that can be had again, and remove the vectors that are of another space.

    Returns:
        What was done, a line each.
    """
    store, done = answering.gallery.store, []
    for space in store.spaces():
        wrong = wrong_vectors(answering, space)
        generation = generation_of(answering, space)
        if thorough and generation is not None and generation.fingerprint == space.fingerprint:
            _, others = strangers(answering, space, generation, None)
            wrong |= {"of another space": others} if others else {}
        ids = {name for names in wrong.values() for name in names}
        if ids:
            removed = store.drop_embeddings(space.id, ids)
            done.append(f"removed {removed} vectors of {space.generation}: {counted(wrong)}")
    for path in leftovers(answering.folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        done.append(f"removed {path}, left by work that was cut short")
    store.maintain()
    return done


def wrong_vectors(answering: Answering, space: Space) -> dict[str, list[str]]:
    """Ids in a space whose vectors cannot be right, by what is wrong."""
    store = answering.gallery.store
    contents = {item.id: item.content_hash for item in store.items()}
    seen: Counter[str] = Counter()
    found: dict[str, list[str]] = {}
    for ids, hashes, vectors in store.stored(space.id):
        seen.update(ids)
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        for name, content, norm in zip(ids, hashes, norms, strict=True):
            kind = _problem(contents.get(name), content, float(norm))
            if kind is not None:
                found.setdefault(kind, []).append(name)
    double = [name for name, number in seen.items() if number > 1]
    return {**found, "duplicate": double} if double else found


def _problem(expected: str | None, content: str, norm: float) -> str | None:
    if not np.isfinite(norm):
        return "non-finite"
    if abs(norm - 1) > NORM_TOLERANCE:
        return "unnormalised"
    if expected is None:
        return "of no item"
    return "of an older image" if content != expected else None


def strangers(answering: Answering, space: Space, generation: Generation, number: int | None) -> tuple[int, list[str]]:
    """Items of a space whose vectors its generation did not make, among some or all whose images can be had."""
    store = answering.gallery.store
    ids, _ = store.vectors(space.id)
    chosen = [ids[index] for index in np.random.default_rng(0).permutation(len(ids))]
    items = islice(intact(item for name in chosen for item in store.items([name])), number)
    looked, wrong = 0, []
    while batch := list(islice(items, BATCH)):
        embedded = answering.embed(generation, [sample_of(item) for item in batch])
        kept = [batch[index].id for index in embedded.indices]
        _, stored = store.vectors(space.id, kept)
        cosines = np.vecdot(stored, embedded.vectors)
        wrong += [name for name, cosine in zip(kept, cosines, strict=True) if not cosine >= ALIKE]
        looked += len(kept)
    return looked, wrong


def leftovers(folder: Path) -> list[Path]:
    """What processes that were killed had begun to write; they are numbered by their process."""
    places = (folder, folder / "generations", folder / "probe", folder / "calibration", *folder.glob("probe/g*"))
    return sorted(path for place in places for path in place.glob(".*.[0-9]*"))


def generation_of(answering: Answering, space: Space) -> Generation | None:
    return next((each for each in answering.lineage.generations() if each.name == space.generation), None)


def counted(wrong: Mapping[str, list[str]]) -> str:
    return ", ".join(f"{len(names)} {kind}" for kind, names in sorted(wrong.items()))
