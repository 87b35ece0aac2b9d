"""Backward-compatible training: distillation through the frozen old classifier (Shen et al., CVPR 2020).

L = L_ce + L_triplet + w·L_bct

L_bct = −(1/B) Σ_i Σ_{k≤n} softmax(h_o(z_o,i)/T)_k log softmax(h_o(z_n,i)/T)_k, h_o the frozen head of the previous
network. Shen, Xiong, Xia, Soatto: Towards Backward-Compatible Representation Learning, CVPR 2020. There the target is
the true class of images that the old head knows (w = 1, no temperature); a batch without images of old classes has
no such label, so the target is the old head's output for the old embedding. Unlike in `lwf` the head is frozen, so that
only the embeddings can reduce the loss. Keeps one copy of the previous network while a session lasts, 0 bytes
between sessions.
"""

from pydantic import Field

from scrubjay.losses.distillation import distillation
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses


class BCTOptions(MethodOptions):
    """Options of backward-compatible training."""

    weight: float = Field(1.0, ge=0)
    """w: factor on L_bct."""
    temperature: float = Field(1.0, gt=0)
    """T of both softmaxes."""


class BCT(Method):
    """Fine-tuning + w·L_bct."""

    Options = BCTOptions
    uses_teacher = True
    options: BCTOptions

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on distillation through the old head."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            _, l_o = self.teacher_outputs(batch.images)
            under_old_head = self.teacher.head(z_n)
            losses["bct"] = self.options.weight * distillation(l_o, under_old_head, self.options.temperature)
        return losses
