"""A generation whose metric is solved again from the statistics as they are now, aligned to the generation before."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from scrubjay.components.accumulation import Accumulation
from scrubjay.errors import CatalogueError
from scrubjay.generations.generation import Generation, SessionRecord
from scrubjay.generations.session_statistics import SessionStatistics
from scrubjay.learning.aligned import identity_bridges
from scrubjay.learning.relabelled import relabel
from scrubjay.methods import Method, method
from scrubjay.models.embedder import Network
from scrubjay.models.embedding import Encoder
from scrubjay.workspace.workspace import Workspace


def add_successor(workspace: Workspace, parent: Generation, added: SessionStatistics | None = None) -> Generation:
    """Solve the metric of a generation again, and write the result as a new generation.

    Its classes are those of the parent that still have an image in the statistics, and those of `added`.

    Args:
        workspace: the open catalogue.
        parent: a generation that was learned in closed form.
        added: statistics of further images over the same trunk, which become the session of the new generation.

    Raises:
        CatalogueError: the parent was not learned in closed form.
        DataError: fewer than two classes are left.
        SpaceError: the added statistics are over another trunk.
    """
    began = time.perf_counter()
    sessions = [workspace.lineage.statistics.get(name) for name in parent.info.statistics]
    held = {name for session in sessions for name in session.classes}
    new = tuple(name for name in (added.classes if added else ()) if name not in held)
    classes = (*dict.fromkeys(name for name in parent.classes if name in held), *new)
    learner = _restored(workspace, parent, classes)
    assert isinstance(learner, Accumulation)
    if added is not None:
        learner.accumulate(added.under(classes))
    learner.solve(align=True)
    encoder = Encoder(learner.network.embedder, workspace.options.images)
    sessions += [] if added is None else [added]
    bridges, records = identity_bridges()
    images = sum(len(session.images.hashes) for session in sessions if session.images is not None)
    record = SessionRecord(
        fingerprint=encoder.fingerprint,
        classes=classes,
        new_classes=new,
        extended_classes=tuple(name for name in (added.classes if added else ()) if name in held),
        method=parent.info.method,
        seed=workspace.options.seed,
        images=workspace.options.images,
        data_hash=_hash(sessions),
        image_count=images,
        seconds=round(time.perf_counter() - began, 1),
        bridges=records,
    )
    stored = None if added is None or added.images is None else added.images
    if stored is not None and added is not None:
        position = torch.tensor([classes.index(name) for name in added.classes], dtype=torch.int64)
        stored = replace(stored, labels=position[stored.labels])
    return workspace.lineage.add(learner, record, parent, bridges=bridges, images=stored)


def _restored(workspace: Workspace, parent: Generation, classes: Sequence[str]) -> Method:
    """The method of a generation with today's statistics, under the labels of another list of classes."""
    options = dict(parent.info.method)
    kind = method(str(options.pop("name")))
    network = Network(parent.info.network.model_copy(update={"pretrained": False}))
    network.options = parent.info.network
    learner: Method = kind(network, kind.Options.parse(options))
    workspace.lineage.restore(parent, learner)
    if not isinstance(learner, Accumulation) or learner.statistics is None:
        raise CatalogueError(
            f"{parent.name} was learned with {parent.info.method['name']!r}, not in closed form, so nothing can be "
            "added to or removed from what it has learned: learn all of it in a new catalogue with the method slda."
        )
    relabel(learner, parent.classes, classes)
    return learner


def _hash(sessions: Sequence[SessionStatistics]) -> str:
    """Hash of the images in statistics and of their classes, in any order."""
    entries: list[str] = []
    for session in sessions:
        if session.images is not None:
            names = (session.classes[label] for label in session.images.labels.tolist())
            entries += [f"{image}\0{name}" for image, name in zip(session.images.hashes, names, strict=True)]
    return hashlib.blake2b("\n".join(sorted(entries)).encode(), digest_size=16).hexdigest()
