from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from backfill_shop import BATCH, Shop, alike, killed, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from scrubjay import backfill
from scrubjay.backfill import Limits, pool, seconds_of
from scrubjay.backfill import limits as limiting
from scrubjay.backfill.state import read_journal
from scrubjay.data.photos import content_hash
from scrubjay.errors import CatalogueError, ConfigError, SpaceError
from scrubjay.stores import Item
from scrubjay.types import Sample
from tiny import IMAGES, paint


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "BATCH", BATCH)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return opened(tmp_path / "shop", 40)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return opened(tmp_path_factory.mktemp("shared") / "shop", 40)


def test_all_items_are_embedded_in_the_given_order(shop: Shop) -> None:
    order = shop.order[::-1]
    first = shop.run(order, items=10)
    assert (first.done, first.missing, first.limit, first.complete) == (10, 30, "items", False)
    assert set(shop.vectors()) == set(order[:10])
    done = shop.run(order)
    assert (done.done, done.missing, done.skipped, done.limit, done.complete) == (30, 0, (), None, True)
    assert done.images_per_second == pytest.approx(30 / done.seconds)
    alike(shop.vectors(), shop.expected())
    assert len(shop.rows()) == 40
    again = shop.run(order)
    assert (again.done, again.complete) == (0, True)


def test_images_that_cannot_be_embedded_are_listed_and_nothing_else_is_lost(shop: Shop) -> None:
    gone, changed, broken, box = (shop.items[index] for index in (0, 17, 39, 3))
    Path(gone.uri).unlink()
    paint(Path(changed.uri), 3, 999)
    Path(broken.uri).write_bytes(b"no image")
    text = content_hash(Sample(Path(broken.uri), 0))
    broken = Item(text, broken.uri, text)
    odd = replace(box, metadata={"box": "left"})
    store = shop.store
    store.delete([shop.items[39].id])
    store.put_items([broken, odd])
    shop.items[39] = broken
    done = shop.run()
    assert {name: (uri, reason) for name, uri, reason in done.skipped} == {
        gone.id: (gone.uri, "the file is missing or cannot be read"),
        changed.id: (changed.uri, "the file has changed since it was added"),
        broken.id: (broken.uri, "not an image; save it again as JPEG or PNG."),
        odd.id: (odd.uri, f"item {odd.id!r}: its box is 'left'; needed are four whole numbers: left,top,right,bottom."),
    }
    assert (done.done, done.missing, done.complete) == (36, 4, True)
    assert set(shop.vectors()) == set(shop.order) - {gone.id, changed.id, broken.id, odd.id}
    progress = read_journal(shop.journal)
    assert (progress.state, progress.done, set(progress.skipped)) == ("complete", 36, set(done.skipped))

    paint(Path(gone.uri), 0, 0)
    limited = shop.run(items=1)  # skipped items come last, so broken images do not use up the limit
    assert (limited.done, limited.missing) == (1, 3)
    assert gone.id in shop.vectors()


def test_a_gallery_of_missing_images_only_is_complete(shop: Shop) -> None:
    for item in shop.items:
        Path(item.uri).unlink()
    done = shop.run()
    assert (done.done, done.missing, len(done.skipped), done.complete) == (0, 40, 40, True)
    assert len(read_journal(shop.journal).skipped) == 40
    assert shop.run([]).complete is False, "items that were not tried do not count as skipped"


def test_an_image_that_changes_while_it_is_embedded_is_skipped(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    victim, removed = shop.items[20], shop.items[21]

    def meanwhile(work: Callable[..., object]) -> Callable[..., object]:
        def embed_chunks(*arguments: object) -> object:
            paint(Path(victim.uri), 5, 998)
            shop.store.delete([removed.id])
            return work(*arguments)

        return embed_chunks

    monkeypatch.setattr(backfill, "embed_chunks", meanwhile(pool.embed_chunks))
    done = shop.run()
    assert [reason for _, _, reason in done.skipped] == ["the file has changed since it was added"]
    assert set(shop.vectors()) == set(shop.order) - {victim.id, removed.id}
    assert done.complete


def test_limits_end_a_call_and_the_next_continues(shop: Shop) -> None:
    assert shop.run(seconds=0).done == 0
    asked = []
    until = shop.run(until=lambda: not asked.append(1))  # type: ignore[func-returns-value]
    assert (until.done, until.limit, len(asked)) == (BATCH, "until", 1)
    assert shop.run(items=3).done == 3
    assert len(shop.run(jobs=1).skipped) == 0
    alike(shop.vectors(), shop.expected())


@settings(max_examples=5)
@given(st.lists(st.integers(1, 23), max_size=3), st.randoms())
def test_any_cut_into_calls_ends_with_the_same_vectors(shared: Shop, cuts: list[int], shuffle: random.Random) -> None:
    shop = shared
    shop.store.drop_space("g1")
    left = len(shop.items)
    order = list(shop.order)
    shuffle.shuffle(order)
    for cut in cuts:
        done = shop.run(order, items=cut)
        left -= done.done
        assert done.missing == left
        assert done.complete == (left == 0)
    assert shop.run(order).complete
    alike(shop.vectors(), shop.expected())
    assert len(shop.rows()) == len(shop.items)


def test_a_rate_is_kept_by_many_short_pauses(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], []

    class Clock:
        def monotonic(self) -> float:
            return now[0]

        def sleep(self, seconds: float) -> None:
            slept.append(seconds)
            now[0] += seconds

    monkeypatch.setattr(backfill, "time", Clock())
    assert shop.run(rate=8, jobs=1).seconds == pytest.approx(5)  # 40 images
    assert slept == pytest.approx([2, 2, 1])
    shop.store.drop_space("g1")
    assert shop.run(rate=2, seconds=12).limit == "seconds"
    assert slept[3:] == pytest.approx([8, 4])
    assert [Limits(rate=rate).batch for rate in (0.1, 7.9, 8, 1000)] == [16, 16, 16, BATCH]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1.5h", 5400), ("2h1s", 7201), (" 5m ", 300)]
)
def test_durations_are_parsed(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "soon", "1d", "-5m", "30m1h", "5m5m", "1e3s", "٣m", "nan s"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write it as 90s, 20m or 1h30m"):
        seconds_of(text)


@pytest.mark.parametrize(
    "wrong", [{"seconds": -1.0}, {"seconds": float("nan")}, {"items": -1}, {"rate": 0.0}, {"rate": -2.0}, {"jobs": 0}]
)
def test_limits_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} = "):
        Limits(**wrong)  # type: ignore[arg-type]


def test_other_options_for_images_are_refused_before_anything_is_written(shop: Shop) -> None:
    work = replace(shop.work(), images=IMAGES.model_copy(update={"resize": 40}))
    with pytest.raises(SpaceError, match=r"not be those of g1: images.size or images.resize"):
        work.run(shop.order, Limits())
    assert shop.rows() == []


def test_the_audit_finds_vectors_of_another_network(shop: Shop) -> None:
    assert shop.run().complete
    names, vectors = shop.store.vectors("g1")
    shop.store.put_embeddings(shop.new, names, np.roll(vectors, 1, axis=1))
    done = shop.run()
    assert not done.complete
    assert "32 of 32 vectors in a sample differ from what the generation computes" in done.problems[0]
    progress = read_journal(shop.journal)
    assert (progress.state, progress.problems) == ("stopped", done.problems)
    assert "scrubjay backfill shop" in str(progress.line(Path("shop")))


def test_two_at_once_are_refused_while_searches_go_on(shop: Shop) -> None:
    seen: list[object] = []

    def meanwhile() -> bool:
        with pytest.raises(CatalogueError, match="another backfill with g1 is running"):
            shop.run()
        seen.append(read_journal(shop.journal).state)
        seen.append(len(shop.store.search(shop.old, np.eye(1, shop.old.dim), 50)[0]))
        shop.store.put_items([replace(shop.items[0], label="apple")])
        return False

    done = shop.run(until=meanwhile)
    assert done.complete
    assert seen == ["running", 40] * 3
    assert read_journal(shop.journal).state == "complete"


def test_searches_in_other_threads_see_whole_batches(shop: Shop) -> None:
    over, counts = threading.Event(), []

    def search() -> None:
        store = shop.store
        while not over.is_set():
            if shop.new in store.spaces():
                counts.append(len(store.search(shop.new, np.eye(1, shop.new.dim), 50)[0]))

    searcher = threading.Thread(target=search)
    searcher.start()
    try:
        assert shop.run().complete
    finally:
        over.set()
        searcher.join()
    assert set(counts) <= {0, 16, 32, 40}
    assert counts == sorted(counts)


def test_an_incomplete_journal_line_is_ignored_and_ended(shop: Shop) -> None:
    assert shop.run(items=20).done == 20
    whole = shop.journal.read_bytes()
    shop.journal.write_bytes(whole[: len(whole) - 40] + b'\n{"event": "start", "ite')
    assert read_journal(shop.journal).state == "interrupted"
    assert shop.run().complete
    lines = shop.journal.read_text().splitlines()
    assert lines.index('{"event": "start", "ite') > 0, "the incomplete line is ended before the next"
    assert json.loads(lines[-1])["event"] == "complete"
    progress = read_journal(shop.journal)
    assert (progress.generation, progress.state, progress.items, progress.done) == ("g1", "complete", 40, 20)
    assert progress.line(shop.folder) is None


def test_without_a_journal_there_is_no_progress(tmp_path: Path) -> None:
    progress = read_journal(tmp_path / "g7.jsonl")
    assert (progress.state, progress.line(tmp_path)) == ("none", None)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_backfill_continues_where_it_was(tmp_path: Path) -> None:
    shop = opened(tmp_path / "shop", 200)
    assert killed(shop, 1, 2, halt=2)
    progress = read_journal(shop.journal)
    assert (progress.state, progress.items) == ("interrupted", 200)
    held = len(shop.vectors())
    assert progress.done <= held < 200
    done = shop.run()
    assert (done.done, done.complete) == (200 - held, True)
    alike(shop.vectors(), shop.expected())
    assert sorted(shop.rows()) == sorted(shop.order), "no vector is lost, none is stored twice"


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_again_and_again_nothing_is_lost_or_doubled(tmp_path: Path, jobs: int) -> None:
    shop = opened(tmp_path / "shop", 600)
    drawn = random.Random(jobs)
    kills = sum(killed(shop, jobs, drawn.randrange(6), drawn.uniform(0, 0.3)) for _ in range(6))
    assert kills >= 3
    held = len(shop.vectors())
    done = shop.run()
    assert (done.done, done.complete) == (600 - held, True)
    alike(shop.vectors(), shop.expected())
    assert sorted(shop.rows()) == sorted(shop.order)
