"""A catalogue that stays open sees what other processes have done since it was opened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.errors import NotFoundError
from scrubjay.generations import bridge_paths
from shops import SETTINGS, images, metric_shop
from tiny import paint

PROGRAM = """
import sys
from pathlib import Path
from scrubjay.catalogue import Catalogue

shop, root = Catalogue(Path(sys.argv[1])), Path(sys.argv[1]).parent
for command in sys.argv[2:]:
    exec(command)
"""


def elsewhere(shop: Catalogue, *commands: str) -> None:
    """Run commands on the catalogue `shop`, whose images are in the folder `root`, in another process."""
    subprocess.run([sys.executable, "-c", PROGRAM, str(shop.folder), *commands], check=True)


def test_everything_that_others_do_is_seen(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    query = tmp_path / "autumn/test/melon/100.png"
    images(tmp_path / "autumn", "melon", "cherry", train=4, test=2)
    before = shop.answer(query, 50)
    number = shop.gallery.count()
    assert before.generation == "g1"
    assert len(before.hits) == number == 28

    elsewhere(
        shop,
        f"shop.learn(root / 'autumn', settings={SETTINGS})",
        "shop.promote('g2', force=True)",
        "shop.add([root / 'autumn/train'])",
        "shop.inventory.rename_class('melon', 'honeydew')",
    )
    after = shop.answer(query, 50)
    assert after.generation == "g2"
    assert len(after.hits) == shop.gallery.count() == number + 8
    assert after.unembedded == 0
    assert {hit.generation for hit in after.hits} == {"g1", "g2"}, "older vectors are found over the bridge"
    assert all(hit.match is not None for hit in after.hits)
    assert sum(hit.label == "honeydew" for hit in after.hits) == 4
    assert {each.name for each in shop.inventory.classes()} >= {"honeydew", "cherry"}
    assert "honeydew" in shop.lineage.get("g2").classes

    first = after.hits[0].id
    elsewhere(
        shop, f"shop.remove(['{first}'])", "shop.backfill()", f"shop.inventory.change_item('{after.hits[1].id}', 'x')"
    )
    moved = shop.answer(query, 50)
    assert {hit.generation for hit in moved.hits} == {"g2"}
    assert first not in {hit.id for hit in moved.hits}
    assert moved.hits[0].label == "x"
    with pytest.raises(NotFoundError):
        shop.inventory.item(first)

    elsewhere(shop, "shop.rollback()", "shop.upkeep.shadow('g2')")
    assert shop.answer(query).generation == "g1"
    assert shop.serving.read().shadow is not None

    elsewhere(shop, "shop.upkeep.forget(['fig'])")
    left = shop.answer(query, 50)
    assert left.generation not in ("g0", "g1")
    assert "fig" not in {hit.label for hit in left.hits}
    assert "fig" not in {each.name for each in shop.inventory.classes()}


@pytest.mark.slow
def test_generations_that_were_made_again_have_their_own_bridges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation may be moved away and another one of its name be learned: its bridges are read again."""
    shop = Catalogue(metric_shop(tmp_path).folder)
    steps: list[tuple[str, str]] = []
    step = bridge_paths.BridgePaths._step

    def counted(self, source, target, known):
        steps.append((source, target))
        return step(self, source, target, known)

    monkeypatch.setattr(bridge_paths.BridgePaths, "_step", counted)
    shop.workspace.bridge_paths.bridge("g1", "g0")
    shop.workspace.bridge_paths.bridge("g1", "g0")
    assert steps == [("g1", "g0")]
    elsewhere(
        shop,
        "shop.rollback('g0')",
        "import shutil; shutil.rmtree(shop.folder / 'generations/g1')",
        f"shop.learn(root / 'summer', settings={dict(SETTINGS, residual=0.02)})",
    )
    shop.workspace.bridge_paths.bridge("g1", "g0")
    assert len(steps) == 2


def test_few_networks_stay_in_memory(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    for number in range(4):
        for seed in range(3):
            paint(tmp_path / f"more{number}/train/class{number}" / f"{seed}.png", number, 900 + 10 * number + seed)
        shop.learn(tmp_path / f"more{number}", settings=SETTINGS)
    generations = shop.lineage.generations()
    for generation in generations:
        shop.workspace.encoder(generation)
    shop.workspace.encoder(generations[-4])
    held = list(shop.workspace._encoders)
    assert held == [each.fingerprint for each in (*generations[-3:], generations[-4])]
