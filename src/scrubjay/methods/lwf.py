"""Distillation alone: the old classifier's soft labels on new images (Li & Hoiem, ECCV 2016).

L = L_ce + L_triplet + α·L_dist

L_dist = −(1/B) Σ_i Σ_{k≤n} p_k log p'_k, p and p' the softmax at temperature T over the n old logits of the frozen
and of the trained network. Weights in use elsewhere: 1 (FACIL), 3 (PyCIL), 10 (ADC, LDC); T = 2. Keeps one copy of
the previous network while a session lasts, nothing between sessions.
"""

from pydantic import Field

from scrubjay.losses.distillation import distillation
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses


class LwFOptions(MethodOptions):
    """Learning without forgetting."""

    alpha: float = Field(1.0, ge=0)
    """Weight of the distillation."""
    temperature: float = Field(2.0, gt=0)
    """T of both softmaxes."""


class LwF(Method):
    """Fine-tuning + α·L_dist."""

    Options = LwFOptions
    uses_teacher = True
    options: LwFOptions

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, triplet, and distillation once there are old classes."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            _, l_o = self.teacher_outputs(batch.images)
            old = slice(0, self.first_label)
            losses["dist"] = self.options.alpha * distillation(l_o[:, old], l_n[:, old], self.options.temperature)
        return losses
