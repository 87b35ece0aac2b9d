from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.closed_form.crops import Crops, CropWorker, features_of_crops, images_per_batch, save_trunk
from scrubjay.data.loading import ImageLoader
from scrubjay.errors import CheckpointError
from scrubjay.models import embedding
from scrubjay.models.embedder import Network
from scrubjay.models.folding import folded
from scrubjay.types import Sample

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def network() -> Network:
    return tiny.learner("slda", tiny.NETWORK.model_copy(update={"features": "stages"})).network.eval()


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return [Sample(tiny.paint(tmp_path / f"{number}.png", number % 3, number), number % 3) for number in range(7)]


def loader(samples: list[Sample]) -> ImageLoader:
    return ImageLoader(samples, tiny.IMAGES, train=False)


def test_features_are_those_of_the_centre_crop_and_of_random_crops(network: Network, samples: list[Sample]) -> None:
    found = Crops.joined(features_of_crops(network.embedder, loader(samples), 2))
    assert found.positions.tolist() == [number for number in range(7) for _ in range(3)]
    assert found.labels.tolist() == [number % 3 for number in range(7) for _ in range(3)]
    with torch.no_grad():
        centre = network.embedder.features(tiny.batch(samples).images)
    assert found.features.dtype == torch.float16
    torch.testing.assert_close(found.features[::3], centre.half(), rtol=2e-3, atol=2e-3)
    assert not torch.equal(found.features[1::3], found.features[::3])


def test_a_pass_can_begin_at_any_batch(
    network: Network, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "CPU_PIXELS", 6 * tiny.IMAGES.size**2)
    assert images_per_batch(network.embedder, loader(samples), 2) == 2
    whole = list(features_of_crops(network.embedder, loader(samples), 2))
    assert [len(batch.labels) for batch in whole] == [6, 6, 6, 3]
    for first, batch in zip((0, 2, 4, 6), whole, strict=True):
        again = next(features_of_crops(network.embedder, loader(samples), 2, first))
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(again, batch, strict=True))
    parts = list(Crops.joined(whole).by_batch(2))
    for mine, theirs in zip(parts, whole, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))


def test_a_worker_computes_the_same_bits(network: Network, samples: list[Sample], tmp_path: Path) -> None:
    images = tiny.IMAGES.model_copy(update={"workers": 3})
    save_trunk(tmp_path / "trunk.safetensors", network, images)
    worker = CropWorker(str(tmp_path / "trunk.safetensors"), 2)
    expected = Crops.joined(features_of_crops(folded(network.embedder), loader(samples), 2))
    found = Crops.from_bytes(worker(samples), first=40)
    assert torch.equal(found.features, expected.features)
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.positions, expected.positions + 40)


def test_a_worker_refuses_a_damaged_trunk(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "trunk.safetensors"
    save_trunk(path, network, tiny.IMAGES)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="give the same command again"):
        CropWorker(str(path), 0)
