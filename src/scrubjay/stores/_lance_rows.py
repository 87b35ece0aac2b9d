"""Items, spaces and vectors as rows of LanceDB tables, and which vectors are current."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scrubjay.stores import Item
from scrubjay.stores._lance_table import KEY, Table

KEYS = ["id", "content_hash"]
BLOCK = 4096
"""Number of rows that are handled at a time."""
TEXT = pa.string()
ITEMS = pa.schema(
    [
        KEY,
        pa.field("uri", TEXT, nullable=False),
        pa.field("content_hash", TEXT, nullable=False),
        pa.field("label", TEXT),
        pa.field("metadata", TEXT, nullable=False),
    ]
)
SPACES = pa.schema(
    [
        KEY,
        pa.field("dim", pa.int32(), nullable=False),
        pa.field("fingerprint", TEXT, nullable=False),
        pa.field("generation", TEXT, nullable=False),
        pa.field("table", TEXT, nullable=False),
    ]
)


def embeddings(dim: int, dtype: pa.DataType | None = None) -> pa.Schema:
    """The schema of a table of vectors, of float32 by default."""
    vector = pa.field("vector", pa.list_(dtype or pa.float32(), dim), nullable=False)
    return pa.schema([KEY, pa.field("content_hash", TEXT, nullable=False), vector])


def lists(vectors: NDArray[Any]) -> pa.Array:
    """Vectors (N, d) as an Arrow column of fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def array(rows: pa.Table | pa.RecordBatch) -> NDArray[Any]:
    """The column `vector` as an array (N, d) of its own type."""
    column = rows["vector"]
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors: NDArray[Any] = flat.reshape(-1, rows.schema.field("vector").type.list_size)
    return vectors


def row(item: Item) -> dict[str, Any]:
    """The row of an item."""
    values = {name: getattr(item, name) for name in Item.__slots__}
    return {**values, "metadata": json.dumps(dict(item.metadata), sort_keys=True, allow_nan=False)}


def item(row: Mapping[str, Any]) -> Item:
    """The item of a row."""
    return Item(**{**row, "metadata": json.loads(row["metadata"])})


def is_current(items: pa.Table, rows: pa.Table) -> NDArray[np.bool_]:
    """For each item whether one of these rows of a space is its current vector.

    Args:
        items: a table with the columns id and content_hash.
        rows: rows of a space with the same columns and distinct ids.

    Returns:
        bool (N,), one value for each item.
    """
    embedded = rows["content_hash"].take(pc.index_in(items["id"], value_set=rows["id"]))
    mask: NDArray[np.bool_] = pc.fill_null(pc.equal(embedded, items["content_hash"]), False).to_numpy()
    return mask


def current_rows(items: Table, table: Table, ids: list[str] | None) -> tuple[list[str], NDArray[Any]]:
    """Current vectors (N, d) of a table: all in id order, or those of `ids` in their order.

    Args:
        items: the table of items.
        table: a table of vectors.
        ids: ids of items.
    """
    if ids is not None and not ids:
        return [], array(table.read(["vector"], [""]))
    rows = table.read([*KEYS, "vector"], ids)
    rows = rows.filter(pa.array(is_current(rows, items.read(KEYS, ids))))
    order = (
        pc.sort_indices(rows["id"])
        if ids is None
        else pc.index_in(pa.array(ids, TEXT), value_set=rows["id"]).drop_null()
    )
    return rows["id"].take(order).to_pylist(), array(rows)[order.to_numpy()]


def content_hashes(items: Table, ids: Iterable[str]) -> dict[str, str]:
    """Content hashes by id, of the items that exist."""
    rows = items.read(KEYS, ids)
    return dict(zip(rows["id"].to_pylist(), rows["content_hash"].to_pylist(), strict=True))


def drop_stale(items: Table, table: Table) -> None:
    """Remove vectors of a table that are not current: their item was deleted or has another content."""
    rows = table.read(KEYS)
    stale = rows.filter(pa.array(~is_current(rows, items.read(KEYS))))
    for batch in stale.to_batches(BLOCK):
        # by content hash too, so that a vector that was written meanwhile is kept
        table.delete(batch["id"].to_pylist(), batch["content_hash"].to_pylist())


def having(metadata: pa.ChunkedArray, where: Mapping[str, Any]) -> NDArray[np.bool_]:
    """For each item's metadata (JSON text) whether they have all these values.

    Only texts that contain all keys, and the values that are text, are parsed: the others cannot match. Numbers are
    compared after parsing only, since a number can be written in several ways.
    """
    mask = np.ones(len(metadata), dtype=bool)
    for key, value in where.items():
        part = json.dumps(key) + ": " + (json.dumps(value) if isinstance(value, str) else "")
        mask &= pc.match_substring(metadata, part).to_numpy()
    rows = np.flatnonzero(mask)
    mask[rows] = [_has(json.loads(text), where) for text in metadata.take(pa.array(rows)).to_pylist()]
    return mask


def _has(values: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    return all(key in values and _same(values[key], value) for key, value in where.items())


def _same(one: Any, other: Any) -> bool:
    # in Python True equals 1, in JSON it does not
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
