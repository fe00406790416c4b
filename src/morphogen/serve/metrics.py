"""Numbers about the server for Prometheus: never a content, never who asked."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "morphogen_requests", "Requests that were answered", ["route", "status"],
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "morphogen_request_seconds", "From a request to the end of its answer", ["route"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.tokens = Counter(
            "morphogen_tokens", "Tokens read and written", ["model", "kind"], registry=registry
        )
        self.generations = Counter(
            "morphogen_generations", "What was asked of models", ["model", "state"],
            registry=registry,
        )  # fmt: skip
        self.running = Gauge(
            "morphogen_requests_running", "Requests that a model works on", registry=registry
        )
        self.models = Gauge("morphogen_models_open", "Models in memory", registry=registry)
        self.memory = Gauge("morphogen_models_bytes", "Memory of models", registry=registry)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
