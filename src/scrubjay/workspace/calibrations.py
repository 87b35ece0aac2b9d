"""What the probe images say about the scores of one generation's queries; one JSON file for each generation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scrubjay.errors import CheckpointError
from scrubjay.gallery.calibration import Calibration, conformal_threshold
from scrubjay.io.atomic import write_json


@dataclass(frozen=True, slots=True)
class Calibrations:
    """Calibrations of the scores of one generation's queries.

    Attributes:
        spaces: calibration of the cosines in each embedding space, by the id of the space.
        direct: ids of older spaces that queries enter without a bridge, because no bridge retrieved as much.
        no_match_scores: for each probe image its best probability of a match among items of other classes: what an
            image gets whose class is not in the gallery.
        match_scores: for each probe image its best probability of a match among items of its own class.
        items: number of items of the gallery that they were fitted to; None where older versions fitted them.
    """

    spaces: Mapping[str, Calibration] = field(default_factory=dict)
    direct: Sequence[str] = ()
    no_match_scores: Sequence[float] = ()
    match_scores: Sequence[float] = ()
    items: int | None = None

    def save(self, path: Path) -> None:
        """Write the file, completely or not at all."""
        values = {
            "spaces": {name: calibration.to_json() for name, calibration in self.spaces.items()},
            "straight": list(self.direct),
            "unknown": list(self.no_match_scores),
            "known": list(self.match_scores),
            "items": self.items,
        }
        write_json(path, values)

    @classmethod
    def load(cls, path: Path) -> Calibrations:
        """Read what `save` wrote; empty calibrations where there is no file.

        Raises:
            CheckpointError: the file is damaged.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            spaces = {name: Calibration.from_json(each) for name, each in values["spaces"].items()}
            return cls(spaces, values["straight"], values["unknown"], values["known"], values.get("items"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: damaged ({error}): delete it; the next `scrubjay add` writes it again."
            ) from None

    def of_space(self, space_id: str, own_id: str) -> Calibration:
        """The calibration of a space; where it has none, that of the generation's own space."""
        return self.spaces.get(space_id, self.spaces.get(own_id, Calibration()))

    def match_threshold(self, false_match_rate: float) -> float | None:
        """The probability that the best hit has to exceed to count as a match.

        At most a share of `false_match_rate` of images whose class is not in the gallery exceed it, as far as such an
        image is like a probe image whose class was left out; see `conformal_threshold`.

        Args:
            false_match_rate: α in 0 … 1.

        Returns:
            None where there are too few probe images to support such a claim.
        """
        threshold = conformal_threshold(np.asarray(self.no_match_scores), false_match_rate)
        return threshold if math.isfinite(threshold) else None
