"""Tests whether one method is better than another over common seeds: Student's paired t-test, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Paired:
    """The comparison of two methods on common seeds.

    Attributes:
        difference: mean of the first method less that of the second; None without a common seed.
        seeds: number of common seeds.
        p: two-sided p value; None for fewer than two seeds.
        holm: p corrected for the number of comparisons in its family; None where p is.
    """

    difference: float | None
    seeds: int
    p: float | None = None
    holm: float | None = None


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Paired:
    """Student's two-sided paired t-test on the seeds that both have.

    t = d̄ / (s_d / √n) with n − 1 degrees of freedom, d the differences. Differences that are all equal have p = 0,
    and p = 1 when they are zero.

    >>> test = paired({0: 0.5, 1: 0.75}, {0: 0.25, 1: 0.25})
    >>> test.difference, test.seeds, round(test.p, 4)
    (0.375, 2, 0.2048)
    """
    seeds = sorted(one.keys() & other.keys())
    differences = [one[seed] - other[seed] for seed in seeds]
    count = len(differences)
    if not count:
        return Paired(None, 0)
    mean = math.fsum(differences) / count
    if count == 1:
        return Paired(mean, 1)
    from scipy.special import stdtr

    error = math.sqrt(math.fsum((each - mean) ** 2 for each in differences) / (count - 1) / count)
    if error == 0:
        return Paired(mean, count, 1.0 if mean == 0 else 0.0)
    return Paired(mean, count, float(2 * stdtr(count - 1, -abs(mean) / error)))


def holm(values: Sequence[float]) -> list[float]:
    """Correct p values for multiple tests by Holm's step-down rule (Scandinavian Journal of Statistics, 1979).

    The i-th smallest of m becomes the largest of (m − k + 1) · p₍ₖ₎ for k ≤ i, at most 1.

    >>> holm([0.25, 0.0625, 0.5])
    [0.5, 0.1875, 0.5]
    """
    corrected, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = highest
    return corrected


def corrected(tests: Mapping[str, Paired]) -> dict[str, Paired]:
    """The tests of one family, by name, with Holm's correction for those that have a p value."""
    known = {name: test.p for name, test in tests.items() if test.p is not None}
    values = dict(zip(known, holm(list(known.values())), strict=True))
    return {name: replace(test, holm=values.get(name)) for name, test in tests.items()}
