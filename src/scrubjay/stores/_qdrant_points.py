"""A point of Qdrant is an item: how its payload, its vectors' names and the conditions on them are written.

Payload, beside the item's own fields: `facts`, its metadata as one keyword each, since a keyword can be matched
whatever the type and the key are; and for each space the hash of the content that was embedded, `hash_<space>`, and
whether that is still the item's, `current_<space>`, since a filter cannot compare two fields.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrubjay.errors import ConfigError
from scrubjay.stores import Item, Space
from scrubjay.stores._filters import valid_unicode
from scrubjay.stores._qdrant_client import models

FIELDS = ["id", "uri", "content_hash", "label", "metadata"]
_YES, _NO = "yes", "no"  # keywords: the engine's Python package takes true for the number 1
_NAMESPACE = uuid.UUID("6f1a2a53-6a0e-5f0e-9f43-0d5c1d0f6a57")


def point_id(item_id: str) -> str:
    """The id of the item's point: a hash, since Qdrant takes numbers and UUIDs only."""
    return str(uuid.uuid5(_NAMESPACE, item_id))


def payload(item: Item) -> dict[str, Any]:
    """The item's own fields. Metadata are text, which keeps numbers as they are."""
    return {
        **{name: getattr(item, name) for name in FIELDS},
        "metadata": json.dumps(dict(item.metadata), allow_nan=False),
        "facts": facts(item.metadata),
    }


def item(found: Mapping[str, Any]) -> Item:
    """The item of a payload; a field that was set to null is not there."""
    return Item(**{**{name: found.get(name) for name in FIELDS}, "metadata": json.loads(found["metadata"])})


def facts(metadata: Mapping[str, Any]) -> list[str]:
    """Each entry as a keyword; numbers that are equal are written alike.

    >>> facts({"price": 2.0, "sold": True})
    ['["price", 2]', '["sold", true]']
    """
    whole = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in metadata.items()
    }
    return [json.dumps(pair, allow_nan=False) for pair in whole.items()]


def vector_name(space: Space) -> str:
    """The name of the space's vectors, which is all of its identity: it cannot be half there, nor change.

    Raises:
        ConfigError: Qdrant cannot have a vector of this name.
    """
    name = f"{space.id}.{space.generation}.{space.fingerprint}"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", name):
        raise ConfigError(
            f"space {space.id!r}: fingerprint {space.fingerprint!r}; for Qdrant use letters, digits, '_', '.' or '-', "
            "200 with those of id and generation."
        )
    return name


def space(name: str, dim: int) -> Space:
    """The space whose vectors have this name."""
    space_id, generation, fingerprint = name.split(".", 2)
    return Space(space_id, dim, fingerprint, generation)


def is_current(of: Space) -> models.Filter:
    """Points whose vector of this space counts."""
    current = models.FieldCondition(key=f"current_{of.id}", match=models.MatchValue(value=_YES))
    return models.Filter(must=[models.HasVectorCondition(has_vector=vector_name(of)), current])


def among(ids: Iterable[str]) -> models.Filter:
    """Points of these items."""
    return models.Filter(must=[models.HasIdCondition(has_id=[point_id(name) for name in ids])])


def passing(
    of: Space, labels: Sequence[str] | None, where: Mapping[str, Any], without: Sequence[Space]
) -> models.Filter:
    """Points that a search of this space may find."""
    must: list[Any] = [is_current(of)]
    if labels is not None:
        must.append(models.FieldCondition(key="label", match=models.MatchAny(any=valid_unicode(labels))))
    for fact in facts(where):
        must.append(models.FieldCondition(key="facts", match=models.MatchValue(value=fact)))
    return models.Filter(must=must, must_not=[is_current(other) for other in without])


def vectors_written(of: Space, rows: Mapping[str, NDArray[np.float32]], hashes: Mapping[str, str]) -> list[Any]:
    """Operations that give items their vectors: first the vectors, then the words that make them count.

    Each takes effect only where the item still has the content that was embedded.

    Args:
        of: the space.
        rows: float32 (d,), by item id.
        hashes: of the items' contents, by item id.
    """
    name = vector_name(of)
    points = [models.PointVectors(id=point_id(key), vector={name: row.tolist()}) for key, row in rows.items()]
    same = models.FieldCondition(key="content_hash", match=models.MatchAny(any=sorted({hashes[key] for key in rows})))
    vectors = models.UpdateVectors(points=points, update_filter=models.Filter(must=[same]))
    return [
        models.UpdateVectorsOperation(update_vectors=vectors),
        *(_set_where({"content_hash": hashes[key]}, key, _current(of, hashes[key])) for key in rows),
    ]


def item_replaced(new: Item, old: Mapping[str, Any], spaces: Iterable[Space]) -> list[Any]:
    """Operations that replace an item whose payload is `old`: vectors of another content count no more.

    Those of a content that has come back count again.
    """
    if old["content_hash"] == new.content_hash:
        return [_set(new.id, payload(new))]
    fields = {**payload(new), **{f"current_{of.id}": _NO for of in spaces}}
    again = [of for of in spaces if old.get(f"hash_{of.id}") == new.content_hash]
    return [
        _set(new.id, fields),
        *(
            _set_where(
                {"content_hash": new.content_hash, f"hash_{of.id}": new.content_hash},
                new.id,
                _current(of, new.content_hash),
            )
            for of in again
        ),
    ]


def forgotten(of: Space, ids: Iterable[str]) -> Any:
    """The operation that leaves the vectors of these items without a hash: they do not count, whatever comes back."""
    keys = models.DeletePayload(keys=payload_keys(of), points=[point_id(name) for name in ids])
    return models.DeletePayloadOperation(delete_payload=keys)


def payload_keys(of: Space) -> list[str]:
    """What a space has in the payload of an item."""
    return [f"hash_{of.id}", f"current_{of.id}"]


def unconditional(operation: Any) -> Any:
    """The same operation by its point's id: quick where nobody else can write and a filter looks at all points."""
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
    """Set payload where other payload still is as it was read: another process may have been here since."""
    conditions: list[Any] = [models.HasIdCondition(has_id=[point_id(item_id)])]
    conditions += [models.FieldCondition(key=key, match=models.MatchValue(value=text)) for key, text in equal.items()]
    condition = models.Filter(must=conditions)
    return models.SetPayloadOperation(set_payload=models.SetPayload(payload=dict(values), filter=condition))
