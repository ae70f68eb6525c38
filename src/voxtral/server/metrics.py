"""What Prometheus reads: one registry for each application, so that two in one process do not mix."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from voxtral.types import SpeechStats

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60)
_RATIOS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 5, 10)


class Metrics:
    """The counters of a server."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._responses = Counter(
            "voxtral_responses", "Responses by route and status.", ["route", "status"], registry=registry
        )
        self._errors = Counter("voxtral_errors", "Failed utterances by error code.", ["code"], registry=registry)
        self.cancellations = Counter("voxtral_cancellations", "Utterances whose client went away.", registry=registry)
        self.restarts = Counter("voxtral_engine_restarts", "Engines that were started anew.", registry=registry)
        self._voices = Counter(
            "voxtral_voices_searched",
            "Searches for voices, by how they ended.",
            ["outcome"],
            registry=registry,
        )
        self._closed = Counter(
            "voxtral_connections_closed", "Connections that were given up, by reason.", ["reason"], registry=registry
        )
        self._ttfa = Histogram(
            "voxtral_ttfa_seconds", "From the request to its first audio bytes.", buckets=_SECONDS, registry=registry
        )
        self._queue = Histogram(
            "voxtral_queue_seconds", "Wait for a turn.", buckets=(0.001, 0.01, *_SECONDS), registry=registry
        )
        self._rtf = Histogram("voxtral_rtf", "Compute seconds per audio second.", buckets=_RATIOS, registry=registry)
        self._frames = Counter("voxtral_frames", "Frames made for utterances that ended.", registry=registry)
        self._audio = Counter("voxtral_audio_seconds", "Audio of utterances that ended.", registry=registry)
        # In a registry of its own: this server tells its memory under its own name, and nothing else of the process.
        process = CollectorRegistry()
        ProcessCollector(registry=process)

        def resident_bytes() -> float:
            return process.get_sample_value("process_resident_memory_bytes") or 0.0  # 0 where the system does not tell

        self.watch("voxtral_memory_bytes", "Resident memory of the process.", resident_bytes)

    def watch(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when somebody asks."""
        Gauge(name, about, registry=self._registry).set_function(read)

    def count_response(self, route: str, status: int) -> None:
        """Count a response; status 0 is a connection that ended without one."""
        self._responses.labels(route, str(status)).inc()

    def count_error(self, code: str) -> None:
        """Count an utterance that failed."""
        self._errors.labels(code).inc()

    def count_searched_voice(self, outcome: str) -> None:
        """Count a search that ended: made, failed or cancelled."""
        self._voices.labels(outcome).inc()

    def count_closed_connection(self, reason: str) -> None:
        """Count a connection that the server gave up."""
        self._closed.labels(reason).inc()

    def observe_start(self, ttfa_s: float, queue_s: float) -> None:
        """Take note of an utterance whose first bytes leave."""
        self._ttfa.observe(ttfa_s)
        self._queue.observe(queue_s)

    def observe_end(self, stats: SpeechStats) -> None:
        """Take note of what an utterance took, whole or not."""
        self._frames.inc(stats.num_frames)
        self._audio.inc(stats.duration_s)
        if stats.duration_s:
            self._rtf.observe(stats.rtf)

    def render(self) -> bytes:
        """Write all of it in Prometheus' text format."""
        return generate_latest(self._registry)
