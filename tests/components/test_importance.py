from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import tiny
from scrubjay.components.importance import PerParameter, keep, mean_slope, names, one_by_one, penalty, trained
from scrubjay.components.path_integral import PathIntegral
from scrubjay.models.embedder import Embedder, Network
from scrubjay.types import Batch


def values(*names: str) -> PerParameter:
    return PerParameter(names)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_values_are_of_no_bytes_until_they_are_set_and_have_their_keys_from_the_start() -> None:
    kept = values("layer.0.weight", "power")
    keys = list(kept.state_dict())
    assert keys == ["layer/0/weight", "power"]
    assert sum(value.numel() for value in kept.state_dict().values()) == 0
    assert "power" not in kept
    kept["power"] = torch.tensor(3.0)
    kept["layer.0.weight"] = torch.ones(2, 3)
    assert "power" in kept
    assert list(kept.state_dict()) == keys
    kept.clear()
    assert "power" not in kept
    assert "layer.0.weight" not in kept


def test_values_are_copies_in_one_layout() -> None:
    kept, source = values("w"), torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    kept["w"] = source
    source.zero_()
    assert (kept["w"] == 1).all()
    assert kept["w"].is_contiguous()


@pytest.mark.parametrize("full", [True, False])
def test_values_load_whatever_is_empty(full: bool) -> None:
    stored, found = values("a", "b"), values("a", "b")
    stored["a"] = torch.arange(6.0).view(2, 3)
    if full:
        found["a"], found["b"] = torch.zeros(2, 3), torch.zeros(4)
    found.load_state_dict(stored.state_dict())
    assert torch.equal(found["a"], stored["a"])
    assert "b" not in found


def test_values_of_another_network_are_refused() -> None:
    stored, found = values("a"), values("a")
    stored["a"], found["a"] = torch.zeros(2), torch.zeros(3)
    with pytest.raises(RuntimeError, match="size mismatch"):
        found.load_state_dict(stored.state_dict())


def test_only_what_is_trained_takes_part() -> None:
    network = Network(tiny.NETWORK.model_copy(update={"frozen": "layer2"}))
    embedder = network.embedder
    every = names(embedder)
    assert "projection.weight" in every
    assert any(name.startswith("backbone.layer3") for name in every)
    assert not any(name.startswith(("backbone.layer1", "backbone.layer2", "backbone.conv1")) for name in every)
    assert list(trained(embedder)) == every
    network.freeze_batchnorm(True)
    assert names(embedder) == every
    left = set(every) - set(trained(embedder))
    assert left
    assert all(embedder.get_parameter(name).ndim == 1 for name in left)
    assert "backbone.layer3.0.bn1.weight" in left


def parameters(requires_grad: bool = True) -> dict[str, nn.Parameter]:
    return {"a": nn.Parameter(draw(2, 3, seed=1), requires_grad), "b": nn.Parameter(draw(4, seed=2), requires_grad)}


def test_penalty_is_the_weighted_square_by_loops() -> None:
    theta, anchor, importance = parameters(), values("a", "b"), values("a", "b")
    expected = 0.0
    for seed, (name, parameter) in enumerate(theta.items()):
        anchor[name], importance[name] = draw(*parameter.shape, seed=10 + seed), draw(*parameter.shape, seed=seed).abs()
        rows = (tensor.flatten().tolist() for tensor in (parameter, anchor[name], importance[name]))
        expected += sum(F * (t - s) ** 2 for t, s, F in zip(*rows, strict=True))
    assert penalty(theta, anchor, importance).item() == pytest.approx(expected, rel=1e-9)


def test_penalty_has_the_slope_of_the_formula() -> None:
    anchor, importance = values("a"), values("a")
    anchor["a"], importance["a"] = draw(2, 3), draw(2, 3, seed=3).abs()
    assert torch.autograd.gradcheck(
        lambda x: penalty({"a": x}, anchor, importance),  # type: ignore[dict-item]
        draw(2, 3, seed=1).requires_grad_(),
    )


def test_penalty_is_nothing_where_nothing_matters_or_nothing_moved() -> None:
    theta, anchor, importance = parameters(), values("a", "b"), values("a", "b")
    keep(anchor, theta)
    assert penalty(theta, anchor, importance) == 0
    assert penalty({}, anchor, importance) == 0
    importance["a"] = torch.ones(2, 3)
    unmoved = penalty(theta, anchor, importance)
    (slope,) = torch.autograd.grad(unmoved, theta["a"])
    assert unmoved == 0
    assert (slope == 0).all()


def embedder() -> Embedder:
    return Network(tiny.NETWORK).embedder


def batches(number: int, size: int) -> list[Batch]:
    positions = torch.arange(number)
    images = positions.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    return [
        Batch(images[start : start + size], positions[start : start + size], positions[start : start + size])
        for start in range(0, number, size)
    ]


@pytest.mark.parametrize(
    ("number", "limit", "expected"),
    [
        (10, 5, [0, 2, 4, 6, 8]),
        (10, 3, [0, 4, 7]),
        (4, 4, [0, 1, 2, 3]),
        (4, 99, [0, 1, 2, 3]),
        (5, 1, [0]),
        (0, 5, []),
    ],
)
def test_images_are_taken_evenly_from_all_batches(number: int, limit: int, expected: list[int]) -> None:
    shown = list(one_by_one(batches(number, 3), embedder(), number, limit))
    assert [label for _, label in shown] == expected
    for image, label in shown:
        torch.testing.assert_close(image, torch.full((1, 3, 4, 4), label / 255))


def test_mean_slope_is_a_loop_over_images() -> None:
    theta = {"w": nn.Parameter(draw(3, seed=1)), "unused": nn.Parameter(draw(2))}
    batches, weights = draw(4, 3, seed=2), [0.5, 1.0, 2.0, 0.25]
    terms = ((weight, (theta["w"] @ x).square()) for weight, x in zip(weights, batches, strict=True))
    found = mean_slope(terms, theta, torch.abs)
    w = theta["w"].tolist()
    for i in range(3):
        total = 0.0
        for weight, x in zip(weights, batches.tolist(), strict=True):
            total += weight * abs(2 * sum(p * q for p, q in zip(w, x, strict=True)) * x[i])
        assert found["w"][i].item() == pytest.approx(total / sum(weights), rel=1e-9)
    assert (found["unused"] == 0).all()
    assert mean_slope([], theta, torch.abs) == {}


def test_path_integral_is_the_sum_of_slope_times_way_by_loops() -> None:
    theta, path = parameters(), PathIntegral(["a", "b"])
    optimizer = torch.optim.Adam(theta.values(), lr=0.1)
    path.begin(theta)
    expected = {name: torch.zeros_like(parameter) for name, parameter in theta.items()}
    for step in range(5):
        path.advance(theta)
        if step == 3:
            path.advance(theta)  # as before a checkpoint: nothing is counted twice
        loss = sum((parameter - 1).pow(4).sum() for parameter in theta.values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        before = {name: parameter.detach().clone() for name, parameter in theta.items()}
        optimizer.step()
        for name, parameter in theta.items():
            expected[name] -= 4 * (before[name] - 1).pow(3) * (parameter.detach() - before[name])
    path.advance(theta)
    for name, parameter in theta.items():
        torch.testing.assert_close(path.total[name], expected[name])
        assert torch.equal(path.last[name], parameter.detach())
        assert (path.total[name] > 0).all(), "going down takes loss away"


def test_path_integral_leaves_out_the_pull_and_steps_that_were_skipped() -> None:
    theta, path = {"a": nn.Parameter(torch.tensor([1.0, 2.0]))}, PathIntegral(["a"])
    path.begin(theta)
    with torch.no_grad():
        theta["a"] += torch.tensor([0.5, 0.0])
    theta["a"].grad = torch.tensor([3.0, math.inf])
    path.advance(theta, lambda name, value: 2 * value)
    torch.testing.assert_close(path.total["a"], torch.tensor([-(3.0 - 2.0 * 1.0) * 0.5, 0.0]))


def test_path_integral_starts_anew_and_takes_no_bytes_between_sessions() -> None:
    theta, path = parameters(), PathIntegral(["a", "b"])
    path.begin(theta)
    for parameter in theta.values():
        parameter.grad = torch.ones_like(parameter)
        with torch.no_grad():
            parameter.add_(1)
    path.begin(theta)
    path.advance(theta)
    assert all((path.total[name] == 0).all() for name in theta)
    path.clear()
    path.advance(theta)
    assert sum(value.numel() for value in path.state_dict().values()) == 0


def test_a_path_is_cut_and_goes_on() -> None:
    theta, path = parameters(), PathIntegral(["a", "b"])
    path.begin(theta)
    with torch.no_grad():
        theta["a"] -= 1
    theta["a"].grad = torch.ones_like(theta["a"])
    path.advance(theta)
    other = PathIntegral(["a", "b"])
    other.load_state_dict(path.state_dict())
    other.advance(theta)
    assert torch.equal(other.total["a"], path.total["a"])
    assert (other.total["a"] == 1).all()
