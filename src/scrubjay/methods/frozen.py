"""The model of the initial session, never trained again (feature extraction).

L = L_ce + L_triplet in the initial session; later no parameter changes

Forgets nothing and learns nothing: what training on new classes must beat. Keeps nothing between sessions.
"""

from scrubjay.methods import Method
from scrubjay.types import Session


class Frozen(Method):
    """Learns the initial session as fine-tuning does, then nothing."""

    def begin(self, session: Session) -> None:
        """After the initial session no parameter asks for a gradient, so that nothing is trained."""
        super().begin(session)
        if self.has_past:
            self.requires_grad_(False)
