"""Trunk features in LanceDB: for each era a table of fixed-size lists, which its row in the table `eras` names."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import pyarrow as pa

from scrubjay.stores import _lance_rows as rows_
from scrubjay.stores._feature_codec import Codes, FeatureCodec
from scrubjay.stores._features import Block, FeatureStore, checked_era, unknown_items
from scrubjay.stores._filters import valid_unicode
from scrubjay.stores._lance_rows import KEYS, TEXT, is_current
from scrubjay.stores._lance_table import KEY, Database, Table

INDEXED_FROM = 50_000
"""Number of rows above which ids are indexed: a scan of fewer takes some milliseconds."""
FRAGMENTS = 32
"""Number of fragments up to which none are merged, since that writes all rows again."""
FRAGMENT = 4096
"""Mean number of rows in a fragment from which none are merged."""
_ROWS = 1024  # rows in a block: 16 MB of float16 with 8,192 channels
_ERAS = pa.schema([KEY, pa.field("codec", TEXT, nullable=False), pa.field("table", TEXT, nullable=False)])


class LanceFeatures(FeatureStore):
    """Features of the items of one database. Tables are only appended to; rows are replaced by id and dropped whole."""

    def __init__(self, database: Database, items: Table) -> None:
        self._database = database
        self._items = items
        self._opened: dict[str, Table] = {}
        self._known: tuple[int, dict[str, tuple[FeatureCodec, str]]] = -1, {}

    def create(self, era: str, codec: FeatureCodec) -> None:
        checked_era(era, codec)
        if era in self._registered():
            return
        # A new name, so that a table left behind by an interrupted create or drop is never mistaken for this one.
        name = f"features-{era}-{uuid.uuid4().hex[:12]}"
        self._database.make(name, rows_.embeddings(codec.dim, pa.from_numpy_dtype(codec.dtype)))
        row = {"id": era, "codec": codec.to_text(), "table": name}
        self._database.make("eras", _ERAS)
        self._open("eras").put(pa.Table.from_pylist([row], schema=_ERAS), replace=False)  # the commit
        if self._registered()[era][1] != name:  # another process has registered the era meanwhile
            self._database.drop(name)

    def codecs(self) -> dict[str, FeatureCodec]:
        return {era: codec for era, (codec, _) in self._registered().items()}

    def drop(self, era: str) -> None:
        registered = self._registered()
        if era in registered:
            self._open("eras").delete([era])  # the commit
            self._database.drop(registered[era][1])

    def missing(self, era: str, limit: int | None = None) -> list[str]:
        rows = self._table(era).read(KEYS)
        items = self._items.read(KEYS)
        lacking = items.filter(pa.array(~is_current(items, rows))).sort_by("id")["id"]
        return cast(list[str], lacking[:limit].to_pylist())

    def stored(self, era: str) -> Iterator[Block]:
        for batch in self._table(era).blocks([*KEYS, "vector"], _ROWS):
            if len(batch):
                yield batch["id"].to_pylist(), batch["content_hash"].to_pylist(), rows_.array(batch)

    def remove(self, era: str, ids: Iterable[str]) -> int:
        table, names = self._table(era), set(valid_unicode(ids))
        return table.delete(names) if names else 0

    def delete(self, ids: Iterable[str]) -> None:
        """Remove the features of these ids from every era."""
        for era in self._registered():
            self.remove(era, ids)

    def maintain(self) -> None:
        """Remove features that are not current, merge many small fragments, and index the ids of large tables."""
        for era in self._registered():
            table = self._table(era)
            rows_.drop_stale(self._items, table)
            rows = table.count()
            if table.fragments() > max(FRAGMENTS, rows // FRAGMENT):
                table.compact()
            if rows > INDEXED_FROM:
                table.index_ids()

    def _write(self, era: str, ids: list[str], codes: Codes) -> None:
        hashes = rows_.content_hashes(self._items, ids)
        unknown_items(ids, hashes)
        columns = [ids, [hashes[name] for name in ids], rows_.lists(codes)]
        schema = rows_.embeddings(codes.shape[1], pa.from_numpy_dtype(codes.dtype))
        self._table(era).put(pa.table(columns, schema=schema))

    def _read(self, era: str, ids: Sequence[str]) -> tuple[list[str], Codes]:
        return rows_.current_rows(self._items, self._table(era), list(dict.fromkeys(valid_unicode(ids))))

    def _registered(self) -> dict[str, tuple[FeatureCodec, str]]:
        """By era, its codec and the name of its table."""
        if not self._database.has("eras"):
            return {}
        table = self._open("eras")
        version = table.version()
        if version != self._known[0]:
            rows = table.read(_ERAS.names).to_pylist()
            self._known = version, {row["id"]: (FeatureCodec.from_text(row["codec"]), row["table"]) for row in rows}
        return self._known[1]

    def _table(self, era: str) -> Table:
        self.codec(era)  # refuses an unknown era
        return self._open(self._registered()[era][1])

    def _open(self, name: str) -> Table:
        if name not in self._opened:
            self._opened[name] = self._database.open(name)
        return self._opened[name]
