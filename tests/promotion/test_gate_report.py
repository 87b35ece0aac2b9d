"""Gates and calibrations on a catalogue that has learned; the gate's formulas are tested in gate/test_decision.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scrubjay.bridges import Bridge, save
from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError
from scrubjay.gallery.calibration import conformal_threshold
from scrubjay.gallery.items import sample_of
from scrubjay.gate.decision import GateOptions
from scrubjay.gate.probe_set import ProbeOptions
from scrubjay.gate.view import GalleryView
from scrubjay.generations.bridge_paths import space_of
from scrubjay.learning.bridge_pairs import gallery_pairs
from scrubjay.models.checkpoint import load_tensors, save_tensors
from scrubjay.models.embedding import space_fingerprint
from scrubjay.promotion.gallery_view import gallery_slices, probe_queries
from scrubjay.promotion.gate_report import Side, compared_view
from scrubjay.stores import Item
from shops import OPTIONS, copied, images
from tiny import IMAGES


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    return copied(tmp_path)


def with_gate(shop: Catalogue, **options: Any) -> Catalogue:
    """The same catalogue with other thresholds."""
    again = Catalogue(shop.folder)
    again.workspace.options = shop.options.model_copy(update={"gate": GateOptions(**options)})
    return again


def view_of(shop: Catalogue, name: str, candidate: str, serving: str) -> GalleryView:
    """The gallery as the gate compares it, for one of the two generations."""
    ends = shop.lineage.get(candidate), shop.lineage.get(serving)
    generation = shop.lineage.get(name)
    queries = probe_queries(shop.workspace, generation, *ends)
    side = Side(generation, queries, gallery_slices(shop.workspace, generation))
    return compared_view(shop.workspace, side, *ends)


def wreck(shop: Catalogue, name: str) -> None:
    """Make a network see the same in all images: its projection keeps its bias only."""
    path = shop.folder / "generations" / name / "network.safetensors"
    tensors, info = load_tensors(path, "")
    weight = next(key for key in tensors if key.endswith("projection.weight"))
    tensors[weight] = torch.full_like(tensors[weight], 1e-3)
    save_tensors(path, tensors, info)
    generation = shop.lineage.get(name)
    fingerprint = space_fingerprint(shop.lineage.network(generation).embedder, IMAGES)
    described = (generation.folder / "generation.json").read_text()
    (generation.folder / "generation.json").write_text(described.replace(generation.fingerprint, fingerprint))
    turned = Bridge("ridge", {"weight": np.eye(8, dtype=np.float32)[::-1].copy()})
    save(generation.folder / "bridges.safetensors", {"to_parent": turned, "from_parent": turned})


def test_the_report_of_a_gate(shop: Catalogue) -> None:
    report = shop.gate("g1")
    assert (report.candidate, report.serving, report.passed) == ("g1", "g0", True)
    assert report.groups is not None
    assert report.groups["old"].classes == 2
    assert [report.groups[name].queries for name in ("old", "new", "seen")] == [6, 3, 9]
    assert [check.name for check in report.checks] == ["old_retention", "negative_flips", "new_gain"]
    assert (report.probe_images, report.probe_kind, report.unjudged) == (9, "images", ())
    assert report.backfill is not None
    assert report.sample is not None
    assert (report.backfill.items, report.sample.items) == (10, 10)
    assert set(report.bridges or ()) == {"to_parent", "from_parent"}
    assert shop.serving.read().generation == "g0", "a gate changes nothing"
    assert shop.gallery.counts() == {"g0": 10}


def test_what_wrecks_old_classes_is_refused_and_forced_only_with_a_note(shop: Catalogue) -> None:
    wreck(shop, "g1")
    strict = with_gate(shop, old_retention=0.98, negative_flips=0.02)
    report = strict.gate("g1")
    assert not report.passed
    assert any(reason.startswith("negative_flips") for reason in report.reasons)
    before = strict.serving.read()
    with pytest.raises(CatalogueError, match=r"g1 was not promoted: negative_flips .*--force"):
        strict.promote("g1")
    assert strict.serving.read() == before
    strict.promote("g1", force=True)
    change = Catalogue(shop.folder).serving.read().history[-1]
    assert (change.action, change.after, change.forced) == ("promote", "g1", True)
    assert change.reasons == report.reasons
    assert f"forced against the gate: {report.reasons[0]}" in change.text()


def test_forcing_what_passes_leaves_no_note(shop: Catalogue) -> None:
    shop.promote("g1", force=True)
    change = shop.serving.read().history[-1]
    assert (change.forced, change.reasons) == (False, ())


def test_an_empty_gallery_has_nothing_to_lose(shop: Catalogue) -> None:
    shop.remove([item.id for item in shop.gallery.store.items()])
    report = with_gate(shop, new_gain=1).promote("g1")
    assert (report.passed, report.note, report.sample) == (True, "the gallery is empty", None)


def test_a_gallery_of_items_without_vectors_has_nothing_to_lose(shop: Catalogue) -> None:
    shop.gallery.store.drop_embeddings(shop.gallery.store.spaces()[0].id, [i.id for i in shop.gallery.store.items()])
    report = shop.gate("g1")
    assert (report.passed, report.note) == (True, "no item of the gallery has a vector yet")
    assert report.sample.stored is None
    assert report.sample.reindexed.recall_at_1 >= 0


def test_without_probe_images_a_gate_fails_and_says_why(shop: Catalogue) -> None:
    shutil.rmtree(shop.folder / "probe")
    report = shop.gate("g1")
    assert not report.passed
    assert report.reasons == (
        "no probe images: none were held out when its classes were learned, or probe.images is 0",
    )
    assert report.probe_images == 0
    with pytest.raises(CatalogueError, match="no probe images"):
        shop.promote("g1")
    with pytest.raises(CatalogueError, match="no probe images to measure the recall"):
        shop.backfill(until_recall=0.5)


def test_what_answers_already_is_no_candidate(shop: Catalogue) -> None:
    with pytest.raises(CatalogueError, match="g0 answers already"):
        shop.gate("g0")
    with pytest.raises(CatalogueError, match="no generation 'g9'; there are: g0, g1, g2"):
        shop.promote("g9")


def test_a_sibling_is_judged_on_the_classes_that_it_never_learned(shop: Catalogue, tmp_path: Path) -> None:
    """g2 knows no figs; what answers now does: those images are old ones, though not on the candidate's line."""
    shop.promote("g1")
    shop.add([tmp_path / "summer" / "train"])
    report = shop.gate("g2")
    assert report.unjudged == ()
    assert report.groups["old"].classes == 3
    assert report.groups["old"].queries == 9
    assert report.groups["new"].classes == 1
    wreck(shop, "g2")
    assert not with_gate(shop, old_retention=0.98).gate("g2").passed


def test_a_candidate_two_generations_ahead_brings_the_classes_of_both(shop: Catalogue, tmp_path: Path) -> None:
    shop.learn(images(tmp_path / "winter", "medlar"), start="g1")
    report = shop.gate("g3")
    assert (report.groups["old"].classes, report.groups["new"].classes) == (2, 2)
    assert report.groups["new"].queries == 6
    labels = view_of(shop, "g3", "g3", "g0").labels
    assert {label: labels.count(label) for label in set(labels)} == {"apple": 5, "pear": 5, "fig": 5, "medlar": 5}


def test_classes_that_the_gallery_holds_already_are_not_doubled(shop: Catalogue, tmp_path: Path) -> None:
    shop.add([tmp_path / "summer" / "train"])
    for name in ("g0", "g1"):
        view = view_of(shop, name, "g1", "g0")
        assert sorted(map(str, view.labels)) == ["apple"] * 5 + ["fig"] * 5 + ["pear"] * 5
        assert len(set(view.ids)) == 15


def test_a_generation_that_kept_no_embeddings_is_passed_over(shop: Catalogue, tmp_path: Path) -> None:
    """Those of older versions did not: a candidate that descends from one must still be judged."""
    shop.learn(images(tmp_path / "winter", "medlar"), start="g1")
    (shop.lineage.get("g1").folder / "session.safetensors").unlink()
    assert shop.gate("g3").groups["new"].classes >= 1
    assert shop.gate("g1").groups["old"].classes == 2


def calibrated(shop: Catalogue) -> set[str]:
    """Spaces for which scores of the generation that answers are calibrated, those of all items among them."""
    serving = shop.workspace.serving_generation()
    found = shop.workspace.calibrations(serving).spaces
    needed = {part.space for part in gallery_slices(shop.workspace, serving)}
    assert needed <= found.keys(), f"{needed - found.keys()} are not calibrated for {serving.name}"
    return set(found)


def test_every_space_is_calibrated_for_what_answers_at_every_moment(shop: Catalogue, tmp_path: Path) -> None:
    assert len(calibrated(shop)) == 1
    shop.promote("g1")
    assert len(calibrated(shop)) == 2, "its own space too, before it holds anything"
    shop.add([tmp_path / "summer" / "train"])
    assert len(calibrated(shop)) == 2
    shop.rollback()
    assert len(calibrated(shop)) == 2
    shop.add([tmp_path / "autumn" / "train"])
    shop.promote("g1")
    calibrated(shop)
    shop.promote("g2")
    calibrated(shop)
    shop.backfill()
    assert len(calibrated(shop)) == 1, "g2 has embedded everything"
    assert shop.rollback().generation == "g1"
    assert len(calibrated(shop)) == 2


def test_nothing_is_calibrated_without_probes_and_searches_go_on(shop: Catalogue, tmp_path: Path) -> None:
    shutil.rmtree(shop.folder / "probe")
    shutil.rmtree(shop.folder / "calibration")
    shop.add([tmp_path / "summer" / "train"])
    assert not (shop.folder / "calibration").exists()
    answer = shop.answer(tmp_path / "summer/train/fig/0.png")
    assert (len(answer.hits), answer.matched, answer.threshold) == (10, None, None)
    assert shop.upkeep.novel() is None


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_a_match_is_called_at_the_rate_of_false_matches_that_was_asked_for(
    shop: Catalogue, tmp_path: Path, rate: float
) -> None:
    workspace = shop.workspace
    workspace.options = shop.options.model_copy(update={"false_match_rate": rate})
    calibrations = workspace.calibrations(workspace.serving_generation())
    unknown = np.array(calibrations.no_match_scores)
    assert len(unknown) == 6
    needed = calibrations.match_threshold(rate)
    assert needed == conformal_threshold(unknown, rate)
    assert (unknown > needed).mean() <= rate
    answer = shop.answer(tmp_path / "spring/train/apple/0.png")
    assert answer.threshold == needed
    assert answer.matched == (answer.hits[0].match > needed)  # type: ignore[operator]


def test_the_scores_of_probes_are_those_that_a_search_gives(shop: Catalogue) -> None:
    """The threshold means something only if what it was learned from is what searches answer with."""
    serving = shop.workspace.serving_generation()
    found = shop.workspace.calibrations(serving)
    probes = probe_queries(shop.workspace, serving).probes
    assert len(probes) == len(found.match_scores) == len(found.no_match_scores) == 6
    for probe, known, unknown in zip(probes, found.match_scores, found.no_match_scores, strict=True):
        assert probe.sample is not None
        own = shop.answer(probe.sample.path, 1, [probe.label]).hits[0].match
        other = shop.answer(probe.sample.path, 1, [{"apple": "pear", "pear": "apple"}[probe.label]]).hits[0].match
        assert own is not None
        assert other is not None
        assert np.allclose([known, unknown], [own, other], atol=1e-3)


def test_too_few_probe_images_call_nothing_a_match(shop: Catalogue, tmp_path: Path) -> None:
    answer = shop.answer(tmp_path / "spring/train/apple/0.png")
    assert (answer.matched, answer.threshold) == (None, None), "six images say nothing about one in twenty"


def test_pairs_are_of_images_that_are_what_they_were(shop: Catalogue, tmp_path: Path) -> None:
    parent = shop.lineage.get("g0")
    encoder = shop.workspace.encoder(shop.lineage.get("g1"))
    pears = sorted((tmp_path / "spring/train/pear").iterdir())
    pears[0].unlink()
    shutil.copy(pears[2], pears[1])
    shop.gallery.store.put_items([Item("loose", str(tmp_path / "nowhere.png"), "loose", None)])
    found = gallery_pairs(shop.workspace, parent, encoder)
    assert found is not None
    there = {item.id: item for item in shop.gallery.store.items() if item.uri not in map(str, [*pears[:2], "nowhere"])}
    del there["loose"]
    assert len(found.labels) == len(there) == 8
    ids, stored = shop.gallery.store.vectors(space_of(parent).id, list(there))
    assert np.array_equal(found.source, stored)
    again = encoder.embed([sample_of(there[name]) for name in ids]).vectors
    assert np.allclose(found.target, again, atol=1e-5)
    labels = [there[name].label for name in ids]
    assert [labels[0] == label for label in labels] == (found.labels == found.labels[0]).tolist()


def test_there_are_no_pairs_without_images_labels_or_vectors(shop: Catalogue, tmp_path: Path) -> None:
    encoder = shop.workspace.encoder(shop.lineage.get("g1"))
    assert gallery_pairs(shop.workspace, shop.lineage.get("g1"), encoder) is None, "g1 has embedded nothing"
    shutil.rmtree(tmp_path / "spring")
    assert gallery_pairs(shop.workspace, shop.lineage.get("g0"), encoder) is None


def test_a_probe_image_that_is_kept_as_crops_counts_once(tmp_path: Path) -> None:
    """Crops of one image are not independent: a threshold for one image in twenty needs 19 images, not 19 crops."""
    options = OPTIONS.model_copy(update={"probe": ProbeOptions(keep="embeddings", crops=4)})
    shop = Catalogue.init(tmp_path / "shop", options)
    shop.learn(images(tmp_path / "spring", "apple", "pear"), "l2")
    shop.add([tmp_path / "spring/train"])
    calibrations = shop.workspace.calibrations(shop.workspace.serving_generation())
    assert len(calibrations.no_match_scores) == len(calibrations.match_scores) == 6
    assert calibrations.match_threshold(0.05) is None, "30 crops of 6 images say nothing about one in twenty"
    shop.learn(images(tmp_path / "summer", "fig"))
    report = shop.gate("g1")
    assert (report.probe_images, report.probe_kind) == (9, "embeddings")
    assert [check.images for check in report.checks] == [6, 6, 3]
