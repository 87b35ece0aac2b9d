"""Answers of the core as the bodies that the service sends."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from scrubjay.models.explanation import Contributions, Explanation
from scrubjay.search.match_decision import meaning
from scrubjay.search.request import Answer
from scrubjay.service.schemas.base import Scope
from scrubjay.service.schemas.search import AnswerRecord, CompareAnswer, ContributionMap, ExplainAnswer, HitRecord, Move


def answer_record(
    answer: Answer, false_match_rate: float, query: str | None, scopes: Sequence[Scope] = ()
) -> AnswerRecord:
    """The body of an answer.

    Args:
        answer: what was found.
        false_match_rate: of the catalogue.
        query: content hash of the query image; None for combined queries.
        scopes: what the caller may do; administrators see where the images are.
    """
    hits = [
        HitRecord(
            id=hit.id,
            label=hit.label,
            score=hit.score,
            match=hit.match,
            generation=hit.generation,
            metadata=dict(hit.metadata),
            uri=hit.uri if "admin" in scopes else None,
        )
        for hit in answer.hits
    ]
    return AnswerRecord(
        hits=hits,
        generation=answer.generation,
        matched=answer.matched,
        match_score=answer.match_score,
        threshold=answer.threshold,
        match_basis=answer.match_basis,
        meaning=meaning(answer.match_basis, false_match_rate),
        unembedded=answer.unembedded,
        query=query,
    )


def compare_answer(before: AnswerRecord, after: AnswerRecord) -> CompareAnswer:
    """Two answers to one query and the items whose rank differs.

    >>> one = AnswerRecord.model_construct(hits=[HitRecord.model_construct(id=name) for name in "ab"])
    >>> other = AnswerRecord.model_construct(hits=[HitRecord.model_construct(id=name) for name in "bc"])
    >>> [(move.id, move.before, move.after) for move in moves(one, other)]
    [('b', 2, 1), ('c', None, 2), ('a', 1, None)]
    """
    return CompareAnswer(before=before, after=after, moves=moves(before, after))


def moves(before: AnswerRecord, after: AnswerRecord) -> list[Move]:
    """The items whose rank differs, in the order of the later answer, then those that are gone."""
    earlier = {hit.id: rank for rank, hit in enumerate(before.hits, 1)}
    later = {hit.id: rank for rank, hit in enumerate(after.hits, 1)}
    gone = [name for name in earlier if name not in later]
    all_moves = [Move(id=name, before=earlier.get(name), after=later.get(name)) for name in (*later, *gone)]
    return [move for move in all_moves if move.before != move.after]


def explain_answer(explanation: Explanation) -> ExplainAnswer:
    """The body of an explanation."""
    return ExplainAnswer(
        score=explanation.score, query=_contributions(explanation.query), item=_contributions(explanation.hit)
    )


def _contributions(part: Contributions) -> ContributionMap:
    encoded = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(part.image)).save(encoded, "JPEG", quality=90)
    url = f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return ContributionMap(
        values=_rows(part.positions), contrast=_rows(part.contrast), remainder=part.remainder, crop=url
    )


def _rows(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> list[list[float]]:
    rows: Sequence[Sequence[float]] = values.astype(float).tolist()
    return [list(row) for row in rows]
