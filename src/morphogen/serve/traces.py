"""Traces of requests for OpenTelemetry, where they are asked for: how long what took, never what
was said.

    POST /v1/chat/completions     its method, route, status, and the key by its number
        generate                  model, task, tokens, how it ended, the generation's id

A request that says to which trace it belongs (`traceparent`) is a part of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

import morphogen
from morphogen.core.extras import extra

QUIET: dict[str, Any] = {"record_exception": False, "set_status_on_exception": False}


class Traces:
    """Where spans go: nowhere, unless there is a provider."""

    def __init__(self, provider: Any = None) -> None:
        self.provider = provider or trace.NoOpTracerProvider()
        self.tracer = self.provider.get_tracer("morphogen.serve", morphogen.__version__)

    @classmethod
    def sent_to(cls, url: str | None) -> Traces:
        """To a collector at this address, which speaks OTLP over HTTP; none: nowhere."""
        if url is None:
            return cls()
        what = "requests are traced"
        sdk = extra("opentelemetry.sdk.trace", "traces", what)
        export = extra("opentelemetry.sdk.trace.export", "traces", what)
        otlp = extra("opentelemetry.exporter.otlp.proto.http.trace_exporter", "traces", what)
        resources = extra("opentelemetry.sdk.resources", "traces", what)
        named = resources.Resource.create({"service.name": "morphogen"})
        provider = sdk.TracerProvider(resource=named)
        provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter(endpoint=url)))
        return cls(provider)

    @contextmanager
    def request(self, scope: Scope) -> Iterator[Any]:
        """The span of a request, which lasts as long as its answer; see `done`."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        above = TraceContextTextMapPropagator().extract(headers)
        kind = trace.SpanKind.SERVER
        with self.tracer.start_as_current_span("request", above, kind, **QUIET) as span:
            yield span

    @staticmethod
    def done(span: Any, method: str, route: str, status: int, who: str | None) -> None:
        """What is known of a request at its end."""
        span.update_name(f"{method} {route}")
        told = {"http.request.method": method, "http.route": route, "morphogen.who": who or "-",
                "http.response.status_code": status}  # fmt: skip
        span.set_attributes(told)
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)

    def generation(self, about: Mapping[str, Any], task: str) -> Any:
        """The span of what a model makes: `end` it."""
        told = {"gen_ai.operation.name": task, "gen_ai.request.model": about["model"],
                "morphogen.generation_id": about["generation_id"],
                "morphogen.model_hash": about["model_hash"] or "unknown"}  # fmt: skip
        return self.tracer.start_span("generate", attributes=told)

    @staticmethod
    def end(span: Any, state: str, usage: Mapping[str, Any]) -> None:
        """It is over: finished, or cut."""
        span.set_attributes({
            "morphogen.state": state,
            "gen_ai.usage.input_tokens": usage.get("prompt_tokens", 0),
            "gen_ai.usage.output_tokens": usage.get("completion_tokens", 0),
        })  # fmt: skip
        span.end()

    def close(self) -> None:
        """Send what is left."""
        if hasattr(self.provider, "shutdown"):
            self.provider.shutdown()
