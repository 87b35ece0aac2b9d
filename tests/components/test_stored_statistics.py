"""Statistics as buffers: what is stored is what is read, also through a state of another size."""

from __future__ import annotations

import pytest
import torch

from scrubjay.closed_form.statistics import Statistics
from scrubjay.components.stored_statistics import StoredStatistics

ERA = "e" * 32


@pytest.mark.parametrize("each", [1, 3, 20], ids=["no scatter", "factor", "triangle"])
def test_what_is_stored_is_read(each: int) -> None:
    features = torch.randn(2 * each, 8, generator=torch.Generator().manual_seed(0))
    statistics = Statistics.of(ERA, features, torch.arange(2).repeat(each))
    stored, copy = StoredStatistics(), StoredStatistics()
    assert stored.empty
    stored.put(Statistics.of(ERA, torch.ones(3, 2), torch.tensor([0, 1, 2])))
    stored.put(statistics)
    assert not stored.empty
    copy.load_state_dict(stored.state_dict())
    for found in (stored.get(ERA), copy.get(ERA)):
        assert torch.equal(found.labels, statistics.labels)
        assert torch.equal(found.counts, statistics.counts)
        assert torch.equal(found.means, statistics.means)
        torch.testing.assert_close(found.scatter, statistics.scatter)
