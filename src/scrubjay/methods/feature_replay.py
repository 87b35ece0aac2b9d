"""Feature replay: old classes are replayed as stored embeddings, never as images (PASS, CVPR 2021; EFC, ICLR 2024).

L = L_ce + L_triplet + a·L_replay + b·L_triplet(z_n ∪ z̃) + w·(1/B) Σ_i ‖z_n,i − z_o,i‖² + e·L_elastic

z̃: as many vectors as the batch has images, of uniformly drawn old classes, always normalised: head and triplet loss
expect unit vectors, and the mean of ‖μ_c + Σ_c^½ ε‖² is 1 in any case.
"prototypes": z̃ = μ_c + r·ε, one radius r for all classes, r² = mean of tr(Σ_c)/d.
"gaussian": z̃ = μ_c + Σ̂_c^½ ε, ε ~ N(0, I), Σ̂ = (1 − γ)Σ + γ·(tr Σ/d)·I, per class or shared (EFC).
"vectors": z̃ is one of the stored embeddings of the class.

L_replay depends on the option `over`. "all": cross entropy of new images and z̃ together, over the logits of all
classes. "pass": cross entropy of z̃ alone over the logits of all classes, with the radius of the first session's
classes, as in the authors' code of PASS. "old": cross entropy of z̃ over the logits of the old classes. z̃ is a
constant, so that in the last two forms only the head gets a gradient from L_replay; hence "all", with a = 1, is the
default. All of PASS, but for its rotations of images and its unsquared distance of features: `over = "pass"`, `ce_over
= "all"`, `replay = 10`, `replay_triplet = 0`, `drift = "none"`, `metric = "none"` and w = 10. L_triplet(z_n ∪ z̃): the
triplet loss of the batch extended by z̃: old vectors are negatives of the new images, and each other's positives.
L_elastic: (z_n − z_o)ᵀ(E + εI)(z_n − z_o), E the empirical feature matrix of the session before (`losses.elastic`; EFC:
e = 10, ε = 0.01); off by default, and best used with w = 0. Zhu et al., Prototype Augmentation and Self-Supervision for
Incremental Learning, CVPR 2021; Magistri et al., ICLR 2024. a, b, w and γ have not been tuned.

What is stored moves with the embedding (`drift`, "sdc" by default); its spread stays. Keeps, in bytes: C·(d·4 + 8) of
means and counts; 4 for r, C·d²·4 or d²·4 for covariances, or C·budget·(d·4 + 8) for vectors; d²·4 for E where e > 0.
One copy of the previous network while a session lasts.
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
    """Options of feature replay."""

    drift: Drift = "sdc"
    """Drift compensation of stored vectors after every session: none, sdc, ldc, ridge or adc."""
    mode: Literal["prototypes", "gaussian", "vectors"] = "prototypes"
    """What is stored per class: mean and radius, mean and covariance, or a budget of embeddings."""
    covariance: Literal["class", "shared"] = "class"
    """In mode "gaussian": one covariance per class, or one shared by all."""
    shrinkage: float = Field(0.1, ge=0, le=1)
    """γ: shrinkage of a covariance towards the same variance in all directions, in mode "gaussian"."""
    budget: int = Field(20, ge=1)
    """In mode "vectors": embeddings stored per class."""
    choice: Choice = "herding"
    """In mode "vectors": how they are selected, by herding or at random."""
    replay: float = Field(1.0, ge=0)
    """a, weight of the cross entropy."""
    over: Literal["all", "pass", "old"] = "all"
    """Cross entropy of the replay: "all", new images and replayed vectors over all logits; "pass", replayed
    vectors over all logits, with the radius of the first session; "old", replayed vectors over the old logits."""
    replay_triplet: float = Field(1.0, ge=0)
    """b, weight of the triplet loss with replayed vectors in the batch."""
    features: float = Field(10.0, ge=0)
    """w, weight of the squared distance to the old embeddings of the new images."""
    elastic: float = Field(0.0, ge=0)
    """e, weight of the squared distance in the metric of the empirical feature matrix."""
    epsilon: float = Field(0.01, ge=0)
    """ε: added to the diagonal of the feature matrix, so that every direction is penalised."""


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
        """Means, and what the mode draws from."""
        o, dim = self.options, self.network.options.dim
        if o.mode == "vectors":
            return Memory(dim, budget=o.budget, choice=o.choice)
        spread = "radius" if o.mode == "prototypes" else o.covariance
        return Memory(dim, spread, first_radius=o.over == "pass")

    def begin(self, session: Session) -> None:
        """Also drop the square roots of the previous covariances."""
        super().begin(session)
        self._roots = None

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on all terms of a weight above 0."""
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
        """Also compute the empirical feature matrix over the session's images, where it is used."""
        super().end(session, batches)
        if self.options.elastic:
            self.feature_matrix.copy_(mean_feature_matrix(self.network, batches))

    @torch.no_grad()
    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Draw unit vectors (size, d) of old classes and their labels (size,), with torch's CPU generator."""
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
        """L_replay of logits and labels of the new images, and of drawn vectors and their labels."""
        replayed = self.network.head(z)
        if self.options.over == "old":
            return cross_entropy(replayed[:, : self.first_label], old)
        if self.options.over == "pass":
            return cross_entropy(replayed, old)
        return cross_entropy(torch.cat([l_n, replayed]), torch.cat([new, old]))


@torch.no_grad()
def mean_feature_matrix(network: Network, batches: Pass) -> Tensor:
    """E (d, d), the empirical feature matrix over a pass of images, with the outputs for all classes so far."""
    weight = network.head.scale * network.head.weight
    total, images = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64), 0
    for batch in batches():
        _, logits = network(batch.images)
        total += len(logits) * feature_matrix(logits, weight).cpu().double()
        images += len(logits)
    return total / max(images, 1)


@full_precision
def spread(means: Tensor, root: Tensor, noise: Tensor) -> Tensor:
    """Samples (μ + Σ^½ ε) / ‖μ + Σ^½ ε‖: means (B, d), roots (B, d, d) or (d, d), noise (B, d) → (B, d)."""
    return normalize(means + (root @ noise[:, :, None])[:, :, 0], dim=1)


@torch.no_grad()
def roots(covariance: Tensor, shrinkage: float) -> Tensor:
    """R with R Rᵀ = Σ̂ = (1 − γ)Σ + γ·(tr Σ/d)·I + 1e-6·(tr Σ/d)·I + 1e-12·I: the Cholesky factor where there is one.

    Args:
        covariance: (…, d, d) Σ.
        shrinkage: γ, 0 … 1.

    Returns:
        (…, d, d) of the same dtype; nearly 0 for Σ = 0.
    """
    wide = covariance.cpu().double()
    level = wide.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    eye = torch.eye(wide.shape[-1], dtype=wide.dtype)
    shrunk = (1 - shrinkage) * wide + ((shrinkage + 1e-6) * level + 1e-12) * eye
    return square_root(shrunk, "the covariance of a class").to(covariance)
