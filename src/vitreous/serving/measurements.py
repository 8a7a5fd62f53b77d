"""The service's measurements of itself, for Prometheus."""

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The folder through which several processes add up their measurements (prometheus_client)."""


class Measurements:
    """Counters of one service, of all its processes together."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        if SHARED not in os.environ:
            ProcessCollector(registry=registry)
            GCCollector(registry=registry)
        self.requests = Counter("vitreous_requests", "Requests answered", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "vitreous_request_seconds", "From a request to its answer", ["route"], buckets=SECONDS, registry=registry
        )
        self.images = Counter("vitreous_images", "Images answered", ["model", "route"], registry=registry)
        self.batches = Histogram(
            "vitreous_batch_images", "Images in a pass", ["model"], buckets=SIZES, registry=registry
        )
        self.compute = Histogram(
            "vitreous_compute_seconds", "A pass through the model", ["model"], buckets=SECONDS, registry=registry
        )
        self.queue = Gauge(
            "vitreous_queue_images", "Images accepted and not answered", ["model"],
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.problems = Counter("vitreous_problems", "Requests not answered, by kind", ["kind"], registry=registry)
        self.reloads = Counter("vitreous_reloads", "Changed models", ["model", "result"], registry=registry)

    def write(self) -> bytes:
        """Return everything in Prometheus's text format."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        everything = CollectorRegistry()
        multiprocess.MultiProcessCollector(everything)
        return generate_latest(everything)
