"""Trunk features in Qdrant: a collection for each era, whose points hold codes as base64 text in their payload.

They are never searched, so they are no vectors: the payload lies on disk, is not indexed, and takes a third of the
bytes in a request that numbers would. The collection of an era is named `<collection>.features.<era>`; a point of its
own holds the codec, and is written last, so that an era without it does not exist.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from scrubjay.stores import _qdrant_points as points
from scrubjay.stores._feature_codec import Codes, FeatureCodec
from scrubjay.stores._features import Block, FeatureStore, checked_era, unknown_items
from scrubjay.stores._filters import valid_unicode
from scrubjay.stores._qdrant_client import Address, QdrantClient, models, translated

_CODEC = "00000000-0000-0000-0000-000000000000"  # id of the point that holds the codec
_BYTES = 1 << 23  # of the codes in a request: 11 MB as text, of the 32 MB that a server accepts
_ITEMS = 1000  # points in a request without codes

Payloads = Callable[[Iterable[str]], Mapping[str, Mapping[str, Any]]]


class QdrantFeatures(FeatureStore):
    """Features of the items of one collection.

    Args:
        client: the client.
        address: location of the gallery.
        payloads: reads the payloads of items that exist, by id.
    """

    def __init__(self, client: QdrantClient, address: Address, payloads: Payloads) -> None:
        self._client = client
        self._address = address
        self._payloads = payloads
        self._prefix = f"{address.collection}.features."

    def create(self, era: str, codec: FeatureCodec) -> None:
        checked_era(era, codec)
        if era in self.codecs():
            return
        name, point = self._prefix + era, models.PointStruct(id=_CODEC, vector={}, payload={"codec": codec.to_text()})
        with translated(self._address):
            if not self._client.collection_exists(name):
                self._client.create_collection(name, vectors_config={})
        self._upsert(era, [point])

    def codecs(self) -> dict[str, FeatureCodec]:
        with translated(self._address):
            names = [each.name for each in self._client.get_collections().collections]
            eras = [name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix)]
            held = {era: self._retrieve(era, [_CODEC]) for era in eras}
        return {era: FeatureCodec.from_text(payloads[0]["codec"]) for era, payloads in held.items() if payloads}

    def drop(self, era: str) -> None:
        if era in self.codecs():
            with translated(self._address):
                self._client.delete_collection(self._prefix + era)

    def missing(self, era: str, limit: int | None = None) -> list[str]:
        self.codec(era)
        stored = {record.payload["id"]: record.payload["content_hash"] for record in self._scroll(era, [])}
        items = self._records(self._address.collection, None, ["id", "content_hash"], _ITEMS)
        lacking = (
            each.payload["id"] for each in items if stored.get(each.payload["id"]) != each.payload["content_hash"]
        )
        return sorted(lacking, key=str.encode)[:limit]

    def stored(self, era: str) -> Iterator[Block]:
        codec = self.codec(era)
        for block in points.batches(self._scroll(era, ["codes"], codec), self._size(codec)):
            payloads = [record.payload for record in block]
            codes = codec.from_bytes([base64.b64decode(payload["codes"]) for payload in payloads])
            yield [payload["id"] for payload in payloads], [payload["content_hash"] for payload in payloads], codes

    def remove(self, era: str, ids: Iterable[str]) -> int:
        self.codec(era)
        return self._remove(era, ids)

    def delete(self, ids: Iterable[str]) -> None:
        """Remove the features of these ids from every era."""
        names = list(ids)
        for era in self.codecs():
            self._remove(era, names)

    def _write(self, era: str, ids: list[str], codes: Codes) -> None:
        items: dict[str, Mapping[str, Any]] = {}
        for block in points.batches(ids, _ITEMS):
            items |= self._payloads(block)
        unknown_items(ids, items)
        codec = self.codec(era)
        rows = zip(ids, codec.to_bytes(codes), strict=True)
        for batch in points.batches(rows, self._size(codec)):
            self._upsert(
                era,
                [
                    models.PointStruct(
                        id=points.point_id(name),
                        vector={},
                        payload={
                            "id": name,
                            "content_hash": items[name]["content_hash"],
                            "codes": base64.b64encode(row).decode(),
                        },
                    )
                    for name, row in batch
                ],
            )

    def _read(self, era: str, ids: Sequence[str]) -> tuple[list[str], Codes]:
        codec, names, rows = self.codec(era), [], []
        for block in points.batches(dict.fromkeys(valid_unicode(ids)), min(_ITEMS, self._size(codec))):
            items = self._payloads(block)
            hashed = [points.point_id(name) for name in items]
            with translated(self._address):
                payloads = self._retrieve(era, hashed) if hashed else []
            for payload in payloads:
                if items[payload["id"]]["content_hash"] == payload["content_hash"]:
                    names.append(payload["id"])
                    rows.append(base64.b64decode(payload["codes"]))
        return names, codec.from_bytes(rows)

    def _remove(self, era: str, ids: Iterable[str]) -> int:
        removed, name = 0, self._prefix + era
        for block in points.batches(valid_unicode(ids), _ITEMS):
            with translated(self._address):
                removed += self._client.count(name, points.among(block), exact=True).count
                self._client.delete(name, models.FilterSelector(filter=points.among(block)), wait=True)
        return removed

    def _upsert(self, era: str, new: list[Any]) -> None:
        operation = models.UpsertOperation(upsert=models.PointsList(points=new))
        with translated(self._address):
            self._client.batch_update_points(self._prefix + era, [operation], wait=True)

    def _retrieve(self, era: str, ids: list[str]) -> list[dict[str, Any]]:
        """The payloads of those points of an era that exist."""
        records = self._client.retrieve(self._prefix + era, ids, with_payload=True)
        return [record.payload for record in records if record.payload]

    def _scroll(self, era: str, fields: list[str], codec: FeatureCodec | None = None) -> Iterator[Any]:
        """The points of an era with id, content hash and these fields, without the point of the codec."""
        condition = models.Filter(must_not=[models.HasIdCondition(has_id=[_CODEC])])
        size = _ITEMS if codec is None else min(_ITEMS, self._size(codec))
        return self._records(self._prefix + era, condition, ["id", "content_hash", *fields], size)

    def _records(self, name: str, condition: Any, fields: list[str], size: int) -> Iterator[Any]:
        offset = None
        while True:
            with translated(self._address):
                records, offset = self._client.scroll(
                    name, condition, limit=size, offset=offset, with_payload=fields, with_vectors=False
                )
            yield from records
            if offset is None:
                return

    @staticmethod
    def _size(codec: FeatureCodec) -> int:
        """Number of points with codes in a request."""
        return max(1, _BYTES // codec.bytes_per_item)
