"""Pairwise feature distillation: squared or cosine distance of each new embedding to its old one.

L = L_ce + L_triplet + w·(1/B) Σ_i ‖z_n,i − z_o,i‖²    (form "squared"; "cosine": 1 − z_n·z_o, half of it)

Where `mmd` compares the distributions of old and new embeddings, this compares each image with itself. Keeps one copy
of the previous network while a session lasts, nothing between sessions.
"""

from typing import Literal

from pydantic import Field

from scrubjay.losses import l2
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses


class L2Options(MethodOptions):
    """Options of pairwise feature distillation."""

    weight: float = Field(10.0, ge=0)
    """w: factor on the mean distance."""
    form: Literal["squared", "cosine"] = "squared"
    """Distance of two embeddings: squared Euclidean, or one minus their cosine."""


class L2(Method):
    """Fine-tuning + w·mean‖z_n − z_o‖²."""

    Options = L2Options
    uses_teacher = True
    options: L2Options

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on the pairwise distance."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            z_o, _ = self.teacher_outputs(batch.images)
            distance = l2.l2 if self.options.form == "squared" else l2.cosine
            losses["l2"] = self.options.weight * distance(z_o, z_n)
        return losses
