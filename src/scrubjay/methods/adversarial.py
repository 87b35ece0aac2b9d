"""Nobody can tell new embeddings from old ones: a discriminator learns to, and the embedder learns to deceive it.

L = L_ce + L_triplet + α·w·(1/B) Σ_i [−log D(GRL(z_n,i))_new − log D(z_o,i)_old]    (form "reversal")
L = L_ce + L_triplet + α·w·(1/B) Σ_i [−log D(z_n,i)_old] + (1/B) Σ_i [−log D(z_n,i)_new − log D(z_o,i)_old]
    (form "alternating": in the first sum D is a constant, in the second the embeddings are)

Pan et al., AdvBCT, CVPR 2023, with a gradient reversal layer (Ganin & Lempitsky, ICML 2015); the other form is the
non-saturating one of Goodfellow et al., NeurIPS 2014. Weight w(e) = (E − e + 1)/E in epoch e of E, here in every step
w = 1 − p for the share p of the session that is done, the same at the start of each epoch; reversal coefficient
2/(1 + e^{−10p}) − 1. D has 2 to 5 layers, 256 wide, with BatchNorm, ReLU and dropout 0.2; it is drawn anew at the start
of every session, when the two networks are equal again and what it knew of the last pair is of no use. Its accuracy
stands in the curves as "D accuracy". Like MMD this compares clouds, not images. Keeps 256·(d + 7 +
(layers − 2)·261)·4 bytes, D, so that a session that was cut goes on; a copy of the previous network while one lasts.
"""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from scrubjay.components.discriminator import Discriminator, accuracy
from scrubjay.losses.adversarial import adversarial, deception
from scrubjay.losses.gradient_reversal import gradient_reversal, reversal_coefficient
from scrubjay.methods import Method, MethodOptions
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class AdversarialOptions(MethodOptions):
    """Adversarial alignment."""

    weight: float = Field(1.0, ge=0)
    """α."""
    form: Literal["reversal", "alternating"] = "reversal"
    """One objective with a gradient that turns round, or one each for embedder and discriminator."""
    layers: int = Field(3, ge=2, le=5)
    """Linear layers of D."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout between them."""


class Adversarial(Method):
    """Fine-tuning + α·w·adversarial alignment with the frozen network's embeddings."""

    Options = AdversarialOptions
    uses_teacher = True
    options: AdversarialOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.D = Discriminator(network.options.dim, self.options.layers, self.options.dropout)

    def begin(self, session: Session) -> None:
        """A discriminator that knows nothing yet."""
        super().begin(session)
        if self.has_past:
            self.D.reset()

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, triplet, and the game once there are old classes."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            z_o, _ = self.teacher_outputs(batch.images)
            losses |= self.reversal(z_n, z_o) if self.options.form == "reversal" else self.alternating(z_n, z_o)
        return losses

    def reversal(self, z_n: Tensor, z_o: Tensor) -> Losses:
        """One term, whose gradient turns round on its way to the embedder."""
        log_D_n, log_D_o = self.D(gradient_reversal(z_n, reversal_coefficient(self.progress)), z_o)
        self.figures["D accuracy"] = accuracy(log_D_n, log_D_o)
        return Losses(adversarial=self.options.weight * (1 - self.progress) * adversarial(log_D_o, log_D_n))

    def alternating(self, z_n: Tensor, z_o: Tensor) -> Losses:
        """What the embedder minimises, with D as it is, and what D minimises, with the embeddings as they are."""
        constants = {name: value.detach() for name, value in self.D.named_parameters()}
        # copies, so that D's running statistics see each batch once
        constants |= {name: value.clone() for name, value in self.D.named_buffers()}
        deceived, _ = functional_call(self.D, constants, (z_n, z_o))
        log_D_n, log_D_o = self.D(z_n.detach(), z_o)
        self.figures["D accuracy"] = accuracy(log_D_n, log_D_o)
        return Losses(
            deception=self.options.weight * (1 - self.progress) * deception(deceived),
            discriminator=adversarial(log_D_o, log_D_n),
        )
