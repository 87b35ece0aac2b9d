from __future__ import annotations

from pathlib import Path

import torch

from scrubjay.catalogue import Catalogue
from scrubjay.generations.statistics_folder import StatisticsFolder
from shops import metric_shop


def same(shop: Catalogue, kept: StatisticsFolder, name: str) -> bool:
    """Whether a folder that remembers its last sum gives what one gives that reads everything."""
    generation = shop.lineage.get(name)
    asked, read = kept.total(generation), Catalogue(shop.folder).lineage.statistics.total(generation)
    assert asked is not None
    assert read is not None
    pairs = ((getattr(asked, each), getattr(read, each)) for each in ("labels", "counts", "means", "scatter"))
    return all(torch.equal(*pair) for pair in pairs)


def test_a_sum_goes_on_from_the_last_one_and_is_the_same_to_the_bit(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    kept = shop.lineage.statistics
    assert same(shop, kept, "g0")
    assert same(shop, kept, "g1"), "goes on from that of g0"
    assert same(shop, kept, "g1"), "asked for again"
    assert same(shop, kept, "g0"), "a shorter one is read again"


def test_a_sum_is_read_again_when_images_were_removed(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    kept = shop.lineage.statistics
    assert same(shop, kept, "g1")
    Catalogue(shop.folder).upkeep.forget(["kiwi"])
    assert same(shop, kept, "g2")
    left = kept.total(shop.lineage.get("g2"))
    assert left is not None
    assert len(left.labels) == 4
