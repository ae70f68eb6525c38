"""What reading a text costs: CPU seconds for a million characters, in this checkout and another, in turn.

    python -m benchmarks.normalize --against ../other-checkout --json benchmarks/results/normalize-DATE.json
    python -m benchmarks.normalize --kind dense --length 1000000

Each side runs in one process that stays, and is given the same texts in turn, so that what else the machine does falls
on both. The least time of all rounds counts; the ratio this / other is the median of the ratios of the rounds. Without
another checkout only this one is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from benchmarks.dense_texts import KINDS, LANGUAGES, text_of
from benchmarks.report import Report

ROOT = Path(__file__).parents[1]

# Reads texts, given as lines of JSON, and answers each with the CPU seconds that it took.
_WORKER = """
import json, sys, time
from voxtral.text.normalize import read
for line in sys.stdin:
    language, text = json.loads(line)
    start = time.process_time()
    read(text, language)
    print(time.process_time() - start, flush=True)
"""


class Side:
    """A process that reads texts with the rules of a checkout."""

    def __init__(self, checkout: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def seconds(self, language: str, text: str) -> float:
        """Read a text; give the CPU seconds."""
        to_it, from_it = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        to_it.write(json.dumps([language, text]) + "\n")
        to_it.flush()
        return float(from_it.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--language", nargs="+", default=list(LANGUAGES))
    parser.add_argument("--kind", nargs="+", default=list(KINDS))
    parser.add_argument("--length", type=int, default=20_000, help="of each text, in characters")
    parser.add_argument("--rounds", type=int, default=6, help="each with another text")
    parser.add_argument("--json", type=Path, help="written at the end")
    arguments = parser.parse_args(words)
    report = Report("normalize", arguments)
    sides = {"this": Side(ROOT)} | ({"other": Side(arguments.against)} if arguments.against else {})
    for language in arguments.language:
        for kind in arguments.kind:
            report.add(language=language, kind=kind, **measure(sides, language, kind, arguments))
    for side in sides.values():
        side.close()
    report.finish()


def measure(sides: dict[str, Side], language: str, kind: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Read texts of one kind on all sides in turn."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        # What a language needs is loaded once.
        side.seconds(language, text_of(kind, language, min(arguments.length, 5_000), seed=-1))
    for number in range(arguments.rounds):
        text = text_of(kind, language, arguments.length, seed=number)
        for name in sides if number % 2 else reversed(sides):
            found[name].append(sides[name].seconds(language, text) / len(text) * 1e6)
    cell = {f"{name}_s_per_million": round(min(values), 2) for name, values in found.items()}
    if "other" in found:
        ratios = [this / other for this, other in zip(found["this"], found["other"], strict=True)]
        cell["ratio"] = round(statistics.median(ratios), 2)
    return cell


if __name__ == "__main__":
    main()
