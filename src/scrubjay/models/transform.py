"""Fixed transforms of trunk features before the projection, for methods in closed form that are not linear in them.

root:  sign(φ)·√|φ| / ‖√|φ|‖        Tukey's ladder of powers with exponent 1/2 (FeCAM: Goswami et al., NeurIPS 2023);
                                    the sign is this project's own, since means of feature maps can be negative
relu:  max(W φ, 0)                  W_ij ~ N(0, 1/p) (RanPAC: McDonnell et al., NeurIPS 2023)
gelu:  GELU(W φ/‖φ‖)                W_ij ~ N(0, 1) (AnaCP: Momeni et al., NeurIPS 2025)

W is drawn from a fixed seed, and not stored.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["none", "root", "relu", "gelu"]


class Transform(nn.Module):
    """Maps trunk features (B, p) to features (B, q).

    Attributes:
        inputs: p.
        outputs: q.
    """

    weight: Tensor

    def __init__(self, kind: Kind, features: int, random_features: int) -> None:
        """Draw the random directions, where there are any.

        Args:
            kind: see the module.
            features: p.
            random_features: q of "relu" and "gelu"; with the other kinds q = p.
        """
        super().__init__()
        self.kind = kind
        self.inputs = self.outputs = features
        if kind in ("relu", "gelu"):
            self.outputs = random_features
            weight = _normal(random_features, features) / (features**0.5 if kind == "relu" else 1.0)
            self.register_buffer("weight", torch.from_numpy(weight.astype(np.float32)), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, p) → (B, q)."""
        if self.kind == "root":
            roots = features.sign() * features.abs().clamp_min(torch.finfo(torch.float32).tiny).sqrt()
            return F.normalize(roots, dim=1)
        if self.kind == "relu":
            return F.relu(F.linear(features, self.weight))
        if self.kind == "gelu":
            return F.gelu(F.linear(F.normalize(features, dim=1), self.weight))
        return features


def _normal(rows: int, columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Standard normal values (rows, columns), the same on every machine and with every version of NumPy.

    `RandomState` is NumPy's frozen generator; the streams of torch and of NumPy's newer generators may change.
    """
    return np.random.RandomState(0).standard_normal((rows, columns))
