"""The bridges between two generations over one trunk whose axes are aligned: none is needed."""

from __future__ import annotations

from scrubjay.bridges import Bridge
from scrubjay.generations.generation import BridgeRecord

DIRECTIONS = ("to_parent", "from_parent")


def identity_bridges() -> tuple[dict[str, Bridge], dict[str, BridgeRecord]]:
    """The identity in both directions, and their records.

    A metric in closed form is rotated so that its embeddings lie closest to those of its parent, in the mean over all
    images that were ever learned (`closed_form.discriminant.aligned`). A bridge that is fitted to the images of one
    session knows less: those are of new classes, which the parent's axes do not separate, and a map that suits them
    moves the old classes away.
    """
    bridges = {direction: Bridge("identity") for direction in DIRECTIONS}
    return bridges, {direction: BridgeRecord(chosen="identity") for direction in DIRECTIONS}
