"""What a turn of the engine costs the host, in this checkout and another one, in alternating pairs of processes.

    python -m benchmarks.turn --against ../other-checkout --pairs 9 --json FILE

A turn is everything that the engine's thread does for a frame besides computing it: scheduling, noise, the inputs and
their copies, the look at what was made, handing chunks over. The model computes nothing, and what a GPU would do is
left out (`benchmarks.turn_worker`), so this runs anywhere and says nothing of a GPU. Making audio is counted apart.

For every figure the ratio this / other is taken within each pair, and reported as the median with the interval in which
it lies by chance (95 %, bootstrap over the pairs).
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare import interval_of_median

ROOT = Path(__file__).parents[1]

_ROWS = (1, 8, 32, 64)
_WORKER = Path(__file__).with_name("turn_worker.py")

# Of each number of rows: microseconds of a turn without the codec, and of the codec's part.
Figures = dict[str, tuple[float, float]]


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    from benchmarks.report import Report

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--rows", type=int, nargs="+", default=list(_ROWS))
    parser.add_argument("--turns", type=int, default=320, help="of each number of rows in each process; at most 1000")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--json", type=Path, help="written at the end")
    arguments = parser.parse_args(words)
    report = Report("turn", arguments)
    sides: dict[str, Path] = {"this": ROOT, "other": arguments.against}
    report.note(commits={side: _commit(checkout) for side, checkout in sides.items()})
    found: dict[str, list[Figures]] = {side: [] for side in sides}
    for checkout in sides.values():
        # A fresh checkout, where bytecode is not kept, would be compiled in each of its processes.
        compileall.compile_dir(checkout / "src", quiet=1)
    for pair in range(arguments.pairs):
        # Who is first changes, so that what the first does to the machine falls on both.
        for side in list(sides) if pair % 2 else list(sides)[::-1]:
            found[side].append(measure(sides[side], arguments.turns, arguments.rows))
    for rows in map(str, arguments.rows):
        for number, figure in enumerate(("turn_us", "codec_us")):
            this, other = ([run[rows][number] for run in found[side]] for side in sides)
            ratios = [mine / theirs for mine, theirs in zip(this, other, strict=True)]
            low, high = interval_of_median(ratios)
            report.add(
                figure=figure,
                rows=int(rows),
                this=round(statistics.median(this), 1),
                other=round(statistics.median(other), 1),
                ratio=round(statistics.median(ratios), 4),
                low=round(low, 4),
                high=round(high, 4),
                num_pairs=arguments.pairs,
            )
    report.finish()


def measure(checkout: Path, num_turns: int, rows: Sequence[int]) -> Figures:
    """Run the worker of this checkout in a process on the package of any."""
    done = subprocess.run(
        # Not as a file: its folder would come before the standard library's `http`.
        [sys.executable, "-c", _WORKER.read_text(encoding="utf-8"), str(num_turns), *map(str, rows)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout.resolve() / "src")},
    )
    return json.loads(done.stdout)


def _commit(checkout: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
