"""Each kind against loops and closed forms; maps that are known are found; bridges are unit, compose, and are kept."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import tiny
from scrubjay.bridges import Bridge, compose, fit, learned, load, save
from scrubjay.errors import CheckpointError, ConfigError, DataError, SpaceError
from scrubjay.plugins import names

D = 6
KINDS = names("bridges")
Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def draw(*shape: int, seed: int = 0) -> Vectors:
    return unit(np.random.default_rng(seed).standard_normal(shape))


def rotation(dim: int = D, seed: int = 3) -> NDArray[np.float64]:
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return q


def cosines(one: Vectors, other: Vectors) -> NDArray[np.float64]:
    return np.einsum("ij,ij->i", one.astype(np.float64), other.astype(np.float64))


def descended(source: Vectors, target: Vectors, strength: float, steps: int = 800) -> NDArray[np.float64]:
    """argmin (1/N) Σ_i ‖A s_i − t_i‖² + λ ‖A − I‖² by plain gradient descent from zero."""
    A = np.zeros((target.shape[1], source.shape[1]))
    for _ in range(steps):
        gradient = strength * (A - np.eye(*A.shape))
        for s, t in zip(source.astype(np.float64), target.astype(np.float64), strict=True):
            gradient += np.outer(A @ s - t, s) / len(source)
        A -= 0.5 * gradient
    return A


def of_every_form(dim: int = D) -> dict[str, Bridge]:
    source = draw(40, dim)
    target = unit(source @ rotation(dim).T + 0.3)
    fitted = {kind: fit(kind, source, target) for kind in KINDS}
    return {**fitted, "chain": compose(*fitted.values())}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_that_both_networks_see_alike_stay_where_they_are(kind: str) -> None:
    vectors = draw(50, D)
    np.testing.assert_allclose(fit(kind, vectors, vectors)(vectors), vectors, atol=1e-5)


def test_the_identity_changes_no_bit() -> None:
    vectors = draw(50, D)
    assert np.array_equal(fit("identity", vectors, draw(50, D, seed=1))(vectors), vectors)


def test_a_mean_shift_is_the_mean_difference_by_loops() -> None:
    source, target = draw(30, D), draw(30, D, seed=1)
    shift = sum(t.astype(np.float64) - s for s, t in zip(source, target, strict=True)) / len(source)
    expected = [(s + shift) / np.linalg.norm(s + shift) for s in source]
    np.testing.assert_allclose(fit("mean_shift", source, target)(source), expected, atol=1e-6)


@pytest.mark.parametrize("dims", [(4, 4), (4, 3), (3, 4)])
def test_a_ridge_is_what_descent_finds(dims: tuple[int, int]) -> None:
    source, target = draw(8, dims[0]), draw(8, dims[1], seed=1)
    found = fit("ridge", source, target).tensors["weight"]
    np.testing.assert_allclose(found, descended(source, target, 1e-2), atol=1e-4)


@pytest.mark.parametrize("kind", ["procrustes", "ridge"])
def test_a_rotation_is_found(kind: str) -> None:
    source, q = draw(200, D), rotation()
    carried = fit(kind, source, unit(source @ q.T))(draw(20, D, seed=9))
    assert cosines(carried, unit(draw(20, D, seed=9) @ q.T)).min() > 0.98


@pytest.mark.parametrize("kind", ["ldc", "mlp"])
def test_steps_lead_towards_the_other_network(kind: str) -> None:
    source = draw(600, D)
    target = unit(source @ (np.eye(D) + 0.4 * rotation()).T)
    asked = draw(50, D, seed=9)
    truth = unit(asked @ (np.eye(D) + 0.4 * rotation()).T)
    before, after = cosines(asked, truth).mean(), cosines(fit(kind, source, target)(asked), truth).mean()
    assert 1 - after < 0.3 * (1 - before)


def test_a_rotation_keeps_all_distances() -> None:
    source, target = draw(30, D), draw(30, D, seed=1)
    R = fit("procrustes", source, target).tensors["weight"].astype(np.float64)
    np.testing.assert_allclose(R @ R.T, np.eye(D), atol=1e-5)


@pytest.mark.parametrize("kind", ["procrustes", "ridge"])
def test_directions_that_no_picture_shows_stay(kind: str) -> None:
    source, target = draw(20, D), draw(20, D, seed=1)
    source[:, 3:], target[:, 3:] = 0, 0
    hidden = np.eye(D, dtype=np.float32)[3:]
    np.testing.assert_allclose(fit(kind, unit(source), unit(target))(hidden), hidden, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pictures_give_the_same_bridge_and_leave_the_random_numbers_alone(kind: str) -> None:
    source, target = draw(60, D), draw(60, D, seed=1)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one = fit(kind, source, target)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(8)
    other = fit(kind, source, target)
    assert all(np.array_equal(one.tensors[key], other.tensors[key]) for key in one.tensors)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pictures", [1, 2, D - 2])
def test_few_pictures_are_enough(kind: str, pictures: int) -> None:
    carried = fit(kind, draw(pictures, D), draw(pictures, D, seed=1))(draw(9, D, seed=2))
    np.testing.assert_allclose(np.linalg.norm(carried, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [(D, 4), (4, D)])
def test_spaces_of_other_sizes(kind: str, dims: tuple[int, int]) -> None:
    source = draw(60, dims[0])
    target = unit(source @ np.random.default_rng(1).standard_normal(dims))
    if kind in ("identity", "mean_shift"):
        with pytest.raises(SpaceError, match=f"bridge {kind}: spaces of {dims[0]} and {dims[1]} dimensions"):
            fit(kind, source, target)
        return
    bridge = fit(kind, source, target)
    carried = bridge(source)
    assert carried.shape == target.shape
    assert carried.dtype == np.float32
    if kind != "ldc":  # which a few steps leave near its start
        lost = cosines(fit(kind, source, draw(60, dims[1], seed=5))(source), target).mean()
        assert cosines(carried, target).mean() > lost + 0.2


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(D)), elements=st.floats(-4, 4, width=32)))
def test_rows_that_come_out_have_length_1(vectors: Vectors) -> None:
    for name, bridge in FORMS.items():
        if name != "identity" or np.all(np.linalg.norm(vectors, axis=1) > 0):
            carried = bridge(vectors)
            assert carried.dtype == np.float32
            assert carried.shape == vectors.shape
            np.testing.assert_allclose(np.linalg.norm(carried.astype(np.float64), axis=1), 1, atol=1e-5)


FORMS = of_every_form()


@given(st.lists(st.sampled_from(sorted(FORMS)), max_size=4))
def test_a_chain_is_one_bridge_after_the_other(line: list[str]) -> None:
    expected = draw(8, D, seed=4)
    for name in line:
        expected = FORMS[name](expected)
    found = compose(*(FORMS[name] for name in line))(draw(8, D, seed=4))
    assert np.array_equal(found, expected)


def test_a_chain_leads_over_spaces_of_other_sizes() -> None:
    a, b, c = draw(40, 6), draw(40, 4, seed=1), draw(40, 5, seed=2)
    one, other = fit("ridge", a, b), fit("procrustes", b, c)
    assert np.array_equal(compose(one, compose(other))(a), other(one(a)))


def test_bridges_come_back_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "g1" / "bridges.safetensors"
    save(path, FORMS)
    found = load(path)
    assert {name: bridge.kind for name, bridge in found.items()} == {name: each.kind for name, each in FORMS.items()}
    asked = draw(20, D, seed=8)
    for name, bridge in FORMS.items():
        assert found[name].tensors.keys() == bridge.tensors.keys()
        assert all(np.array_equal(found[name].tensors[key], value) for key, value in bridge.tensors.items())
        assert np.array_equal(found[name](asked), bridge(asked))


def test_a_bridge_of_a_kind_that_is_not_here_is_read(tmp_path: Path) -> None:
    save(tmp_path / "b.safetensors", {"to_parent": Bridge("of_tomorrow", FORMS["ridge"].tensors)})
    found = load(tmp_path / "b.safetensors")["to_parent"]
    assert found.kind == "of_tomorrow"
    assert np.array_equal(found(draw(5, D)), FORMS["ridge"](draw(5, D)))


@pytest.mark.parametrize("damage", ["cut", "gone", "text"])
def test_a_damaged_file_is_said_with_the_cure(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bridges.safetensors"
    save(path, {"to_parent": FORMS["ridge"]})
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else b"no bridge")
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(path))}.*learn the generation again"):
        load(path)


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (draw(3, D), draw(4, D), "shapes"),
        (draw(0, D), draw(0, D), "N ≥ 1"),
        (draw(3, D)[0], draw(3, D), "shapes"),
        (np.full((3, D), np.nan, np.float32), draw(3, D), "not finite"),
    ],
)
def test_pictures_that_do_not_fit_are_said(source: Vectors, target: Vectors, said: str) -> None:
    with pytest.raises(DataError, match=f"bridge ridge.*{said}"):
        fit("ridge", source, target)


def test_an_unknown_kind_is_said() -> None:
    with pytest.raises(ConfigError, match=r"unknown bridge 'rigde'\. Did you mean 'ridge'"):
        fit("rigde", draw(3, D), draw(3, D))


@pytest.mark.parametrize("form", ["linear", "affine", "orthogonal", "mlp"])
def test_what_a_method_has_learned_is_a_bridge(form: str) -> None:
    learner = tiny.learner("projection", form=form)
    torch.manual_seed(3)
    with torch.no_grad():
        for value in learner.bridge.state_dict().values():
            value.copy_(torch.randn(value.shape) * 0.3)
    bridge = learned(learner.state_dict())
    assert bridge is not None
    z = draw(7, tiny.NETWORK.dim)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(learner.bridge(torch.from_numpy(z)), dim=1).numpy()
    np.testing.assert_allclose(bridge(z), expected, atol=1e-5)


def test_other_methods_have_learned_none() -> None:
    assert learned(tiny.learner("finetune").state_dict()) is None
