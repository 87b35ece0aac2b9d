"""A generation that was learned elsewhere, as the first one of a line of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from scrubjay.generations.generation import Generation, GenerationInfo, SessionRecord, write_generation
from scrubjay.generations.lineage import Lineage
from scrubjay.generations.session_statistics import SessionStatistics
from scrubjay.models.embedder import Network


def adopt(
    lineage: Lineage,
    network: Network,
    record: SessionRecord,
    state: Mapping[str, Tensor],
    statistics: SessionStatistics | None,
    **origin: Any,
) -> Generation:
    """Write a generation without a parent.

    Args:
        lineage: the generations that it joins.
        network: its network.
        record: what its learner reported about it.
        state: what its method keeps for the next session, by name; empty where that is not known.
        statistics: statistics of all images that it has learned; None where they are not known.
        origin: further fields of its `GenerationInfo`, such as `pulled_from`.

    Raises:
        StorageError: the disk is full or the folder cannot be written; no generation is left behind.
    """
    name = lineage.next_name
    own, trunk = lineage.put_trunk(network)
    if statistics is not None:
        lineage.statistics.put(name, statistics)
    info = GenerationInfo(
        name=name,
        trunk=trunk,
        statistics=() if statistics is None else (name,),
        parent=None,
        line=(),
        network=network.options,
        **origin,
        **{field: getattr(record, field) for field in SessionRecord.model_fields},
    )
    return write_generation(lineage.folder, info, {"network": own, "method": state})
