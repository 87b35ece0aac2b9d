"""Feature extraction: the network of the initial session, frozen from then on.

L = L_ce + L_triplet in the initial session; later no parameter changes

Forgets nothing and learns nothing: training on new classes has to do better than this. Keeps nothing between sessions.
"""

from scrubjay.methods import Method
from scrubjay.types import Session


class Frozen(Method):
    """Fine-tuning in the initial session, no training afterwards."""

    def begin(self, session: Session) -> None:
        """Freeze all parameters after the initial session."""
        super().begin(session)
        if self.has_past:
            self.requires_grad_(False)
