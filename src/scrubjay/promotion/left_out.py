"""Fits the match model of a generation that was learned in closed form, and stores it with the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scrubjay.closed_form.match_model import MatchModel
from scrubjay.closed_form.no_match import ClassModel
from scrubjay.closed_form.selection import DEFAULTS
from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import CheckpointError
from scrubjay.gate.probe_set import Probe
from scrubjay.generations.generation import Generation
from scrubjay.workspace.workspace import Workspace


def fit_match_model(workspace: Workspace, generation: Generation) -> None:
    """Score the probe images of a generation as if their classes had not been learned, once for each generation.

    Nothing is stored where the generation has no statistics, or where copies of its probe images are not kept.

    Args:
        workspace: the open catalogue.
        generation: the generation that queries come from.

    Raises:
        CheckpointError: a probe image or the statistics cannot be read.
    """
    path = workspace.match_model_path(generation)
    if path.exists():
        return
    probes = [
        probe
        for probe in workspace.probe_set.probes(workspace.lineage.line(generation.name))
        if probe.sample is not None and probe.label in generation.classes
    ]
    statistics = workspace.lineage.statistics(generation) if probes else None
    if statistics is None:
        return
    model = _fitted(statistics, _features(workspace, generation, probes), _labels(generation, probes))
    model.save(path)


def _fitted(statistics: Statistics, features: Tensor, labels: Tensor) -> MatchModel:
    known = torch.isin(labels, statistics.labels)
    features, labels = features[known], labels[known]
    classes = ClassModel.of(statistics, DEFAULTS.shrinkage)
    scores, of = classes.left_out_scores(features, labels)
    return MatchModel(statistics.era, classes, scores, of, classes.own_scores(features, labels))


def _labels(generation: Generation, probes: Sequence[Probe]) -> Tensor:
    positions = {name: label for label, name in enumerate(generation.classes)}
    return torch.tensor([positions[probe.label] for probe in probes], dtype=torch.int64)


def _features(workspace: Workspace, generation: Generation, probes: Sequence[Probe]) -> Tensor:
    samples = [probe.sample for probe in probes if probe.sample is not None]
    found = workspace.encoder(generation).features(samples)
    if found.failures:
        path, reason = found.failures[0]
        raise CheckpointError(f"{path}: a probe image cannot be read ({reason}): restore it from a copy.")
    return torch.from_numpy(found.features)
