from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import killing
from scrubjay.bridges import Bridge
from scrubjay.catalogue import Catalogue
from scrubjay.generations.bridge_paths import Routes
from scrubjay.types import Sample


@pytest.mark.parametrize("harmful", [True, False])
def test_a_bridge_that_probe_images_find_less_over_is_not_taken(
    small_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harmful: bool
) -> None:
    shop = Catalogue(killing.fresh(small_shop, tmp_path / "work") / "shop")
    dim = shop.options.network.dim
    weight = np.zeros((dim, dim), np.float32) if harmful else np.eye(dim, dtype=np.float32)[::-1]
    weight[0, 0] = 1.0 if harmful else weight[0, 0]
    made = Bridge("ridge", {"weight": weight})  # all queries become one point, or none changes its neighbours much
    monkeypatch.setattr(Routes, "bridge", lambda _, source, target: Bridge("identity") if source == target else made)
    shop.promote("g1", force=True)
    calibrations = shop.upkeep.answering.calibrations(shop.lineage.get("g1"))
    (old,) = (space for space in shop.gallery.store.spaces() if space.generation == "g0")
    image = small_shop / "spring" / "apple" / "1.png"
    answering = shop.upkeep.answering
    vectors = answering.embed(shop.lineage.get("g1"), [Sample(image, 0)]).vectors
    (leg,) = (leg for leg in answering.legs(shop.lineage.get("g1"), vectors) if leg.space == old)
    assert (old.id in calibrations.straight) == np.array_equal(leg.queries, vectors)
    if harmful:
        assert old.id in calibrations.straight
