"""Parameters stay where they were, weighed by the Fisher information (Kirkpatrick et al., PNAS 2017).

L = L_ce + L_triplet + (λ/2) Σ_i F_i (θ_i − θ*_i)²

θ* are the embedder's parameters after the last session, F the diagonal of the Fisher information of the classifier
over the classes of a session, F_i = E_x E_{y ~ p(y|x)} (∂ log p(y|x)/∂θ_i)², or with the true label of x in place of
y ("empirical"). At the end of a later session F ← a·F + (1 − a)·F_session. The head takes no part: its old rows get
no gradient from new classes. FACIL: λ = 5000, a = 0.5; PyCIL: λ = 1000, F clipped at 1e-4. Keeps P·4 bytes: F, for P
trained parameters of the embedder; while a session lasts as much again, θ*.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import AliasChoices, Field
from torch import Tensor

from scrubjay.components.importance import PerParameter, keep, mean_slope, names, one_by_one, penalty, trained
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session

Fisher = Literal["sampled", "expected", "empirical"]


class EWCOptions(MethodOptions):
    """Elastic weight consolidation."""

    weight: float = Field(5000.0, ge=0)
    """λ."""
    mix: float = Field(0.5, ge=0, le=1)
    """a: the share that the former F keeps."""
    fisher: Fisher = "sampled"
    """Labels of F: drawn from the network's own softmax, all of them weighed by it (a pass for each class), or true."""
    clip: float | None = Field(None, gt=0)
    """Largest F; none: as it is."""
    images: int = Field(500, ge=1, validation_alias=AliasChoices("images", "pictures"))
    """How many images of a session F is taken from, a pass for each."""


class EWC(Method):
    """Fine-tuning + (λ/2) Σ F (θ − θ*)²."""

    has_memory = True
    Options = EWCOptions
    options: EWCOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.anchor = PerParameter(names(network.embedder))
        self.fisher = PerParameter(names(network.embedder))

    def begin(self, session: Session) -> None:
        """Take down θ*."""
        super().begin(session)
        keep(self.anchor, trained(self.network.embedder))

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, triplet, and the penalty once there are old classes."""
        losses = super().loss(batch)
        if self.has_past:
            parameters = trained(self.network.embedder)
            losses["ewc"] = self.options.weight / 2 * penalty(parameters, self.anchor, self.fisher)
        return losses

    def end(self, session: Session, images: Pass) -> None:
        """F of this session, mixed with the former."""
        super().end(session, images)
        self.anchor.clear()
        self.eval()  # images come one by one, which BatchNorm could not take statistics of
        o, parameters = self.options, trained(self.network.embedder)
        shown = one_by_one(images(), self.network.embedder, len(session.train), o.images)
        values = log_likelihoods(self.network, shown, session, o.fisher)
        for name, F in mean_slope(values, parameters, torch.square).items():
            clipped = F if o.clip is None else F.clamp_max(o.clip)
            self.fisher[name] = clipped.lerp(self.fisher[name], o.mix) if name in self.fisher else clipped


def log_likelihoods(
    network: Network, images: Iterator[tuple[Tensor, int]], session: Session, fisher: Fisher
) -> Iterator[tuple[float, Tensor]]:
    """Weight and log p(y|x) over the classes of the session, for the labels y that `fisher` asks for.

    Args:
        network: p.
        images: one at a time (1, …), with the true label.
        session: its classes.
        fisher: "sampled": one y an image, weight 1, the same draws in every run; "expected": all y, weight p(y|x);
            "empirical": the true label, weight 1.
    """
    dice = torch.Generator().manual_seed(session.index)
    for image, label in images:
        log_p = network(image)[1][0, session.first_label :].float().log_softmax(0)
        p = log_p.detach().exp().cpu()
        if fisher == "expected":
            yield from zip(p.tolist(), log_p, strict=True)
        else:
            drawn = int(torch.multinomial(p, 1, generator=dice))
            yield 1.0, log_p[label - session.first_label if fisher == "empirical" else drawn]
