"""Correlation distillation: matches the softmaxed rows of old and new similarity matrices (TMM 2022).

L = L_ce + L_triplet + w·L_fecd(z_o, z_n) + w·Σ_{s=1}^{t−1} L_fecd(ẑ_s, z_n)    (the sum only with `estimated`)

L_fecd(z, z') = (T²/B) Σ_i KL(softmax(S_i/T) ‖ softmax(S'_i/T)), S = z zᵀ, S' = z' z'ᵀ. Chen et al., Feature
Estimations Based Correlation Distillation for Incremental Image Retrieval, IEEE TMM 24 (2022): T = 4, w = 10.

In session t (the initial one is 0) the models older than the teacher are not available, and their embeddings are
estimated from the teacher's by random rescaling, without normalising them again: ẑ_1 = z_o + r ∘ z_o, r drawn uniformly
from [−0.0442811, 0.2230079] for every coordinate and batch. Formula and range are those of the authors' published code
for one step on CUB; there the term is computed and then left out of the sum. Neither code nor paper say how the range
was chosen, or how models two or more steps back are estimated. Here the rescaling is applied s times for the model s
steps before the teacher. Keeps one copy of the previous network while a session lasts, 0 bytes between sessions.
"""

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scrubjay.losses.fecd import fecd
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses, Session


class FECDOptions(MethodOptions):
    """Options of correlation distillation."""

    weight: float = Field(10.0, ge=0)
    """w: factor on each L_fecd."""
    temperature: float = Field(4.0, gt=0)
    """T of both softmaxes."""
    estimated: bool = False
    """Also distil from estimated embeddings of all models before the teacher."""
    rescaling: tuple[float, float] = (-0.0442811, 0.2230079)
    """Lower and upper end of the uniform distribution of r."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.rescaling[0] > self.rescaling[1]:
            raise ValueError(f"rescaling = {self.rescaling} has its ends swapped; write the smaller one first")
        return self


class FECD(Method):
    """Fine-tuning + w·L_fecd."""

    Options = FECDOptions
    uses_teacher = True
    options: FECDOptions
    older = 0
    """Number of models before the teacher."""

    def begin(self, session: Session) -> None:
        """Also count the models before the teacher."""
        super().begin(session)
        self.older = max(session.index - 1, 0)

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on the divergence of the correlations."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        o = self.options
        if self.has_past:
            z, _ = self.teacher_outputs(batch.images)
            losses["fecd"] = o.weight * fecd(z, z_n, o.temperature)
            if o.estimated and self.older:
                terms = []
                for _ in range(self.older):
                    z = rescaled(z, *o.rescaling)
                    terms.append(fecd(z, z_n, o.temperature))
                losses["fecd_estimated"] = o.weight * torch.stack(terms).sum()
        return losses


def rescaled(z: Tensor, low: float, high: float) -> Tensor:
    """Estimated embeddings by the model before the one that gave z: z + r ∘ z, r uniform in [low, high).

    Args:
        z: (B, d) embeddings.
        low: smallest r.
        high: largest r.

    Returns:
        (B, d). r is drawn from torch's CPU generator, whose state a checkpoint holds.
    """
    r = torch.empty(z.shape).uniform_(low, high).to(z)
    return z + r * z
