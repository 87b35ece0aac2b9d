from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from scrubjay.data.loading import Cache
from scrubjay.errors import ImageError
from scrubjay.models.activations import Activations
from scrubjay.models.embedder import NetworkOptions
from scrubjay.models.embedding import BATCH, Encoder, space_fingerprint
from scrubjay.types import Sample


def test_embeds_in_order_with_labels_and_space(tmp_path: Path) -> None:
    samples = tiny.session(tmp_path, 0, 0).train
    embedder = tiny.learner().network.embedder.train()
    found = Encoder(embedder, tiny.IMAGES).embed(samples)
    assert embedder.training, "the mode is what it was"
    with torch.inference_mode():
        expected = embedder.eval()(tiny.batch(samples).images)
    np.testing.assert_array_equal(found.vectors, expected.numpy())
    assert found.vectors.dtype == np.float32
    assert found.labels.tolist() == [sample.label for sample in samples]
    assert found.indices.tolist() == list(range(len(samples)))
    assert found.fingerprint == space_fingerprint(embedder, tiny.IMAGES)


def test_the_space_is_that_of_what_changes_vectors() -> None:
    embedder = tiny.learner().network.embedder
    space = space_fingerprint(embedder, tiny.IMAGES)
    for change in ({"flip": 0.1}, {"cache_mb": 1}, {"on_error": "raise"}, {"scale": (0.1, 0.2)}, {"workers": 3}):
        assert space_fingerprint(embedder, tiny.IMAGES.model_copy(update=change)) == space
    for change in ({"size": 30}, {"resize": 40}):
        assert space_fingerprint(embedder, tiny.IMAGES.model_copy(update=change)) != space


def test_the_backbone_alone_is_another_space(tmp_path: Path) -> None:
    samples = tiny.session(tmp_path, 0, 0).train
    embedder = tiny.learner().network.embedder
    found = Encoder(embedder, tiny.IMAGES).embed_backbone(samples)
    assert found.vectors.shape == (8, 96)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)
    assert found.fingerprint != space_fingerprint(embedder, tiny.IMAGES)


def test_broken_images_are_missing_and_named(tmp_path: Path) -> None:
    samples = tiny.session(tmp_path, 0, 0).train
    samples[2].path.write_text("no image")
    embedder = tiny.learner().network.embedder
    found = Encoder(embedder, tiny.IMAGES).embed(samples)
    assert found.indices.tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert [path for path, _ in found.failures] == [str(samples[2].path)]
    with pytest.raises(ImageError, match=r"2\.png"):
        Encoder(embedder, tiny.IMAGES.model_copy(update={"on_error": "raise"})).embed(samples)
    with pytest.raises(ImageError, match=r"2\.png"):
        Encoder(embedder, tiny.IMAGES).embed([samples[2]])


def test_no_images_are_no_vectors() -> None:
    found = Encoder(tiny.learner().network.embedder, tiny.IMAGES).embed([])
    assert found.vectors.shape == (0, 8)
    assert found.labels.shape == found.indices.shape == (0,)


def test_several_batches_are_put_together(tmp_path: Path) -> None:
    path = tiny.paint(tmp_path / "a.png", 1, 1)
    found = Encoder(tiny.learner().network.embedder, tiny.IMAGES).embed(
        [Sample(path, number) for number in range(BATCH + 3)]
    )
    assert found.labels.tolist() == list(range(BATCH + 3))
    np.testing.assert_allclose(found.vectors, np.repeat(found.vectors[:1], BATCH + 3, 0), atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"features": "stages"},
        {"features": ["layer2", "layer3"], "frozen": "layer2"},
        {"features": "stages", "transform": "root"},
        {"features": "stages", "transform": "gelu", "random_features": 16},
    ],
)
def test_embeddings_are_the_projection_of_trunk_features(changes: dict[str, object], tmp_path: Path) -> None:
    samples = tiny.session(tmp_path, 0, 0).train
    samples[2].path.write_text("no image")
    embedder = tiny.learner(network=NetworkOptions.parse({**tiny.NETWORK.model_dump(), **changes})).network.embedder
    encoder = Encoder(embedder, tiny.IMAGES)
    found, embedded = encoder.features(samples, Cache(10)), encoder.embed(samples)
    assert found.features.dtype == np.float32
    assert found.features.shape == (7, embedder.projection.in_features)
    assert found.labels.tolist() == embedded.labels.tolist()
    assert found.indices.tolist() == embedded.indices.tolist()
    assert found.failures == embedded.failures != ()
    assert found.era == encoder.era
    np.testing.assert_allclose(encoder.project(found.features), embedded.vectors, atol=1e-6)
    assert encoder.features([]).features.shape == (0, embedder.projection.in_features)
    assert encoder.project(encoder.features([]).features).shape == (0, 8)


def test_the_baseline_without_training_is_not_transformed(tmp_path: Path) -> None:
    samples = tiny.session(tmp_path, 0, 0).train
    plain, transformed = (
        Encoder(tiny.learner(network=tiny.NETWORK.model_copy(update=change)).network.embedder, tiny.IMAGES)
        for change in ({}, {"transform": "gelu", "random_features": 16})
    )
    np.testing.assert_array_equal(transformed.embed_backbone(samples).vectors, plain.embed_backbone(samples).vectors)


def test_the_era_is_that_of_what_changes_trunk_features() -> None:
    embedder = tiny.learner().network.embedder
    before = Encoder(embedder, tiny.IMAGES)
    for change in ({"flip": 0.1}, {"views": 2}, {"scale": (0.1, 0.2)}):
        assert Encoder(embedder, tiny.IMAGES.model_copy(update=change)).era == before.era
    for change in ({"size": 30}, {"resize": 40}):
        assert Encoder(embedder, tiny.IMAGES.model_copy(update=change)).era != before.era
    with torch.no_grad():
        embedder.projection.bias.add_(1)
    after = Encoder(embedder, tiny.IMAGES)
    assert after.era == before.era
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("frozen", ["layer2", "all"])
def test_trunk_features_from_cached_activations_have_the_same_bits(frozen: str, tmp_path: Path) -> None:
    samples = tiny.session(tmp_path, 0, 0, each=20).train
    options = tiny.NETWORK.model_copy(update={"features": "stages", "frozen": frozen})
    embedder = tiny.learner(network=options).network.embedder
    embedder.make_batch_invariant()
    encoder = Encoder(embedder, tiny.IMAGES)
    kept = Activations(tmp_path / "kept", embedder, tiny.IMAGES)
    plain = encoder.features(samples).features
    for _ in range(2):
        np.testing.assert_array_equal(encoder.features(samples, activations=kept).features, plain)
    last = tiny.learner(network=options.model_copy(update={"features": "last"})).network.embedder
    assert Activations(tmp_path / "kept", last, tiny.IMAGES).file != kept.file
