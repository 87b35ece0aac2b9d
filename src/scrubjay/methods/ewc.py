"""Elastic weight consolidation: a quadratic penalty weighted by the diagonal Fisher (Kirkpatrick et al., PNAS 2017).

L = L_ce + L_triplet + (λ/2) Σ_i F_i (θ_i − θ*_i)²

θ* are the embedder's parameters after the last session, F the diagonal of the Fisher information of the classifier
over the classes of a session, F_i = E_x E_{y ~ p(y|x)} (∂ log p(y|x)/∂θ_i)², or with the true label of x in place of
y ("empirical"). At the end of a later session F ← a·F + (1 − a)·F_session. The head is not penalised: its old rows get
no gradient from new classes. FACIL: λ = 5000, a = 0.5; PyCIL: λ = 1000, F clipped at 1e-4. Keeps P·4 bytes: F, for P
trained parameters of the embedder; while a session lasts as much again, θ*.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import AliasChoices, Field
from torch import Tensor

from scrubjay.components.importance import SampledImportance
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network
from scrubjay.types import Session

Fisher = Literal["sampled", "expected", "empirical"]


class EWCOptions(MethodOptions):
    """Options of elastic weight consolidation."""

    weight: float = Field(5000.0, ge=0)
    """λ: the penalty is λ/2 times the weighted sum of squares."""
    mix: float = Field(0.5, ge=0, le=1)
    """a: share of the previous F in the mix with the F of a new session."""
    fisher: Fisher = "sampled"
    """Labels that F is computed with: "sampled" draws one per image from the network's softmax, "expected" takes all,
    weighted by it (one backward pass per class), "empirical" takes the true one."""
    clip: float | None = Field(None, gt=0)
    """Upper bound on F; None: no bound."""
    images: int = Field(500, ge=1, validation_alias=AliasChoices("images", "pictures"))
    """Largest number of images of a session that F is computed from, one forward pass each."""


class EWC(SampledImportance, Method):
    """Fine-tuning + (λ/2) Σ F (θ − θ*)²."""

    term = "ewc"
    stored_as = "fisher"
    Options = EWCOptions
    options: EWCOptions

    @property
    def factor(self) -> float:
        """λ/2."""
        return self.options.weight / 2

    def values(self, samples: Iterator[tuple[Tensor, int]], session: Session) -> Iterator[tuple[float, Tensor]]:
        """Log-likelihoods of the labels that the option `fisher` selects."""
        return log_likelihoods(self.network, samples, session, self.options.fisher)

    def measure(self, gradient: Tensor) -> Tensor:
        """Square of the gradient."""
        return torch.square(gradient)

    def merge(self, new: Tensor, old: Tensor | None) -> Tensor:
        """F, clipped and mixed with the previous F."""
        clipped = new if self.options.clip is None else new.clamp_max(self.options.clip)
        return clipped if old is None else clipped.lerp(old, self.options.mix)


def log_likelihoods(
    network: Network, samples: Iterator[tuple[Tensor, int]], session: Session, fisher: Fisher
) -> Iterator[tuple[float, Tensor]]:
    """Weight and log p(y|x) over the classes of the session, for the labels y that `fisher` selects.

    Args:
        network: gives p.
        samples: images one at a time (1, …), with their true labels.
        session: its classes are the ones that p is normalised over.
        fisher: "sampled": one y per image, weight 1, the same draws in every run; "expected": all y, weight p(y|x);
            "empirical": the true label, weight 1.
    """
    generator = torch.Generator().manual_seed(session.index)
    for image, label in samples:
        log_p = network(image)[1][0, session.first_label :].float().log_softmax(0)
        p = log_p.detach().exp().cpu()
        if fisher == "expected":
            yield from zip(p.tolist(), log_p, strict=True)
        else:
            drawn = int(torch.multinomial(p, 1, generator=generator))
            yield 1.0, log_p[label - session.first_label if fisher == "empirical" else drawn]
