"""The metric of the empirical feature matrix, against itself written as loops."""

from __future__ import annotations

import torch
from loss_loops import NEW, OLD, Z_N, Z_O, B, D, draw, same, softmax

from scrubjay.losses.elastic import elastic, feature_matrix

C = 3
LOGITS, WEIGHT = draw(B, C, seed=3), draw(C, D, seed=4)
E = feature_matrix(LOGITS, WEIGHT)


def test_the_feature_matrix_is_the_mean_fisher_information() -> None:
    """E_y~p [∂log p_y/∂z (∂log p_y/∂z)ᵀ], the definition, with ∂log p_y/∂z = W_y − Σ_k p_k W_k."""
    W = WEIGHT.tolist()
    expected = [[0.0] * D for _ in range(D)]
    for logits in LOGITS.tolist():
        p = softmax(logits)
        mean = [sum(p[k] * W[k][a] for k in range(C)) for a in range(D)]
        for y in range(C):
            g = [W[y][a] - mean[a] for a in range(D)]
            for a in range(D):
                for b in range(D):
                    expected[a][b] += p[y] * g[a] * g[b] / B
    torch.testing.assert_close(E, torch.tensor(expected, dtype=torch.float64))
    assert torch.linalg.eigvalsh(E).min() > -1e-12


def test_it_is_what_the_answers_lose_by_a_small_step() -> None:
    z, step = draw(1, D, seed=5), 1e-3 * draw(1, D, seed=6)
    log_p, log_q = (x @ WEIGHT.T for x in (z, z + step))
    log_p, log_q = log_p.log_softmax(1), log_q.log_softmax(1)
    lost = float((log_p.exp() * (log_p - log_q)).sum())
    matrix = feature_matrix(z @ WEIGHT.T, WEIGHT)
    torch.testing.assert_close(0.5 * float(step @ matrix @ step.T), lost, rtol=1e-2, atol=0)


def test_elastic_is_the_quadratic_form() -> None:
    total = 0.0
    for old, new in zip(OLD, NEW, strict=True):
        step = [n - o for n, o in zip(new, old, strict=True)]
        total += sum(step[a] * (float(E[a, b]) + 0.05 * (a == b)) * step[b] for a in range(D) for b in range(D))
    same(elastic(Z_O, Z_N, E, 0.05), total / B)


def test_gradient_and_degenerate_points() -> None:
    z = Z_N.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z_n: elastic(Z_O, z_n, E, 0.05), (z,))
    still = Z_O.clone().requires_grad_()
    loss = elastic(Z_O, still, E)
    loss.backward()
    assert loss == 0
    assert still.grad is not None
    assert (still.grad == 0).all()
    assert elastic(Z_O[:0], Z_N[:0], E) == 0
    assert (feature_matrix(LOGITS[:0], WEIGHT) == 0).all()
    assert (feature_matrix(LOGITS[:, :1], WEIGHT[:1]) == 0).all(), "one class is no choice"
    torch.testing.assert_close(elastic(Z_O, Z_N, 0 * E, 1.0), (Z_N - Z_O).square().sum(1).mean())


def test_half_precision_is_computed_in_single() -> None:
    narrow = elastic(Z_O.half(), Z_N.half(), E.half(), 0.05)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(float(narrow), float(elastic(Z_O, Z_N, E, 0.05)), rtol=1e-2, atol=1e-3)
