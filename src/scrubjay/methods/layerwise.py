"""Layer-wise distillation of the stages' feature maps and of the embedding (PODNet, Douillard et al., ECCV 2020).

L = L_ce + L_triplet + √(seen/new)·[λ_s·(1/S) Σ_s D(A_o,s , A_n,s) + λ_f·(1/B) Σ_i (1 − z_n,i·z_o,i)]

A_o,s and A_n,s are the feature maps of stage s of the S stages that are trained, by the frozen and by the trained
network; seen is the number of classes up to and including this session, new that of this session alone. D by `form`

    "pod":      (1/B) Σ_i ‖h(A_n,i) − h(A_o,i)‖, h: squares summed over width and over height, of unit norm "squares":
    (1/B) Σ_i ‖A_n,i − A_o,i‖² "mmd":      MMD between the maps' means over positions (OWMMD, 2025), σ the root mean
    square distance within the batch

PODNet: λ_s = 3 to 5, λ_f = 1. The stages are those of timm's feature_info. Keeps one copy of the previous network
while a session lasts, 0 bytes between sessions.
"""

import math
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from scrubjay.losses.l2 import cosine
from scrubjay.losses.layerwise import pod, squares
from scrubjay.losses.mmd import mmd
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network
from scrubjay.models.stages import trained_stages, watching
from scrubjay.types import Batch, Losses


class LayerwiseOptions(MethodOptions):
    """Options of layer-wise distillation."""

    spatial: float = Field(3.0, ge=0)
    """λ_s: weight of the feature maps."""
    flat: float = Field(1.0, ge=0)
    """λ_f: weight of the embedding."""
    form: Literal["pod", "squares", "mmd"] = "pod"
    """Distance D of two feature maps: normalised pooled energies, squared differences, or MMD."""


class Layerwise(Method):
    """Fine-tuning + distillation of the maps of all stages and of the embedding."""

    Options = LayerwiseOptions
    uses_teacher = True
    options: LayerwiseOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        """Find the trained stages.

        Raises:
            ConfigError: the backbone does not name its stages, or none of them is trained.
        """
        super().__init__(network, options)
        self.stages = trained_stages(network.embedder)

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on both distances."""
        if not self.has_past:
            return super().loss(batch)
        with watching(self.network.embedder, self.stages) as maps_n:
            z_n, l_n = self.network(batch.images)
        with watching(self.teacher.embedder, self.stages) as maps_o:
            z_o, _ = self.teacher_outputs(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        o, seen = self.options, self.first_label + self.new_classes
        factor = math.sqrt(seen / self.new_classes)
        distances = [distance(maps_o[stage], maps_n[stage], o.form) for stage in self.stages]
        losses["spatial"] = factor * o.spatial * sum(distances[1:], start=distances[0]) / len(distances)
        losses["flat"] = factor * o.flat * cosine(z_o, z_n)
        return losses


def distance(map_o: Tensor, map_n: Tensor, form: Literal["pod", "squares", "mmd"]) -> Tensor:
    """Distance D of one stage's old and new feature maps (B, C, H, W), a scalar."""
    if form == "mmd":
        return mmd(map_o.mean((2, 3)), map_n.mean((2, 3)))
    return pod(map_o, map_n) if form == "pod" else squares(map_o, map_n)
