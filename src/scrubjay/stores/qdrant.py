"""Qdrant (`qdrant://host:6333/collection`): a server for large galleries; `qdrant:///folder` for tests and trials.

Needs `pip install 'scrubjay[qdrant]'` and a server of 1.18 or newer, which adds and drops named vectors while it
answers; its key, when it wants one, is taken from the variable QDRANT_API_KEY. A folder is the client's own local
mode: a scan in Python, one process at a time.

An item is a point, a space a named vector. Vectors are compared by their dot product, which for unit vectors is the
cosine, because Qdrant rescales vectors that it is to compare by cosine. There are no transactions: a write is sent in
blocks, each block may be done in part when the server or the client dies, and nothing counts before all of it is
there, so that doing it again completes it.

Tested: all of the stores' common suite against the local mode, and against the engine itself (qdrant-edge, which is the
server's storage and search as a library, behind the calls that the client would make). Not tested here: a server, its
replication and its sharding, since none can be had from a package index; with QDRANT_URL=qdrant://host:6333 the suite
runs against that one too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scrubjay.errors import DataError
from scrubjay.stores import Item, Space, Store, checked, same_space, unknown_space
from scrubjay.stores import _qdrant_points as points
from scrubjay.stores._filters import checked_filter, valid_unicode
from scrubjay.stores._qdrant_client import QdrantClient, address, models, opened, translated
from scrubjay.stores._ranking import SPARE, ranked, settled

_BLOCK = 1000  # points of a request
_MOST_BY_INDEX = 1000  # more neighbours than these are a good part of what an index would look at in any case
_NUMBERS = 1 << 18  # coordinates of a request: some megabytes of JSON, of the 32 that a server takes


class QdrantStore(Store):
    """One collection; its spaces are its vectors' names, and what counts is in the payload of its points."""

    def __init__(self, url: str) -> None:
        self.address = address(url)
        self._name = self.address.collection

    @cached_property
    def _opened(self) -> Any:
        found = opened(self.address)
        with translated(self.address):
            _make(found.client, self._name, served=self.address.folder is None)
        return found

    @property
    def _client(self) -> QdrantClient:
        client: QdrantClient = self._opened.client
        return client

    def put_items(self, items: Iterable[Item]) -> None:
        spaces = self.spaces()
        for block in _batches(items, _BLOCK):
            last = {item.id: item for item in block}
            there = self._payloads(last)
            new = [
                models.PointStruct(id=points.point_id(name), vector={}, payload=points.payload(item))
                for name, item in last.items()
                if name not in there
            ]
            insert = [models.UpsertOperation(upsert=models.PointsList(points=new))] if new else []
            replace = (points.item_replaced(last[name], there[name], spaces) for name in there)
            self._write([*insert, *(operation for some in replace for operation in some)])

    def delete(self, ids: Iterable[str]) -> int:
        deleted = 0
        for block in _batches(valid_unicode(ids), _BLOCK):
            deleted += self._count(points.among(block))
            with translated(self.address):
                self._client.delete(self._name, models.FilterSelector(filter=points.among(block)), wait=True)
        return deleted

    def items(self, ids: Sequence[str] | None = None) -> Iterator[Item]:
        for block in _batches(self._ids(None) if ids is None else valid_unicode(ids), _BLOCK):
            found = self._payloads(block)
            yield from (points.item(found[name]) for name in block if name in found)

    def count(self) -> int:
        return self._count(None)

    def create_space(self, space: Space) -> None:
        name = points.vector_name(space)
        if space.id not in self._registered():
            config = models.DenseVectorConfig(size=space.dim, distance=models.Distance.DOT)
            with translated(self.address):
                self._client.create_vector_name(self._name, name, models.DenseVectorNameConfig(dense=config))
                if self.address.folder is None:
                    _index(self._client, self._name, f"current_{space.id}")
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
        known = {name: found for block in _batches(last, _BLOCK) for name, found in self._payloads(block).items()}
        unknown = [name for name in last if name not in known]
        if unknown:
            raise DataError(f"no item {unknown[0]!r} ({len(unknown)} such ids); put the items before their vectors.")
        for block in _batches(last, max(1, min(_BLOCK, _NUMBERS // space.dim))):
            hashes = {name: known[name]["content_hash"] for name in block}
            stale = [name for name in block if known[name].get(f"hash_{space.id}", hashes[name]) != hashes[name]]
            before = [points.forgotten(space, stale)] if stale else []
            self._write([*before, *points.vectors_written(space, {name: array[last[name]] for name in block}, hashes)])

    def coverage(self, space: Space) -> tuple[int, int]:
        if space.id not in self._registered():
            return 0, self.count()
        self._space(space.id, expected=space)
        held = self._count(points.is_current(space))
        return held, self.count() - held

    def missing(self, space_id: str, limit: int | None = None) -> list[str]:
        return self._ids(models.Filter(must_not=[points.is_current(self._space(space_id))]))[:limit]

    def vectors(self, space_id: str, ids: Sequence[str] | None = None) -> tuple[list[str], NDArray[np.float32]]:
        space = self._space(space_id)
        blocks = [None] if ids is None else [points.among(block) for block in _batches(valid_unicode(ids), _BLOCK)]
        found = {}
        for among in blocks:
            condition = points.is_current(space)
            for record in self._scroll(models.Filter(must=[condition, *([among] if among else [])]), ["id"], space):
                found[record.payload["id"]] = np.asarray(record.vector[points.vector_name(space)], np.float32)
        names = sorted(found, key=str.encode) if ids is None else [name for name in ids if name in found]
        return names, np.asarray([found[name] for name in names], np.float32).reshape(len(names), space.dim)

    def stored(self, space_id: str) -> Iterator[tuple[list[str], list[str], NDArray[np.float32]]]:
        space = self._space(space_id)
        everything = models.Filter(must=[models.HasVectorCondition(has_vector=points.vector_name(space))])
        records = self._scroll(everything, ["id", f"hash_{space.id}"], space)
        for block in _batches(records, _BLOCK):
            vectors = np.asarray([record.vector[points.vector_name(space)] for record in block], np.float32)
            hashes = [record.payload.get(f"hash_{space.id}", "") for record in block]
            yield [record.payload["id"] for record in block], hashes, vectors

    def drop_embeddings(self, space_id: str, ids: Iterable[str]) -> int:
        space, dropped = self._space(space_id), 0
        has = models.HasVectorCondition(has_vector=points.vector_name(space))
        for block in _batches(valid_unicode(ids), _BLOCK):
            condition = models.Filter(must=[has, points.among(block)])
            dropped += self._count(condition)
            with translated(self.address):
                self._client.delete_payload(self._name, points.payload_keys(space), condition, wait=True)
                self._client.delete_vectors(self._name, [points.vector_name(space)], condition, wait=True)
        return dropped

    def maintain(self) -> None:
        """Nothing: the server's optimiser compacts and indexes by itself."""

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
        found = self._nearest(space, array, condition, asked, exact)
        short = [row for row, records in enumerate(found) if not exact and len(records) < k]
        for row, records in zip(short, self._nearest(space, array[short], condition, asked, True), strict=True):
            found[row] = records
        return [
            self._best(space, query, k, condition, records, exact) for query, records in zip(array, found, strict=True)
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
        name, found = points.vector_name(space), []
        served = self.address.folder is None  # the local mode scans in any case, and warns of parameters
        parameters = models.SearchParams(exact=exact, hnsw_ef=max(128, 2 * limit)) if served else None
        for block in _batches(queries, max(1, min(64, _NUMBERS // (space.dim * limit)))):
            requests = [
                models.QueryRequest(
                    query=query.tolist(),
                    using=name,
                    filter=condition,
                    params=parameters,
                    limit=limit,
                    with_payload=points.FIELDS,
                    with_vector=[name],
                )
                for query in block
            ]
            with translated(self.address):
                found += [answer.points for answer in self._client.query_batch_points(self._name, requests)]
        return found

    def _write(self, operations: list[Any]) -> None:
        if self.address.folder is not None:
            operations = [points.unconditional(operation) for operation in operations]
        if operations:
            with translated(self.address):
                self._client.batch_update_points(self._name, operations, wait=True)

    def _payloads(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The payloads of those items that exist, by their ids."""
        hashed = [points.point_id(name) for name in valid_unicode(ids)]
        with translated(self.address):
            records = self._client.retrieve(self._name, hashed, with_payload=True) if hashed else []
        return {record.payload["id"]: record.payload for record in records if record.payload}

    def _ids(self, condition: Any) -> list[str]:
        """Ids of the items that meet a condition, in order: Qdrant cannot sort by them."""
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
        found = (points.space(name, parameters.size) for name, parameters in vectors.items())
        return {space.id: space for space in found}

    def _space(self, space_id: str, expected: Space | None = None) -> Space:
        registered = self._registered()
        if space_id not in registered:
            raise unknown_space(space_id, registered.values())
        same_space(expected or registered[space_id], registered[space_id])
        return registered[space_id]


def _make(client: QdrantClient, name: str, served: bool) -> None:
    if client.collection_exists(name):
        return
    try:
        client.create_collection(name, vectors_config={})
    except Exception:
        if not client.collection_exists(name):  # else another process was first
            raise
    if served:  # the local mode has none, and warns
        for field in ("content_hash", "label", "facts"):
            _index(client, name, field)


def _index(client: QdrantClient, name: str, field: str) -> None:
    client.create_payload_index(name, field, models.PayloadSchemaType.KEYWORD, wait=True)


def _batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(values)
    while block := list(islice(iterator, size)):
        yield block
