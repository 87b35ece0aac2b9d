"""Closed-form methods that are compared with `slda`: formulas on features, order of sessions, choice of penalties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import DataError
from scrubjay.experiments.options import ExperimentOptions
from scrubjay.methods import Method, method
from scrubjay.methods.anacp import IDENTITY_SHARE, anchors, coordinates
from scrubjay.methods.fecam import SHRINKAGES, best_shrinkage, correlations, scores
from scrubjay.models.embedder import NetworkOptions
from scrubjay.training import learn
from scrubjay.types import Sample, Session

ERA = "e" * 32
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("ncm", {}),
    ("ncm", {"standardise": True}),
    ("fecam", {}),
    ("ranpac", {}),
    ("anacp", {}),
    ("anacp", {"targets": "neural_collapse"}),
]
every_method = pytest.mark.parametrize(("name", "options"), METHODS)


def network(name: str, dim: int = 16) -> NetworkOptions:
    kind = method(name)
    return NetworkOptions(
        backbone="test_resnet",
        pretrained=False,
        dim=dim,
        features=kind.default_features,
        transform=kind.default_transform,
        random_features=64,
    )


def taught(name: str, sessions: list[Session], dim: int = 16, **options: Any) -> Any:
    learner = tiny.learner(name, network(name, dim), **options)
    for session in sessions:
        learn(learner, session, tiny.loader(session.train), tiny.TRAINING, 0)
    return learner


def embedded(learner: Method, samples: list[Sample]) -> Tensor:
    with torch.no_grad():
        return learner.network.eval().embedder(tiny.batch(samples).images).double()


def sessions_of(root: Path) -> list[Session]:
    return [tiny.session(root, index, 2 * index) for index in range(3)]


def samples_of(sessions: list[Session]) -> list[Sample]:
    return [sample for session in sessions for sample in session.train]


def fixed(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {**{"ncm": {}, "fecam": {"shrinkage": 1.0}}.get(name, {"penalty": 1.0}), **options}


@every_method
def test_the_order_and_the_number_of_sessions_do_not_matter(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    sessions = sessions_of(tmp_path)
    samples = samples_of(sessions)
    names = tuple(label for session in sessions for label in session.classes)
    backwards = []
    for index, session in enumerate(reversed(sessions)):
        train = tuple(Sample(sample.path, 2 * index + sample.label % 2) for sample in session.train)
        backwards.append(Session(index, session.classes, 2 * index, train))
    at_once = [Session(0, names, 0, tuple(samples))]
    options = fixed(name, options)
    z, *others = (embedded(taught(name, line, **options), samples) for line in (sessions, backwards, at_once))
    for other in others:
        torch.testing.assert_close(z @ z.T, other @ other.T, rtol=0, atol=2e-5)


@every_method
def test_a_new_generation_embeds_old_images_where_they_were(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    sessions = [tiny.session(tmp_path, 0, 0, classes=5), tiny.session(tmp_path, 1, 5, classes=4)]
    old, options = list(sessions[0].train), fixed(name, options)
    before = embedded(taught(name, sessions[:1], **options), old)
    after = embedded(taught(name, sessions, **options), old)
    turned = embedded(taught(name, sessions, align=False, **options), old)
    assert (before * after).sum(1).mean() > 0.7
    torch.testing.assert_close(after @ after.T, turned @ turned.T, rtol=0, atol=2e-5)


@every_method
def test_more_classes_than_dimensions(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    sessions = sessions_of(tmp_path)
    wide, narrow = (embedded(taught(name, sessions, dim, **options), samples_of(sessions)) for dim in (16, 3))
    assert narrow.shape == (24, 3)
    assert torch.linalg.matrix_rank(narrow, atol=1e-4) == 3
    nearest = ((narrow @ narrow.T).argsort(1) == (wide @ wide.T).argsort(1)).double().mean()
    assert nearest > 1 / 24


@pytest.mark.parametrize(("name", "setting"), [("ranpac", "penalty"), ("anacp", "penalty"), ("fecam", "shrinkage")])
def test_the_setting_is_chosen_in_the_first_session_and_stays(name: str, setting: str, tmp_path: Path) -> None:
    sessions = sessions_of(tmp_path)
    first = getattr(taught(name, sessions[:1]), setting)
    assert first > 0
    assert torch.equal(getattr(taught(name, sessions), setting), first)
    assert float(getattr(taught(name, sessions[:1], **{setting: 3.0}), setting)) == 3


@every_method
def test_single_images_and_two_classes(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    session = tiny.session(tmp_path, 0, 0, each=1)
    assert torch.isfinite(embedded(taught(name, [session], **options), list(session.train))).all()


@pytest.mark.parametrize("name", ["ncm", "ranpac", "fecam", "anacp"])
def test_a_run_gets_the_transform_of_its_method_unless_it_sets_one(name: str) -> None:
    given = {"source": {"name": "aviary"}, "stream": {"initial": 2, "step": 2}, "method": {"name": name}}
    assert ExperimentOptions.parse(given).network.transform == method(name).default_transform
    own = ExperimentOptions.parse({**given, "network": {"transform": "none"}})
    assert (own.network.transform, own.network.features) == ("none", "stages")


def test_ranpac_embeds_by_the_scores_of_a_ridge_regression_on_random_features(tmp_path: Path) -> None:
    sessions = sessions_of(tmp_path)
    learner = taught("ranpac", sessions, views=0, penalty=0.5)
    samples = samples_of(sessions)
    embedder = learner.network.eval().embedder
    with torch.no_grad():
        features = embedder.backbone_features(tiny.batch(samples).images)
        h = (features @ embedder.transform.weight.T).clamp_min(0).half().double()
    targets = F.one_hot(tiny.batch(samples).labels, 6).double()
    weight = torch.linalg.solve(h.T @ h + 0.5 * torch.eye(64), h.T @ targets)
    expected, found = F.normalize(h @ weight, dim=1), embedded(learner, samples)
    torch.testing.assert_close(found @ found.T, expected @ expected.T, rtol=0, atol=1e-4)


def data(classes: int = 4, width: int = 5) -> tuple[Tensor, Tensor, Statistics]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat(7)
    means = 2 * torch.randn(classes, width, generator=generator, dtype=torch.float64)
    features = means[labels] + torch.randn(len(labels), width, generator=generator, dtype=torch.float64)
    return features, labels, Statistics.of(ERA, features, labels)


def test_fecam_scores_are_mahalanobis_distances() -> None:
    features, labels, statistics = data()
    deviations = features - statistics.means[labels]
    covariance = deviations.T @ deviations / len(features)
    variance = sum(float(covariance[i, i]) for i in range(5)) / 5
    mean = sum(float(covariance[i, j]) for i in range(5) for j in range(5) if i != j) / 20
    shrunk = torch.empty(5, 5, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            shrunk[i, j] = covariance[i, j] + 0.4 * (variance if i == j else mean)
    correlation = torch.empty(5, 5, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            correlation[i, j] = shrunk[i, j] / (shrunk[i, i] * shrunk[j, j]).sqrt()
    torch.testing.assert_close(correlations(statistics, 0.4), correlation, rtol=0, atol=1e-5)
    P, found = torch.linalg.inv(correlation), scores(statistics, correlation)(features)
    for row, given in zip(features, found, strict=True):
        distances = [row - mean / mean.norm() for mean in statistics.means]
        expected = -torch.stack([offset @ P @ offset for offset in distances])
        torch.testing.assert_close(given, expected - expected.mean())


def test_the_shrinkage_with_the_most_right_classes_is_chosen() -> None:
    features, labels, statistics = data(classes=5, width=12)
    held_out = features + 4 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1)).double()
    right = {}
    for value in SHRINKAGES:
        found = scores(statistics, correlations(statistics, value))(held_out)
        right[value] = sum(int(row.argmax()) == int(label) for row, label in zip(found, labels, strict=True))
    chosen = best_shrinkage(statistics, held_out, labels)
    assert right[chosen] == max(right.values()) > min(right.values())
    assert best_shrinkage(statistics, held_out[:0], labels[:0]) == SHRINKAGES[0] == 1


def test_the_anchors_are_the_class_means_with_raised_singular_values() -> None:
    _, _, statistics = data(width=9)
    covariance = statistics.scatter / statistics.total
    covariance += IDENTITY_SHARE * covariance.diagonal().mean() * torch.eye(9)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    U, S, Vh = torch.linalg.svd((statistics.means - statistics.means.mean(0)) @ root, full_matrices=False)
    expected = F.normalize(U[:, :3] @ torch.diag(S[:3] + 1) @ Vh[:3] @ root, dim=1)
    found = anchors(statistics)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(coordinates(found) @ coordinates(found).T, expected @ expected.T)


def test_the_anchors_of_a_simplex_are_equally_far_apart(tmp_path: Path) -> None:
    learner = taught("anacp", sessions_of(tmp_path), targets="neural_collapse")
    distances = torch.pdist(learner.targets(learner.statistics))
    torch.testing.assert_close(distances, torch.full_like(distances, 2**0.5))


@every_method
def test_refuses_a_single_class(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two classes and there is 1"):
        taught(name, [tiny.session(tmp_path, 0, 0, classes=1)], **options)


def test_refuses_anchors_of_equal_means() -> None:
    with pytest.raises(DataError, match="the mean features of 2 classes are equal"):
        anchors(Statistics.of(ERA, torch.ones(4, 3), torch.tensor([0, 0, 1, 1])))


@pytest.mark.parametrize("name", ["ncm", "fecam"])
def test_refuses_features_that_are_not_finite(name: str) -> None:
    learner = tiny.learner(name, network(name))
    with pytest.raises(DataError):
        learner.fit(Statistics.of(ERA, torch.full((4, 3), torch.nan), torch.tensor([0, 0, 1, 1])))  # type: ignore[attr-defined]
