"""SQL statements of the PostgreSQL store, except those of searches; `{}` is the table of a space."""

from __future__ import annotations

SPACES = """
select id, dim, fingerprint, generation, number,
    exists (select from pg_index where indexrelid = to_regclass('vectors_' || number || '_hnsw') and indisvalid)
from spaces
"""
REGISTER = """
insert into spaces (id, dim, fingerprint, generation) values (%s, %s, %s, %s) on conflict do nothing returning id
"""
PAGE_OF_ITEMS = "select id, uri, content_hash, label, metadata from items where id > %s order by id limit %s"
INCOMING_ITEMS = """
create temporary table incoming (
    number bigint, id text collate "C", uri text, content_hash text, label text, metadata json
) on commit drop
"""
COPY_ITEMS = "copy incoming from stdin"
MERGE_ITEMS = """
insert into items select distinct on (id) id, uri, content_hash, label, metadata from incoming order by id, number desc
on conflict (id) do update set uri = excluded.uri, content_hash = excluded.content_hash,
    label = excluded.label, metadata = excluded.metadata
"""
INCOMING_VECTORS = 'create temporary table incoming (id text collate "C", vector vector({})) on commit drop'
COPY_VECTORS = "copy incoming from stdin (format binary)"
MERGE_VECTORS = """
insert into {} select id, content_hash, vector from incoming join items using (id) order by id
on conflict (id) do update set content_hash = excluded.content_hash, vector = excluded.vector
"""
# Rows are locked in the order in which they are written: else two writers could deadlock.
DELETE = """
with locked as materialized (select id from {} where id = any(%s) order by id for update)
delete from {} where id in (select id from locked)
"""
COVERAGE = """
select count(e.id), count(*) - count(e.id)
from items i left join {} e on e.id = i.id and e.content_hash = i.content_hash
"""
MISSING = """
select i.id from items i where not exists (select from {} e where e.id = i.id and e.content_hash = i.content_hash)
order by i.id limit %s
"""
VECTORS = """
select i.id, vector_send(e.vector) from items i join {} e on e.id = i.id and e.content_hash = i.content_hash {}
order by i.id
"""
PAGE_OF_VECTORS = "select id, content_hash, vector_send(vector) from {} where id > %s order by id limit %s"
