"""The discriminator D of adversarial alignment: an MLP that classifies embeddings as new or old."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 256
NEW, OLD = 0, 1
"""Columns of the output."""


class Discriminator(nn.Module):
    """Linear layers with BatchNorm, ReLU and dropout between them, after AdvBCT (Pan et al., CVPR 2023).

    Both kinds of embeddings are passed as one batch: in separate batches BatchNorm would remove the difference of
    their means, the most obvious one.

    Args:
        dim: d of the embeddings.
        layers: number of linear layers, at least 2.
        dropout: dropout rate.
    """

    def __init__(self, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        stack: list[nn.Module] = []
        for width in (dim, *[WIDTH] * (layers - 2)):
            stack += [nn.Linear(width, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(dropout)]
        self.stack = nn.Sequential(*stack, nn.Linear(WIDTH, 2))

    def reset(self) -> None:
        """Initialise all parameters, with torch's global generator."""
        for layer in self.stack:
            if isinstance(layer, nn.Linear | nn.BatchNorm1d):
                layer.reset_parameters()

    def forward(self, z_n: Tensor, z_o: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, d) by the trained and by the frozen network → log-probabilities (B, 2) for each."""
        log_D: Tensor = self.stack(torch.cat([z_n, z_o])).float().log_softmax(1)
        return log_D[: len(z_n)], log_D[len(z_n) :]


@torch.no_grad()
def accuracy(log_D_n: Tensor, log_D_o: Tensor) -> float:
    """Share of embeddings that D classifies correctly; 0.5 is chance."""
    correct = (log_D_n.argmax(1) == NEW).sum() + (log_D_o.argmax(1) == OLD).sum()
    return float(correct) / max(len(log_D_n) + len(log_D_o), 1)
