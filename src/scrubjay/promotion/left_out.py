"""Fits the match model of a generation that was learned in closed form, and stores it with the catalogue.

Where the trunk features of all training images are kept, these are scored as if no image of their class had been
learned. Otherwise the probe images are scored as if the mean of their class had not been learned: the scatter of the
class remains, so that the images lie a little closer to the other classes than those of a class never learned do, and
the rate is kept a little less well (`docs/results/no_match.md`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from scrubjay.closed_form.match_model import MatchModel
from scrubjay.closed_form.no_match import ClassModel, covariance_root, left_out_scores
from scrubjay.closed_form.selection import DEFAULTS
from scrubjay.closed_form.statistics import Statistics
from scrubjay.generations.generation import Generation
from scrubjay.workspace.workspace import Workspace

CROPS = 20_000
"""Largest number of training crops that are scored exactly, which takes some 30 s on one core; with more of them, the
probe images are many as well."""


def fit_match_model(workspace: Workspace, generation: Generation) -> None:
    """Score learned images of a generation as if their classes had not been learned, once for each generation.

    Nothing is stored where the generation was not learned in closed form, or where neither trunk features of training
    images nor copies of probe images are kept.

    Args:
        workspace: the open catalogue.
        generation: the generation that queries come from.

    Raises:
        CheckpointError: a probe image or the statistics cannot be read.
    """
    path = workspace.match_model_path(generation)
    if path.exists() or not generation.info.statistics:
        return
    statistics = workspace.lineage.statistics.total(generation)
    if statistics is None or statistics.era != workspace.encoder(generation).era:
        return
    features, labels = _probes(workspace, generation)
    crops = _training_crops(workspace, generation) if statistics.total <= CROPS else None
    if crops is not None or len(labels):
        _fitted(statistics, features, labels, crops).save(path)


def _fitted(
    statistics: Statistics, features: Tensor, labels: Tensor, crops: tuple[Tensor, Tensor, Tensor] | None
) -> MatchModel:
    """The match model.

    Args:
        statistics: statistics of all training images.
        features: (N, p) of the probe images.
        labels: int64 (N,).
        crops: features, labels and whether it is a centre crop, for all training crops; None: they are not kept.
    """
    known = torch.isin(labels, statistics.labels)
    features, labels = features[known], labels[known]
    shrinkage = DEFAULTS.shrinkage(statistics)
    root = covariance_root(statistics, shrinkage)
    classes = ClassModel.of(statistics, root)
    if crops is None:
        scores, of = classes.left_out_scores(features, labels)
    else:
        scores, of = left_out_scores(statistics, root, shrinkage, *crops)
    own = classes.own_scores(features, labels) if len(labels) else classes.offset.new_empty(0)
    return MatchModel(classes, scores, of, own)


def _training_crops(workspace: Workspace, generation: Generation) -> tuple[Tensor, Tensor, Tensor] | None:
    """Features (N, p), labels int64 (N,), and which are centre crops, bool (N,); None where they are not kept."""
    positions = {name: label for label, name in enumerate(generation.classes)}
    features, labels, centre = [], [], []
    for name in generation.info.statistics:
        session = workspace.lineage.statistics.get(name)
        images = session.images
        if images is None or images.features is None:
            return None
        number, crops = images.features.shape[:2]
        of = torch.tensor([positions[session.classes[label]] for label in images.labels.tolist()], dtype=torch.int64)
        features.append(images.features.flatten(0, 1))
        labels.append(of.repeat_interleave(crops))
        centre.append((torch.arange(crops) == 0).repeat(number))
    return torch.cat(features), torch.cat(labels), torch.cat(centre)


def _probes(workspace: Workspace, generation: Generation) -> tuple[Tensor, Tensor]:
    """Trunk features (N, p) and labels int64 (N,) of the probe images of which copies are kept."""
    positions = {name: label for label, name in enumerate(generation.classes)}
    probes = workspace.probe_set.probes(workspace.lineage.line(generation.name))
    kept = [(probe.sample, positions[probe.label]) for probe in probes if probe.sample and probe.label in positions]
    labels = torch.tensor([label for _, label in kept], dtype=torch.int64)
    found = workspace.probe_features.of(workspace.encoder(generation), [sample for sample, _ in kept])
    return torch.from_numpy(found), labels
