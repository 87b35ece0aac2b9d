"""Joint training on the images of all classes so far: the upper reference for methods without old images.

L = L_ce + L_triplet, over all classes learned so far

Starts from the same initial network as every other method. Needs the old images; keeps nothing else.
"""

from scrubjay.methods import Method


class Joint(Method):
    """L_ce + L_triplet on all classes so far."""

    needs_old_images = True
