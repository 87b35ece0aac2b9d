"""Affinity distillation: similarities in the batch, corrected by the labels; then weight averaging (AAAI 2024).

L = L_ce + L_triplet + w·L_affinity

L_affinity = (1/B) Σ_i KL(Â_i ‖ A_n,i), A_n the softmax of each row of z_n z_nᵀ / T, Â that of the frozen network,
corrected where the labels contradict it. After the session θ ← a·θ_new + (1 − a)·θ_old with a = 1 − the mean change of
the affinities (`average = "lstkc"`). Xu et al., LSTKC: Long Short-Term Knowledge Consolidation for Lifelong Person
Re-Identification, AAAI 2024: w = 1, T = 0.1. Keeps one copy of the previous network while a session lasts, 0 bytes
between sessions.
"""

from typing import Annotated, Literal

from pydantic import Field

from scrubjay.losses.affinity import affinity
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses


class AffinityOptions(MethodOptions):
    """Options of affinity distillation."""

    weight: float = Field(1.0, ge=0)
    """w: factor on L_affinity."""
    temperature: float = Field(0.1, gt=0)
    """T of the softmax of the affinities."""
    average: Annotated[float, Field(gt=0, le=1)] | Literal["lstkc"] = "lstkc"
    """Weight averaging after a session: a fixed share a of the new weights; "lstkc" sets it to one minus the mean
    change of the affinities; 1 turns averaging off."""


class Affinity(Method):
    """Fine-tuning + w·L_affinity, then averaged weights."""

    Options = AffinityOptions
    uses_teacher = True
    options: AffinityOptions

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on the divergence from the corrected affinities."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            z_o, _ = self.teacher_outputs(batch.images)
            losses["affinity"] = self.options.weight * affinity(z_o, z_n, batch.labels, self.options.temperature)
        return losses
