"""Methods: what is added to the objective, or done before and after a session, so that old classes are not forgotten.

One file a method. A method is three verbs: `begin` (grow, freeze, snapshot), `loss` (the paper's formula as named
terms) and `end` (statistics, importances, bridges).
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from scrubjay import plugins
from scrubjay.config import Config
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.losses.triplet import triplet
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class MethodOptions(Config):
    """What all methods share: how new classes are learned."""

    margin: float = Field(0.2, ge=0)
    """λ of the triplet loss, in units of cosine similarity."""
    mining: Literal["hard", "semi-hard"] = "hard"
    """Which negatives the triplet loss takes from the batch."""


class Method(nn.Module):
    """Base of all methods.

    Everything that must survive an interruption is a parameter, buffer or submodule that exists from construction
    on, so that a `state_dict` has the same keys at every step. The optimizer sees all parameters of the method.

    Attributes:
        network: the one being trained.
        teacher: the frozen network of the previous session, for methods that ask for one with `uses_teacher`.
        first_label: number of classes learned before this session.
    """

    Options: ClassVar[type[MethodOptions]] = MethodOptions
    needs_old_images: ClassVar[bool] = False
    uses_teacher: ClassVar[bool] = False
    teacher: Network

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__()
        self.options = self.Options() if options is None else options
        self.network = network
        self.first_label = 0
        if self.uses_teacher:
            self.teacher = copy.deepcopy(network).requires_grad_(False)

    def begin(self, session: Session) -> None:
        """Before a session: keep the teacher, make room for the new classes."""
        self.first_label = session.first_label
        if self.uses_teacher:
            self.teacher.load_state_dict(self.network.state_dict())
            self.teacher.requires_grad_(False)
        self.network.head.grow(session.first_label + len(session.classes))

    def loss(self, batch: Batch) -> Losses:
        """The objective on a batch of the session's pictures, as named and weighted terms."""
        z, logits = self.network(batch.images)
        return self.plasticity(z, logits, batch.labels)

    def end(self, session: Session) -> None:
        """After a session."""

    def plasticity(self, z: Tensor, logits: Tensor, labels: Tensor) -> Losses:
        """What learns the new classes: cross entropy over their logits, and the triplet loss."""
        first = 0 if self.needs_old_images else self.first_label
        return Losses(
            ce=cross_entropy(logits, labels, first),
            triplet=triplet(z, labels, self.options.margin, self.options.mining),
        )

    @torch.no_grad()
    def recall(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's embeddings (B, d) and old logits (B, n) of the same augmented pictures."""
        z, logits = self.teacher(images)
        return z, logits

    @property
    def has_past(self) -> bool:
        """Whether there is anything to forget: False in the initial session."""
        return self.first_label > 0

    def train(self, mode: bool = True) -> Method:
        """As in torch, but the teacher stays in evaluation mode."""
        super().train(mode)
        if self.uses_teacher:
            self.teacher.eval()
        return self

    def forward(self, batch: Batch) -> Losses:
        """`loss`, under the name that wrappers for precision and data parallelism call."""
        return self.loss(batch)


def method(name: str) -> type[Method]:
    """The method in the file `name`.

    Raises:
        ConfigError: there is none; the known ones are listed.
    """
    return plugins.load("methods", name, Method)
