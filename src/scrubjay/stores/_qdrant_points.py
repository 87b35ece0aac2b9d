"""Items as points of Qdrant: their payload, the names of their vectors, and conditions on both.

The payload has the item's own fields and `facts`, its metadata as keywords, since a keyword can be matched whatever its
type and key; and for each space `hash_<space>`, the hash of the content that was embedded, and `current_<space>`,
whether that is still the item's content, since a filter cannot compare two fields.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import ConfigError
from scrubjay.stores import Item, Space
from scrubjay.stores._filters import valid_unicode
from scrubjay.stores._qdrant_client import models

FIELDS = ["id", "uri", "content_hash", "label", "metadata"]
_YES, _NO = "yes", "no"  # keywords, since the engine's Python package converts true to the number 1
_NAMESPACE = uuid.UUID("6f1a2a53-6a0e-5f0e-9f43-0d5c1d0f6a57")


def point_id(item_id: str) -> str:
    """The id of the item's point: a hash, since Qdrant accepts only numbers and UUIDs."""
    return str(uuid.uuid5(_NAMESPACE, item_id))


def payload(item: Item) -> dict[str, Any]:
    """The payload of the item's own fields. Metadata are JSON text, which preserves numbers exactly."""
    return {
        **{name: getattr(item, name) for name in FIELDS},
        "metadata": json.dumps(dict(item.metadata), allow_nan=False),
        "facts": facts(item.metadata),
    }


def item(stored: Mapping[str, Any]) -> Item:
    """The item of a payload; a field that was set to null is missing in it."""
    return Item(**{**{name: stored.get(name) for name in FIELDS}, "metadata": json.loads(stored["metadata"])})


def facts(metadata: Mapping[str, Any]) -> list[str]:
    """Each entry of the metadata as a keyword; equal numbers give the same keyword.

    >>> facts({"price": 2.0, "sold": True})
    ['["price", 2]', '["sold", true]']
    """
    whole = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in metadata.items()
    }
    return [json.dumps(pair, allow_nan=False) for pair in whole.items()]


def vector_name(space: Space) -> str:
    """The name of the space's vectors. It holds the whole identity of the space, so both are created in one step.

    Raises:
        ConfigError: Qdrant does not allow a vector of this name.
    """
    name = f"{space.id}.{space.generation}.{space.fingerprint}"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", name):
        raise ConfigError(
            f"space {space.id!r}: fingerprint {space.fingerprint!r}; for Qdrant use letters, digits, '_', '.' or '-', "
            "at most 200 together with id and generation."
        )
    return name


def space(name: str, dim: int) -> Space:
    """The space whose vectors have this name."""
    space_id, generation, fingerprint = name.split(".", 2)
    return Space(space_id, dim, fingerprint, generation)


def is_current(of: Space) -> models.Filter:
    """Condition: the point has a current vector of this space."""
    current = models.FieldCondition(key=f"current_{of.id}", match=models.MatchValue(value=_YES))
    return models.Filter(must=[models.HasVectorCondition(has_vector=vector_name(of)), current])


def among(ids: Iterable[str]) -> models.Filter:
    """Condition: the point is that of one of these items."""
    return models.Filter(must=[models.HasIdCondition(has_id=[point_id(name) for name in ids])])


def passing(
    of: Space, labels: Sequence[str] | None, where: Mapping[str, Any], without: Sequence[Space]
) -> models.Filter:
    """Condition: the point has a current vector of this space and passes the filters of a search."""
    must: list[Any] = [is_current(of), having(labels, where)]
    return models.Filter(must=must, must_not=[is_current(other) for other in without])


def having(labels: Sequence[str] | None, where: Mapping[str, Any]) -> models.Filter:
    """Condition: the item has one of these labels, and all these metadata."""
    must: list[Any] = []
    if labels is not None:
        must.append(models.FieldCondition(key="label", match=models.MatchAny(any=valid_unicode(labels))))
    for fact in facts(where):
        must.append(models.FieldCondition(key="facts", match=models.MatchValue(value=fact)))
    return models.Filter(must=must)


def nearest(of: Space, query: NDArray[np.float32], condition: Any, parameters: Any, limit: int) -> models.QueryRequest:
    """The request for the nearest items of a query (d,) that meet a condition, with their fields and vectors."""
    name = vector_name(of)
    return models.QueryRequest(
        query=query.tolist(),
        using=name,
        filter=condition,
        params=parameters,
        limit=limit,
        with_payload=FIELDS,
        with_vector=[name],
    )


def write_vectors(of: Space, rows: Mapping[str, NDArray[np.float32]], hashes: Mapping[str, str]) -> list[Any]:
    """Operations that write vectors of items: first the vectors, then the payload that marks them as current.

    Each takes effect only if the item still has the content that was embedded.

    Args:
        of: the space.
        rows: vectors float32 (d,) by item id.
        hashes: content hashes of the items by item id.
    """
    name = vector_name(of)
    points = [models.PointVectors(id=point_id(key), vector={name: row.tolist()}) for key, row in rows.items()]
    same = models.FieldCondition(key="content_hash", match=models.MatchAny(any=sorted({hashes[key] for key in rows})))
    vectors = models.UpdateVectors(points=points, update_filter=models.Filter(must=[same]))
    return [
        models.UpdateVectorsOperation(update_vectors=vectors),
        *(_set_where({"content_hash": hashes[key]}, key, _current(of, hashes[key])) for key in rows),
    ]


def replace_item(new: Item, old: Mapping[str, Any], spaces: Iterable[Space]) -> list[Any]:
    """Operations that replace an item whose payload is `old`.

    If its content changes, its vectors are marked as not current, except vectors that were made from the new content.
    """
    if old["content_hash"] == new.content_hash:
        return [_set(new.id, payload(new))]
    fields = {**payload(new), **{f"current_{of.id}": _NO for of in spaces}}
    restored = [of for of in spaces if old.get(f"hash_{of.id}") == new.content_hash]
    return [
        _set(new.id, fields),
        *(
            _set_where(
                {"content_hash": new.content_hash, f"hash_{of.id}": new.content_hash},
                new.id,
                _current(of, new.content_hash),
            )
            for of in restored
        ),
    ]


def invalidate(of: Space, ids: Iterable[str]) -> Any:
    """The operation that removes the hashes of these items' vectors, so that these cannot become current again."""
    keys = models.DeletePayload(keys=payload_keys(of), points=[point_id(name) for name in ids])
    return models.DeletePayloadOperation(delete_payload=keys)


def payload_keys(of: Space) -> list[str]:
    """Names of a space's fields in the payload of an item."""
    return [f"hash_{of.id}", f"current_{of.id}"]


def unconditional(operation: Any) -> Any:
    """The operation with its point's id instead of a filter: faster in local mode, where nobody else can write."""
    if isinstance(operation, models.SetPayloadOperation) and operation.set_payload.filter is not None:
        conditions: Any = operation.set_payload.filter.must
        values, points = operation.set_payload.payload, conditions[0].has_id
        return models.SetPayloadOperation(set_payload=models.SetPayload(payload=values, points=points))
    return operation


def _current(of: Space, content_hash: str) -> dict[str, Any]:
    return {f"hash_{of.id}": content_hash, f"current_{of.id}": _YES}


def _set(item_id: str, values: Mapping[str, Any]) -> Any:
    return models.SetPayloadOperation(set_payload=models.SetPayload(payload=dict(values), points=[point_id(item_id)]))


def _set_where(equal: Mapping[str, str], item_id: str, values: Mapping[str, Any]) -> Any:
    """Set payload if other fields still have the values that were read; another process may have changed them."""
    conditions: list[Any] = [models.HasIdCondition(has_id=[point_id(item_id)])]
    conditions += [models.FieldCondition(key=key, match=models.MatchValue(value=text)) for key, text in equal.items()]
    condition = models.Filter(must=conditions)
    return models.SetPayloadOperation(set_payload=models.SetPayload(payload=dict(values), filter=condition))


def batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The values in lists of at most `size`."""
    iterator = iter(values)
    while block := list(islice(iterator, size)):
        yield block
