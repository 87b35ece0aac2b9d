"""Fine-tuning: train on the new classes alone, with nothing against forgetting.

L = L_ce + L_triplet

The lower bound of every comparison. Keeps nothing between sessions.
"""

from scrubjay.methods import Method


class Finetune(Method):
    """L_ce + L_triplet on the new classes."""
