"""Items of a LanceDB table page by page, in id order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from scrubjay.stores import Item
from scrubjay.stores._filters import valid_unicode
from scrubjay.stores._lance_rows import ITEMS, having, item
from scrubjay.stores._lance_table import Table, among

_MOST = 65_536  # rows of a block: a filter by metadata that few items pass reads larger and larger blocks


def page_of_items(
    table: Table, limit: int, after: str | None, labels: Sequence[str] | None, where: Mapping[str, Any]
) -> list[Item]:
    """See `Store.page`. Metadata are JSON text, so a filter by them looks at the rows of one block after another."""
    found: list[Item] = []
    labels = None if labels is None else valid_unicode(labels)
    if labels is not None and not labels:
        return []
    conditions = [] if labels is None else [among(labels, "label")]
    block = limit
    while len(found) < limit:
        rows = table.first(ITEMS.names, block, after, conditions)
        passing = rows.filter(pa.array(having(rows["metadata"], where))) if where else rows
        found += map(item, passing.to_pylist())
        if len(rows) < block:
            break
        after, block = rows["id"][-1].as_py(), min(2 * block, _MOST)
    return found[:limit]
