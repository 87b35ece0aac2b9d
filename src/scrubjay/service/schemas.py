"""Bodies of requests and answers of the service. The client and the page rely on them; importing needs pydantic only.

Unknown keys of a request are refused by name. Times are ISO 8601 in UTC, shares lie between 0 and 1, sizes of images
are in pixels.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scope = Literal["read", "write", "admin"]
"""What a key may do: read searches and looks; write adds, changes and removes items and teaches; admin promotes, rolls
back, forgets, learns and cancels jobs. Each holds those before it."""

MetadataValue = str | int | Annotated[float, Field(allow_inf_nan=False)] | bool | None
Metadata = dict[str, MetadataValue]
Box = tuple[
    Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
]
"""Crop in pixels of the upright image: left, top, right, bottom."""


class Body(BaseModel):
    """Base of all requests: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Record(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, defer_build=True)


# Errors


class FieldError(Record):
    """One field of a request that is not as required."""

    field: str
    """Where it stands, such as `body.k`."""
    message: str
    """What is wrong with it."""


class Problem(Record):
    """The one shape of all errors: problem details, RFC 9457, as `application/problem+json`."""

    type: str
    """Which kind of problem, such as `/problems/image-refused`; the same kind has the same type."""
    title: str
    """The kind in words."""
    status: int
    """Status code of the answer."""
    detail: str
    """What is wrong in this case and what would be right."""
    instance: str
    """Path of the request."""
    request_id: str
    """Identity of the request, which the log holds as well; also the header X-Request-ID."""
    errors: list[FieldError] = []
    """The fields that are not as required, for a request that does not fit the schema."""


# Search


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
    labels: list[str] = []
    """Consider only items with one of these labels; empty for all."""
    where: Metadata = {}
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


# Items


class ItemRecord(Record):
    """An item of the gallery."""

    id: str
    label: str | None
    metadata: Metadata


class ItemPage(Record):
    """Some items in the order of their ids."""

    items: list[ItemRecord]
    cursor: str | None
    """Where the next page begins; None at the end."""


class ItemChange(Body):
    """What to change of an item; what is left out stays."""

    label: str | None = None
    """New label."""
    metadata: Metadata | None = None
    """New metadata, in place of all the old ones."""


class ItemIds(Body):
    """Items to remove."""

    ids: list[str] = Field(min_length=1, max_length=10_000)


class Removed(Record):
    """How many items were removed."""

    removed: int


class Refused(Record):
    """An image that was not taken."""

    name: str
    """File name as sent."""
    reason: str


class AddAnswer(Record):
    """What was added to the gallery."""

    added: list[ItemRecord]
    known: int
    """How many of the images were items already."""
    refused: list[Refused]


# Classes


class ClassRecord(Record):
    """A class: learned, or only a label of items."""

    name: str
    items: int
    """Number of items with this label."""
    learned_in: str | None
    """Generation that learned it first, on the line of the one that serves; None for a label that was not learned."""
    representative: list[str]
    """Ids of up to four items nearest to the middle of the class."""


class ClassList(Record):
    """All classes by name."""

    classes: list[ClassRecord]


class ClassName(Body):
    """The new name of a class."""

    name: str = Field(min_length=1, max_length=200)


class ClassTarget(Body):
    """The class that takes another one in."""

    into: str = Field(min_length=1, max_length=200)


class ClassChange(Record):
    """What renaming or merging changed."""

    name: str
    items: int
    """Number of items with the new label."""


class Confusion(Record):
    """Two classes that are found for each other."""

    classes: tuple[str, str]
    share: float
    """Share of their items whose nearest other item is of the other class."""
    pairs: list[tuple[str, str]]
    """Up to six pairs of items that cause it: an item, and the item of the other class that is nearest to it."""


class ConfusionList(Record):
    """The most confused pairs of classes, the worst first."""

    confusions: list[Confusion]
    items: int
    """Number of items that were compared."""


class Taught(Record):
    """A class was taught: a generation was made, and if its gate passed it answers queries."""

    name: str
    generation: str
    images: int
    """Number of images that were learned."""
    refused: list[Refused]
    serving: bool
    """Whether the new generation answers queries."""
    gate: list[str]
    """Why not; empty where it does."""
    seconds: float


# Generations


class GenerationRecord(Record):
    """One generation of the model."""

    name: str
    parent: str | None
    created: str
    method: str
    classes: int
    """Number of classes learned so far."""
    new_classes: list[str]
    extended_classes: list[str]
    images: int | None
    """Number of training images of its session."""
    seconds: float | None
    serving: bool
    measured: dict[str, dict[str, Any] | None]
    """Retrieval figures of held-out images of the new classes, by this generation and by its parent."""
    coverage: float
    """Share of the items that have a vector of this generation's space."""
    retained: float | None = None
    """Share of recall@1 and mAP@R on old classes that was kept when its gate was measured last; None where it was not
    measured."""


class ServingChange(Record):
    """One change of the generation that answers."""

    kind: str
    generation: str | None
    time: str
    forced: bool


class GenerationList(Record):
    """The line of generations."""

    generations: list[GenerationRecord]
    serving: str | None
    revision: int
    """Number of changes of the serving generation so far; promote and rollback state the one they were decided on."""
    history: list[ServingChange]


class FlippedQuery(Record):
    """A probe image that was answered rightly before and wrongly after, or the other way round."""

    index: int
    """Number of the probe image; see `GET /v1/generations/{name}/gate/{index}/image`."""
    label: str
    before: str | None
    """Label of the best item by the serving generation."""
    after: str | None
    """Label of the best item by the candidate."""


class GateCheck(Record):
    """One limit of the gate and what was measured."""

    name: str
    measured: float | None
    limit: float
    kind: str
    passed: bool | None
    images: int


class GateAnswer(Record):
    """What would change if a generation answered queries."""

    generation: str
    serving: str
    passed: bool
    reasons: list[str]
    checks: list[GateCheck]
    flips: list[FlippedQuery]
    """Negative flips."""


class PromoteRequest(Body):
    """Let a generation answer queries."""

    revision: int
    """The revision of the serving file that this was decided on; refused with 409 if it has changed since."""
    force: bool = False
    """Promote even if the gate fails."""


class RollbackRequest(Body):
    """Let an earlier generation answer again."""

    revision: int
    generation: str | None = None
    """None: the one that answered before."""


class ServingRecord(Record):
    """Which generation answers, after a change."""

    serving: str
    revision: int


# Uploads, jobs, unknown queries


class CheckFinding(Record):
    """One thing that the check of a folder found."""

    kind: Literal["unreadable", "duplicate", "near_duplicate", "known", "tiny_class", "suspected_label"]
    message: str
    images: list[str]
    """Names of the images inside the upload."""
    items: list[str]
    """Ids of items of the gallery that it concerns."""


class CheckAnswer(Record):
    """What is in an upload, before anything is learned from it."""

    upload: str
    """Identity of the upload."""
    images: int
    classes: dict[str, int]
    """Number of readable images by class."""
    new_classes: list[str]
    known_classes: list[str]
    findings: list[CheckFinding]


class JobRequest(Body):
    """Work to be done by a process of its own."""

    kind: Literal["learn", "backfill", "export", "forget"]
    upload: str | None = None
    """learn: identity of an upload."""
    method: str | None = None
    """learn: name of a method; None for that of the catalogue."""
    add: bool = True
    """learn: add the images to the gallery as well."""
    leave_out: list[str] = []
    """learn: names of images in the upload that are not used."""
    generation: str | None = None
    """export: name of the generation; None for the serving one."""
    classes: list[str] = []
    """forget: names of classes."""
    items: list[str] = []
    """forget: ids of items."""


class JobRecord(Record):
    """A job and how far it is."""

    id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]
    """interrupted: the service ended while it ran; it goes on by itself after the restart."""
    created: str
    started: str | None
    ended: str | None
    step: str | None
    """What it is doing, in words."""
    done: int | None
    total: int | None
    result: dict[str, Any] | None
    """What it made, by kind: learn {generation, classes, images, added}, backfill {done, remaining}, export {path},
    forget {removed, generations, report}: entries removed by place, the generations made, by those that they replace,
    and what was not removed and why."""
    problem: str | None
    """Why it failed: one line."""


class JobList(Record):
    """All jobs, the newest first."""

    jobs: list[JobRecord]


class UnknownQuery(Record):
    """A query that matched nothing and whose image was kept."""

    query: str
    """Content hash; see `GET /v1/unknown/{query}/image`."""
    time: str
    nearest: str | None
    """Label of its best hit."""


class UnknownGroup(Record):
    """Unknown queries that resemble each other."""

    queries: list[UnknownQuery]


class UnknownAnswer(Record):
    """Whether recent queries look like classes that were never learned."""

    groups: list[UnknownGroup]
    message: str | None
    """What the evidence says, in a sentence; None where there is no evidence of new classes."""


# The catalogue and the service


class CatalogueRecord(Record):
    """The catalogue in figures, and what the caller may do."""

    name: str
    items: int
    unembedded: int
    classes: int
    serving: str | None
    revision: int
    scopes: list[Scope]
    """What the caller's key allows; everything where the service runs without keys."""
    keys_required: bool
    teaches: bool
    """Whether a class can be taught in seconds, because the catalogue learns in closed form."""
    explains: bool
    """Whether hits can be explained."""
    false_match_rate: float
    version: str


class Ready(Record):
    """Whether the service answers queries."""

    ready: bool
    detail: str
