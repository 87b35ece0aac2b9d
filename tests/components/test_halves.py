"""The two halves of a session's images."""

from __future__ import annotations

import torch

from scrubjay.components.halves import Halves


def test_images_of_each_class_go_to_the_halves_in_turn() -> None:
    split = Halves(2)
    labels = torch.tensor([3, 5, 3, 3, 5, 3])
    first = split.halves(torch.arange(12.0).view(6, 2), labels, torch.tensor([0, 1, 2, 4, 5, 6]))
    assert first.tolist() == [True, True, False, True, False, False]
    features, kept = split.centre_crops()
    assert (features.tolist(), kept.tolist()) == ([[4.0, 5.0], [8.0, 9.0]], [3, 5])


def test_all_views_of_an_image_are_in_one_half() -> None:
    split = Halves(9)
    batches = [torch.tensor([0, 1, 0, 1]), torch.tensor([2, 3, 2, 3])]
    halves = [split.halves(torch.full((4, 1), float(row)), torch.zeros(4), batch) for row, batch in enumerate(batches)]
    assert [half.tolist() for half in halves] == [[True, False, True, False]] * 2
    assert split.centre_crops()[0].tolist() == [[0.0], [1.0]]


def test_a_class_of_one_image_is_in_the_first_half() -> None:
    split = Halves(0)
    assert split.halves(torch.zeros(2, 1), torch.tensor([0, 1]), torch.tensor([0, 1])).tolist() == [True, True]
    assert split.centre_crops()[0].shape == (0, 0)
