"""Learning without forgetting: distillation of the previous classifier's soft labels (Li & Hoiem, ECCV 2016).

L = L_ce + L_triplet + α·L_dist

L_dist = −(1/B) Σ_i Σ_{k≤n} p_k log p'_k, p and p' the softmax at temperature T over the n old logits of the frozen
and of the trained network. Weights in other code: 1 (FACIL), 3 (PyCIL), 10 (ADC, LDC); T = 2. T divides logits that are
already scaled by s = network.logit_scale (16 by default), so that T = 2 acts like T = 2/16 on unscaled logits W z + b;
`logit_scale = 1` distils those. Keeps one copy of the previous network while a session lasts, nothing between sessions.
"""

from pydantic import Field

from scrubjay.losses.distillation import distillation
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses


class LwFOptions(MethodOptions):
    """Options of learning without forgetting."""

    alpha: float = Field(1.0, ge=0)
    """Weight of the distillation."""
    temperature: float = Field(2.0, gt=0)
    """T of both softmaxes."""
    logit_scale: float | None = Field(None, gt=0)
    """Scale s of the logits s·(W z + b) that are distilled; None: network.logit_scale, 1: unscaled logits."""


class LwF(Method):
    """Fine-tuning + α·L_dist."""

    Options = LwFOptions
    uses_teacher = True
    options: LwFOptions

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on distillation."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            _, l_o = self.teacher_outputs(batch.images)
            o = self.options
            old, new = (self.old_logits(logits, o.logit_scale) for logits in (l_o, l_n))
            losses["dist"] = o.alpha * distillation(old, new, o.temperature)
        return losses
