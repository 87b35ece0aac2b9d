"""Output distillation by Kullback–Leibler divergence from the previous classifier's soft labels.

L = L_ce + L_triplet + w·(1/B) Σ_i KL(p_i ‖ p'_i)    (times T² if `rescale`)

p and p' are the softmax at temperature T over the n old logits of the frozen and of the trained network (Hinton et al.,
Distilling the Knowledge in a Neural Network, 2015). It has the same gradient as `lwf` for the same weight and T, and is
0 where the outputs have not changed. T = 2 is usual; with T² the size of the gradient hardly depends on T. T divides
logits that are already scaled by s = network.logit_scale (16 by default), so that T = 2 acts like T = 2/16 on unscaled
logits W z + b; `logit_scale = 1` distils those. Keeps one copy of the previous network while a session lasts, 0 bytes
between sessions.
"""

from pydantic import Field

from scrubjay.losses.kl import kl
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses


class KLOptions(MethodOptions):
    """Options of output distillation."""

    weight: float = Field(1.0, ge=0)
    """w: factor on the divergence."""
    temperature: float = Field(2.0, gt=0)
    """T of both softmaxes."""
    logit_scale: float | None = Field(None, gt=0)
    """Scale s of the logits s·(W z + b) that are distilled; None: network.logit_scale, 1: unscaled logits."""
    rescale: bool = False
    """Multiply the divergence by T², so that the size of the gradient hardly depends on T."""


class KL(Method):
    """Fine-tuning + w·KL(p ‖ p')."""

    Options = KLOptions
    uses_teacher = True
    options: KLOptions

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on the divergence."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            _, l_o = self.teacher_outputs(batch.images)
            o = self.options
            old, new = (self.old_logits(logits, o.logit_scale) for logits in (l_o, l_n))
            losses["kl"] = o.weight * kl(old, new, o.temperature, o.rescale)
        return losses
