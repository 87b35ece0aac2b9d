from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from scrubjay.catalogue import Catalogue
from scrubjay.closed_form import saved_crops
from scrubjay.data.photos import content_hash
from scrubjay.errors import ConfigError
from scrubjay.generations.generation import Generation
from scrubjay.models import embedding
from scrubjay.models.embedder import Embedder
from scrubjay.models.embedding import Encoder
from scrubjay.types import Sample
from shops import METRIC

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def spring(tmp_path: Path) -> Path:
    return tiny.photos(tmp_path / "spring", "apple", "pear", "plum", each=8)


def shop(root: Path, **changes: object) -> Catalogue:
    return Catalogue.init(root, METRIC.model_copy(update=changes))


def weights(made: Generation, shop: Catalogue) -> dict[str, torch.Tensor]:
    return tiny.weights(shop.lineage.network(made))


def test_learning_that_is_interrupted_in_its_pass_goes_on_to_the_bit(
    spring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "CPU_PIXELS", 5 * tiny.IMAGES.size**2)  # one image with its views in each batch
    monkeypatch.setattr(saved_crops, "SECONDS", 0.0)
    whole, cut = shop(tmp_path / "whole"), shop(tmp_path / "cut")
    expected = weights(whole.learn(spring), whole)
    compute, batches = Embedder.features, []

    def counted(self: Embedder, images: torch.Tensor) -> torch.Tensor:
        if len(images) == 5:
            batches.append(images)
            if len(batches) == 4:
                raise KeyboardInterrupt
        return compute(self, images)

    monkeypatch.setattr(Embedder, "features", counted)
    with pytest.raises(KeyboardInterrupt):
        cut.learn(spring)
    assert [path.name for path in cut.interrupted()] == ["session-g0.safetensors"]
    made = cut.learn(spring)
    assert len(batches) == made.info.image_count + 1, "the batch that was interrupted is the only one computed twice"
    assert tiny.same(weights(made, cut), expected)
    assert not cut.interrupted()
    assert not list(cut.folder.glob("session*"))


def test_processes_learn_the_same_to_the_bit(spring: Path, tmp_path: Path) -> None:
    alone, together = shop(tmp_path / "alone"), shop(tmp_path / "together")
    expected = weights(alone.learn(spring), alone)
    assert tiny.same(weights(together.learn(spring, processes=2), together), expected)


def test_processes_learn_more_without_kept_features(spring: Path, tmp_path: Path) -> None:
    summer = tiny.photos(tmp_path / "summer", "fig", "kiwi", each=6)
    vectors = []
    for processes in (1, 2):
        made = shop(tmp_path / f"shop{processes}", keep_training_features=False)
        made.learn(spring)
        newest = made.learn(summer, processes=processes)
        samples = [Sample(path, 0) for path in sorted(summer.rglob("*.png"))]
        vectors.append(made.workspace.embed(newest, samples).vectors)
    np.testing.assert_allclose(vectors[0], vectors[1], rtol=0, atol=1e-5)


def test_ray_is_for_methods_in_closed_form(spring: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method .finetune. takes gradient steps.*not computed on Ray"):
        shop(tmp_path / "shop").learn(spring, "finetune", ray="local")


def test_images_that_were_learned_are_added_without_being_embedded_again(
    spring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shop(tmp_path / "shop")
    generation = made.learn(spring)
    others = tiny.photos(tmp_path / "others", "apple", each=10)
    asked: list[Sample] = []
    compute = Encoder.features

    def counted(self: Encoder, samples: Sequence[Sample], *more: object) -> object:
        asked.extend(samples)
        return compute(self, samples, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "features", counted)
    assert made.add([spring, others]).items == 26
    learned = made.lineage.statistics.hashes("g0")
    assert len(learned) == 20
    assert learned.isdisjoint(map(content_hash, asked)), "only those that were held out, and new ones"
    space = next(iter(made.gallery.store.spaces()))
    ids, stored = made.gallery.store.vectors(space.id)
    items = {item.id: item for item in made.gallery.store.items()}
    again = made.workspace.embed(generation, [Sample(Path(items[name].uri), 0) for name in ids]).vectors
    assert np.vecdot(stored, again).min() > 1 - 1e-5
    assert not [finding for finding in made.upkeep.examine() if finding.kind == "error"]
