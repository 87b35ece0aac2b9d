"""Methods: what is added to the objective, or done before and after a session, so that old classes are not forgotten.

One file a method. A method is three verbs: `begin` (grow, freeze, snapshot), `loss` (the paper's formula as named
terms) and `end` (statistics, importances, bridges).
"""

from __future__ import annotations

import copy
import logging
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scrubjay import plugins
from scrubjay.components.averaging import average, keep_share
from scrubjay.components.drift import Drift, update_memory
from scrubjay.components.memory import Memory
from scrubjay.components.metric import Metric
from scrubjay.components.verbs import Pass as Pass
from scrubjay.components.verbs import Verbs
from scrubjay.config import Config
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session

logger = logging.getLogger(__name__)


class MethodOptions(Config):
    """What all methods share: how new classes are learned, and what is done after any of them."""

    metric: str = "triplet"
    """Metric loss beside the cross entropy: triplet, contrastive, proxy-anchor, multi-similarity, supcon, none, or
    pml:NAME for any other of pytorch-metric-learning."""
    metric_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the metric loss, by the names of its function or class."""
    metric_weight: float = Field(1.0, ge=0)
    """Factor on the metric loss."""
    margin: float = Field(0.2, ge=0)
    """λ of the triplet loss, in units of cosine similarity."""
    mining: Literal["hard", "semi-hard"] = "hard"
    """Which negatives the triplet loss takes from the batch."""
    average: Annotated[float, Field(gt=0, le=1)] | Literal["lstkc"] = 1.0
    """Weight averaging after a session: the share a in a·θ_new + (1 − a)·θ_old; "lstkc": one minus the mean change of
    the affinities of the new images (Xu et al., AAAI 2024); 1: none."""
    drift: Drift = "none"
    """Keep class means, C·(d·4 + 8) bytes, and move them after every session with the drift seen on its images: sdc
    (CVPR 2020), ldc (ECCV 2024), ridge (that map in closed form), adc (CVPR 2024); none: what is stored stays."""


class Method(Verbs):
    """Base of all methods.

    Everything that must survive an interruption is a parameter, buffer or submodule that exists from construction
    on, so that a `state_dict` has the same keys at every step. The optimizer sees all parameters of the method.

    Attributes:
        network: the one being trained.
        teacher: the frozen network of the previous session, for methods that ask for one with `uses_teacher`, and
            where weights are averaged or stored vectors move.
        memory: what is kept of the classes as embeddings, where drift is compensated or the method replays them.
        metric: the metric loss; what it learns is of one session and made anew in the next.
        first_label: number of classes learned before this session.
        new_classes: number of classes that this session brings.
        progress: share of the session's steps that are done, 0 … 1; set by the loop before each step.
        figures: what `loss` found that is worth seeing but is no term: logged beside the terms, never summed.
        own_start: its initial session cannot be taken over from another method's run: it is learned in another way
            than that of plain fine-tuning, or watched while it is learned.
        has_memory: it protects only classes that were learned with it, by what it kept of them.
    """

    Options: ClassVar[type[MethodOptions]] = MethodOptions
    needs_old_images: ClassVar[bool] = False
    own_start: ClassVar[bool] = False
    has_memory: ClassVar[bool] = False
    uses_teacher: bool = False
    teacher: Network

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__()
        self.options = self.Options() if options is None else options
        self.network = network
        self.metric = Metric(self.options, network.options.dim)
        self.first_label = self.new_classes = 0
        self.progress = 0.0
        self.figures: dict[str, float] = {}
        self.memory = self.make_memory()
        self.uses_teacher = self.uses_teacher or self.options.average != 1 or self.options.drift != "none"
        if self.uses_teacher:
            self.teacher = copy.deepcopy(network).requires_grad_(False)

    def make_memory(self) -> Memory | None:
        """An empty memory of what the method keeps of its classes: their means where drift is compensated."""
        return None if self.options.drift == "none" else Memory(self.network.options.dim)

    def begin(self, session: Session) -> None:
        """Before a session: keep the teacher, make room for the new classes."""
        self.first_label, self.new_classes = session.first_label, len(session.classes)
        self.figures.clear()
        if self.uses_teacher:
            self.teacher.load_state_dict(self.network.state_dict())
            self.teacher.requires_grad_(False)
        self.network.head.grow(session.first_label + len(session.classes))
        self.metric.begin(session.labels.stop - self._first)
        lost = 0 if self.memory is None else self.first_label - len(self.memory.known)
        if lost:
            logger.warning("nothing is kept of %d of the old classes: they were learned without a memory.", lost)

    def loss(self, batch: Batch) -> Losses:
        """The objective on a batch of the session's images, as named and weighted terms."""
        z, logits = self.network(batch.images)
        return self.plasticity(z, logits, batch.labels)

    def end(self, session: Session, images: Pass) -> None:
        """After a session: averages the weights and moves what is stored, where that was asked for.

        A method's own statistics come after it.
        """
        if self.has_past and self.options.average != 1:
            share = self.options.average
            if share == "lstkc":
                share = keep_share(
                    (self.teacher_outputs(batch.images)[0], self.network(batch.images)[0]) for batch in images()
                )
            average(self.network, self.teacher, float(share))
        if self.memory is not None:
            teacher = self.teacher.embedder if self.has_past and self.uses_teacher else None
            update_memory(self.memory, self.options.drift, teacher, self.network.embedder, images)

    def plasticity(self, z: Tensor, logits: Tensor, labels: Tensor) -> Losses:
        """What learns the new classes: cross entropy over their logits, and the metric loss."""
        losses = Losses(ce=cross_entropy(logits, labels, self._first))
        if self.options.metric != "none":
            losses[self.metric.name] = self.options.metric_weight * self.metric(z, labels - self._first)
        return losses

    @property
    def _first(self) -> int:
        """The first label that the batches of this session hold."""
        return 0 if self.needs_old_images else self.first_label

    @torch.no_grad()
    def teacher_outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's embeddings (B, d) and old logits (B, n) of the same augmented images."""
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
