"""Qdrant's engine behind the calls of its client that the store makes: what a server's one shard would answer.

The engine (qdrant-edge) is the server's storage, filters and indices as a library; the network, collections of several
shards, and replicas are not in it.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from scrubjay.stores import _qdrant_client

_numbers = itertools.count()
_clients: dict[str, EngineClient] = {}
_edge: Any = None


def url(folder: Path) -> str:
    """The address of an empty gallery that lives in an engine in this process; skips where there is none."""
    global _edge  # noqa: PLW0603
    _edge = pytest.importorskip("qdrant_edge", reason="Qdrant's engine needs the package qdrant-edge-py")
    host = f"engine-{next(_numbers)}"
    _clients[host] = EngineClient(folder / host)
    _qdrant_client.QdrantClient = _client  # type: ignore[assignment, misc]
    return f"qdrant://{host}:6333/gallery"


def _client(url: str = "", **options: Any) -> Any:
    host = url.removeprefix("http://").partition(":")[0]
    return _clients[host] if host in _clients else QdrantClient(**({"url": url} if url else {}), **options)


class EngineClient:
    """Collections of one shard each."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path = path
        self._shards: dict[str, Any] = {}
        self._sizes: dict[str, dict[str, int]] = {}

    def info(self) -> Any:
        return SimpleNamespace(version="1.18.0")

    def close(self) -> None:
        """A server goes on when a client leaves."""

    def collection_exists(self, name: str) -> bool:
        return name in self._shards

    def create_collection(self, name: str, vectors_config: Any) -> None:
        assert vectors_config == {}
        unused = {"": _edge.EdgeVectorParams(size=1, distance=_edge.Distance.Dot)}  # a server needs none, a shard one
        soon = _edge.EdgeOptimizersConfig(indexing_threshold=50)  # kB, of which a test has some
        config = _edge.EdgeConfig(vectors=unused, wal_enabled=False, optimizers=soon)
        path = self._path / f"{next(_numbers)}"
        path.mkdir()
        self._shards[name], self._sizes[name] = _edge.EdgeShard.create(str(path), config), {}
        weakref.finalize(self, self._shards[name].close)

    def get_collections(self) -> Any:
        return SimpleNamespace(collections=[SimpleNamespace(name=name) for name in self._shards])

    def delete_collection(self, name: str) -> None:
        self._shards.pop(name).close()
        del self._sizes[name]

    def get_collection(self, name: str) -> Any:
        vectors = {name: SimpleNamespace(size=size) for name, size in self._sizes[name].items()}
        return SimpleNamespace(config=SimpleNamespace(params=SimpleNamespace(vectors=vectors)))

    def create_vector_name(self, collection: str, name: str, config: models.DenseVectorNameConfig) -> None:
        assert config.dense.distance == models.Distance.DOT
        self._update(collection, _edge.UpdateOperation.create_dense_vector(name, config.dense.size, _edge.Distance.Dot))
        self._sizes[collection][name] = config.dense.size

    def delete_vector_name(self, collection: str, name: str) -> None:
        self._update(collection, _edge.UpdateOperation.delete_vector_name(name))
        del self._sizes[collection][name]

    def create_payload_index(self, collection: str, field: str, schema: models.PayloadSchemaType, wait: bool) -> None:
        kind = getattr(_edge.PayloadSchemaType, schema.value.capitalize())
        self._update(collection, _edge.UpdateOperation.create_field_index(field, kind))

    def retrieve(self, collection: str, ids: Sequence[str], with_payload: bool) -> list[Any]:
        return list(self._shards[collection].retrieve(list(ids), with_payload, False))

    def count(self, collection: str, condition: Any, exact: bool) -> Any:
        return SimpleNamespace(
            count=self._shards[collection].count(_edge.CountRequest(exact=exact, filter=_filter(condition)))
        )

    def scroll(
        self, collection: str, condition: Any, *, limit: int, offset: Any, with_payload: list[str], with_vectors: Any
    ) -> tuple[list[Any], Any]:
        request = _edge.ScrollRequest(offset, limit, _filter(condition), with_payload, with_vectors)
        found: tuple[list[Any], Any] = self._shards[collection].scroll(request)
        return found

    def query_batch_points(self, collection: str, requests: Sequence[models.QueryRequest]) -> list[Any]:
        return [SimpleNamespace(points=self._query(collection, request)) for request in requests]

    def _query(self, collection: str, request: models.QueryRequest) -> list[Any]:
        assert request.params is not None
        query = _edge.QueryRequest(
            limit=request.limit,
            query=_edge.Query.Nearest(request.query, request.using),
            filter=_filter(request.filter),
            params=_edge.SearchParams(hnsw_ef=request.params.hnsw_ef, exact=bool(request.params.exact)),
            with_payload=request.with_payload,
            with_vector=request.with_vector,
        )
        found: list[Any] = self._shards[collection].query(query)
        return found

    def delete(self, collection: str, selector: models.FilterSelector, wait: bool) -> None:
        self._update(collection, _edge.UpdateOperation.delete_points_by_filter(_filter(selector.filter)))

    def delete_payload(self, collection: str, keys: list[str], condition: models.Filter, wait: bool) -> None:
        self._update(collection, _edge.UpdateOperation.delete_payload_by_filter(_filter(condition), keys))

    def delete_vectors(self, collection: str, names: list[str], condition: models.Filter, wait: bool) -> None:
        self._update(collection, _edge.UpdateOperation.delete_vectors_by_filter(_filter(condition), names))

    def batch_update_points(self, collection: str, operations: Sequence[Any], wait: bool) -> None:
        for operation in operations:
            self._update(collection, _operation(operation))

    def optimize(self) -> int:
        """What a server's optimiser does by itself; returns how many vectors are in an index now."""
        (shard,) = self._shards.values()
        shard.optimize()
        return int(shard.info().indexed_vectors_count)

    def _update(self, collection: str, operation: Any) -> None:
        self._shards[collection].update(operation)


def _operation(operation: Any) -> Any:
    make = _edge.UpdateOperation
    match operation:
        case models.UpsertOperation(upsert=models.PointsList(points=points)):
            return make.upsert_points([_edge.Point(point.id, point.vector, point.payload) for point in points])
        case models.SetPayloadOperation(set_payload=models.SetPayload(payload=payload, points=None, filter=condition)):
            return make.set_payload_by_filter(_filter(condition), payload)
        case models.SetPayloadOperation(set_payload=models.SetPayload(payload=payload, points=points)):
            return make.set_payload(points, payload)
        case models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=keys, points=points)):
            return make.delete_payload(points, keys)
        case models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=points, update_filter=condition)):
            return make.update_vectors([_edge.PointVectors(one.id, one.vector) for one in points], _filter(condition))
    raise NotImplementedError(operation)


def _filter(condition: models.Filter | None) -> Any:
    if condition is None:
        return None
    kinds = (condition.must or [], condition.must_not or [])
    must, must_not = ([_condition(one) for one in kind] for kind in kinds)  # type: ignore[union-attr]
    return _edge.Filter(must=must or None, must_not=must_not or None)


def _condition(condition: Any) -> Any:
    match condition:
        case models.Filter():
            return _filter(condition)
        case models.HasIdCondition(has_id=ids):
            return _edge.HasIdCondition(set(ids))
        case models.HasVectorCondition(has_vector=name):
            return _edge.HasVectorCondition(name)
        case models.FieldCondition(key=key, match=models.MatchValue(value=value)):
            return _edge.FieldCondition(key=key, match=_edge.MatchValue(value))
        case models.FieldCondition(key=key, match=models.MatchAny(any=values)):
            return _edge.FieldCondition(key=key, match=_edge.MatchAny(values))
    raise NotImplementedError(condition)
