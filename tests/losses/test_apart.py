from __future__ import annotations

import pytest
import torch
from loss_loops import LABELS, NEW, Z_N, B, D, Y, dot, same, unit

from scrubjay.losses.apart import apart

STORED = unit(5, D, seed=9)


def test_by_loops() -> None:
    total = 0.0
    for i in range(B):
        nearest = max(dot(NEW[i], v) for v in STORED.tolist())
        farthest = min(dot(NEW[i], NEW[j]) for j in range(B) if Y[j] == Y[i])
        total += max(0.0, 0.3 + nearest - farthest)
    assert total > 0
    same(apart(Z_N, LABELS, STORED, 0.3), total / B)


def test_gradient() -> None:
    z = Z_N.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: apart(x, LABELS, STORED, 0.7), z)


@pytest.mark.parametrize(("size", "stored"), [(0, 5), (4, 0), (1, 5)])
def test_edges(size: int, stored: int) -> None:
    z = Z_N[:size].clone().requires_grad_()
    loss = apart(z, LABELS[:size], STORED[:stored])
    (slope,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()
    if size == 0 or stored == 0:
        assert loss == 0
        assert (slope == 0).all()


def test_half_precision_is_computed_in_float32() -> None:
    narrow = apart(Z_N.half(), LABELS, STORED.half(), 0.3)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), apart(Z_N, LABELS, STORED, 0.3), rtol=1e-2, atol=1e-2)
