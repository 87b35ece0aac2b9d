"""Shows which parts of a query and of its hits make them similar, as one self-contained HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scrubjay.models.explanation import Contributions, ExplainedHit
from scrubjay.report.html import environment, thumbnail, write_page

SHOWN = 10
"""Number of hits that the page shows."""
RAISES, LOWERS = (255, 122, 0), (0, 98, 214)
"""Colours, RGB, of positions that raise the similarity, and of those that lower it; told apart by colour-blind eyes."""
_OPACITY = 0.78  # of the strongest positions
_SMOOTHING = 1 / 30  # standard deviation of the blur that hides the edges of coarse maps, as a share of the side
_STRONGEST = 99.0  # percentile of a pair's values that gets the full colour


@dataclass(frozen=True, slots=True)
class Side:
    """One image of a pair as it is shown.

    Attributes:
        image: the crop that the network sees, as a data: URL.
        overlay: the positions in colour, transparent where they contribute nothing, as a data: URL.
        positions: what all positions contribute.
        deviations: what the standard deviations contribute.
        rest: what class tokens and bias contribute.
        half: share of the area that gives half of all that raises the similarity.
    """

    image: str
    overlay: str
    positions: float
    deviations: float
    rest: float
    half: float


def write_explanation_page(path: Path, query: Path, hits: Sequence[ExplainedHit], generation: str) -> None:
    """Write the page; an existing file is replaced only when the new one is complete.

    Args:
        path: path of the HTML file; its folder is created.
        query: the image that was searched for.
        hits: the hits, best first; those without an explanation are shown with the reason.
        generation: name of the generation that answered.

    Raises:
        StorageError: the file cannot be written.
    """
    write_page(path, page(query, hits, generation))


def page(query: Path, hits: Sequence[ExplainedHit], generation: str) -> str:
    """The HTML text of the page; arguments as in `write_explanation_page`."""
    templates = environment()
    templates.filters |= {"signed": _signed}
    templates.filters |= {"name": lambda uri: Path(uri).name, "thumbnail": _thumbnail}
    return templates.get_template("explanation.html.j2").render(
        query=query,
        generation=generation,
        hits=[(each, _sides(each)) for each in hits[:SHOWN]],
        more=max(0, len(hits) - SHOWN),
        explained=any(each.explanation for each in hits[:SHOWN]),
        raises=RAISES,
        lowers=LOWERS,
    )


def local_similarity(side: Contributions) -> NDArray[np.float64]:
    """What each position speaks for, (H, W): the similarity if all positions were like it; their mean is the score.

    What belongs to no position is spread evenly over all of them, because most of it, the bias, centres their features.
    """
    at = side.positions.astype(np.float64) + side.contrast
    score = float(side.positions.sum(dtype=np.float64)) + side.remainder
    local: NDArray[np.float64] = at * at.size + (score - float(at.sum()))
    return local


def half_of_gain(values: NDArray[np.float64]) -> float:
    """The smallest share of positions that gives half of the sum of all positive values; 0 where there is none."""
    positive = np.sort(values[values > 0])[::-1]
    if not len(positive):
        return 0.0
    total = np.cumsum(positive)
    return float(np.searchsorted(total, total[-1] / 2) + 1) / values.size


def overlay(values: NDArray[np.float64], strongest: float) -> Image.Image:
    """Values (H, W) as colours: RGBA, the more opaque the stronger; `strongest` and above get the full colour."""
    share = np.clip(values / strongest if strongest > 0 else values, -1, 1)
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(share[..., None] > 0, RAISES, LOWERS)
    pixels[..., 3] = np.rint(255 * _OPACITY * np.abs(share))
    return Image.fromarray(pixels, "RGBA")


def _sides(hit: ExplainedHit) -> tuple[Side, Side] | None:
    """Query and hit of a pair, coloured on one scale."""
    if hit.explanation is None:
        return None
    sides = hit.explanation.query, hit.explanation.hit
    values = [_smoothed(local_similarity(side)) for side in sides]
    strongest = float(np.percentile(np.abs(np.concatenate([each.ravel() for each in values])), _STRONGEST))
    one, other = (_side(side, value, strongest) for side, value in zip(sides, values, strict=True))
    return one, other


def _side(side: Contributions, values: NDArray[np.float64], strongest: float) -> Side:
    return Side(
        image=_url(Image.fromarray(side.image), "JPEG"),
        overlay=_url(overlay(values, strongest), "PNG"),
        positions=float(side.positions.sum(dtype=np.float64)),
        deviations=side.deviations,
        rest=side.class_tokens + side.bias,
        half=half_of_gain(values),
    )


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    smoothed: NDArray[np.float64] = gaussian_filter(values, max(values.shape) * _SMOOTHING)
    return smoothed


def _url(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _thumbnail(path: str | Path) -> str | None:
    return thumbnail(Path(path))


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
