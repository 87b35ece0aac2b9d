"""Adversarial alignment: a discriminator must not be able to tell new embeddings from old ones.

L = L_ce + L_triplet + α·w·(1/B) Σ_i [−log D(GRL(z_n,i))_new − log D(z_o,i)_old]    (form "reversal")
L = L_ce + L_triplet + α·w·(1/B) Σ_i [−log D(z_n,i)_old] + (1/B) Σ_i [−log D(z_n,i)_new − log D(z_o,i)_old]
    (form "alternating": in the first sum D is a constant, in the second the embeddings are)

Pan et al., AdvBCT, CVPR 2023, with a gradient reversal layer (Ganin & Lempitsky, ICML 2015); the other form is the
non-saturating one of Goodfellow et al., NeurIPS 2014. Weight w(e) = (E − e + 1)/E in epoch e of E, here in every step w
= 1 − p for the share p of the session that is done, the same at the start of each epoch; reversal coefficient 2/(1 +
e^{−10p}) − 1. D has 2 to 5 layers, 256 wide, with BatchNorm, ReLU and dropout 0.2 after every layer but the last. It is
initialised at the start of every session: the two networks are equal again, and what it learned about the last pair is
of no use. Its accuracy is logged as "D accuracy". Like `mmd` this compares distributions, not images.

Missing from AdvBCT: its elastic boundary loss, which keeps the embeddings of a class within a learned radius of the
class's old centre, and needs images of old classes; and the BatchNorm that its network applies to the embedding. The
authors' code has two discriminators: two layers, 100 wide, with BatchNorm after the first; and an MLP of up to 5
layers, 256 wide, with dropout alone after the first layer and BatchNorm and ReLU after the hidden ones.

Keeps 256·(d + 7 + (layers − 2)·261)·4 bytes, D, so that an interrupted session resumes; a copy of the previous network
while a session lasts.
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
    """Options of adversarial alignment."""

    weight: float = Field(1.0, ge=0)
    """α: factor on the adversarial loss of the embedder."""
    form: Literal["reversal", "alternating"] = "reversal"
    """One objective with a gradient reversal layer, or separate ones for embedder and discriminator."""
    layers: int = Field(3, ge=2, le=5)
    """Number of linear layers of D."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout rate between the layers of D."""


class Adversarial(Method):
    """Fine-tuning + α·w·adversarial alignment with the frozen network's embeddings."""

    Options = AdversarialOptions
    uses_teacher = True
    options: AdversarialOptions

    def __init__(self, network: Network, options: Any = None) -> None:
        super().__init__(network, options)
        self.D = Discriminator(network.options.dim, self.options.layers, self.options.dropout)

    def begin(self, session: Session) -> None:
        """Also initialise the discriminator."""
        super().begin(session)
        if self.has_past:
            self.D.reset()

    def loss(self, batch: Batch) -> Losses:
        """Cross entropy, metric loss, and from the second session on the adversarial terms."""
        z_n, l_n = self.network(batch.images)
        losses = self.plasticity(z_n, l_n, batch.labels)
        if self.has_past:
            z_o, _ = self.teacher_outputs(batch.images)
            losses |= self.reversal(z_n, z_o) if self.options.form == "reversal" else self.alternating(z_n, z_o)
        return losses

    def reversal(self, z_n: Tensor, z_o: Tensor) -> Losses:
        """One term, whose gradient is reversed on its way to the embedder."""
        log_D_n, log_D_o = self.D(gradient_reversal(z_n, reversal_coefficient(self.progress)), z_o)
        self.figures["D accuracy"] = accuracy(log_D_n, log_D_o)
        return Losses(adversarial=self.options.weight * (1 - self.progress) * adversarial(log_D_o, log_D_n))

    def alternating(self, z_n: Tensor, z_o: Tensor) -> Losses:
        """The embedder's term, with D held constant, and the discriminator's, with the embeddings held constant."""
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
