"""A small catalogue with a few generations, made once for all tests, and copies of it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from scrubjay.catalogue import Catalogue
from scrubjay.gate.decision import GateOptions
from scrubjay.workspace.options import CatalogueOptions
from tiny import IMAGES, NETWORK, TRAINING, paint

OPTIONS = CatalogueOptions(
    images=IMAGES, network=NETWORK, training=TRAINING, gate=GateOptions(old_retention=0, negative_flips=1, new_gain=-1)
)


def images(root: Path, *names: str, train: int = 5, test: int = 3) -> Path:
    """A folder with train and test images of every class."""
    for name in names:
        for split, number, first in (("train", train, 0), ("test", test, 100)):
            for seed in range(first, first + number):
                paint(root / split / name / f"{seed}.png", sum(name.encode()) % 13, seed)
    return root


@cache
def _template() -> Path:
    """g0 (apples and pears), of which g1 (figs) and g2 (plums) are children; g0 answers and has embedded 10 items."""
    root = Path(tempfile.mkdtemp(prefix="scrubjay-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    images(root / "spring", "apple", "pear")
    images(root / "summer", "fig")
    images(root / "autumn", "plum")
    shop = Catalogue.init(root / "shop", OPTIONS)
    shop.learn(root / "spring", "l2")
    shop.add([root / "spring" / "train"])
    shop.learn(root / "summer")
    shop.learn(root / "autumn", start="g0")
    return root


def copied(root: Path) -> Catalogue:
    """The template's catalogue and its images in a folder of their own."""
    shutil.copytree(_template(), root, dirs_exist_ok=True)
    shop = Catalogue(root / "shop")
    shop.add([root / "spring" / "train"])  # the same items, where their images are now
    return shop


METRIC = CatalogueOptions(
    images=IMAGES,
    network={"backbone": "test_resnet", "pretrained": False, "dim": 8},  # type: ignore[arg-type]
    training=TRAINING,
    gate=OPTIONS.gate,
)
"""Learns in closed form, from features of all stages."""
SETTINGS = {"prior": 20, "residual": 0.01, "target": "diagonal"}
"""Settings of slda that do not depend on the images of the first session."""


@cache
def _metric_template() -> Path:
    """g0 (apples, pears and plums), g1 (figs and kiwis, and more apples); g1 answers and has embedded all items."""
    root = Path(tempfile.mkdtemp(prefix="scrubjay-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    images(root / "spring", "apple", "pear", "plum")
    images(root / "summer", "fig", "kiwi")
    for seed in range(20, 23):
        paint(root / "summer/train/apple" / f"{seed}.png", sum(b"apple") % 13, seed)
    shop = Catalogue.init(root / "shop", METRIC)
    shop.learn(root / "spring", settings=SETTINGS)
    shop.add([root / "spring/train"])
    shop.learn(root / "summer", settings=SETTINGS)
    shop.promote("g1")
    shop.add([root / "spring/train", root / "summer/train"])
    shop.backfill()
    return root


def metric_shop(root: Path) -> Catalogue:
    """The catalogue that learns in closed form, and its images, in a folder of their own."""
    shutil.copytree(_metric_template(), root, dirs_exist_ok=True)
    shop = Catalogue(root / "shop")
    shop.add([root / "spring/train", root / "summer/train"])  # the same items, where their images are now
    return shop
