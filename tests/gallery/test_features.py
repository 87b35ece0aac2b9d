from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scrubjay.errors import StorageError
from scrubjay.gallery.features import FAITHFUL, FeatureWriter, embedded_sample, lacking_features, projected
from scrubjay.gallery.gallery import Gallery
from scrubjay.gallery.ingest import Ingest
from scrubjay.models.embedding import Encoder
from scrubjay.stores import Encoding, FeatureCodec, Item, Space, Store, open_store
from scrubjay.types import Sample
from tiny import IMAGES, NETWORK, learner, paint


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(learner().network.embedder, IMAGES)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"lancedb://{tmp_path}/gallery")


def samples(folder: Path, number: int) -> list[Sample]:
    return [Sample(paint(folder / f"{index}.png", index % 7, index), 0) for index in range(number)]


def ingest(store: Store, encoder: Encoder, encoding: Encoding = "float16", features: bool = True) -> Ingest:
    space = Space("g0", encoder.dim, encoder.fingerprint, "g0")
    return Ingest(Gallery(store), space, encoder, False, FeatureWriter(store, encoding) if features else None)


@pytest.mark.parametrize("encoding", ["float16", "int8"])
def test_one_pass_gives_features_and_the_vectors_of_embed(
    tmp_path: Path, store: Store, encoder: Encoder, encoding: Encoding
) -> None:
    images = samples(tmp_path / "images", 70)
    assert ingest(store, encoder, encoding).add([(sample, None) for sample in images]).items == 70
    by_path = {item.uri: item.id for item in store.items()}
    ids = [by_path[str(sample.path)] for sample in images]
    names, vectors = store.vectors("g0", ids)
    assert names == ids
    np.testing.assert_allclose(vectors, encoder.embed(images).vectors, atol=1e-6)
    names, features = store.features.read(encoder.era, ids)
    assert names == ids
    assert store.features.codec(encoder.era).encoding == encoding
    assert (np.vecdot(encoder.project(features), vectors) >= FAITHFUL).all()


def test_projected_features_are_embeddings(tmp_path: Path, encoder: Encoder) -> None:
    images = samples(tmp_path, 3)
    images[1].path.write_bytes(b"no image")
    found, expected = projected(encoder, encoder.features(images)), encoder.embed(images)
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)
    assert found.indices.tolist() == [0, 2]
    assert (found.fingerprint, found.failures) == (expected.fingerprint, expected.failures)


def test_adding_again_completes_what_has_no_features(tmp_path: Path, store: Store, encoder: Encoder) -> None:
    images = [(sample, None) for sample in samples(tmp_path / "images", 5)]
    ingest(store, encoder, features=False).add(images)
    assert (lacking_features(store, encoder.era), store.features.codecs()) == (None, {})
    ingest(store, encoder).add(images)
    assert lacking_features(store, encoder.era) == set()
    first = store.items()
    name = next(first).id
    store.features.remove(encoder.era, [name])
    assert lacking_features(store, encoder.era) == {name}
    assert ingest(store, encoder).add(images).items == 5
    assert lacking_features(store, encoder.era) == set()


def test_an_interrupted_addition_is_completed_by_the_next(
    tmp_path: Path, store: Store, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [(sample, None) for sample in samples(tmp_path / "images", 5)]

    def fail(*_: object) -> None:
        raise StorageError("killed")

    for method in (store.features, store):
        with monkeypatch.context() as patch:
            patch.setattr(method, "put" if method is store.features else "put_embeddings", fail)
            with pytest.raises(StorageError, match="killed"):
                ingest(store, encoder).add(images)
        assert store.coverage(Space("g0", encoder.dim, encoder.fingerprint, "g0")) == (0, 5)
    assert ingest(store, encoder).add(images).items == 5
    assert (lacking_features(store, encoder.era), store.missing("g0")) == (set(), [])


def test_features_that_the_codes_would_change_are_left_out(store: Store, encoder: Encoder) -> None:
    draw = np.random.default_rng(0)
    features = draw.uniform(0.5, 1.5, (66, encoder.embedder.projection.in_features)).astype(np.float32)
    features[64, 3] = 1e9
    features[65, 0] = np.inf
    names = [f"{row:02d}" for row in range(66)]
    store.put_items(Item(name, name, name) for name in names)
    assert FeatureWriter(store, "int8").write(encoder, names[:64], features[:64]) == 64
    assert store.features.codec(encoder.era) == FeatureCodec.int8(features[:64])
    assert FeatureWriter(store, "int8").write(encoder, names[64:], features[64:]) == 0
    assert FeatureWriter(store, "int8").write(encoder, names[65:], features[65:]) == 0
    assert lacking_features(store, encoder.era) == {"64", "65"}


def test_an_era_is_of_the_trunk_and_not_of_the_projection(encoder: Encoder) -> None:
    wider = Encoder(learner(network=NETWORK.model_copy(update={"dim": 16})).network.embedder, IMAGES)
    assert (wider.era, wider.fingerprint == encoder.fingerprint) == (encoder.era, False)
    other = learner().network.embedder
    with torch.no_grad():
        next(other.backbone.parameters()).add_(1)
    assert Encoder(other, IMAGES).era != encoder.era


def test_a_sample_is_embedded_by_features_and_else_by_images(tmp_path: Path, store: Store, encoder: Encoder) -> None:
    images = samples(tmp_path / "images", 12)
    ingest(store, encoder, features=False).add([(sample, None) for sample in images])
    by_images, expected = embedded_sample(store, encoder, 8)
    assert [item.id for item in by_images] == sorted(item.id for item in store.items())[:8]
    ingest(store, encoder).add([(sample, None) for sample in images])
    gone, lacking = by_images[0], by_images[1]
    Path(gone.uri).unlink()
    store.features.remove(encoder.era, [lacking.id])
    items, vectors = embedded_sample(store, encoder, 8)
    assert [item.id for item in items] == [gone.id, *(item.id for item in by_images[2:]), lacking.id]
    order = [by_images.index(item) for item in items]
    np.testing.assert_allclose(vectors, expected[order], atol=1e-3)
    assert [item.id for item in embedded_sample(store, encoder, 3)[0]] == [gone.id, by_images[2].id, lacking.id]


def test_a_sample_of_nothing_is_empty(store: Store, encoder: Encoder) -> None:
    items, vectors = embedded_sample(store, encoder, 8)
    assert (items, vectors.shape) == ([], (0, encoder.dim))
