"""Metrics of the service for Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUCKETS = (0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""seconds"""
METHODS = frozenset(("GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"))
"""methods that are counted by name, HEAD as GET; clients can send any word"""


class Metrics:
    """Counts and durations of requests, and the state of the processes that tag."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("moodfield_requests", "requests", labels, registry=self._registry)
        self.seconds = Histogram(
            "moodfield_request_seconds", "time to answer", ("route",), buckets=BUCKETS, registry=self._registry
        )
        self._active = Gauge("moodfield_active_uploads", "requests with files under way", registry=self._registry)
        self._limit = Gauge("moodfield_max_uploads", "requests with files at once, at most", registry=self._registry)
        self._killed = Gauge(
            "moodfield_killed_processes", "processes that died or were killed", registry=self._registry
        )

    def render(self, *, active: int, limit: int, killed: int) -> tuple[bytes, str]:
        """The text, and its media type.

        Args:
            active: Requests with files under way.
            limit: How many of them there may be.
            killed: Processes that died or were killed.
        """
        self._active.set(active)
        self._limit.set(limit)
        self._killed.set(killed)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class MetricsMiddleware:
    """Measures requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def count(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, count)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - start)
