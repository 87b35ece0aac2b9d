"""Methods: what is added to the objective, or done before and after a session, so that old classes are not forgotten.

One file per method. A method is three verbs: `begin` (grow the head, freeze layers, copy the teacher), `loss` (the
paper's formula as named terms) and `end` (statistics, importances, bridges).
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
from scrubjay.models.transform import Kind
from scrubjay.types import Batch, Losses, Session

logger = logging.getLogger(__name__)


class MethodOptions(Config):
    """Options of every method: how new classes are learned, and what is done after a session."""

    ce_over: Literal["new", "all"] = "new"
    """Classes that the softmax of the cross entropy runs over: those of the session, or all so far. With "all" the
    head's rows of old classes get gradients too."""
    metric: str = "triplet"
    """Metric loss added to the cross entropy: triplet, contrastive, proxy-anchor, multi-similarity, supcon, none, or
    pml:NAME for any loss of pytorch-metric-learning."""
    metric_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the metric loss, by the parameter names of its function or class."""
    metric_weight: float = Field(1.0, ge=0)
    """Factor on the metric loss."""
    margin: float = Field(0.2, ge=0)
    """λ of the triplet loss, in units of cosine similarity."""
    mining: Literal["hard", "semi-hard"] = "hard"
    """Which negatives of the batch the triplet loss uses."""
    average: Annotated[float, Field(gt=0, le=1)] | Literal["lstkc"] = 1.0
    """Weight averaging after a session: the share a in a·θ_new + (1 − a)·θ_old; "lstkc" sets it to one minus the mean
    change of the affinities of the new images (Xu et al., AAAI 2024); 1 turns averaging off."""
    drift: Drift = "none"
    """Drift compensation: keep class means, C·(d·4 + 8) bytes, and move them after every session by the drift estimated
    on its images with sdc (CVPR 2020), ldc (ECCV 2024), ridge (the map of ldc in closed form) or adc (CVPR 2024); with
    none, stored vectors are not moved."""


class Method(Verbs):
    """Base of all methods.

    Everything that must survive an interruption is a parameter, buffer or submodule that exists from construction
    on, so that a `state_dict` has the same keys at every step. The optimizer updates all parameters of the method.

    Attributes:
        network: the network being trained.
        teacher: the frozen network of the previous session, for methods that request one with `uses_teacher`, and
            where weights are averaged or stored vectors are moved.
        memory: the stored embeddings of the classes, where drift is compensated or the method replays them.
        metric: the metric loss; its learned parameters are replaced in every session.
        first_label: number of classes learned before this session.
        new_classes: number of new classes in this session.
        progress: share of the session's steps that are done, 0 … 1; set by the loop before each step.
        figures: diagnostics of the last `loss` by name, logged beside the terms but never summed.
        own_start: whether the method needs an initial session of its own, instead of one shared with other methods:
            it trains that session differently from plain fine-tuning, or gathers statistics during it.
        has_memory: whether the method protects only classes that were learned with it, by statistics of them.
        default_features: `network.features` of runs and catalogues that do not set it.
        default_transform: `network.transform` of runs and catalogues that do not set it.
    """

    Options: ClassVar[type[MethodOptions]] = MethodOptions
    needs_old_images: ClassVar[bool] = False
    own_start: ClassVar[bool] = False
    has_memory: ClassVar[bool] = False
    default_features: ClassVar[Literal["last", "stages"]] = "last"
    default_transform: ClassVar[Kind] = "none"
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
        """An empty memory of the kind that the method needs; class means where drift is compensated, else None."""
        return None if self.options.drift == "none" else Memory(self.network.options.dim)

    def begin(self, session: Session) -> None:
        """Copy the network to the teacher, and add rows for the new classes to the head."""
        self.first_label, self.new_classes = session.first_label, len(session.classes)
        self.figures.clear()
        if self.uses_teacher:
            self.teacher.load_state_dict(self.network.state_dict())
            self.teacher.requires_grad_(False)
        self.network.head.grow(session.first_label + len(session.classes))
        self.metric.begin(session.labels.stop - self._first)
        missing = 0 if self.memory is None else self.first_label - len(self.memory.known)
        if missing:
            logger.warning("%d of the old classes have no stored statistics: they were learned without them.", missing)

    def loss(self, batch: Batch) -> Losses:
        """The objective on a batch of the session's images, as named and weighted terms."""
        z, logits = self.network(batch.images)
        return self.plasticity(z, logits, batch.labels)

    def end(self, session: Session, images: Pass) -> None:
        """Average the weights and update the memory, where the options say so.

        A method computes its own statistics after this.
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
        """The terms that learn the new classes: cross entropy and metric loss."""
        first = 0 if self.options.ce_over == "all" else self._first
        losses = Losses(ce=cross_entropy(logits, labels, first))
        if self.options.metric != "none":
            losses[self.metric.name] = self.options.metric_weight * self.metric(z, labels - self._first)
        return losses

    @property
    def _first(self) -> int:
        """The smallest label in the batches of this session."""
        return 0 if self.needs_old_images else self.first_label

    @torch.no_grad()
    def teacher_outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's embeddings (B, d) and logits of the n old classes (B, n), of the same augmented images."""
        z, logits = self.teacher(images)
        return z, logits

    def old_logits(self, logits: Tensor, scale: float | None) -> Tensor:
        """The logits of the n old classes (B, n), for distillation.

        Args:
            logits: (B, C) s·(W z + b) of the network or the teacher, s = network.logit_scale.
            scale: factor to take the place of s; None keeps s.
        """
        old = logits[:, : self.first_label]
        return old if scale is None else old * (scale / self.network.head.scale)

    @property
    def aligned_over_one_trunk(self) -> bool:
        """Whether its embeddings lie where those of the generation before lay, as long as the trunk is the same."""
        return False

    @property
    def has_past(self) -> bool:
        """Whether classes were learned before this session: False in the initial one."""
        return self.first_label > 0

    def train(self, mode: bool = True) -> Method:
        """As in torch, but the teacher stays in evaluation mode."""
        super().train(mode)
        if self.uses_teacher:
            self.teacher.eval()
        return self

    def forward(self, batch: Batch) -> Losses:
        """The same as `loss`, under the name that wrappers for precision and data parallelism call."""
        return self.loss(batch)


def method(name: str) -> type[Method]:
    """The class of the method in the file `name`.

    Raises:
        ConfigError: there is no such file; the known names are listed.
    """
    return plugins.load("methods", name, Method)
