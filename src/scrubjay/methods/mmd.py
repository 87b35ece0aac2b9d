"""Maximum mean discrepancy: matches the distributions of old and new embeddings, and distils the old classifier.

L = α·L_dist + β·L_mmd + (L_ce + L_triplet)

Chen, Liu, Wang, Tuytelaars, Bakker, Lew: On the Exploration of Incremental Learning for Fine-grained Image Retrieval,
BMVC 2020, arXiv 2010.08020. L_dist as in `lwf`; L_mmd = MMD(z_o, z_n), the root of MMD² with a Gaussian kernel, between
the embeddings of the same new images by the frozen and by the trained network (`losses/mmd`). The paper gives T = 2 but
no α, β or σ, which are options here. α = β = 3 was chosen on a small grid on the drawn birds with one seed; on other
streams it costs some of what fine-tuning learns of the new classes. α = 0 is MMD alone, β = 0 distillation alone. T
divides logits that are already scaled by s = network.logit_scale (16 by default), so that T = 2 acts like T = 2/16 on
unscaled logits W z + b; `logit_scale = 1` distils those. MMD² is normalised by 1/B²; "samples" is the variant with 1/B.
Keeps one copy of the previous network while a session lasts, nothing between sessions.
"""

from pydantic import Field

from scrubjay.losses.distillation import distillation
from scrubjay.losses.mmd import Kernels, Normalisation, mmd
from scrubjay.methods import Method, MethodOptions
from scrubjay.types import Batch, Losses


class MMDOptions(MethodOptions):
    """Options of MMD and distillation."""

    alpha: float = Field(3.0, ge=0)
    """Weight of the distillation."""
    beta: float = Field(3.0, ge=0)
    """Weight of MMD."""
    temperature: float = Field(2.0, gt=0)
    """T of both softmaxes of the distillation."""
    logit_scale: float | None = Field(None, gt=0)
    """Scale s of the logits s·(W z + b) that are distilled; None: network.logit_scale, 1: unscaled logits."""
    sigma: float | None = Field(None, gt=0)
    """Bandwidth of the Gaussian kernel, in units of distance; None: the root mean square distance within the batch."""
    kernels: Kernels = "one"
    """One Gaussian, or the mean of the five bandwidths of DAN."""
    biased: bool = True
    """True: the paper's estimate, which pairs each image with itself too; False: the unbiased estimate."""
    normalisation: Normalisation = "pairs"
    """Factor on MMD²: 1/B² with "pairs", as its derivation gives it; 1/B with "samples", which makes the root √B times
    as large."""
    squared: bool = False
    """Use MMD² instead of its root."""


class MMD(Method):
    """Fine-tuning + α·L_dist + β·L_mmd."""

    Options = MMDOptions
    uses_teacher = True
    options: MMDOptions

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on distillation and MMD."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            z_o, l_o = self.teacher_outputs(batch.images)
            o = self.options
            old, new = (self.old_logits(logits, o.logit_scale) for logits in (l_o, l_n))
            losses["dist"] = o.alpha * distillation(old, new, o.temperature)
            losses["mmd"] = o.beta * mmd(
                z_o,
                z_n,
                sigma=o.sigma,
                kernels=o.kernels,
                biased=o.biased,
                normalisation=o.normalisation,
                squared=o.squared,
            )
        return losses
