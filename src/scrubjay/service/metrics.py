"""Figures for Prometheus; with several workers each scrape sums those of all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which the workers leave their figures; set before prometheus_client loads."""
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True)
class Facts:
    """What is true of the catalogue when it is asked.

    Attributes:
        items: number of items.
        serving: name of the generation that answers; None for none.
    """

    items: int
    serving: str | None


class Metrics:
    """All figures of the service.

    Args:
        facts: asks the catalogue; called at each scrape.
    """

    def __init__(self, facts: Callable[[], Facts]) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "scrubjay_requests", "Requests by route and status.", ("method", "route", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "scrubjay_request_seconds", "Time of a request.", ("route",), registry=registry, buckets=_BOUNDS
        )
        self.part_seconds = Histogram(
            "scrubjay_part_seconds",
            "Time of each part of searches: decode and queue for each query, embed and search for each batch.",
            ("part",),
            registry=registry,
            buckets=_BOUNDS,
        )
        self.batch_images = Histogram(
            "scrubjay_batch_images",
            "Query images in a batch.",
            registry=registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self.queue_depth = Gauge(
            "scrubjay_queue_images",
            "Query images that wait.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.in_flight = Gauge(
            "scrubjay_requests_in_flight",
            "Requests that are being handled.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._facts = _Facts(facts)

    def observe(self, part: str, seconds: float) -> None:
        """Record how long a part of a search took."""
        self.part_seconds.labels(part).observe(seconds)

    def text(self) -> bytes:
        """All figures, in the text format of Prometheus."""
        registry = CollectorRegistry()
        if SHARED_FOLDER in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            registry.register(self._facts)
            return generate_latest(registry)
        registry.register(self._facts)
        return generate_latest(self.registry) + generate_latest(registry)


class _Facts:
    """Asks the catalogue at each scrape, so that every worker tells the same."""

    def __init__(self, facts: Callable[[], Facts]) -> None:
        self._ask = facts

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: the registry need not ask before the first scrape."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | InfoMetricFamily]:
        """The families of this scrape."""
        facts = self._ask()
        items = GaugeMetricFamily("scrubjay_items", "Items of the gallery.")
        items.add_metric([], facts.items)
        yield items
        serving = InfoMetricFamily("scrubjay_serving", "The generation that answers queries.")
        serving.add_metric([], {"generation": facts.serving or ""})
        yield serving
