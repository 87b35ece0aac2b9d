from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import tiny
from scrubjay.components import averaging
from scrubjay.components.averaging import average, keep_share
from scrubjay.errors import ConfigError
from scrubjay.methods import MethodOptions
from scrubjay.models.embedder import Network
from scrubjay.types import Batch


def two_networks() -> tuple[Network, Network]:
    network = tiny.learner().network
    network.head.grow(3)
    teacher = copy.deepcopy(network)
    network.head.grow(5)
    torch.manual_seed(1)
    with torch.no_grad():
        for value in (*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())):
            value.add_(torch.randn_like(value))
    return network, teacher


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_every_weight_is_between_old_and_new(share: float) -> None:
    network, teacher = two_networks()
    new, old = tiny.weights(network), tiny.weights(teacher)
    average(network, teacher, share)
    assert tiny.same(tiny.weights(teacher), old)
    for name, found in network.state_dict().items():
        if not found.is_floating_point():
            assert torch.equal(found, new[name])
        elif name.startswith("head."):
            torch.testing.assert_close(found[:3], share * new[name][:3] + (1 - share) * old[name])
            assert torch.equal(found[3:], new[name][3:])
        else:
            torch.testing.assert_close(found, share * new[name] + (1 - share) * old[name])
    if share == 1:
        assert tiny.same(tiny.weights(network), new)


def test_what_did_not_change_keeps_its_bits() -> None:
    network = tiny.learner().network
    before = tiny.weights(network)
    average(network, copy.deepcopy(network), 0.37)
    assert tiny.same(tiny.weights(network), before)


def share_by_loops(z_o: Tensor, z_n: Tensor, temperature: float) -> float:
    def row(z: Tensor, i: int) -> list[float]:
        scores = [math.exp(float(z[i] @ z[j]) / temperature) for j in range(len(z))]
        return [score / sum(scores) for score in scores]

    changed = [sum(abs(new - old) for new, old in zip(row(z_n, i), row(z_o, i), strict=True)) for i in range(len(z_o))]
    return 1 - sum(changed) / len(changed)


def units(number: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(number, 4, generator=generator, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_share_by_loops(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    z_o, z_n = units(7, 0), torch.nn.functional.normalize(units(7, 0) + 0.2 * units(7, 1), dim=1)
    expected = share_by_loops(z_o, z_n, temperature)
    assert 0 < expected < 0.99
    for cuts in ([7], [3, 4], [1] * 7):
        for rows in (3, 100):
            monkeypatch.setattr(averaging, "ROWS", rows)
            parts = zip(z_o.split(cuts), z_n.split(cuts), strict=True)
            assert math.isclose(keep_share(parts, temperature), expected, abs_tol=1e-5)


def test_the_share_at_its_ends() -> None:
    z = units(5, 0)
    assert keep_share([]) == 1
    assert keep_share([(z, z)]) == 1
    assert keep_share([(z[:1], -z[:1])]) == 1, "an image alone has all of its affinity before and after"
    near, far = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    assert keep_share([(near, far)]) == pytest.approx(0)
    assert keep_share([(torch.ones(3, 2), torch.eye(3)[:, :2])], 1e-3) >= 0
    assert 0 <= keep_share([(z.half(), units(5, 1).half())]) <= 1


@pytest.mark.parametrize("chosen", [0.25, "lstkc"])
def test_any_method_averages_after_a_session(chosen: float | str, tmp_path: Path) -> None:
    first, second = tiny.two_sessions(tmp_path)
    learner = tiny.learner("finetune", average=chosen).eval()
    assert learner.uses_teacher
    learner.begin(first)
    learner.begin(second)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learner.network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    batches = [tiny.batch(second.train[:5]), tiny.batch(second.train[5:])]

    def images() -> Iterator[Batch]:
        yield from batches

    before = copy.deepcopy(learner.network)
    learner.end(second, images)
    with torch.no_grad():
        measured = keep_share((learner.teacher(b.images)[0], before(b.images)[0]) for b in batches)
    assert measured < 1
    average(before, learner.teacher, measured if chosen == "lstkc" else 0.25)
    assert tiny.same(tiny.weights(learner.network), tiny.weights(before))


def test_nothing_is_averaged_in_the_initial_session_or_without_being_asked(tmp_path: Path) -> None:
    first, _ = tiny.two_sessions(tmp_path)
    for share in (0.5, 1.0):
        learner = tiny.learner("finetune", average=share)
        assert learner.uses_teacher is (share != 1)
        learner.begin(first)
        with torch.no_grad():
            learner.network.embedder.projection.weight.add_(1)
        before = tiny.weights(learner.network)
        learner.end(first, lambda: iter(()))
        assert tiny.same(tiny.weights(learner.network), before)


@pytest.mark.parametrize("wrong", [0, 1.5, "ltskc", -0.1])
def test_a_share_out_of_range_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match="average"):
        MethodOptions.parse({"average": wrong})
    with pytest.raises(ValidationError):
        MethodOptions.model_validate({"average": wrong})
