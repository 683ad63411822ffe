"""What Prometheus may ask: requests, pictures, batches and waits, and the process itself."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Meters:
    """One registry per server; the names begin with `emojax_`."""

    def __init__(self) -> None:
        """Everything at 0."""
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter("emojax_requests", "Answers.", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "emojax_request_seconds",
            "From the first byte to the answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._pictures = Counter("emojax_pictures", "Pictures.", ["outcome"], registry=registry)
        self._decode = Histogram("emojax_decode_seconds", "Of one picture.", buckets=SECONDS, registry=registry)
        self._size = Histogram(
            "emojax_batch_pictures", "In one batch.", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self._wait = Histogram(
            "emojax_queue_seconds", "Wait of a batch's first picture.", buckets=SECONDS, registry=registry
        )
        self._device = Histogram("emojax_device_seconds", "Of one batch.", buckets=SECONDS, registry=registry)
        self._waiting = Gauge("emojax_pictures_waiting", "Pictures in the server.", registry=registry)
        self._ready = Gauge("emojax_ready", "1 = requests are answered.", registry=registry)

    def watch(self, *, waiting: Callable[[], float], ready: Callable[[], float]) -> None:
        """What is asked for whenever Prometheus asks."""
        self._waiting.set_function(waiting)
        self._ready.set_function(ready)

    def request(self, route: str, status: int, seconds: float) -> None:
        """One answer; `route` is one of a few, whatever was asked for."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def picture(self, outcome: str, seconds: float) -> None:
        """One picture, decoded in so many seconds, or refused."""
        self._pictures.labels(outcome).inc()
        self._decode.observe(seconds)

    def batch(self, pictures: int, waited: float, seconds: float) -> None:
        """One batch on the device."""
        self._size.observe(pictures)
        self._wait.observe(waited)
        self._device.observe(seconds)

    def text(self) -> bytes:
        """All numbers in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)
