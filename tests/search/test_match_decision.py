"""Decisions about queries of a catalogue that was learned in closed form."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scrubjay.catalogue import Catalogue
from scrubjay.closed_form.match_model import MatchModel
from scrubjay.closed_form.no_match import covariance_root, left_out_scores, left_out_threshold
from scrubjay.closed_form.selection import DEFAULTS
from scrubjay.closed_form.statistics import Statistics
from scrubjay.errors import CheckpointError
from scrubjay.search.match_decision import MatchRule, meaning
from scrubjay.search.query_image import QueryImage
from scrubjay.types import Hit
from scrubjay.workspace.calibrations import Calibrations
from shops import OPTIONS, images
from tiny import IMAGES, NETWORK

CLASSES = ("apple", "pear", "quince")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """g0 (apples, pears, quinces) answers and has embedded all items; g1 adds figs."""
    root = tmp_path_factory.mktemp("closed_form")
    images(root / "spring", *CLASSES)
    images(root / "summer", "fig")
    network = NETWORK.model_copy(update={"features": "stages", "dim": 16})
    options = OPTIONS.model_copy(update={"network": network, "images": IMAGES, "false_match_rate": 0.2})
    shop = Catalogue.init(root / "shop", options)
    shop.learn(root / "spring", "slda", {"views": 1})
    shop.add([root / "spring" / "train"])
    shop.learn(root / "summer")
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path


def hit(label: str | None, match: float = 0.5, name: str = "1") -> Hit:
    return Hit(name, "/1.jpg", label, 0.9, "g0", match=match)


def stored(shop: Catalogue, name: str) -> MatchModel:
    model = shop.workspace.match_model(shop.lineage.get(name))
    assert model is not None
    return model


def without_training_features(shop: Catalogue) -> None:
    for path in shop.lineage.statistics.paths():
        session = shop.lineage.statistics.get(path.stem)
        assert session.images is not None
        images = replace(session.images, features=None)
        shop.lineage.statistics.put(path.stem, replace(session, stored=session.statistics, images=images))


def test_the_threshold_comes_from_training_images_whose_class_is_left_out(root: Path) -> None:
    shop = Catalogue(root / "shop")
    session, statistics = shop.lineage.statistics.get("g0"), shop.lineage.statistics.total(shop.lineage.get("g0"))
    assert session.images is not None
    assert session.images.features is not None
    assert statistics is not None
    crops = session.images.features.shape[1]
    labels = session.images.labels.repeat_interleave(crops)
    centre = torch.arange(len(labels)) % crops == 0
    rows = session.images.features.flatten(0, 1)
    shrinkage = DEFAULTS.shrinkage(statistics)
    root_of_covariance = covariance_root(statistics, shrinkage)
    scores, of = left_out_scores(statistics, root_of_covariance, shrinkage, rows, labels, centre)
    model = stored(shop, "g0")
    torch.testing.assert_close(model.left_out_scores, scores)
    assert torch.equal(model.left_out_labels, of)
    assert len(model.own_scores) == 9, "three probe images of each class"
    answer = shop.answer(root / "spring/test/apple/100.png", 3)
    assert answer.match_basis == "left-out classes"
    assert answer.threshold == left_out_threshold(model.left_out_scores, of, 0.2)


def test_classes_of_all_sessions_are_left_out(root: Path) -> None:
    shop = Catalogue(root / "shop")
    shop.promote("g1", force=True)
    counts = torch.bincount(stored(shop, "g1").left_out_labels)
    assert counts.tolist() == [5, 5, 5, 5]


def test_probe_images_are_left_out_where_training_features_are_not_kept(root: Path) -> None:
    shop = Catalogue(root / "shop")
    without_training_features(shop)
    shop.promote("g1", force=True)
    generation, model = shop.lineage.get("g1"), stored(shop, "g1")
    probes = shop.workspace.probe_set.probes(shop.lineage.line("g1"))
    labels = torch.tensor([generation.classes.index(probe.label) for probe in probes])
    samples = [probe.sample for probe in probes if probe.sample]
    features = torch.from_numpy(shop.workspace.encoder(generation).features(samples).features)
    scores, of = model.classes.left_out_scores(features, labels)
    torch.testing.assert_close(model.left_out_scores, scores, rtol=1e-4, atol=1e-2)
    assert torch.equal(model.left_out_labels, of)


def test_a_class_that_is_forgotten_is_not_in_any_match_model(root: Path) -> None:
    shop = Catalogue(root / "shop")
    before = stored(shop, "g0")
    shop.promote("g1", force=True)
    shop.upkeep.forget(["pear"], [])
    shop = Catalogue(root / "shop")
    names = [generation.name for generation in shop.lineage.generations()]
    models = {name: shop.workspace.match_model(shop.lineage.get(name)) for name in names}
    held = {name: model.classes.labels.tolist() for name, model in models.items() if model is not None}
    assert before.classes.labels.tolist() == [0, 1, 2]
    assert held == {"g2": [0, 1, 2]}, "older models are fitted again when they are needed"


def test_queries_of_learned_classes_match_better_than_others(root: Path) -> None:
    shop = Catalogue(root / "shop")
    known = [shop.answer(root / f"spring/test/{name}/{number}.png", 1) for name in CLASSES for number in (100, 101)]
    new = [shop.answer(root / f"summer/test/fig/{number}.png", 1) for number in (100, 101, 102)]
    assert min(answer.match_score or 0 for answer in known) > max(answer.match_score or 0 for answer in new)
    assert all(len(answer.hits) == 1 for answer in known)


def test_decisions_are_the_same_while_the_gallery_is_in_two_spaces(root: Path) -> None:
    shop = Catalogue(root / "shop")
    shop.promote("g1", force=True)
    shop.add([root / "summer" / "train"])
    queries = [root / f"spring/test/{name}/{number}.png" for name in CLASSES for number in (100, 101, 102)]
    mixed = [shop.answer(query, 5) for query in queries]
    assert {hit.generation for answer in mixed for hit in answer.hits} >= {"g0"}
    shop.backfill()
    moved = [shop.answer(query, 5) for query in queries]
    assert [answer.matched for answer in mixed] == [answer.matched for answer in moved]
    assert [answer.match_score for answer in mixed] == pytest.approx([answer.match_score for answer in moved])


def test_an_item_with_the_same_bytes_is_a_match(root: Path) -> None:
    shop = Catalogue(root / "shop")
    shop.add([root / "summer" / "train"])  # items of a class that g0 has not learned
    answer = shop.answer(root / "summer/train/fig/0.png", 3)
    assert answer.matched is True
    assert answer.match_basis == "probe images"


def test_a_class_that_was_never_learned_is_decided_by_its_cosine(root: Path) -> None:
    rule = Catalogue(root / "shop")._searcher.match_rule(Catalogue(root / "shop").lineage.get("g0"))
    calibrations = Calibrations(no_match_scores=[0.4] * 10)
    rule = MatchRule(rule.generation, calibrations, rule.model, trained_backbone=False, false_match_rate=0.2)
    assert rule.model is not None
    features = np.zeros((1, rule.model.classes.weight.shape[1]), np.float32)
    for match, expected in ((0.5, True), (0.3, False)):
        decision = rule.decide(features, [hit("fig", match)], identical=False)
        assert (decision.matched, decision.score, decision.basis) == (expected, match, "probe images")
    assert rule.decide(features, [], identical=False).matched is None


def test_all_classes_count_where_items_have_no_label(root: Path) -> None:
    shop = Catalogue(root / "shop")
    rule = shop._searcher.match_rule(shop.lineage.get("g0"))
    assert rule.model is not None
    query = QueryImage.read(root / "spring/test/pear/100.png", shop.options.images)
    features = shop.workspace.encoder(rule.generation).pixel_features([query.pixels])
    best = rule.model.classes.scores(torch.from_numpy(features)).max()
    for hits in ([hit(None)], [hit("apple"), hit("pear"), hit("quince")]):
        assert rule.decide(features, hits, identical=False).score == pytest.approx(float(best))
    assert (rule.decide(features, [hit("apple")], identical=False).score or 0) < float(best)


def test_a_damaged_match_model_is_named_with_its_cure(root: Path) -> None:
    path = root / "shop" / "calibration" / "g0.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    shop = Catalogue(root / "shop")
    with pytest.raises(CheckpointError, match=r"g0\.safetensors: damaged or incomplete .*: delete it; the next"):
        shop.answer(root / "spring/test/apple/100.png", 3)
    path.unlink()
    shop.add([root / "spring" / "train"])
    assert shop.answer(root / "spring/test/apple/100.png", 3).match_basis == "left-out classes"


def test_what_is_saved_is_read_again(root: Path, tmp_path: Path) -> None:
    model = Catalogue(root / "shop").workspace.match_model(Catalogue(root / "shop").lineage.get("g0"))
    assert model is not None
    model.save(tmp_path / "again.safetensors")
    again = MatchModel.load(tmp_path / "again.safetensors")
    assert torch.equal(again.classes.weight, model.classes.weight)
    assert torch.equal(again.left_out_scores, model.left_out_scores)
    Statistics.empty("era", 2).save(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="holds no match model"):
        MatchModel.load(tmp_path / "other.safetensors")


def test_without_kept_images_or_features_no_rate_is_claimed(root: Path) -> None:
    shop = Catalogue(root / "shop")
    without_training_features(shop)
    shutil.rmtree(root / "shop" / "probe")
    shutil.rmtree(root / "shop" / "calibration")
    shop.add([root / "spring" / "train"])
    answer = shop.answer(root / "spring/test/apple/100.png", 3)
    assert (answer.matched, answer.threshold, answer.match_basis) == (None, None, None)


def test_no_rate_is_claimed_where_the_backbone_was_trained(root: Path) -> None:
    network = NETWORK.model_copy(update={"features": "stages", "dim": 16})
    options = OPTIONS.model_copy(update={"network": network, "images": IMAGES, "false_match_rate": 0.2})
    shop = Catalogue.init(root / "trained", options)
    shop.learn(root / "spring", "slda", {"views": 1, "adapt": "first"})
    shop.add([root / "spring" / "train"])
    answer = shop.answer(root / "spring/test/apple/100.png", 3)
    assert answer.match_basis == "left-out classes of a trained backbone"
    assert answer.threshold is not None
    assert answer.match_score is not None
    shop.learn(root / "summer")
    assert shop.lineage.has_trained_backbone(shop.lineage.get("g1")), "its parent trained it"
    assert not Catalogue(root / "shop").lineage.has_trained_backbone(shop.lineage.get("g1"))


def test_the_meaning_of_the_rate() -> None:
    assert "about 5% of images of classes never learned" in meaning("left-out classes", 0.05)
    assert "learned classes that are left out; not claimed for close relatives" in meaning("left-out classes", 0.05)
    assert "the metric was trained on the classes that are left out" in meaning("probe images", 0.05)
    trained = meaning("left-out classes of a trained backbone", 0.05)
    assert "more than 5% of images of classes never learned may be" in trained
    assert "the backbone was trained on the classes" in trained
    assert "no rate is claimed" in trained
    assert "no rate is claimed" in meaning(None, 0.05)
