from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.errors import CheckpointError, ImageError
from scrubjay.search.query_log import Query, QueryLog
from scrubjay.search.shadow import ShadowWorker, answer_pending, compare, selected
from scrubjay.types import Hit
from waiting import GUARD, until

HASHES = st.binary(min_size=16, max_size=16).map(bytes.hex)


def hit(name: str, label: str | None = "jay", match: float | None = 0.5) -> Hit:
    return Hit(name, f"file:///{name}", label, 0.5, "g2", match=match)


def query(number: int, hits=(("a", "u", "jay", 0.75),), shadow="g2", **changes) -> Query:
    content = f"{number:032x}"
    return Query(f"/{number}.jpg", content, "g1", np.ones(2, np.float32), hits, True, 1.0, shadow, **changes)


@pytest.fixture
def log(tmp_path):
    log = QueryLog(tmp_path / "queries.sqlite")
    for number in range(5):
        log.append([query(number)])
    return log


@given(HASHES, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_takes_in_the_smaller_one(content, one, other):
    assert selected(content, min(one, other)) <= selected(content, max(one, other))


@given(HASHES)
def test_none_and_all(content):
    assert not selected(content, 0)
    assert selected(content, 1)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_share_is_that_of_images(share):
    rng = np.random.default_rng(0)
    taken = [selected(rng.bytes(16).hex(), share) for _ in range(5000)]
    assert np.mean(taken) == pytest.approx(share, abs=4 * (share * (1 - share) / 5000) ** 0.5)


def test_pending_are_answered_once_oldest_first(log):
    asked = []

    def answer(query):
        asked.append(query.image)
        return [hit("b")]

    assert answer_pending(log, answer, 2) == 2
    assert answer_pending(log, answer) == 3
    assert answer_pending(log, answer) == 0
    assert asked == [f"/{number}.jpg" for number in range(5)]
    assert [each.shadow_hits for each in log.answered("g2")] == [(("b", "file:///b", "jay", 0.5),)] * 5


def test_image_that_is_gone_gets_an_empty_answer(log, caplog):
    def answer(query):
        if query.image == "/1.jpg":
            raise ImageError("/1.jpg: no such file; restore it.")
        return [hit("a")]

    assert answer_pending(log, answer) == 5
    assert [len(each.shadow_hits) for each in log.answered("g2")] == [1, 0, 1, 1, 1]
    assert "/1.jpg: no shadow answer" in caplog.text
    assert compare(log.answered("g2")).queries == 4


def test_generation_that_cannot_answer_leaves_the_queries_pending(log):
    def answer(query):
        if query.image == "/2.jpg":
            raise CheckpointError("network.safetensors: damaged.")
        return [hit("a")]

    with pytest.raises(CheckpointError):
        answer_pending(log, answer)
    assert [each.image for each in log.pending()] == ["/2.jpg", "/3.jpg", "/4.jpg"]


def test_thread_answers_pending_and_later_queries(log):
    seen, more = threading.Semaphore(0), threading.Semaphore(0)

    def answer(query):
        (seen if query.image != "/9.jpg" else more).release()
        return [hit("a")]

    worker = ShadowWorker(log, answer, pause=0.01)
    worker.start()
    assert all(seen.acquire(timeout=GUARD) for _ in range(5))
    log.append([query(9)])
    assert more.acquire(timeout=GUARD)
    worker.stop()
    assert len(log.answered("g2")) == 6


def test_thread_stops_after_the_current_query(log):
    begun, go_on = threading.Event(), threading.Event()

    def answer(query):
        begun.set()
        assert go_on.wait(GUARD)
        return [hit("a")]

    worker = ShadowWorker(log, answer, pause=0.01)
    worker.start()
    assert begun.wait(GUARD)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    until(worker._end.is_set)
    go_on.set()
    stopping.join(GUARD)
    assert not stopping.is_alive()
    assert len(log.answered("g2")) == 1


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), CheckpointError("damaged")])
def test_error_in_the_thread_is_logged_and_the_query_retried(log, error, caplog):
    asked, done = [], threading.Event()

    def answer(query):
        asked.append(query.image)
        if len(asked) == 1:
            raise error
        if len(asked) == 6:
            done.set()
        return [hit("a")]

    worker = ShadowWorker(log, answer, pause=0.001)
    worker.start()
    assert done.wait(GUARD)
    worker.stop()
    assert asked[:2] == ["/0.jpg", "/0.jpg"]
    assert len(log.answered("g2")) == 5
    assert str(error) in caplog.text


def test_stopping_does_not_wait_out_a_pause(log):
    worker = ShadowWorker(log, lambda query: [], pause=3600)
    worker.start()
    worker.stop()
    assert not worker._thread.is_alive()


def both(before, after) -> Query:
    return query(0, tuple(before), shadow_hits=None if after is None else tuple(after))


def row(name, label="jay", match=0.5):
    return (name, "u", label, match)


def test_comparison_by_hand():
    asked = [
        both([row("a", match=0.9), row("b")], [row("a", match=0.7), row("c")]),  # same item; half in common
        both([row("a", match=0.5), row("b")], [row("b", match=0.5), row("a")]),  # same class; all in common
        both([row("a", match=0.4), row("b")], [row("z", "owl", match=0.6)]),  # another class; none in common
        both([], [row("a")]),
        both([row("a")], []),
        both([row("a")], None),
    ]
    found = compare(asked)
    assert found.queries == 3
    assert (found.same_item, found.same_label, found.overlap) == pytest.approx((1 / 3, 2 / 3, 0.5))
    assert found.match == pytest.approx((0.6, 0.6))
    assert found.changed == (asked[2],)


def test_match_is_left_out_where_one_is_not_calibrated():
    found = compare([both([row("a")], [row("a", match=None)]), both([row("a")], [row("a")])])
    assert found.match == (0.5, None)
    assert not any("probability" in line for line in found.lines())


def test_lines_say_what_is_known_and_what_is_not():
    changed = [both([row("a", "jay")], [row("z", None)]) for _ in range(13)]
    lines = compare([*changed, both([row("a")], [row("a")])]).lines()
    assert lines[0] == "14 queries were answered by both generations."
    assert "the same best item: 7.1%, of the same class: 7.1%; items in common: 7.1%" in lines[1]
    assert lines.count("  /0.jpg: jay → –") == 10
    assert "  and 3 more" in lines
    assert lines[-1].startswith("queries have no labels, so neither answer is known to be right")
    assert compare([]).lines() == ["no query was answered by both generations yet."]
    assert compare([both([row("a")], [row("a")])]).lines()[0] == "1 query was answered by both generations."
