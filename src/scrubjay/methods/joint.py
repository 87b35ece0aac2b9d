"""All images of all classes so far: the reference that a method without old images tries to reach.

L = L_ce + L_triplet, over all classes learned so far

Goes on from the same initial model as every other method. Needs the old images; keeps nothing else.
"""

from scrubjay.methods import Method


class Joint(Method):
    """L_ce + L_triplet on all classes so far."""

    needs_old_images = True
