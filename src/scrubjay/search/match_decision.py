"""Decides whether the hits of a query are likely to be of its class, and says what that rests on.

Where the generation was learned in closed form, the score of the learned classes is compared with the scores of images
whose class is left out (`scrubjay.closed_form.no_match`). It depends on the generation alone, so it is the same while
a gallery is moved from one generation to the next. Otherwise, and for items of classes that were never learned, the
calibrated probability of the best hit is compared with that of probe images whose class is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from scrubjay.closed_form.match_model import MatchModel
from scrubjay.generations.generation import Generation
from scrubjay.types import Hit
from scrubjay.workspace.calibrations import Calibrations

CONSIDERED = 10
"""Number of best hits whose classes are considered; a smaller number of hits may be returned."""

Basis = Literal["left-out classes", "left-out classes of a trained backbone", "probe images"]


@dataclass(frozen=True, slots=True)
class MatchDecision:
    """Whether the hits of a query match.

    Attributes:
        matched: whether one of the best hits is likely to be of the query's class; None where no threshold is known.
        score: what was compared: the score of the best class among the hits, or the probability of the best hit.
        threshold: what the score has to exceed; None where there are too few images to support one.
        basis: what the threshold was computed from; None without a threshold.
    """

    matched: bool | None = None
    score: float | None = None
    threshold: float | None = None
    basis: Basis | None = None


@dataclass(frozen=True, slots=True)
class MatchRule:
    """How the queries of one generation are decided.

    Attributes:
        generation: the generation that embeds the queries.
        calibrations: calibrations of its queries.
        model: its match model; None where it was not learned in closed form.
        trained_backbone: whether a session trained the backbone, on classes that are left out later.
        false_match_rate: α in 0 … 1.
    """

    generation: Generation
    calibrations: Calibrations
    model: MatchModel | None
    trained_backbone: bool
    false_match_rate: float

    @property
    def threshold(self) -> tuple[float | None, Basis | None]:
        """The threshold for items of learned classes, and what it was computed from."""
        threshold = None if self.model is None else self.model.threshold(self.false_match_rate)
        if threshold is not None:
            return threshold, "left-out classes of a trained backbone" if self.trained_backbone else "left-out classes"
        threshold = self.calibrations.match_threshold(self.false_match_rate)
        return threshold, None if threshold is None else "probe images"

    @property
    def known_scores(self) -> Sequence[float]:
        """Scores of probe images for their own class, comparable with `threshold`."""
        if self.model is not None and self.threshold[1] != "probe images":
            scores: list[float] = self.model.own_scores.tolist()
            return scores
        return self.calibrations.match_scores

    def decide(self, features: NDArray[np.float32] | None, hits: Sequence[Hit], identical: bool) -> MatchDecision:
        """Decide about one query.

        Args:
            features: its trunk features (1, p); None where there is no match model.
            hits: its best hits, best first, at least `CONSIDERED` where the gallery has as many.
            identical: whether the first hit is the query image itself, which is a match whatever its score.
        """
        if not hits:
            return MatchDecision()
        threshold, basis = self.threshold
        score = None
        if basis != "probe images" and features is not None and self.model is not None:
            score = self._class_score(torch.from_numpy(features), hits)
        if score is None:
            threshold, score = self.calibrations.match_threshold(self.false_match_rate), hits[0].match
            basis = "probe images"
        if threshold is None or score is None:
            return MatchDecision()
        return MatchDecision(identical or score > threshold, score, threshold, basis)

    def _class_score(self, features: torch.Tensor, hits: Sequence[Hit]) -> float | None:
        """The best score of the classes of the hits; None where the best hit is of a class that was never learned."""
        assert self.model is not None
        if hits[0].label is None:
            return max(score for score in self.model.class_scores(features) if score is not None)
        scores: dict[str, float] = {}
        for name, score in zip(self.generation.classes, self.model.class_scores(features), strict=False):
            if score is not None:  # classes that were merged since have the same name
                scores[name] = max(score, scores.get(name, score))
        if hits[0].label not in scores:
            return None
        return max(scores[hit.label] for hit in hits[:CONSIDERED] if hit.label in scores)


def meaning(basis: Basis | None, false_match_rate: float) -> str:
    """What the configured rate claims, and where it does not, as part of a sentence.

    Args:
        basis: what the threshold was computed from; None: there is no threshold.
        false_match_rate: α in 0 … 1.
    """
    if basis is None:
        return "too few held-out images to tell; no rate is claimed"
    if basis != "left-out classes":
        learned = "the metric" if basis == "probe images" else "the backbone"
        return (
            f"more than {false_match_rate:.0%} of images of classes never learned may be taken for a match, because "
            f"{learned} was trained on the classes that are left out to set the threshold; no rate is claimed"
        )
    return (
        f"about {false_match_rate:.0%} of images of classes never learned are taken for a match, if these are like "
        "learned classes that are left out; not claimed for close relatives of learned classes"
    )
