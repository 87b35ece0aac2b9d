"""Queries enter an older space as they are where the bridge would find less: decided on constructed embeddings.

Stored vectors, probe embeddings, bridge and the query's embedding are all written to the catalogue's files, so that
nothing here depends on what a trained network computes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import killing
from scrubjay.bridges import Bridge, save
from scrubjay.catalogue import Catalogue
from scrubjay.models.checkpoint import load_tensors, save_tensors
from scrubjay.models.embedding import space_fingerprint
from tiny import IMAGES

AXES = np.eye(killing.OPTIONS.network.dim, dtype=np.float32)
STORED = {"apple": AXES[0], "pear": AXES[1]}
QUERY = (0.48, 0.36, 0.8)
SWAP = AXES[[1, 0, *range(2, len(AXES))]]
"""Carries apples to where the pears are stored, and pears to the apples."""
PLANE = np.diag(np.where(np.arange(len(AXES)) < 2, 1, 0)).astype(np.float32)
"""Moves the query, but no embedding of an apple or a pear."""


def embed_everything_as(shop: Catalogue, name: str, vector: tuple[float, ...]) -> None:
    """Let the network of a generation give one unit vector for every image: its projection keeps its bias only."""
    folder = shop.lineage.get(name).folder
    tensors, info = load_tensors(folder / "network.safetensors", "")
    (weight,) = (key for key in tensors if key.endswith("projection.weight"))
    (bias,) = (key for key in tensors if key.endswith("projection.bias"))
    tensors[weight].zero_()
    tensors[bias] = torch.tensor([*vector, *[0.0] * (len(AXES) - len(vector))])
    save_tensors(folder / "network.safetensors", tensors, info)
    described = json.loads((folder / "generation.json").read_text())
    described["fingerprint"] = space_fingerprint(shop.lineage.network(shop.lineage.get(name)).embedder, IMAGES)
    (folder / "generation.json").write_text(json.dumps(described))


def constructed(shop: Catalogue, probes: dict[str, NDArray[np.float32]], bridge: NDArray[np.float32]) -> None:
    """Let g1 embed the probe images of each class as these vectors, beside items of g0 that lie at `STORED`."""
    embed_everything_as(shop, "g1", QUERY)
    for folder in sorted((shop.folder / "probe").iterdir()):
        labels = [row["label"] for row in json.loads((folder / "index.json").read_text())["images"]]
        vectors = torch.from_numpy(np.stack([probes.get(label, AXES[2]) for label in labels]))
        save_tensors(folder / f"by-{shop.lineage.get('g1').fingerprint}.safetensors", {"vectors": vectors}, {})
    (space,) = shop.gallery.store.spaces()
    items = list(shop.gallery.store.items())
    stored = np.stack([STORED[str(item.label)] for item in items])
    shop.gallery.store.put_embeddings(space, [item.id for item in items], stored)
    there_and_back = {
        "to_parent": Bridge("ridge", {"weight": bridge}),
        "from_parent": Bridge("ridge", {"weight": SWAP}),
    }
    save(shop.lineage.get("g1").folder / "bridges.safetensors", there_and_back)


@pytest.mark.parametrize(
    ("probes", "bridge", "direct", "scores"),
    [
        pytest.param(STORED, SWAP, True, {"apple": 0.48, "pear": 0.36}, id="the bridge loses all"),
        pytest.param(
            {"apple": AXES[1], "pear": AXES[0]}, SWAP, False, {"apple": 0.36, "pear": 0.48}, id="the bridge finds all"
        ),
        pytest.param(STORED, PLANE, False, {"apple": 0.8, "pear": 0.6}, id="both find all"),
    ],
)
def test_queries_enter_an_older_space_directly_where_probe_images_find_more_so(
    small_shop: Path,
    tmp_path: Path,
    probes: dict[str, NDArray[np.float32]],
    bridge: NDArray[np.float32],
    direct: bool,
    scores: dict[str, float],
) -> None:
    root = killing.fresh(small_shop, tmp_path / "work")
    constructed(Catalogue(root / "shop"), probes, bridge)
    shop = Catalogue(root / "shop")
    (old,) = shop.gallery.store.spaces()
    shop.promote("g1", force=True)
    saved = json.loads((shop.folder / "calibration" / "g1.json").read_text())
    assert saved["straight"] == ([old.id] if direct else [])
    hits = shop.search(root / "spring" / "apple" / "1.png", 50)
    assert len(hits) == 16
    assert [hit.score for hit in hits] == pytest.approx([scores[str(hit.label)] for hit in hits], abs=0.01)
