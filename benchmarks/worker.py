"""One variant in a process of its own, so that variants share neither memory nor caches; rounds come over a pipe.

A parent keeps one worker for each variant and gives them rounds in turn (A, B, A, B, ...), so that a machine that
slows down slows down all of them. Requests and answers are one line of JSON each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from benchmarks.loops import Round, make_loop
from benchmarks.report import ROOT
from benchmarks.subjects import open_subject
from voxtral.bench import StreamTiming, memory_in_use
from voxtral.device import run_aside


@dataclass(frozen=True)
class Variant:
    """What a worker runs.

    Attributes:
        loop: engine, eager or stand-in.
        model: as `open_subject` takes it.
        device: a device of torch.
        precision: of the weights.
        options: of the engine, where they differ from its defaults.
    """

    loop: str
    model: str
    device: str
    precision: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def label(self) -> str:
        """A short name for reports."""
        parts = [self.loop, self.precision, *(f"{name}={value}" for name, value in self.options.items())]
        return " ".join(parts)


class WorkerError(RuntimeError):
    """A worker ended before it had answered; its last words are on standard error."""


class Worker:
    """The parent's end; a context manager that ends the process.

    It loads at once and is waited for when it is first needed, so that several load side by side.
    """

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        path = os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(variant))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            cwd=ROOT,
        )
        if process.stdin is None or process.stdout is None:
            raise WorkerError("the worker has no pipes")  # asked for above
        self._process, self._to, self._from = process, process.stdin, process.stdout
        self._facts: dict[str, Any] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the worker says when it is ready: weights, sizes, load time, memory.

        Raises:
            WorkerError: the worker ended.
        """
        if self._facts is None:
            self._facts = self._answer()
        return self._facts

    def run(self, round_: Round) -> list[StreamTiming]:
        """Run a round.

        Raises:
            WorkerError: the worker ended.
        """
        answer = self._ask(asdict(round_))
        return [
            StreamTiming(due_at, tuple((at, count) for at, count in arrivals)) for due_at, arrivals in answer["timings"]
        ]

    def memory(self) -> dict[str, float]:
        """Ask what the worker holds now, in GB.

        Raises:
            WorkerError: the worker ended.
        """
        return self._ask({})["memory_gb"]

    def close(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):
            self._to.close()
        self._process.wait()
        self._from.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        _ = self.facts  # it answers in order
        try:
            self._to.write(json.dumps(request) + "\n")
            self._to.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._from.readline()
        if not line:
            raise self._ended()
        return json.loads(line)

    def _ended(self) -> WorkerError:
        return WorkerError(f"the worker of {self.variant.label} ended with code {self._process.wait()}")


def serve(variant: Variant) -> None:
    """Be a worker: load, say what was loaded, answer rounds until standard input ends."""
    started = time.perf_counter()
    device = torch.device(variant.device)
    # As `from_pretrained` does, or this thread's OpenMP team would slow down the engine's.
    subject = run_aside(
        lambda: open_subject(variant.model, device, variant.precision, is_prepared=variant.loop == "engine")
    )
    loop = make_loop(variant.loop, subject, variant.options)
    facts = {
        "weights": subject.weights,
        "precision": subject.precision,
        "load_s": round(time.perf_counter() - started, 2),
        "num_threads": subject.num_threads or torch.get_num_threads(),
        "voice_rows": len(subject.voice.rows),
        "memory_gb": memory_in_use(device),
    }
    _say(facts)
    if device.type == "cuda":
        # What making the weights took besides them is in `memory_gb`; from here on the peak is that of speaking.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    for line in sys.stdin:
        request = json.loads(line)
        if not request:
            _say({"memory_gb": memory_in_use(device)})
            continue
        timings = loop.run(Round(**{name: _tuple(value) for name, value in request.items()}))
        _say({"timings": [(timing.due_at, timing.arrivals) for timing in timings]})
    loop.close()


def _tuple(value: Any) -> Any:
    """Undo what JSON makes of tuples."""
    return tuple(value) if isinstance(value, list) else value


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(Variant(**json.loads(sys.argv[1])))
