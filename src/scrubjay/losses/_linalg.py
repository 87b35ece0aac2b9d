"""Matrix decompositions that do not fail on rank-deficient matrices.

Second moments of activations often have many rows of exact zeros and far fewer non-zero eigenvalues than rows. LAPACK's
divide-and-conquer drivers, the only ones that torch calls on the CPU (`syevd`, `gesdd`), can stop on such a matrix with
"failed to converge" although it is finite. The older QR-iteration drivers (`syev`, `gesvd`) are slower and take it.
"""

from __future__ import annotations

import scipy.linalg
import torch
from torch import Tensor

from scrubjay.errors import ConfigError

_NotConverged: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]  # torch lists no exports


def eigh(M: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors of symmetric matrices, computed in float64.

    Args:
        M: (..., n, n), symmetric; the lower triangle is read.
        name: what M is, for the error message.

    Returns:
        float64 (..., n) eigenvalues and (..., n, n) eigenvectors, one a column.

    Raises:
        ConfigError: M contains NaN or infinity.
    """
    wide = _finite(M, name).double()
    try:
        values, vectors = torch.linalg.eigh(wide)
    except _NotConverged:
        n = wide.shape[-1]
        pairs = [scipy.linalg.eigh(matrix, driver="ev") for matrix in wide.reshape(-1, n, n).cpu().numpy()]
        values = torch.stack([torch.from_numpy(value) for value, _ in pairs]).reshape(wide.shape[:-1])
        vectors = torch.stack([torch.from_numpy(vector) for _, vector in pairs]).reshape(wide.shape)
    return values.to(wide.device), vectors.to(wide.device)


def svd(M: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Singular value decomposition M = U diag(S) Vᵀ in the dtype of M.

    Args:
        M: (n, m).
        name: what M is, for the error message.

    Returns:
        U (n, n), S (min(n, m),) descending, and Vᵀ (m, m).

    Raises:
        ConfigError: M contains NaN or infinity.
    """
    try:
        U, S, Vh = torch.linalg.svd(_finite(M, name))
    except _NotConverged:
        parts = scipy.linalg.svd(M.cpu().numpy(), lapack_driver="gesvd")
        U, S, Vh = (torch.from_numpy(part) for part in parts)
    return U.to(M), S.to(M), Vh.to(M)


def square_root(M: Tensor, name: str) -> Tensor:
    """A matrix R with R Rᵀ = M, for positive semidefinite M.

    It is the Cholesky factor where that exists. A matrix that rounding left with slightly negative eigenvalues has
    none; there R = V diag(√max(λ, 0)) from the eigendecomposition.

    Args:
        M: float64 (..., n, n), symmetric.
        name: what M is, for the error message.

    Raises:
        ConfigError: M contains NaN or infinity.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(_finite(M, name))
    if failed.any():
        values, vectors = eigh(M, name)
        from_values = vectors * values.clamp_min(0).sqrt()[..., None, :]
        factor = torch.where((failed > 0)[..., None, None], from_values, factor)
    return factor


def _finite(M: Tensor, name: str) -> Tensor:
    wrong = M[~torch.isfinite(M)]
    if len(wrong):
        raise ConfigError(
            f"{name} contains {wrong[0].item()}: the training has diverged. Lower training.lr, or set "
            'training.precision = "no" if it is "fp16".'
        )
    return M
