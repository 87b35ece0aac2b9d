from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scrubjay.errors import ConfigError
from scrubjay.losses._linalg import eigh, square_root, svd
from scrubjay.losses.projection import procrustes


def sparse_moments(size: int, seed: int, rank: int = 54) -> Tensor:
    """Second moments as a relu and a margin of zeros give them: many rows of zeros, few non-zero eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rank, size, generator=generator).clamp_min(0)
    x = x * (torch.rand(size, generator=generator) < 0.05)
    return x.T @ x / rank


MATRICES = {
    # of these two, LAPACK's divide and conquer in MKL 2024.2 reports that it did not converge
    "rank-deficient, seed 2": sparse_moments(256, 2),
    "rank-deficient, seed 8": sparse_moments(256, 8),
    "zero": torch.zeros(5, 5),
    "identity": torch.eye(64),
    "tiny": 1e-30 * sparse_moments(64, 0),
    "one direction": torch.ones(100, 100),
    "one number": torch.full((1, 1), 3.0),
}


def refuse(*_: object, **__: object) -> None:
    raise torch.linalg.LinAlgError("failed to converge")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", MATRICES)
def test_eigenvectors_rebuild_the_matrix(name: str, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    M = MATRICES[name].double()
    if fails:
        monkeypatch.setattr(torch.linalg, "eigh", refuse)
    values, vectors = eigh(torch.stack([M, 2 * M]).float(), name)
    assert (values.diff(dim=1) >= 0).all()
    for matrix, value, vector in zip((M, 2 * M), values, vectors, strict=True):
        torch.testing.assert_close(vector * value @ vector.T, matrix, rtol=1e-6, atol=1e-6 * float(M.max()))
        torch.testing.assert_close(vector.T @ vector, torch.eye(len(M), dtype=torch.float64))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", MATRICES)
def test_singular_vectors_rebuild_the_matrix(name: str, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    M = MATRICES[name]
    if fails:
        monkeypatch.setattr(torch.linalg, "svd", refuse)
    U, S, Vh = svd(M, name)
    assert {U.dtype, S.dtype, Vh.dtype} == {M.dtype}
    torch.testing.assert_close(U * S @ Vh, M, rtol=1e-3, atol=1e-5 * float(M.max()))


def test_a_rotation_from_a_rank_deficient_correlation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.linalg, "svd", refuse)
    R = procrustes(torch.eye(256), sparse_moments(256, 2))
    torch.testing.assert_close(R.T @ R, torch.eye(256), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MATRICES)
def test_a_root_times_itself_is_the_matrix(name: str) -> None:
    M = MATRICES[name].double()
    indefinite = M - 1e-9 * M.trace() * torch.eye(len(M), dtype=torch.float64)
    for matrix in (M, indefinite, torch.stack([M, indefinite, M + torch.eye(len(M))])):
        R = square_root(matrix, name)
        torch.testing.assert_close(R @ R.mT, matrix, rtol=1e-6, atol=1e-7 * max(float(M.trace()), 1e-30))


@pytest.mark.parametrize("decompose", [eigh, svd, square_root])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_named(decompose, value: float) -> None:  # type: ignore[no-untyped-def]
    M = torch.eye(3)
    M[1, 1] = value
    with pytest.raises(ConfigError, match=rf"moments of 'conv1' contains {value}: .*Lower training\.lr"):
        decompose(M, "moments of 'conv1'")
