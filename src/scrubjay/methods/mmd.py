"""The paper's objective: distillation of the old classifier and MMD between the two networks' embeddings.

L = α·L_dist + β·L_mmd + (L_ce + L_triplet)

Chen, Liu, Wang, Tuytelaars, Bakker, Lew: On the Exploration of Incremental Learning for Fine-grained Image
Retrieval, BMVC 2020, arXiv 2010.08020. L_dist as in `lwf`; L_mmd = MMD(z_o, z_n), the root of MMD² with a Gaussian
kernel, between the embeddings of the same new images by the frozen and by the trained network. The text gives
T = 2; α, β and σ are options. α = β = 3 come from a small grid on drawn birds with one seed; on other streams they
cost some of what fine-tuning learns of the new classes. α = 0 is MMD alone, β = 0
distillation alone. Keeps one copy of the previous network while a session lasts, nothing between sessions.
"""

from typing import Literal

from pydantic import Field

from scrubjay.losses.distillation import distillation
from scrubjay.losses.mmd import mmd
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses


class MMDOptions(MethodOptions):
    """The paper's two terms."""

    alpha: float = Field(3.0, ge=0)
    """Weight of the distillation."""
    beta: float = Field(3.0, ge=0)
    """Weight of MMD."""
    temperature: float = Field(2.0, gt=0)
    """T of both softmaxes of the distillation."""
    sigma: float | None = Field(None, gt=0)
    """Bandwidth of the Gaussian kernel; none: the mean distance within the batch."""
    kernels: Literal["one", "five"] = "one"
    """One Gaussian, or the five bandwidths of DAN."""
    biased: bool = True
    """The paper's estimate, which counts each image with itself, or the unbiased one."""
    squared: bool = False
    """MMD² instead of its root."""


class MMD(Method):
    """Fine-tuning + α·L_dist + β·L_mmd."""

    Options = MMDOptions
    uses_teacher = True
    options: MMDOptions

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, triplet, and both of the paper's terms once there are old classes."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            z_o, l_o = self.teacher_outputs(batch.images)
            o, old = self.options, slice(0, self.first_label)
            losses["dist"] = o.alpha * distillation(l_o[:, old], l_n[:, old], o.temperature)
            losses["mmd"] = o.beta * mmd(z_o, z_n, sigma=o.sigma, kernels=o.kernels, biased=o.biased, squared=o.squared)
        return losses
