"""Products on a CPU: this checkout, exact and with one byte, against another one, in rounds that alternate.

    python -m benchmarks.cpu_forms --against ../other-checkout --json FILE
    python -m benchmarks.cpu_forms --against ../other-checkout --processor avx2 --json FILE

One process holds a model of random weights for each side (`benchmarks.cpu_forms_worker`), and rounds go to them in
turn, so that a machine that slows down slows down all. Timed are the parts of a frame: a step of the backbone, the
flow, a prompt of 115 positions, and the codec's first chunk; and from them a frame of one stream and of two, without
the codec, and the first audio: prompt, flow and codec. Of each the ratio other / this is
taken within a round, and given as the median with the interval in which it lies by chance (95 %, bootstrap).

With one thread, the default, time is what that thread computed: what others do on the machine then matters little, and
nothing is said about how threads wait for each other. With more it is time on the wall, and wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.compare import interval_of_median
from benchmarks.report import ROOT, Report, load_average
from voxtral.model.kernels.cpu.library import FORM_NAMES, FORM_VARIABLE

_WORKER = Path(__file__).with_name("cpu_forms_worker.py")

# A processor with fewer instructions, as far as libraries let themselves be told.
_LESSER = {"avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}}

# Each figure as parts that are added up: of one stream, of two, and the first audio.
_FIGURES = {
    "frame of one stream": (("step", 1), ("flow", 1)),
    "frame of two streams": (("step", 2), ("flow", 2)),
    "first audio": (("prompt", 1), ("flow", 1), ("codec", 1)),
}


# What is timed, and of how many streams.
Part = tuple[str, int]


class Side:
    """A checkout with a model, in a process of its own; a context manager that ends it."""

    def __init__(self, checkout: Path, arguments: dict[str, Any], variables: dict[str, str]) -> None:
        path = os.pathsep.join([str(checkout / "src"), str(checkout)])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER.read_text(encoding="utf-8"), json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=checkout,
            env=os.environ | variables | {"PYTHONPATH": path},
        )
        self._answer()

    def run(self, part: str, streams: int) -> float:
        """Time a part, in milliseconds."""
        if self._process.stdin is None:
            raise RuntimeError("the worker has no pipes")  # asked for above
        self._process.stdin.write(json.dumps([part, streams]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def _answer(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"a worker ended with code {self._process.wait()}; its last words are above")
        return json.loads(line)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--model", default="4b-random")
    parser.add_argument("--precision", default="int4")
    parser.add_argument("--processor", choices=FORM_NAMES, help="use no better instructions than these")
    parser.add_argument("--sides", nargs="+", default=["other", "exact", "int8"], help="of other, exact, int8")
    parser.add_argument("--layers", type=int, default=4, help="of the backbone that are made")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="written after every figure")
    arguments = parser.parse_args(words)
    report = Report("cpu_forms", arguments)
    variables = dict(_LESSER.get(arguments.processor, {}))
    if arguments.processor:
        variables[FORM_VARIABLE] = arguments.processor
    given = {name: getattr(arguments, name) for name in ("model", "precision", "layers", "threads")}
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name in arguments.sides:
            checkout = arguments.against.resolve() if name == "other" else ROOT
            activations = "int8" if name == "int8" else "exact"
            sides[name] = stack.enter_context(Side(checkout, given | {"activations": activations}, variables))
        parts = sorted({part for figure in _FIGURES.values() for part in figure})
        times = measure(sides, parts, arguments.rounds)
    for part in parts:
        add_cells(report, f"{part[0]}, {part[1]} streams", {side: found[part] for side, found in times.items()})
    for figure, of_parts in _FIGURES.items():
        sums = {
            side: [sum(values) for values in zip(*(found[part] for part in of_parts), strict=True)]
            for side, found in times.items()
        }
        add_cells(report, figure, sums)
    add_cells(report, "two streams in sum, against one", in_sum(times))
    report.finish()


def in_sum(times: dict[str, dict[Part, list[float]]]) -> dict[str, list[float]]:
    """Give what a frame takes: of the first side of one stream alone, of the others of two that share."""
    sides = iter(times.items())
    first, found = next(sides)
    one = {first: [step + flow for step, flow in zip(found["step", 1], found["flow", 1], strict=True)]}
    two = {
        side: [(step + flow) / 2 for step, flow in zip(found["step", 2], found["flow", 2], strict=True)]
        for side, found in sides
    }
    return one | two


def measure(sides: dict[str, Side], parts: Sequence[Part], num_rounds: int) -> dict[str, dict[Part, list[float]]]:
    """Time every part in turn; the first round does not count."""
    times: dict[str, dict[Part, list[float]]] = {name: {part: [] for part in parts} for name in sides}
    for number in range(num_rounds + 1):
        for part in parts:
            # Who is first changes, so that what the first does to the machine falls on all.
            for name in list(sides) if number % 2 else list(sides)[::-1]:
                taken = sides[name].run(*part)
                if number > 0:
                    times[name][part].append(taken)
    return times


def add_cells(report: Report, figure: str, times: dict[str, list[float]]) -> None:
    """Report each side, and how many times faster than the first of them it is."""
    base = next(iter(times.values()))
    for side, taken in times.items():
        ratios = [other / this for other, this in zip(base, taken, strict=True)]
        low, high = interval_of_median(ratios)
        report.add(
            figure=figure,
            side=side,
            median_ms=round(statistics.median(taken), 1),
            min_ms=round(min(taken), 1),
            times_faster=round(statistics.median(ratios), 3),
            low=round(low, 3),
            high=round(high, 3),
            rounds=len(taken),
            load=load_average(),
        )


if __name__ == "__main__":
    main()
