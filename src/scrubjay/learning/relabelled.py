"""Statistics of learning in closed form under another list of classes."""

from __future__ import annotations

from collections.abc import Sequence

from scrubjay.components.accumulation import Accumulation
from scrubjay.models.head import GrowingHead


def relabel(learner: Accumulation, names: Sequence[str], classes: Sequence[str]) -> None:
    """Give the classes that a method has learned the labels that they have in another list.

    The head gets a row for each class of that list; it is computed when the metric is solved.

    Args:
        learner: has statistics, whose labels are positions in `names`.
        names: names of the classes so far.
        classes: names of the classes from now on, each once.
    """
    assert learner.statistics is not None
    position = {name: label for label, name in enumerate(classes)}
    labels = learner.statistics.labels.tolist()
    learner.statistics = learner.statistics.relabelled({label: position[names[label]] for label in labels})
    learner.network.head = GrowingHead(learner.network.options.dim, learner.network.options.logit_scale)
    learner.network.head.grow(len(classes))
