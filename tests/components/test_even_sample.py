"""A sample of a stream is evenly spaced, whatever the batches it comes in."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.components.even_sample import EvenSample


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 20))
def test_rows_are_evenly_spaced_and_bounded(batches: list[int], largest: int) -> None:
    sample, total = EvenSample(largest), sum(batches)
    numbers = torch.arange(total)
    for rows in torch.split(numbers, batches):
        sample.add(rows, 2.0 * rows[:, None])
    kept, doubled = sample.columns()
    assert len(kept) <= largest
    assert len(kept) > largest // 2 or len(kept) == total
    assert torch.equal(kept, numbers[:: int(kept[1])] if len(kept) > 1 else numbers[:1])
    assert torch.equal(doubled[:, 0], 2.0 * kept)


def test_nothing_was_added() -> None:
    assert EvenSample(3).columns() == ()
