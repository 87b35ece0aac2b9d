"""The outputs stay what they were: Kullback–Leibler divergence from the old classifier's soft labels.

L = L_ce + L_triplet + w·(1/B) Σ_i KL(p_i ‖ p'_i)    (times T², option)

p and p' are the softmax at temperature T over the n old logits of the frozen and of the trained network (Hinton et
al., Distilling the Knowledge in a Neural Network, 2015). It has the gradient of `lwf` for the same weight and T, and
is 0 where nothing has changed. T = 2 is usual; with T² the size of the gradient hardly depends on T. Keeps one copy of
the previous network while a session lasts, 0 bytes between sessions.
"""

from pydantic import Field

from scrubjay.losses.kl import kl
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses


class KLOptions(MethodOptions):
    """Distillation of the outputs by divergence."""

    weight: float = Field(1.0, ge=0)
    """w."""
    temperature: float = Field(2.0, gt=0)
    """T of both softmaxes."""
    rescale: bool = False
    """Multiply by T²."""


class KL(Method):
    """Fine-tuning + w·KL(p ‖ p')."""

    Options = KLOptions
    uses_teacher = True
    options: KLOptions

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, triplet, and the divergence once there are old classes."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            _, l_o = self.teacher_outputs(batch.images)
            o, old = self.options, slice(0, self.first_label)
            losses["kl"] = o.weight * kl(l_o[:, old], l_n[:, old], o.temperature, o.rescale)
        return losses
