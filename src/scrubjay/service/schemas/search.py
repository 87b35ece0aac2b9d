"""Bodies of searches, comparisons of two generations, and explanations."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from scrubjay.service.schemas.base import Body, Box, Metadata, Record


class QueryImage(Body):
    """One image of a query: its bytes in base64, or the id of an item of the gallery."""

    base64: str | None = None
    """Content of an image file in base64."""
    item: str | None = None
    """Id of an item, whose image is searched with; its own item leads the result."""
    crop: Box | None = None
    """Search with this part only."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [one], "properties": {one: {"type": "string"}, other: {"type": "null"}}}
                for one, other in (("base64", "item"), ("item", "base64"))
            ]
        }
    )

    @model_validator(mode="after")
    def _one_image(self) -> Self:
        if (self.base64 is None) == (self.item is None):
            raise ValueError("give either base64 or item")
        if self.crop is not None and not (self.crop[0] < self.crop[2] and self.crop[1] < self.crop[3]):
            raise ValueError("crop: give left, top, right, bottom with left < right and top < bottom")
        return self


class SearchSettings(Body):
    """What to search for, beside the images."""

    k: int = Field(10, ge=1, le=1000)
    """Number of hits for each answer."""
    labels: list[str] = Field(default_factory=list)
    """Consider only items with one of these labels; empty for all."""
    where: Metadata = Field(default_factory=dict)
    """Consider only items whose metadata have all these values."""
    combine: bool = False
    """Take all images as views of one object: one answer, by the mean of their embeddings."""
    generation: str | None = None
    """Answer by this generation instead of the one that serves."""


class SearchRequest(SearchSettings):
    """A search with images in the body."""

    images: list[QueryImage] = Field(min_length=1, max_length=64)
    """The images; each is answered by itself unless `combine` is set."""


class HitRecord(Record):
    """An item that was found."""

    id: str
    label: str | None
    score: float
    """Cosine similarity in the space in which the item was found."""
    match: float | None
    """Probability that the item shows the query's class; None where it was never calibrated."""
    generation: str
    """Generation whose vector found the item."""
    metadata: Metadata
    uri: str | None = None
    """Location of its image when it was added; None for callers who may not see paths of the machine: those with a
    key that is not an administrator's."""


class AnswerRecord(Record):
    """The answer to one query."""

    hits: list[HitRecord]
    generation: str
    """Generation that embedded the query."""
    matched: bool | None
    """Whether one of the best hits is likely to be of the query's class; None where no threshold is known."""
    match_score: float | None
    threshold: float | None
    match_basis: str | None
    meaning: str | None
    """What the match decision claims, in a sentence."""
    unembedded: int
    """Number of items without any vector that this search can reach."""
    query: str | None
    """Content hash of the query image, by which it may be taught later; None for combined queries."""


class SearchAnswer(Record):
    """One answer for each image, in their order; or one for all of them."""

    answers: list[AnswerRecord]


class CompareRequest(Body):
    """One query answered by two generations."""

    image: QueryImage
    before: str
    """Name of a generation."""
    after: str
    """Name of another one."""
    k: int = Field(10, ge=1, le=100)


class Move(Record):
    """Where an item stands in the two answers; ranks begin at 1."""

    id: str
    before: int | None
    after: int | None


class CompareAnswer(Record):
    """Two answers side by side, and what moved."""

    before: AnswerRecord
    after: AnswerRecord
    moves: list[Move]
    """Items whose rank differs, in the order of the later answer, then those that are gone."""


class ExplainRequest(Body):
    """Why an item is similar to a query."""

    image: QueryImage
    item: str
    """Id of the item."""


class ContributionMap(Record):
    """What the positions of one image contribute to the similarity."""

    values: list[list[float]]
    """Contribution of each position, rows from the top; with `remainder` they sum to the score."""
    contrast: list[list[float]]
    """What each position contributes to the standard deviations, a part of the remainder."""
    remainder: float
    crop: str
    """The crop of the image that the network sees, which the positions cover: a data URL of a JPEG."""


class ExplainAnswer(Record):
    """The similarity of a query and an item, decomposed over the positions of both images."""

    score: float
    query: ContributionMap
    item: ContributionMap
