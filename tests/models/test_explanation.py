from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from scrubjay.data.images import ImageOptions
from scrubjay.errors import ConfigError, ImageError
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.models.embedding import Encoder
from scrubjay.models.explanation import _cells, _summed, explain
from scrubjay.training import seeded
from scrubjay.types import Sample


def encoder(backbone: str = "test_resnet", size: int = 32, seed: int = 0, **changes: object) -> Encoder:
    values = {"backbone": backbone, "pretrained": False, "dim": 8, "features": "stages", **changes}
    with seeded(seed):
        embedder = Network(NetworkOptions.parse(values)).embedder
    with torch.no_grad(), seeded(seed):
        embedder.projection.weight.normal_()
        embedder.projection.bias.normal_()
    return Encoder(embedder, ImageOptions(size=size, resize=size + 4))


def samples(root: Path, side: int = 40) -> tuple[Sample, Sample]:
    return tuple(Sample(tiny.paint(root / f"{hue}.png", hue, hue, side), hue) for hue in (0, 1))  # type: ignore[return-value]


CASES = [
    ("test_resnet", 32, {}),
    ("test_resnet", 33, {"frozen": "layer2"}),
    ("test_resnet", 32, {"frozen": "all"}),
    ("test_resnet", 32, {"features": "last"}),
    ("test_resnet", 32, {"features": "last", "frozen": "layer2"}),
    ("test_resnet", 40, {"features": ["layer1", "layer3"]}),
    ("test_efficientnet", 64, {"frozen": "blocks.2"}),
    ("test_vit", 160, {}),
    ("test_vit", 160, {"features": "last", "frozen": "all"}),
    ("swin_tiny_patch4_window7_224", 224, {}),
]


@pytest.mark.parametrize(("backbone", "size", "changes"), CASES)
def test_positions_and_remainder_are_the_similarity(
    backbone: str, size: int, changes: dict[str, object], tmp_path: Path
) -> None:
    made = encoder(backbone, size, **changes)
    query, hit = samples(tmp_path, size + 8)
    made.embedder.train()
    explained = explain(made, query, hit)
    assert made.embedder.training, "the mode is what it was"
    vectors = made.embed([query, hit]).vectors
    assert explained.score == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    for side in (explained.query, explained.hit):
        assert side.positions.dtype == np.float32
        assert side.image.shape == (size, size, 3)
        assert float(side.positions.sum(dtype=np.float64)) + side.remainder == pytest.approx(explained.score, abs=1e-5)
        assert side.contrast.shape == side.positions.shape
        assert float(side.contrast.sum(dtype=np.float64)) == pytest.approx(side.deviations, abs=1e-4)
        assert (side.class_tokens != 0) is ("vit" in backbone and "features" not in changes)
        assert (side.deviations != 0) is (changes.get("features") != "last")
    assert not np.array_equal(explained.query.positions, explained.hit.positions)
    assert not any(module._forward_hooks for module in made.embedder.backbone.modules())


def test_a_position_contributes_what_loops_say(tmp_path: Path) -> None:
    made = encoder(features=["layer3", "layer4"])
    query, hit = samples(tmp_path)
    explained = explain(made, query, hit)
    embedder = made.embedder.eval()
    maps: dict[str, np.ndarray] = {}
    for name in ("layer3", "layer4"):
        embedder.backbone.get_submodule(name).register_forward_hook(
            lambda *args, name=name: maps.__setitem__(name, args[-1][0].numpy().astype(np.float64))
        )
    with torch.no_grad():
        phi = embedder.features(torch.from_numpy(explained.query.image).permute(2, 0, 1)[None])[0].double().numpy()
        z_h = embedder(torch.from_numpy(explained.hit.image).permute(2, 0, 1)[None])[0].double().numpy()
        embedder.features(torch.from_numpy(explained.query.image).permute(2, 0, 1)[None])
    A, b = (value.detach().double().numpy() for value in (embedder.projection.weight, embedder.projection.bias))
    norm = np.linalg.norm(A @ phi + b)
    expected, contrast = np.zeros((2, 2)), np.zeros((2, 2))
    for row in range(2):
        for column in range(2):
            for k in range(8):
                for channel in range(192):
                    value = maps["layer3"][channel, row, column] / 4
                    expected[row, column] += z_h[k] * A[k, channel] * value / norm
                for channel in range(192):
                    one = maps["layer3"][channel]
                    deviation = max(one.std(), 1e-6)
                    square = (one[row, column] - one.mean()) ** 2 / (4 * deviation)
                    contrast[row, column] += z_h[k] * A[k, 192 + channel] * square / norm
                for channel in range(96):
                    value = maps["layer4"][channel, 0, 0] / 4  # one position covers all four
                    expected[row, column] += z_h[k] * A[k, 2 * 192 + channel] * value / norm
    assert maps["layer3"].shape == (192, 2, 2)
    assert maps["layer4"].shape == (96, 1, 1)
    np.testing.assert_allclose(explained.query.positions, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(explained.query.contrast, contrast, rtol=1e-3, atol=1e-5)
    assert explained.query.bias == pytest.approx(float(b @ z_h) / norm, abs=1e-6)


def test_a_hit_may_be_of_another_network(tmp_path: Path) -> None:
    young, old = encoder(seed=1), encoder(seed=2)
    query, hit = samples(tmp_path)
    explained = explain(young, query, hit, old)
    expected = float(young.embed([query]).vectors[0] @ old.embed([hit]).vectors[0])
    assert explained.score == pytest.approx(expected, abs=1e-5)
    for side in (explained.query, explained.hit):
        assert float(side.positions.sum()) + side.remainder == pytest.approx(expected, abs=1e-5)


def test_an_image_explains_itself_alike_from_both_sides(tmp_path: Path) -> None:
    query, _ = samples(tmp_path)
    explained = explain(encoder(), query, query)
    assert explained.score == pytest.approx(1)
    np.testing.assert_array_equal(explained.query.positions, explained.hit.positions)


def test_transformed_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"network\.transform = 'root': .* cannot be explained"):
        explain(encoder(features="stages", transform="root"), *samples(tmp_path))


@pytest.mark.parametrize("pooling", ["max", "gem"])
def test_other_poolings_are_refused(pooling: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"network\.pooling = '{pooling}': only averages .* can be explained"):
        explain(encoder(features="last", pooling=pooling), *samples(tmp_path))


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    query, hit = samples(tmp_path)
    hit.path.unlink()
    with pytest.raises(ImageError, match=r"1\.png: no such file"):
        explain(encoder(), query, hit)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_maps_of_several_resolutions_keep_their_sums(shapes: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = [rng.normal(size=shape) for shape in shapes]
    total = _summed(maps)
    assert total.shape == tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    assert total.sum() == pytest.approx(sum(each.sum() for each in maps), abs=1e-9)


@given(st.integers(1, 40), st.integers(0, 40))
def test_cells_are_covered_in_order_and_evenly(coarse: int, more: int) -> None:
    cells = _cells(coarse + more, coarse)
    counts = np.bincount(cells, minlength=coarse)
    assert (np.diff(cells) >= 0).all()
    assert len(counts) == coarse
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1
