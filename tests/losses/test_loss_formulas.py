"""Every loss against its formula, written out as loops over numbers."""

from __future__ import annotations

import math

import pytest
import torch
from loss_loops import (
    LABELS,
    NEW,
    OLD,
    Z_N,
    Z_O,
    B,
    D,
    Y,
    dist2,
    divergence,
    dot,
    draw,
    negatives,
    positives,
    same,
    softmax,
    unit,
)

from scrubjay.losses.adversarial import adversarial, deception
from scrubjay.losses.affinity import affinity
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.losses.distillation import distillation
from scrubjay.losses.drift import drift
from scrubjay.losses.fecd import fecd
from scrubjay.losses.gradient_reversal import gradient_reversal, reversal_coefficient
from scrubjay.losses.info_nce import info_nce
from scrubjay.losses.kl import kl
from scrubjay.losses.l2 import cosine, l2
from scrubjay.losses.layerwise import pod, squares
from scrubjay.losses.projection import procrustes, projection
from scrubjay.losses.quadratic import asymmetric, quadratic
from scrubjay.losses.simplex import simplex


@pytest.mark.parametrize("first", [0, 2])
def test_cross_entropy(first: int) -> None:
    logits, labels = draw(5, 6), torch.tensor([2, 5, 3, 3, 4])
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total -= math.log(softmax(row[first:])[label - first])
    same(cross_entropy(logits, labels, first), total / 5)


def test_cross_entropy_leaves_old_columns_alone() -> None:
    logits = draw(5, 6).requires_grad_()
    cross_entropy(logits, torch.full((5,), 4), first=3).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :3].any()
    assert logits.grad[:, 3:].all()


@pytest.mark.parametrize(("label", "first"), [(6, 7), (0, 100), (106, 7)])  # −100 would be torch's ignore_index
def test_cross_entropy_refuses_a_label_outside(label: int, first: int) -> None:
    with pytest.raises(RuntimeError, match="index"):
        cross_entropy(draw(1, 106), torch.tensor([label]), first)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("rescale", [False, True])
def test_distillation_and_kl(temperature: float, rescale: bool) -> None:
    old, new = draw(5, 3, seed=1), draw(5, 3, seed=2)
    cross, total = 0.0, 0.0
    for l_o, l_n in zip(old.tolist(), new.tolist(), strict=True):
        p, q = softmax([v / temperature for v in l_o]), softmax([v / temperature for v in l_n])
        cross -= sum(a * math.log(b) for a, b in zip(p, q, strict=True))
        total += divergence(p, q)
    same(distillation(old, new, temperature), cross / 5)
    same(kl(old, new, temperature, rescale), total / 5 * (temperature**2 if rescale else 1))


def test_l2_and_cosine() -> None:
    same(l2(Z_O, Z_N), sum(dist2(a, b) for a, b in zip(OLD, NEW, strict=True)) / B)
    same(cosine(Z_O, Z_N), sum(1 - dot(a, b) for a, b in zip(OLD, NEW, strict=True)) / B)
    same(l2(Z_O, Z_N), 2 * cosine(Z_O, Z_N).item())


def test_fecd() -> None:
    total = 0.0
    for i in range(B):
        p = softmax([dot(OLD[i], OLD[j]) / 4 for j in range(B)])
        total += divergence(p, softmax([dot(NEW[i], NEW[j]) / 4 for j in range(B)]))
    same(fecd(Z_O, Z_N), 16 * total / B)


def affinities(z: list[list[float]]) -> list[list[float]]:
    return [softmax([dot(a, b) / 0.5 for b in z]) for a in z]


@pytest.mark.parametrize("seed", range(4))
def test_affinity(seed: int) -> None:
    z_o, z_n = unit(B, D, seed=10 + seed), unit(B, D, seed=20 + seed)
    A_o, A_n = affinities(z_o.tolist()), affinities(z_n.tolist())
    total, kinds, corrected = 0.0, set(), []
    for i in range(B):
        h = [max(A[i][n] for n in negatives(i)) for A in (A_o, A_n)]
        e = [min((A[i][p] for p in positives(i)), default=math.inf) for A in (A_o, A_n)]
        target = []
        for j in range(B):
            if i == j:
                right = [True, True]
            elif Y[i] == Y[j]:
                right = [A_o[i][j] > h[0], A_n[i][j] > h[1]]
            else:
                right = [A_o[i][j] <= e[0], A_n[i][j] <= e[1]]
            kinds.add((Y[i] == Y[j], *right))
            corrected_value = max(h) if Y[i] == Y[j] else min(e)
            target.append(A_o[i][j] if right[0] else A_n[i][j] if right[1] else corrected_value)
        corrected.append([t / sum(target) for t in target])
        total += divergence(corrected[i], A_n[i])
    assert {(True, False, False), (False, False, False), (False, False, True)} <= kinds
    loss = affinity(z_o, z_n.requires_grad_(), LABELS, 0.5)
    same(loss, total / B)
    # of −Σ t log softmax, with t a constant, by the logits
    G = (torch.tensor(A_n) - torch.tensor(corrected)).double() / B
    torch.testing.assert_close(torch.autograd.grad(loss, z_n)[0], (G + G.T) @ z_n.detach() / 0.5, rtol=1e-5, atol=1e-6)


def test_adversarial() -> None:
    log_o, log_n = draw(5, 2, seed=1).log_softmax(1), draw(5, 2, seed=2).log_softmax(1)
    old, new = log_o.tolist(), log_n.tolist()
    same(adversarial(log_o, log_n), -sum(o[1] for o in old) / 5 - sum(n[0] for n in new) / 5)
    same(deception(log_n), -sum(n[1] for n in new) / 5)


def test_gradient_reversal() -> None:
    x = draw(3, 2).requires_grad_()
    y = gradient_reversal(x, 0.3)
    assert torch.equal(y, x)
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), x)
    torch.testing.assert_close(gradient, -0.3 * 3 * x.square())
    assert reversal_coefficient(0) == 0
    assert reversal_coefficient(0.2) == pytest.approx(math.tanh(1))  # 2/(1 + e^−2x) − 1 = tanh x


def test_projection() -> None:
    squared = [dist2(a, b) for a, b in zip(OLD, NEW, strict=True)]
    same(projection(Z_O, Z_N), sum(squared) / B)
    same(projection(Z_O, Z_N, squared=False), sum(map(math.sqrt, squared)) / B / math.sqrt(D))


def test_procrustes() -> None:
    Q = torch.linalg.qr(draw(D, D)).Q
    torch.testing.assert_close(procrustes(Z_N, Z_N @ Q), Q)
    R = procrustes(Z_N, Z_O)
    torch.testing.assert_close(R.T @ R, torch.eye(D, dtype=torch.float64))
    best = (Z_N @ R - Z_O).square().sum()
    for seed in range(50):
        near = torch.linalg.qr(R + 0.1 * draw(D, D, seed=seed)).Q
        near = near * (near * R).sum(0).sign()  # QR leaves the sign of each column open
        assert (Z_N @ near - Z_O).square().sum() >= best
    alone = procrustes(Z_N[:1], Z_O[:1])
    torch.testing.assert_close(Z_N[:1] @ alone, Z_O[:1])


def test_layerwise() -> None:
    maps = draw(2, 3, 4, 5, seed=1), draw(2, 3, 4, 5, seed=2)
    total, plain = 0.0, 0.0
    for i in range(2):
        pooled = []
        for A in (maps[0][i].tolist(), maps[1][i].tolist()):
            rows = [sum(A[c][h][w] ** 2 for w in range(5)) for c in range(3) for h in range(4)]
            columns = [sum(A[c][h][w] ** 2 for h in range(4)) for c in range(3) for w in range(5)]
            norm = math.sqrt(sum(v * v for v in rows + columns))
            pooled.append([v / norm for v in rows + columns])
        total += math.sqrt(dist2(*pooled))
        plain += dist2(maps[0][i].flatten().tolist(), maps[1][i].flatten().tolist())
    same(pod(*maps), total / 2)
    same(squares(*maps), plain / 2)


def test_drift() -> None:
    stored, expected = unit(3, D, seed=5), []
    for mu in stored.tolist():
        w = [math.exp(-dist2(z, mu) / (2 * 0.3**2)) for z in OLD]
        expected.append([sum(w[i] * (NEW[i][j] - OLD[i][j]) for i in range(B)) / sum(w) for j in range(D)])
    torch.testing.assert_close(drift(Z_O, Z_N, stored, 0.3), torch.tensor(expected, dtype=torch.float64))


def test_drift_far_away_is_that_of_the_nearest_and_of_nothing_is_0() -> None:
    far = 1000 * Z_O[2:3].float()
    torch.testing.assert_close(drift(Z_O.float(), Z_N.float(), far, 0.01), (Z_N - Z_O)[2:3].float())
    assert not drift(Z_O[:0], Z_N[:0], Z_O).any()


@pytest.mark.parametrize("d", [1, 2, 7, 64])
def test_simplex(d: int) -> None:
    v = simplex(d)
    gram = torch.full((d + 1, d + 1), -1 / d).fill_diagonal_(1)
    torch.testing.assert_close(v @ v.T, gram, atol=1e-6, rtol=0)
    torch.testing.assert_close(v.sum(0), torch.zeros(d), atol=1e-5, rtol=0)


def test_info_nce() -> None:
    total = 0.0
    for i in range(B):
        among = sum(math.exp(10 * dot(NEW[i], OLD[j])) for j in [i, *negatives(i)])
        total -= math.log(math.exp(10 * dot(NEW[i], OLD[i])) / among)
    same(info_nce(Z_O, Z_N, LABELS), total / B)


def test_quadratic() -> None:
    theta, anchor, importance = draw(2, 3, seed=1), draw(2, 3, seed=2), draw(2, 3, seed=3).abs()
    flat = zip(importance.flatten().tolist(), theta.flatten().tolist(), anchor.flatten().tolist(), strict=True)
    same(quadratic(theta, anchor, importance), sum(f * (t - a) ** 2 for f, t, a in flat))


def test_asymmetric() -> None:
    theta, anchor, previous = torch.tensor([1.0, 1.0, -1.0, 0.0]), torch.zeros(4), torch.tensor([2.0, -2.0, -1.0, 1.0])
    omega = torch.tensor([3.0, 3.0, 5.0, 7.0])
    same(asymmetric(theta, anchor, omega, previous, a=2, epsilon=0.5), 3 + (2 * 3 + 0.5) + 5 + 0)
