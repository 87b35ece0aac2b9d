"""What is kept of the classes is what plain loops give."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from scrubjay.components.memory import Memory, covariance, drawn, herded

D = 5
Y = torch.tensor([3, 0, 3, 0, 0, 3, 1, 3])  # class 2 is never seen, class 1 once


def unit(size: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(size, D, generator=torch.Generator().manual_seed(seed)), dim=1)


def mean_by_loops(rows: list[list[float]]) -> list[float]:
    return [sum(row[k] for row in rows) / len(rows) for k in range(D)]


def covariance_by_loops(rows: list[list[float]]) -> list[list[float]]:
    mean = mean_by_loops(rows)
    return [
        [sum((r[a] - mean[a]) * (r[b] - mean[b]) for r in rows) / max(len(rows) - 1, 1) for b in range(D)]
        for a in range(D)
    ]


def rows_of(z: Tensor, label: int) -> list[list[float]]:
    return z[label == Y].double().tolist()


def test_means_and_counts_are_those_of_loops() -> None:
    z, memory = unit(len(Y)), Memory(D)
    memory.keep(z, Y)
    assert memory.counts.tolist() == [3, 1, 0, 4]
    assert memory.known.tolist() == [0, 1, 3]
    assert memory.means[2].tolist() == [0] * D
    for label in (0, 1, 3):
        torch.testing.assert_close(memory.means[label], torch.tensor(mean_by_loops(rows_of(z, label))))


def test_means_are_summed_in_double_precision() -> None:
    z = torch.full((3, D), 1e8)
    z[0], z[2] = 1.0, -1e8
    memory = Memory(D)
    memory.keep(z, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(memory.means[0], torch.full((D,), 1 / 3))


def test_a_covariance_of_each_class() -> None:
    z, memory = unit(len(Y)), Memory(D, "class")
    memory.keep(z, Y)
    assert memory.covariance.shape == (4, D, D)
    for label in (0, 1, 3):
        torch.testing.assert_close(memory.covariance[label], torch.tensor(covariance_by_loops(rows_of(z, label))))
    assert (memory.covariance[1] == 0).all(), "one image has no spread"


def test_a_shared_covariance_is_pooled_over_sessions() -> None:
    z, memory = unit(len(Y)), Memory(D, "shared")
    early = Y < 2
    memory.keep(z[early], Y[early])
    memory.keep(z[~early], Y[~early])
    expected = sum(n * torch.tensor(covariance_by_loops(rows_of(z, c))) for c, n in ((0, 3), (1, 1), (3, 4))) / 8
    torch.testing.assert_close(memory.covariance, expected)


def test_the_radius_is_the_root_of_the_mean_variance() -> None:
    z, memory = unit(len(Y)), Memory(D, "radius")
    early = Y < 2
    memory.keep(z[early], Y[early])
    memory.keep(z[~early], Y[~early])
    traces = [sum(covariance_by_loops(rows_of(z, label))[k][k] for k in range(D)) for label in (0, 1, 3)]
    assert float(memory.radius) == pytest.approx(math.sqrt(sum(traces) / 3 / D), rel=1e-5)


def test_herding_is_greedy() -> None:
    z = unit(7).double()
    rows, mean = z.tolist(), mean_by_loops(z.tolist())
    picked: list[int] = []
    for k in range(1, 5):
        ways = {}
        for i in set(range(7)) - set(picked):
            run = mean_by_loops([rows[j] for j in (*picked, i)])
            ways[i] = math.dist(mean, run)
        picked.append(min(ways, key=ways.__getitem__))
        assert len(picked) == k
    assert herded(z, 4) == picked
    assert sorted(herded(z, 99)) == list(range(7))


def test_herded_vectors_stand_for_their_class_better_than_any() -> None:
    z = unit(200)
    error = torch.linalg.vector_norm(z[herded(z, 10)].mean(0) - z.mean(0))
    others = [torch.linalg.vector_norm(z[drawn(200, 10, seed)].mean(0) - z.mean(0)) for seed in range(20)]
    assert error < min(others)


@pytest.mark.parametrize("choice", ["herding", "random"])
def test_a_budget_of_vectors_of_each_class(choice: str) -> None:
    z = unit(len(Y))
    memories = [Memory(D, budget=2, choice=choice) for _ in range(2)]  # type: ignore[arg-type]
    for memory in memories:
        memory.keep(z, Y)
        assert memory.labels.tolist() == [0, 0, 1, 3, 3]
        for vector, label in zip(memory.vectors, memory.labels, strict=True):
            assert (z[label == Y] == vector).all(1).any()
    assert torch.equal(memories[0].vectors, memories[1].vectors)


def test_a_class_that_is_kept_again_is_replaced() -> None:
    z, memory = unit(len(Y)), Memory(D, "class", budget=2)
    memory.keep(unit(len(Y), 1), Y)
    memory.keep(z[Y == 0], Y[Y == 0])
    assert memory.counts.tolist() == [3, 1, 0, 4]
    assert sorted(memory.labels.tolist()) == [0, 0, 1, 3, 3]
    torch.testing.assert_close(memory.means[0], torch.tensor(mean_by_loops(rows_of(z, 0))))
    torch.testing.assert_close(memory.means[3], torch.tensor(mean_by_loops(rows_of(unit(len(Y), 1), 3))))


def test_nothing_to_keep_changes_nothing() -> None:
    memory = Memory(D, "radius", budget=2)
    memory.keep(torch.zeros(0, D), torch.zeros(0, dtype=torch.int64))
    assert memory.counts.tolist() == []
    assert float(memory.radius) == 0


def test_moved_vectors_are_unit_and_moved_means_are_not() -> None:
    memory = Memory(D, budget=2)
    memory.keep(unit(len(Y)), Y)
    means, vectors = memory.means + 1, memory.vectors + 1
    memory.move(means, vectors)
    torch.testing.assert_close(memory.means[memory.known], means[memory.known])
    assert (memory.means[2] == 0).all(), "of class 2 nothing is known"
    torch.testing.assert_close(memory.vectors, normalize(vectors, dim=1))


@pytest.mark.parametrize("spread", ["none", "radius", "shared", "class"])
def test_state_keeps_its_keys_and_loads_into_a_fresh_one(spread: str) -> None:
    memory, fresh = (Memory(D, spread, budget=2) for _ in range(2))  # type: ignore[arg-type]
    keys = list(memory.state_dict())
    memory.keep(unit(len(Y)), Y)
    assert list(memory.state_dict()) == keys
    fresh.load_state_dict(memory.state_dict())
    assert all(torch.equal(fresh.state_dict()[key], value) for key, value in memory.state_dict().items())
    fresh.load_state_dict(Memory(D, spread, budget=2).state_dict())  # type: ignore[arg-type]
    assert len(fresh.counts) == len(fresh.labels) == 0


def test_loading_copies() -> None:
    memory, fresh = Memory(D), Memory(D)
    memory.keep(unit(len(Y)), Y)
    before = memory.means.clone()
    fresh.load_state_dict(memory.state_dict())
    fresh.means += 1
    assert torch.equal(memory.means, before)


def test_says_its_size() -> None:
    memory = Memory(D, "class", budget=2)
    assert memory.nbytes == 0
    memory.keep(unit(len(Y)), Y)
    assert memory.nbytes == 4 * (D * 4 + 8) + 4 * D * D * 4 + 5 * (D * 4 + 8)


def test_covariance_of_equal_vectors_is_zero() -> None:
    assert (covariance(unit(1).expand(4, D)) == 0).all()
