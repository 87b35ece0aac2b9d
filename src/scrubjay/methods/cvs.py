"""Continual visual search: coherence with an old gallery that is never re-embedded (CVS, CVPR 2022).

L = L_ce + L_triplet + α·L_model + β·L_data

L_model (neighbour-session model coherence) = (1/B) Σ_i max(0, ‖z_n,i − z_o,i‖ − ‖z_n,i − v_i‖ + λ_m): an image's new
embedding must be nearer to its own old one than to v_i, the nearest old embedding of another class, of the batch or of
the stored vectors of the old classes. L_data (inter-session data coherence) = (1/B) Σ_i ‖z_n,i − c_{y_i}‖²: images are
pulled to the centre that their class has in the gallery. Intra-session discrimination is L_ce + L_triplet, there a
normalised softmax at temperature 0.05.

The parts that need old images are left out: the paper replays a budget of 2,000 through all three terms, and its c_y is
the stored centre of an *old* class, to which the replayed images are pulled. Without images of old classes that pull
has nothing to act on. Here c_y is the centre of a new class as the old network embeds it in the batch, detached; stored
vectors serve as negatives of L_model. Without a memory of the old classes L_model has the batch's negatives alone.
Wan et al., Continual Learning for Visual Search with Backward Consistent Feature Embedding, CVPR 2022: α = 10, β = 1,
λ_m = 0.1; the distances are not squared in L_model and squared in L_data.

Stored vectors stand for a gallery that is not changed, each in the space of its own generation, so they are not moved
unless `drift` is set. Keeps C·(d·4 + 8) bytes of means and counts and C·budget·(d·4 + 8) of vectors and labels; one
copy of the previous network while a session lasts.
"""

import torch
from pydantic import Field
from torch import Tensor

from scrubjay.components.memory import Choice, Memory
from scrubjay.losses._pairs import pairs
from scrubjay.losses._precision import full_precision
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses


class CVSOptions(MethodOptions):
    """Options of gallery coherence."""

    alpha: float = Field(10.0, ge=0)
    """α, weight of the model coherence."""
    beta: float = Field(1.0, ge=0)
    """β, weight of the data coherence."""
    model_margin: float = Field(0.1, ge=0)
    """λ_m, margin of the model coherence, in units of distance."""
    budget: int = Field(20, ge=1)
    """Embeddings stored per class."""
    choice: Choice = "herding"
    """How they are selected: by herding or at random."""


class CVS(Method):
    """Fine-tuning + α·L_model + β·L_data."""

    has_memory = True
    Options = CVSOptions
    uses_teacher = True
    options: CVSOptions
    memory: Memory

    def make_memory(self) -> Memory:
        """Class means, and a budget of embeddings per class."""
        return Memory(self.network.options.dim, budget=self.options.budget, choice=self.options.choice)

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on both coherences."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            z_o, _ = self.teacher_outputs(batch.images)
            o, stored = self.options, self.memory.vectors
            losses["model"] = o.alpha * model_coherence(z_o, z_n, batch.labels, stored, o.model_margin)
            losses["data"] = o.beta * data_coherence(z_o, z_n, batch.labels)
        return losses


@full_precision
def model_coherence(z_o: Tensor, z_n: Tensor, labels: Tensor, stored: Tensor, margin: float = 0.1) -> Tensor:
    """Hinge loss: an image's new embedding must be nearer to its own old one than to those of other classes.

    L = (1/B) Σ_i max(0, ‖z_n,i − z_o,i‖ − min_{v∈V_i} ‖z_n,i − v‖ + λ),   V_i = {z_o,j : y_j ≠ y_i} ∪ stored

    Args:
        z_o: (B, d) embeddings by the teacher.
        z_n: (B, d) embeddings of the same images by the network being trained.
        labels: int64 (B,).
        stored: (V, d) old embeddings of classes that are not in the batch.
        margin: λ, in units of distance.

    Returns:
        Scalar ≥ 0; an image without a negative adds 0; 0 for B = 0. The gradient of a distance of 0 is 0.

    Source: Wan et al., Continual Learning for Visual Search with Backward Consistent Feature Embedding, CVPR 2022.
    """
    _, other = pairs(labels)
    gallery = torch.cat([z_o, stored.to(z_o)])
    if len(z_n) == 0 or len(gallery) == 0:
        return z_n.sum()
    far = torch.cdist(z_n, gallery, compute_mode="donot_use_mm_for_euclid_dist")
    allowed = torch.cat([other, other.new_ones(len(z_n), len(stored))], dim=1)
    nearest = far.masked_fill(~allowed, torch.inf).amin(1)
    own: Tensor = torch.linalg.vector_norm(z_n - z_o, dim=1)
    return (own - nearest + margin).clamp_min(0).mean()


@full_precision
def data_coherence(z_o: Tensor, z_n: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance of new embeddings to the old centre of their class.

    L = (1/B) Σ_i ‖z_n,i − c_{y_i}‖²,   c_y = mean of z_o,j over j with y_j = y

    Args:
        z_o: (B, d) embeddings by the teacher.
        z_n: (B, d) embeddings of the same images by the network being trained.
        labels: int64 (B,).

    Returns:
        Scalar ≥ 0; 0 for B = 0.

    Source: Wan et al., CVPR 2022, with the centres of the batch's classes in place of stored ones.
    """
    same = (labels[:, None] == labels).to(z_o)
    centres = same @ z_o / same.sum(1, keepdim=True).clamp_min(1)
    return (z_n - centres).square().sum() / max(len(z_n), 1)
