"""What one query and one gate read and compute: each thing once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrubjay.catalogue import Catalogue
from scrubjay.generations import lineage
from scrubjay.generations.serving import ServingFile
from scrubjay.models import embedding
from scrubjay.promotion import gate_report
from scrubjay.search import query_image
from scrubjay.workspace.calibrations import Calibrations
from shops import copied


@pytest.fixture
def shop(tmp_path: Path) -> Catalogue:
    """g1 answers; five items have its vectors, ten are found over the bridge to g0."""
    shop = copied(tmp_path)
    shop.promote("g1", force=True)
    shop.add([tmp_path / "summer" / "train"])
    return Catalogue(shop.folder)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of the things that a query needs was read or computed."""
    counts: Counter[str] = Counter()

    def counted(owner: Any, name: str, key: str, bound: bool = False) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            counts[key] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, staticmethod(call) if bound else call)

    counted(query_image, "decode_to_resize", "decoded")
    counted(embedding, "fingerprint", "hashed")
    counted(lineage, "read_generation", "parsed")
    counted(Calibrations, "load", "calibrations", bound=True)
    counted(ServingFile, "read", "serving")
    counted(gate_report, "gallery_slices", "slices")
    return counts


def test_a_query_reads_and_computes_each_thing_once(shop: Catalogue, counts: Counter[str], tmp_path: Path) -> None:
    query = tmp_path / "summer" / "test" / "fig" / "100.png"
    first = shop.answer(query, 20)
    assert {hit.generation for hit in first.hits} == {"g0", "g1"}, "both spaces were searched"
    assert counts == {"decoded": 1, "hashed": 1, "parsed": 3, "calibrations": 1, "serving": 1}
    counts.clear()
    assert shop.answer(query, 20) == first
    assert counts == {"decoded": 1, "calibrations": 1, "serving": 1}, "weights and generations are known by now"


def test_a_gate_reads_the_gallery_once_for_each_side(shop: Catalogue, counts: Counter[str]) -> None:
    shop.gate("g2")
    assert counts["slices"] == 1, "of the serving generation; that of the candidate is handed in"
    assert (counts["parsed"], counts["hashed"]) == (3, 2)
