"""Qdrant (`qdrant://host:6333/collection`): a server for large galleries, or a folder (`qdrant:///folder`) for trials.

Requires `pip install 'scrubjay[qdrant]'` and a server of version 1.18 or newer, which can add and drop named vectors
of a collection in use; an API key is read from the variable QDRANT_API_KEY. A folder uses the client's local mode: a
scan in Python, one process at a time.

An item is a point, a space is a named vector; features are in collections of their own. Vectors are compared by dot
product, which for unit vectors is the cosine, because Qdrant normalises vectors again in collections with cosine
distance. There are no transactions: writes are sent in blocks, and a crash of server or client may leave a block
written in part. Its vectors are not current until all of the block is written, and repeating the write completes it.

Tested by the common suite of all stores: the local mode, and the engine (qdrant-edge, the server's storage and search
as a library). A server is tested only where QDRANT_URL=qdrant://host:6333 names one; replication and sharding are not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrubjay.errors import DataError
from scrubjay.stores import Item, Space, Store, checked, same_space, unknown_space
from scrubjay.stores import _qdrant_points as points
from scrubjay.stores._filters import checked_after, checked_filter, valid_unicode
from scrubjay.stores._qdrant_client import (
    QdrantClient,
    address,
    index_payload,
    make_collection,
    models,
    opened,
    translated,
)
from scrubjay.stores._qdrant_features import QdrantFeatures
from scrubjay.stores._ranking import SPARE, ranked, settled

_BLOCK = 1000  # points in a request
_MOST_BY_INDEX = 1000  # largest k answered by the index; for more, the index visits a large part of the vectors anyway
_NUMBERS = 1 << 18  # coordinates in a request: some megabytes of JSON, of the 32 MB that a server accepts


class QdrantStore(Store):
    """One collection. Each space is a named vector; the payload of a point says which of its vectors are current."""

    def __init__(self, url: str) -> None:
        self.address = address(url)
        self._name = self.address.collection

    @cached_property
    def _opened(self) -> Any:
        client = opened(self.address)
        with translated(self.address):
            make_collection(client.client, self._name, served=self.address.folder is None)
        return client

    @property
    def _client(self) -> QdrantClient:
        client: QdrantClient = self._opened.client
        return client

    @property
    def features(self) -> QdrantFeatures:
        return QdrantFeatures(self._client, self.address, self._payloads)

    def put_items(self, items: Iterable[Item]) -> None:
        spaces = self.spaces()
        for block in points.batches(items, _BLOCK):
            last = {item.id: item for item in block}
            stored = self._payloads(last)
            new = [
                models.PointStruct(id=points.point_id(name), vector={}, payload=points.payload(item))
                for name, item in last.items()
                if name not in stored
            ]
            operations: list[Any] = []
            if new:
                operations.append(models.UpsertOperation(upsert=models.PointsList(points=new)))
            for name in stored:
                operations += points.replace_item(last[name], stored[name], spaces)
            self._write(operations)

    def delete(self, ids: Iterable[str]) -> int:
        deleted = 0
        for block in points.batches(valid_unicode(ids), _BLOCK):
            deleted += self._count(points.among(block))
            with translated(self.address):
                self._client.delete(self._name, models.FilterSelector(filter=points.among(block)), wait=True)
            self.features.delete(block)
        return deleted

    def items(self, ids: Sequence[str] | None = None) -> Iterator[Item]:
        for block in points.batches(self._ids(None) if ids is None else valid_unicode(ids), _BLOCK):
            payloads = self._payloads(block)
            yield from (points.item(payloads[name]) for name in block if name in payloads)

    def page(
        self,
        limit: int,
        after: str | None = None,
        labels: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Item]:
        """As in `Store`. Qdrant has no order of texts: the ids of all items that pass the filters are read."""
        ids = self._ids(points.having(labels, checked_filter(where)))
        first = 0 if checked_after(after) is None else bisect_right(ids, str(after).encode(), key=str.encode)
        return list(self.items(ids[first : first + limit]))

    def labels(self) -> tuple[list[str], list[str | None]]:
        labels = {record.payload["id"]: record.payload.get("label") for record in self._scroll(None, ["id", "label"])}
        return (ids := sorted(labels, key=str.encode)), [labels[name] for name in ids]

    def count(self) -> int:
        return self._count(None)

    def create_space(self, space: Space) -> None:
        name = points.vector_name(space)
        if space.id not in self._registered():
            config = models.DenseVectorConfig(size=space.dim, distance=models.Distance.DOT)
            with translated(self.address):
                self._client.create_vector_name(self._name, name, models.DenseVectorNameConfig(dense=config))
                if self.address.folder is None:
                    index_payload(self._client, self._name, f"current_{space.id}")
        same_space(space, self._registered()[space.id])

    def drop_space(self, space_id: str) -> None:
        space = self._registered().get(space_id)
        if space is not None:
            everything = models.Filter(must=[models.HasVectorCondition(has_vector=points.vector_name(space))])
            with translated(self.address):
                self._client.delete_payload(self._name, points.payload_keys(space), everything, wait=True)
                self._client.delete_vector_name(self._name, points.vector_name(space))

    def spaces(self) -> list[Space]:
        return sorted(self._registered().values(), key=lambda space: (space.number, space.id))

    def put_embeddings(self, space: Space, ids: Sequence[str], vectors: ArrayLike) -> None:
        self._space(space.id, expected=space)
        array = checked(vectors, space)
        if len(ids) != len(array):
            raise DataError(f"{len(ids)} ids for {len(array)} vectors; give one id for each vector.")
        last = {name: row for row, name in enumerate(ids)}
        payloads = {
            name: each for block in points.batches(last, _BLOCK) for name, each in self._payloads(block).items()
        }
        unknown = [name for name in last if name not in payloads]
        if unknown:
            raise DataError(f"no item {unknown[0]!r} ({len(unknown)} such ids); put the items before their vectors.")
        for block in points.batches(last, max(1, min(_BLOCK, _NUMBERS // space.dim))):
            hashes = {name: payloads[name]["content_hash"] for name in block}
            stale = [name for name in block if payloads[name].get(f"hash_{space.id}", hashes[name]) != hashes[name]]
            operations = [points.invalidate(space, stale)] if stale else []
            operations += points.write_vectors(space, {name: array[last[name]] for name in block}, hashes)
            self._write(operations)

    def coverage(self, space: Space) -> tuple[int, int]:
        if space.id not in self._registered():
            return 0, self.count()
        self._space(space.id, expected=space)
        embedded = self._count(points.is_current(space))
        return embedded, self.count() - embedded

    def missing(self, space_id: str, limit: int | None = None) -> list[str]:
        return self._ids(models.Filter(must_not=[points.is_current(self._space(space_id))]))[:limit]

    def vectors(self, space_id: str, ids: Sequence[str] | None = None) -> tuple[list[str], NDArray[np.float32]]:
        space = self._space(space_id)
        conditions = [points.is_current(space)]
        if ids is not None:
            blocks = points.batches(valid_unicode(ids), _BLOCK)
            conditions = [models.Filter(must=[points.is_current(space), points.among(block)]) for block in blocks]
        by_id = {}
        for condition in conditions:
            for record in self._scroll(condition, ["id"], space):
                by_id[record.payload["id"]] = np.asarray(record.vector[points.vector_name(space)], np.float32)
        names = sorted(by_id, key=str.encode) if ids is None else [name for name in ids if name in by_id]
        return names, np.asarray([by_id[name] for name in names], np.float32).reshape(len(names), space.dim)

    def stored(self, space_id: str) -> Iterator[tuple[list[str], list[str], NDArray[np.float32]]]:
        space = self._space(space_id)
        everything = models.Filter(must=[models.HasVectorCondition(has_vector=points.vector_name(space))])
        records = self._scroll(everything, ["id", f"hash_{space.id}"], space)
        for block in points.batches(records, _BLOCK):
            vectors = np.asarray([record.vector[points.vector_name(space)] for record in block], np.float32)
            hashes = [record.payload.get(f"hash_{space.id}", "") for record in block]
            yield [record.payload["id"] for record in block], hashes, vectors

    def drop_embeddings(self, space_id: str, ids: Iterable[str]) -> int:
        space, dropped = self._space(space_id), 0
        has = models.HasVectorCondition(has_vector=points.vector_name(space))
        for block in points.batches(valid_unicode(ids), _BLOCK):
            condition = models.Filter(must=[has, points.among(block)])
            dropped += self._count(condition)
            with translated(self.address):
                self._client.delete_payload(self._name, points.payload_keys(space), condition, wait=True)
                self._client.delete_vectors(self._name, [points.vector_name(space)], condition, wait=True)
        return dropped

    def maintain(self) -> None:
        """Has no effect: the server's optimiser compacts and indexes by itself."""

    def search(
        self,
        space: Space,
        queries: ArrayLike,
        k: int,
        labels: Sequence[str] | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        without: Sequence[str] = (),
        exact: bool = False,
    ) -> list[list[tuple[Item, float]]]:
        self._space(space.id, expected=space)
        array = checked(queries, space)
        condition = points.passing(space, labels, checked_filter(where), [self._space(name) for name in without])
        asked, exact = k + SPARE, exact or k > _MOST_BY_INDEX
        results = self._nearest(space, array, condition, asked, exact)
        short = [row for row, records in enumerate(results) if not exact and len(records) < k]
        for row, records in zip(short, self._nearest(space, array[short], condition, asked, True), strict=True):
            results[row] = records
        return [
            self._best(space, query, k, condition, records, exact)
            for query, records in zip(array, results, strict=True)
        ]

    def _best(
        self, space: Space, query: NDArray[np.float32], k: int, condition: Any, records: list[Any], exact: bool
    ) -> list[tuple[Item, float]]:
        asked = k + SPARE
        while not settled([record.score for record in records], k, asked, space.dim):
            asked *= 2
            (records,) = self._nearest(space, query[None], condition, asked, exact)
        items = [points.item(record.payload) for record in records]
        return ranked(items, [record.vector[points.vector_name(space)] for record in records], query, k)

    def _nearest(
        self, space: Space, queries: NDArray[np.float32], condition: Any, limit: int, exact: bool
    ) -> list[list[Any]]:
        results: list[list[Any]] = []
        served = self.address.folder is None  # the local mode always scans, and warns about parameters
        parameters = models.SearchParams(exact=exact, hnsw_ef=max(128, 2 * limit)) if served else None
        for block in points.batches(queries, max(1, min(64, _NUMBERS // (space.dim * limit)))):
            requests = [points.nearest(space, query, condition, parameters, limit) for query in block]
            with translated(self.address):
                results += [answer.points for answer in self._client.query_batch_points(self._name, requests)]
        return results

    def _write(self, operations: list[Any]) -> None:
        if self.address.folder is not None:
            operations = [points.unconditional(operation) for operation in operations]
        if operations:
            with translated(self.address):
                self._client.batch_update_points(self._name, operations, wait=True)

    def _payloads(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """By id, the payloads of the items that exist."""
        hashed = [points.point_id(name) for name in valid_unicode(ids)]
        with translated(self.address):
            records = self._client.retrieve(self._name, hashed, with_payload=True) if hashed else []
        return {record.payload["id"]: record.payload for record in records if record.payload}

    def _ids(self, condition: Any) -> list[str]:
        """Ids of the items that meet a condition, in id order; they are sorted here, since Qdrant cannot do so."""
        return sorted((record.payload["id"] for record in self._scroll(condition, ["id"])), key=str.encode)

    def _scroll(self, condition: Any, fields: list[str], space: Space | None = None) -> Iterator[Any]:
        limit, offset = (_BLOCK if space is None else max(1, min(_BLOCK, _NUMBERS // space.dim))), None
        vectors: Any = False if space is None else [points.vector_name(space)]
        while True:
            with translated(self.address):
                records, offset = self._client.scroll(
                    self._name, condition, limit=limit, offset=offset, with_payload=fields, with_vectors=vectors
                )
            yield from records
            if offset is None:
                return

    def _count(self, condition: Any) -> int:
        with translated(self.address):
            return self._client.count(self._name, condition, exact=True).count

    def _registered(self) -> dict[str, Space]:
        with translated(self.address):
            vectors: Any = self._client.get_collection(self._name).config.params.vectors or {}
        spaces = (points.space(name, parameters.size) for name, parameters in vectors.items())
        return {space.id: space for space in spaces}

    def _space(self, space_id: str, expected: Space | None = None) -> Space:
        registered = self._registered()
        if space_id not in registered:
            raise unknown_space(space_id, registered.values())
        same_space(expected or registered[space_id], registered[space_id])
        return registered[space_id]
