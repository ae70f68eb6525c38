"""A stand-in for what `torch.cuda` captures graphs with: it records the calls, and fails where it is told to.

Like torch, `graph` leaves the current stream changed when it fails; what runs in it runs at once, on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

# The calls of one capture, in their order.
STAGES = ("stream", "wait", "enter", "graph", "begin", "end", "pool")


@dataclass(eq=False)
class FakeCuda:
    """What was called, and what is to fail.

    Attributes:
        failures: by the name of a stage, the error that it raises.
        calls: names of stages, in order.
        streams: all that were made.
        current: the current stream; "default" at the start and, if all is well, at the end.
    """

    failures: dict[str, Exception] = field(default_factory=dict[str, Exception])
    calls: list[str] = field(default_factory=list[str])
    streams: list[Any] = field(default_factory=list[Any])
    current: Any = "default"

    def _call(self, stage: str) -> None:
        self.calls.append(stage)
        if stage in self.failures:
            raise self.failures[stage]

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
        """Take the place of torch's functions."""
        fake = self

        class Stream:
            def __init__(self, device: torch.device, priority: int = 0) -> None:
                fake._call("stream")
                self.device, self.priority = device, priority
                fake.streams.append(self)

            def wait_stream(self, other: Any) -> None:
                fake._call("wait")

        class Default(Stream):
            def __init__(self) -> None:
                self.device, self.priority = torch.device("cuda:0"), 0

        self.current = Default()

        class Graph:
            def __init__(self) -> None:
                fake._call("graph")

            def pool(self) -> object:
                fake._call("pool")
                return "pool"

            def replay(self) -> None:
                fake._call("replay")

        @contextmanager
        def stream(chosen: Any) -> Iterator[None]:
            fake._call("enter")
            before, fake.current = fake.current, chosen
            try:
                yield
            finally:
                fake.current = before

        class graph:
            def __init__(self, recorded: Graph, *, pool: Any, stream: Any, capture_error_mode: str) -> None:
                self.stream = stream
                self.given = (pool, capture_error_mode)
                fake.pools.append(pool)

            def __enter__(self) -> None:
                fake.before, fake.current = fake.current, self.stream
                fake._call("begin")

            def __exit__(self, *_: object) -> None:
                fake._call("end")
                fake.current = fake.before

        self.before: Any = None
        self.pools: list[Any] = []
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "graph", graph)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: fake.current)
        return self
