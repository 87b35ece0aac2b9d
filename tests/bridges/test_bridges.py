"""Kinds of bridges against loops and closed forms; composing, keeping and learned ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scrubjay import plugins
from scrubjay.bridges import Bridge, compose, fit, learned, load, save
from scrubjay.bridges.ridge import Ridge
from scrubjay.components.drift import linear_map, ridge_map
from scrubjay.errors import CheckpointError, ConfigError, DataError, SpaceError
from scrubjay.methods.projection import Residual

KINDS = ("identity", "mean_shift", "procrustes", "ridge", "ldc", "mlp")
RESIZE = ("procrustes", "ridge", "ldc", "mlp")


def unit(array: NDArray[np.floating]) -> NDArray[np.float32]:
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


def vectors(count: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    return unit(np.random.default_rng(seed).standard_normal((count, dim)))


def rotation(dim: int, size: float = 0.3) -> NDArray[np.float64]:
    half = size * np.random.default_rng(1).standard_normal((dim, dim))
    return np.asarray(torch.linalg.matrix_exp(torch.from_numpy(half - half.T)).numpy())


def moved(z: NDArray[np.float32], seed: int = 5) -> NDArray[np.float32]:
    """The same images embedded by another network: rotated, with a little noise."""
    noise = 0.1 * np.random.default_rng(seed).standard_normal(z.shape)
    return unit(z @ rotation(z.shape[1]).T + noise)


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float((a * b).sum(1).mean())


def test_kinds_are_the_files() -> None:
    assert set(KINDS) == set(plugins.names("bridges"))


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, scrubjay.bridges; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_identity_is_exact_and_of_any_dimension() -> None:
    for dim in (1, 5, 9):
        z = vectors(7, dim)
        assert np.array_equal(compose()(z), z)
        assert np.array_equal(fit("identity", z, moved(z))(z), z)


def test_mean_shift_by_loops() -> None:
    s = vectors(6, 4)
    t = moved(s)
    b = [sum(float(t[i, j]) - float(s[i, j]) for i in range(6)) / 6 for j in range(4)]
    expected = unit(np.array([[s[i, j] + b[j] for j in range(4)] for i in range(6)]))
    np.testing.assert_allclose(fit("mean_shift", s, t)(s), expected, atol=1e-6)


def test_procrustes_recovers_a_rotation() -> None:
    s = vectors(60, 6)
    R = rotation(6)
    bridge = fit("procrustes", s, unit(s @ R.T))
    W = bridge.tensors["weight"].astype(np.float64)
    np.testing.assert_allclose(W @ W.T, np.eye(6), atol=1e-5)
    np.testing.assert_allclose(W, R, atol=0.01)  # drawn a little to the identity


def test_directions_without_any_image_are_unchanged() -> None:
    s, t = np.zeros((30, 6), np.float32), np.zeros((30, 6), np.float32)
    s[:, :3] = vectors(30, 3)
    t[:, :3] = s[:, :3] @ rotation(3).T.astype(np.float32)
    hidden = np.eye(6, dtype=np.float32)[3:]
    for kind in ("procrustes", "ridge"):
        np.testing.assert_allclose(fit(kind, s, unit(t))(hidden), hidden, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_ridge_is_the_minimum_and_the_map_of_drift(count: int) -> None:
    s = vectors(count, 6)
    t = moved(s)
    for strength, tensors in zip((1e-4, 1e-2, 1.0), Ridge().fit(s, t, (1e-4, 1e-2, 1.0)), strict=True):
        A = tensors["weight"].astype(np.float64)
        gradient = (s @ A.T - t).T.astype(np.float64) @ s / count + strength * (A - np.eye(6))
        np.testing.assert_allclose(gradient, 0, atol=1e-6)
        by_drift = ridge_map(torch.from_numpy(s), torch.from_numpy(t), strength).numpy()
        np.testing.assert_allclose(A, by_drift, atol=1e-4)


def test_ridge_recovers_a_linear_map() -> None:
    s = vectors(200, 5)
    A = np.eye(5) + 0.2 * np.random.default_rng(3).standard_normal((5, 5))
    (tensors,) = Ridge().fit(s, (s @ A.T).astype(np.float32), (1e-8,))
    np.testing.assert_allclose(tensors["weight"], A, atol=1e-4)


def test_ldc_is_the_map_of_drift() -> None:
    s = vectors(80, 6)
    t = moved(s)
    expected = linear_map(torch.from_numpy(s), torch.from_numpy(t)).numpy()
    np.testing.assert_array_equal(fit("ldc", s, t).tensors["weight"], expected)


def test_mlp_learns_what_no_matrix_can_do_and_leaves_the_global_generator_alone() -> None:
    s = vectors(600, 4)
    t = unit(np.abs(s) + 0.1)
    state = torch.get_rng_state()
    mlp = fit("mlp", s[:500], t[:500])
    assert torch.equal(torch.get_rng_state(), state)
    again = fit("mlp", s[:500], t[:500])
    assert all(np.array_equal(mlp.tensors[name], again.tensors[name]) for name in mlp.tensors)
    assert cosine(mlp(s[500:]), t[500:]) > cosine(fit("ridge", s[:500], t[:500])(s[500:]), t[500:]) + 0.05


def test_mlp_is_the_identity_where_held_out_images_gain_nothing() -> None:
    z = vectors(40, 6)
    np.testing.assert_allclose(fit("mlp", z, z)(z), z, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_spaces_stay(kind: str) -> None:
    z = vectors(50, 6)
    assert cosine(fit(kind, z, z)(vectors(20, 6, 1)), vectors(20, 6, 1)) > 1 - 1e-5


@pytest.mark.parametrize("kind", KINDS[1:])
def test_each_kind_is_nearer_than_the_identity(kind: str) -> None:
    shift = np.array([0.5, 0, 0, 0, 0, 0])
    s = vectors(300, 6)
    t = unit(s + shift) if kind == "mean_shift" else moved(s)
    assert cosine(fit(kind, s[:250], t[:250])(s[250:]), t[250:]) > cosine(s[250:], t[250:]) + 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_fewer_images_than_dimensions(kind: str, count: int) -> None:
    s = vectors(count, 12)
    carried = fit(kind, s, moved(s))(vectors(9, 12, 2))
    np.testing.assert_allclose(np.linalg.norm(carried, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("dims", [(4, 7), (7, 4)])
def test_spaces_of_different_dimension(dims: tuple[int, int]) -> None:
    s = vectors(200, dims[0])
    A = np.random.default_rng(2).standard_normal((dims[0], dims[1]))
    t = unit(s @ A)
    for kind in RESIZE:
        bridge = fit(kind, s[:150], t[:150])
        assert bridge(s).shape == (200, dims[1])
        assert bridge(s).dtype == np.float32
    assert cosine(fit("ridge", s[:150], t[:150])(s[150:]), t[150:]) > 0.98
    for kind in set(KINDS) - set(RESIZE):
        with pytest.raises(SpaceError, match=f"{kind}.*{dims[0]} and {dims[1]} dimensions"):
            fit(kind, s, t)


def test_a_fit_that_cannot_be_is_refused() -> None:
    z = vectors(3, 4)
    with pytest.raises(ConfigError, match="Did you mean 'ridge'"):
        fit("rigde", z, z)
    with pytest.raises(DataError, match=r"\(3, 4\) and \(2, 4\)"):
        fit("ridge", z, z[:2])
    with pytest.raises(DataError, match="N ≥ 1"):
        fit("ridge", z[:0], z[:0])
    with pytest.raises(DataError, match="not finite"):
        fit("ridge", z, np.full_like(z, np.nan))


def test_composition_applies_bridges_in_sequence() -> None:
    z = vectors(30, 6)
    one, other = fit("ridge", z, moved(z)), fit("mlp", z, moved(z, 7))
    narrow = fit("procrustes", z, vectors(30, 4, 9))
    chain = compose(compose(one, compose()), other, narrow)
    assert chain.kind == "chain"
    np.testing.assert_array_equal(chain(z), narrow(other(one(z))))
    np.testing.assert_array_equal(compose(compose(one, other), narrow)(z), compose(one, compose(other, narrow))(z))
    assert compose(one) is one
    assert compose(fit("identity", z, z)).kind == "identity"


def test_more_than_ten_steps_keep_their_order() -> None:
    steps = [Bridge("mean_shift", {"bias": np.eye(12, dtype=np.float32)[number]}) for number in range(12)]
    z = vectors(3, 12)
    expected = z
    for step in steps:
        expected = step(expected)
    np.testing.assert_array_equal(compose(*steps)(z), expected)


@settings(max_examples=60)
@given(
    dim=st.integers(1, 6),
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([0.0, 1e-30, 1e-12, 1.0, 1e12]),
    kind=st.sampled_from(["weight", "bias", "mlp", "chain"]),
)
def test_mapped_rows_have_length_one(dim: int, seed: int, scale: float, kind: str) -> None:
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> NDArray[np.float32]:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    hidden = {"hidden.weight": numbers(3, dim), "hidden.bias": numbers(3)}
    mlp = {**hidden, "out.weight": numbers(dim, 3), "out.bias": numbers(dim)}
    made = {"weight": {"weight": numbers(dim, dim)}, "bias": {"bias": numbers(dim)}, "mlp": mlp}
    bridge = compose(*(Bridge(name, made[name]) for name in made)) if kind == "chain" else Bridge(kind, made[kind])
    carried = bridge(vectors(5, dim, seed))
    np.testing.assert_allclose(np.linalg.norm(carried.astype(np.float64), axis=1), 1, atol=2e-6)
    assert np.array_equal(compose()(carried), carried)


def test_what_is_saved_is_read_to_the_bit(tmp_path: Path) -> None:
    z = vectors(30, 6)
    chain = compose(fit("ridge", z, moved(z)), fit("mlp", z, moved(z, 3)))
    kept = {"to_parent": chain, "from_parent": compose(), "other": fit("mean_shift", z, moved(z))}
    save(tmp_path / "bridges.safetensors", kept)
    back = load(tmp_path / "bridges.safetensors")
    assert {name: bridge.kind for name, bridge in back.items()} == {name: each.kind for name, each in kept.items()}
    for name, bridge in kept.items():
        assert np.array_equal(back[name](z), bridge(z))
        assert all(np.array_equal(back[name].tensors[key], value) for key, value in bridge.tensors.items())


def test_a_damaged_file_names_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "bridges.safetensors"
    z = vectors(5, 4)
    save(path, {"to_parent": fit("ridge", z, moved(z))})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"bridges.safetensors: damaged.*copy of the catalogue"):
        load(path)
    with pytest.raises(CheckpointError, match="copy of the catalogue"):
        load(tmp_path / "none.safetensors")


def test_learned_maps() -> None:
    z = vectors(9, 5)
    linear, residual = torch.nn.Linear(5, 5), Residual(5)
    for module in (linear, residual):
        tensors = {f"bridge.{name}": value for name, value in module.state_dict().items()}
        bridge = learned({**tensors, "memory.means": torch.zeros(2, 5)})
        assert bridge is not None
        expected = torch.nn.functional.normalize(module(torch.from_numpy(z)), dim=1).detach().numpy()
        np.testing.assert_allclose(bridge(z), expected, atol=1e-6)
    rotation = learned({"bridge.weight": torch.eye(5), "bridge.correlation": torch.eye(5)})
    assert rotation is not None
    assert set(rotation.tensors) == {"weight"}
    assert learned({"memory.means": torch.zeros(2, 5)}) is None
