"""Old classes are replayed as embeddings, never as images (PASS, CVPR 2021; EFC, ICLR 2024).

L = L_ce + L_triplet + a·L_replay + b·L_triplet(z_n ∪ z̃) + w·(1/B) Σ_i ‖z_n,i − z_o,i‖² + e·L_elastic

z̃, as many as the batch has images, of old classes drawn evenly, and always brought to unit norm: head and triplet
know nothing but the sphere, and the mean of ‖μ_c + Σ_c^½ ε‖² is 1 anyhow.
"prototypes": z̃ = μ_c + r·ε, one radius r for all (PASS; in a memory as r² = mean of tr(Σ_c)/d).
"gaussian": z̃ = μ_c + Σ̂_c^½ ε, ε ~ N(0, I), Σ̂ = (1 − γ)Σ + γ·(tr Σ/d)·I, of each class or shared (EFC).
"vectors": z̃ is one of the embeddings that were kept of the class.

L_replay, over "all": cross entropy of new images and z̃ together over the logits of all classes. Over "old": of z̃
over the old logits alone, as in PASS (weight 10 there): it keeps the head's old rows, and since z̃ is a constant the
embedder gets no gradient from it. Hence "all", with a = 1, is what stands here unless set.
L_triplet(z_n ∪ z̃): the triplet loss of the batch with z̃ in it: old vectors are negatives of the new images, and
each other's positives. L_elastic: (z_n − z_o)ᵀ(E + εI)(z_n − z_o), E the empirical feature matrix of the session before
(`losses.elastic`; EFC: e = 10, ε = 0.01); off unless set, and w = 10 then better 0. Zhu et al., Prototype Augmentation
and Self-Supervision for Incremental Learning, CVPR 2021 (w = 10 too); Magistri et al., ICLR 2024. Without tuning: a,
b, w and γ are starts.

What is stored moves with the embedding (`drift`, here "sdc"); its spread stays. Keeps, in bytes: C·(d·4 + 8) of means
and counts; 4 for r, C·d²·4 or d²·4 for covariances, or C·budget·(d·4 + 8) for vectors; d²·4 for E where e > 0. One copy
of the previous network while a session lasts.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from scrubjay.components.drift import Drift
from scrubjay.components.memory import Choice, Memory
from scrubjay.losses._linalg import square_root
from scrubjay.losses._precision import full_precision
from scrubjay.losses.cross_entropy import cross_entropy
from scrubjay.losses.elastic import elastic, feature_matrix
from scrubjay.losses.l2 import l2
from scrubjay.losses.metric.triplet import triplet
from scrubjay.methods import Method, MethodOptions, Pass
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class FeatureReplayOptions(MethodOptions):
    """What is kept of the old classes, and what is asked of it."""

    drift: Drift = "sdc"
    """How stored vectors move after every session: none, sdc, ldc, ridge or adc."""
    mode: Literal["prototypes", "gaussian", "vectors"] = "prototypes"
    """Mean and radius, mean and covariance, or a budget of embeddings of each class."""
    covariance: Literal["class", "shared"] = "class"
    """In the mode "gaussian": one for each class, or one for all."""
    shrinkage: float = Field(0.1, ge=0, le=1)
    """γ: the part of a covariance that is replaced by the same variance in all directions."""
    budget: int = Field(20, ge=1)
    """In the mode "vectors": how many are kept of each class."""
    choice: Choice = "herding"
    """In the mode "vectors": which."""
    replay: float = Field(1.0, ge=0)
    """a, weight of the cross entropy."""
    over: Literal["all", "old"] = "all"
    """New images and replayed vectors over all logits, or replayed vectors over the old ones."""
    replay_triplet: float = Field(1.0, ge=0)
    """b, weight of the triplet loss with replayed vectors in the batch."""
    features: float = Field(10.0, ge=0)
    """w, weight of the squared distance to the old embeddings of the new images."""
    elastic: float = Field(0.0, ge=0)
    """e, weight of the distance in the metric of the empirical feature matrix."""
    epsilon: float = Field(0.01, ge=0)
    """ε, what every direction counts in it."""


class FeatureReplay(Method):
    """Fine-tuning + replayed embeddings of the old classes + feature distillation."""

    has_memory = True
    Options = FeatureReplayOptions
    uses_teacher = True
    options: FeatureReplayOptions
    memory: Memory
    feature_matrix: Tensor

    def __init__(self, network: Network, options: FeatureReplayOptions | None = None) -> None:
        super().__init__(network, options)
        self._roots: Tensor | None = None
        if self.options.elastic:
            dim = network.options.dim
            self.register_buffer("feature_matrix", torch.zeros(dim, dim))

    def make_memory(self) -> Memory:
        """Means, and what the mode needs beside them."""
        o, dim = self.options, self.network.options.dim
        if o.mode == "vectors":
            return Memory(dim, budget=o.budget, choice=o.choice)
        return Memory(dim, "radius" if o.mode == "prototypes" else o.covariance)

    def begin(self, session: Session) -> None:
        """As always; what was derived from the memory of before is dropped."""
        super().begin(session)
        self._roots = None

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, triplet, and all terms of a weight above 0 once there are old classes."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if not self.has_past:
            return losses
        o = self.options
        if len(self.memory.known):
            z, labels = self.draw(len(z_n))
            if o.replay:
                losses["replay"] = o.replay * self._replay(l_n, batch.labels, z, labels)
            if o.replay_triplet:
                both = torch.cat([z_n, z]), torch.cat([batch.labels, labels])
                losses["replay_triplet"] = o.replay_triplet * triplet(*both, o.margin, o.mining)
        if o.features or o.elastic:
            z_o, _ = self.teacher_outputs(batch.images)
            if o.features:
                losses["features"] = o.features * l2(z_o, z_n)
            if o.elastic:
                losses["elastic"] = o.elastic * elastic(z_o, z_n, self.feature_matrix, o.epsilon)
        return losses

    def end(self, session: Session, batches: Pass) -> None:
        """The memory's verbs, and the empirical feature matrix over the session's images."""
        super().end(session, batches)
        if self.options.elastic:
            self.feature_matrix.copy_(mean_feature_matrix(self.network, batches))

    @torch.no_grad()
    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Unit vectors (size, d) of old classes and their labels, from torch's generator of the CPU."""
        memory, mode = self.memory, self.options.mode
        if mode == "vectors":
            rows = torch.randint(len(memory.vectors), (size,)).to(memory.vectors.device)
            return memory.vectors[rows], memory.labels[rows]
        labels = memory.known[torch.randint(len(memory.known), (size,)).to(memory.means.device)]
        noise = torch.randn(size, memory.means.shape[1]).to(memory.means.device)
        if mode == "prototypes":
            return normalize(memory.means[labels] + memory.radius * noise, dim=1), labels
        if self._roots is None:
            self._roots = roots(memory.covariance, self.options.shrinkage)
        root = self._roots if self.options.covariance == "shared" else self._roots[labels]
        return spread(memory.means[labels], root, noise), labels

    def _replay(self, l_n: Tensor, new: Tensor, z: Tensor, old: Tensor) -> Tensor:
        replayed = self.network.head(z)
        if self.options.over == "old":
            return cross_entropy(replayed[:, : self.first_label], old)
        return cross_entropy(torch.cat([l_n, replayed]), torch.cat([new, old]))


@torch.no_grad()
def mean_feature_matrix(network: Network, batches: Pass) -> Tensor:
    """E (d, d) over a pass of images, with the answers over all classes so far."""
    weight = network.head.scale * network.head.weight
    total, images = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64), 0
    for batch in batches():
        _, logits = network(batch.images)
        total += len(logits) * feature_matrix(logits, weight).cpu().double()
        images += len(logits)
    return total / max(images, 1)


@full_precision
def spread(means: Tensor, root: Tensor, noise: Tensor) -> Tensor:
    """(μ + Σ^½ ε) / ‖μ + Σ^½ ε‖: means (B, d), roots (B, d, d) or (d, d), noise (B, d) → (B, d)."""
    return normalize(means + (root @ noise[:, :, None])[:, :, 0], dim=1)


@torch.no_grad()
def roots(covariance: Tensor, shrinkage: float) -> Tensor:
    """R with R Rᵀ = Σ̂ = (1 − γ)Σ + γ·(tr Σ/d)·I + 1e-6·(tr Σ/d)·I + 1e-12·I: the Cholesky factor where there is one.

    Args:
        covariance: (…, d, d) Σ.
        shrinkage: γ, 0 … 1.

    Returns:
        (…, d, d) of the same dtype; next to 0 for Σ = 0.
    """
    wide = covariance.cpu().double()
    level = wide.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    eye = torch.eye(wide.shape[-1], dtype=wide.dtype)
    shrunk = (1 - shrinkage) * wide + ((shrinkage + 1e-6) * level + 1e-12) * eye
    return square_root(shrunk, "the covariance of a class").to(covariance)
