from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from scrubjay.errors import CheckpointError
from scrubjay.models.embedding import Encoder
from scrubjay.types import Sample
from scrubjay.workspace.probe_features import ProbeFeatures
from shops import metric_shop
from tiny import paint


def test_features_are_computed_once_and_again_when_a_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = metric_shop(tmp_path).workspace
    first, second = (workspace.encoder(workspace.lineage.get(name)) for name in ("g0", "g1"))
    samples = [Sample(paint(tmp_path / f"{seed}.png", 3, seed), 0) for seed in range(3)]
    expected = first.features(samples).features
    compute, asked = Encoder.features, list[Sample]()

    def counted(self: Encoder, samples: Sequence[Sample], *more: object) -> object:
        asked.extend(samples)
        return compute(self, samples, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "features", counted)
    kept = ProbeFeatures()
    np.testing.assert_allclose(kept.of(first, samples), expected, rtol=1e-5, atol=1e-6)
    reversed_ = kept.of(second, samples[::-1])  # the trunk is the same
    np.testing.assert_allclose(reversed_, expected[::-1], rtol=1e-5, atol=1e-6)
    assert asked == samples
    paint(samples[1].path, 5, 99, side=44)
    assert not np.allclose(kept.of(second, samples)[1], expected[1])
    assert asked[3:] == [samples[1]]
    assert kept.of(first, []).shape == (0, expected.shape[1])


def test_a_probe_image_that_is_gone_is_named(tmp_path: Path) -> None:
    workspace = metric_shop(tmp_path).workspace
    encoder = workspace.encoder(workspace.lineage.get("g0"))
    (tmp_path / "broken.png").write_bytes(b"no image")
    for name in ("missing.png", "broken.png"):
        with pytest.raises(CheckpointError, match=rf"{name}.*Restore it|{name}: a probe image cannot be read"):
            ProbeFeatures().of(encoder, [Sample(tmp_path / name, 0)])
