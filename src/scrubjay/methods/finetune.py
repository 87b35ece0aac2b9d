"""Nothing against forgetting: train on the new classes alone.

L = L_ce + L_triplet

The lower end of every comparison. Keeps nothing between sessions.
"""

from scrubjay.methods import Method


class Finetune(Method):
    """L_ce + L_triplet on the new classes."""
