from __future__ import annotations

import signal
import warnings
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.closed_form import accumulate as module
from scrubjay.closed_form.accumulate import StatisticsWorker, accumulate
from scrubjay.closed_form.crops import Crops, features_of_crops
from scrubjay.closed_form.statistics import Statistics
from scrubjay.data.loading import ImageLoader
from scrubjay.models.embedder import Network
from scrubjay.models.embedding import trunk_era
from scrubjay.models.folding import folded
from scrubjay.types import Sample
from scrubjay.workers import Workers

pytestmark = pytest.mark.usefixtures("one_thread")
VIEWS = 2


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny.learner("slda", tiny.NETWORK.model_copy(update={"features": "stages"})).network.eval()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    root = tmp_path_factory.mktemp("images")
    return [Sample(tiny.paint(root / f"{number}.png", number % 3, number), number % 3) for number in range(41)]


@pytest.fixture(scope="module")
def expected(network: Network, samples: list[Sample]) -> Statistics:
    """Statistics of all features at once."""
    loader = ImageLoader(samples, tiny.IMAGES, train=False)
    crops = Crops.joined(features_of_crops(folded(network.embedder), loader, VIEWS))
    return Statistics.of(trunk_era(network.embedder, tiny.IMAGES), crops.features, crops.labels)


def same(found: Statistics, expected: Statistics) -> None:
    assert found.era == expected.era
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.counts, expected.counts)
    for mine, theirs in ((found.means, expected.means), (found.scatter, expected.scatter)):
        assert (mine - theirs).norm() <= 1e-12 * theirs.norm()


def test_statistics_are_those_of_all_features_at_once(
    network: Network, samples: list[Sample], expected: Statistics, tmp_path: Path
) -> None:
    same(accumulate(network, tiny.IMAGES, samples, VIEWS, tmp_path), expected)


class Killing(StatisticsWorker):
    """Kills its process at its first chunk, the first time that a process of this class works."""

    def __init__(self, trunk: str, views: int) -> None:
        super().__init__(trunk, views)
        self.mark = Path(trunk).with_name("killed")

    def __call__(self, samples: list[Sample]) -> bytes:  # type: ignore[override]
        if not self.mark.exists():
            self.mark.touch()
            signal.raise_signal(signal.SIGKILL)
        return super().__call__(samples)


def test_a_chunk_whose_process_dies_is_accumulated_by_another(
    network: Network, samples: list[Sample], expected: Statistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "StatisticsWorker", Killing)
    same(accumulate(network, tiny.IMAGES, samples, VIEWS, tmp_path, Workers(2)), expected)
    assert (tmp_path / "killed").exists()
    assert not active_children()


@pytest.mark.slow
def test_statistics_are_the_same_on_ray(
    network: Network, samples: list[Sample], expected: Statistics, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="needs ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same(accumulate(network, tiny.IMAGES, samples, VIEWS, tmp_path, Workers(2, "local")), expected)


def test_goes_on_from_the_sum_of_an_interrupted_call(
    network: Network, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    whole = accumulate(network, tiny.IMAGES, samples, VIEWS, tmp_path / "whole")
    chunks: list[int] = []

    class Stopping(StatisticsWorker):
        def __call__(self, samples: list[Sample]) -> bytes:  # type: ignore[override]
            chunks.append(len(samples))
            if len(chunks) == 3:
                raise KeyboardInterrupt
            return super().__call__(samples)

    monkeypatch.setattr(module, "StatisticsWorker", Stopping)
    with pytest.raises(KeyboardInterrupt):
        accumulate(network, tiny.IMAGES, samples, VIEWS, tmp_path)
    found = accumulate(network, tiny.IMAGES, samples, VIEWS, tmp_path)
    assert len(chunks) == 5, "four chunks, of which the third was begun twice"
    assert torch.equal(found.scatter, whole.scatter)
    assert torch.equal(found.means, whole.means)

    fewer = accumulate(network, tiny.IMAGES, samples[:-1], VIEWS, tmp_path)
    assert fewer.total == whole.total - 3


def test_a_damaged_sum_is_computed_again(
    network: Network, samples: list[Sample], expected: Statistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    accumulate(network, tiny.IMAGES, samples, VIEWS, tmp_path)
    path = tmp_path / "sum.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    same(accumulate(network, tiny.IMAGES, samples, VIEWS, tmp_path), expected)
