"""Every metric loss against its formula, written out as loops over numbers."""

from __future__ import annotations

import math

import pytest
from loss_loops import LABELS, NEW, Z_N, B, D, Y, dist2, dot, draw, negatives, positives, same

from scrubjay.losses.metric.contrastive import contrastive
from scrubjay.losses.metric.multi_similarity import multi_similarity
from scrubjay.losses.metric.proxy_anchor import proxy_anchor
from scrubjay.losses.metric.supcon import supcon
from scrubjay.losses.metric.triplet import triplet


def test_triplet_hard() -> None:
    total = 0.0
    for i in range(B):
        if positives(i) and negatives(i):
            hardest = min(dot(NEW[i], NEW[j]) for j in positives(i))
            total += max(0.0, 0.3 + max(dot(NEW[i], NEW[j]) for j in negatives(i)) - hardest)
    assert total > 0
    same(triplet(Z_N, LABELS, 0.3), total / B)


def test_triplet_semi_hard() -> None:
    total = 0.0
    for i in range(B):
        for p in positives(i):
            s_p = dot(NEW[i], NEW[p])
            behind = [s for s in (dot(NEW[i], NEW[n]) for n in negatives(i)) if s < s_p]
            if behind:
                total += max(0.0, 0.8 + max(behind) - s_p) / len(positives(i))
    assert total > 0
    same(triplet(Z_N, LABELS, 0.8, "semi-hard"), total / B)


def test_contrastive() -> None:
    kinds = {True: [0.0, 0], False: [0.0, 0]}
    for i in range(B):
        for j in range(B):
            if i != j:
                d = math.sqrt(dist2(NEW[i], NEW[j]))
                kinds[Y[i] == Y[j]][0] += 0.5 * (d * d if Y[i] == Y[j] else max(0, 1.2 - d) ** 2)
                kinds[Y[i] == Y[j]][1] += 1
    same(contrastive(Z_N, LABELS, 1.2), sum(total / number for total, number in kinds.values()))


@pytest.mark.parametrize("epsilon", [0.1, None])
def test_multi_similarity(epsilon: float | None) -> None:
    total = 0.0
    for i in range(B):
        P, N_i = positives(i), negatives(i)
        if epsilon is not None:
            high = max(dot(NEW[i], NEW[n]) for n in N_i)
            low = min((dot(NEW[i], NEW[p]) for p in P), default=math.inf)
            P = [p for p in P if dot(NEW[i], NEW[p]) < high + epsilon]
            N_i = [n for n in N_i if dot(NEW[i], NEW[n]) > low - epsilon]
        total += math.log(1 + sum(math.exp(-2 * (dot(NEW[i], NEW[p]) - 0.5)) for p in P)) / 2
        total += math.log(1 + sum(math.exp(50 * (dot(NEW[i], NEW[n]) - 0.5)) for n in N_i)) / 50
    same(multi_similarity(Z_N, LABELS, epsilon=epsilon), total / B)


def test_supcon() -> None:
    total = 0.0
    for i in range(B):
        among = sum(math.exp(dot(NEW[i], NEW[a]) / 0.1) for a in range(B) if a != i)
        for p in positives(i):
            total -= math.log(math.exp(dot(NEW[i], NEW[p]) / 0.1) / among) / len(positives(i))
    same(supcon(Z_N, LABELS), total / B)


def test_proxy_anchor() -> None:
    proxies = draw(6, D, seed=3)
    pull, push = 0.0, 0.0
    for c, w in enumerate(proxies.tolist()):
        s = [dot(w, z) / math.sqrt(dot(w, w)) for z in NEW]
        pull += math.log(1 + sum(math.exp(-32 * (s[i] - 0.1)) for i in range(B) if Y[i] == c))
        push += math.log(1 + sum(math.exp(32 * (s[i] + 0.1)) for i in range(B) if Y[i] != c))
    same(proxy_anchor(Z_N, LABELS, proxies), pull / len(set(Y)) + push / 6)
