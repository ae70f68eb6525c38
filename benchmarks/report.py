"""What every benchmark reports beside its figures, and a file that is whole after each of them.

A report is one JSON object: where it ran (machine, versions, commit, clocks, rates that were measured in the same run),
what ran, and a list of cells. It is written after each cell, so that a run cut short counts up to there.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.roofline import Rates
from voxtral.bench import round_figure
from voxtral.device import describe_machine

ROOT = Path(__file__).parents[1]

_GPU_FIELDS = ("driver_version", "clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "memory.used")


class Report:
    """Collects cells, writes them as they come, and ends with one line on standard output.

    Args:
        benchmark: name of the script.
        arguments: its options, recorded as they are; `json` is where to write, or None.
    """

    def __init__(self, benchmark: str, arguments: argparse.Namespace) -> None:
        self._path: Path | None = arguments.json
        options = {name: _without_folders(value) for name, value in vars(arguments).items()}
        self._content: dict[str, Any] = {
            "benchmark": benchmark,
            "is_complete": False,
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ"),
            "commit": find_commit(),
            "options": options,
            "machine": describe_place(),
            "cells": [],
        }
        self._write()

    def note(self, **facts: Any) -> None:
        """Add facts beside the cells."""
        self._content |= facts
        self._write()

    def add(self, **cell: Any) -> None:
        """Add a cell, write the file and say the cell on standard error."""
        self._content["cells"].append(cell)
        self._write()
        sys.stderr.write(json.dumps(cell) + "\n")
        sys.stderr.flush()

    def finish(self) -> None:
        """Mark the report as whole, with the clocks after the run, and print it as one line."""
        self._content["machine_after"] = {"load_average": load_average(), **describe_gpu()}
        self._content["is_complete"] = True
        self._write()
        sys.stdout.write(json.dumps(self._content) + "\n")
        sys.stdout.flush()

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f".{self._path.name}.part")
        partial.write_text(json.dumps(self._content, indent=1) + "\n", encoding="utf-8")
        partial.replace(self._path)


def _without_folders(value: Any) -> Any:
    """Name a path from the root of the project, or by its last part: a report says nothing of its maker's folders."""
    if not isinstance(value, Path) and not (isinstance(value, str) and Path(value).is_absolute()):
        return value
    path = Path(value).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def find_commit() -> str:
    """Name the commit, with a mark where files differ from it; a tree without git may say it in VOXTRAL_COMMIT."""
    if given := os.environ.get("VOXTRAL_COMMIT"):
        return given
    try:
        commit = _run("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
        changes = _run("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}, changed" if changes else commit


def describe_place() -> dict[str, Any]:
    """Describe machine, versions, load and clocks."""
    place: dict[str, Any] = {**describe_machine(), "load_average": load_average(), **describe_gpu()}
    place["cpu_name"] = _cpu_name()
    try:
        place["triton"] = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        place["triton"] = "absent"
    return place


def load_average() -> float | None:
    """Return how many processes wanted to run over the last minute, where the system tells."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def describe_gpu() -> dict[str, str]:
    """Ask the driver for version, clocks, power, temperature and memory in use; {} without its tool."""
    try:
        line = _run("nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits")
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in line.splitlines()[0].split(",")]
    return {f"gpu_{name.replace('.', '_')}": value for name, value in zip(_GPU_FIELDS, values, strict=True)}


def measure_rates(device: torch.device, dtype: torch.dtype, *, is_short: bool = False) -> tuple[Rates, dict[str, Any]]:
    """Measure what this machine reads and computes in a second, now.

    Args:
        device: where.
        dtype: of the matrix product.
        is_short: small sizes, to see that it runs.

    Returns:
        The rates that the roofline takes (the better of copying and reading), and all of them for the report.
    """
    num_bytes = 2**22 if is_short else (2**31 if device.type == "cuda" else 2**28)
    copied, read = _memory_rates(num_bytes, device)
    size = 256 if is_short else (8192 if device.type == "cuda" else 1024)
    flops = _product_rate(size, device, dtype)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # other processes need it
    found = {
        "copy_gb_per_s": round_figure(copied / 1e9),
        "read_gb_per_s": round_figure(read / 1e9),
        "gemm_tflop_per_s": round_figure(flops / 1e12),
        "gemm": f"{size} x {size} x {size}, {str(dtype).removeprefix('torch.')}",
        "threads": torch.get_num_threads(),
    }
    return Rates(max(copied, read), flops), found


def _memory_rates(num_bytes: int, device: torch.device) -> tuple[float, float]:
    """Measure bytes a second of copying (read and written) and of reading alone."""
    source = torch.zeros(num_bytes // 4, device=device).normal_()
    target = torch.empty_like(source)
    copy_s = _best_seconds(lambda: target.copy_(source), device)
    read_s = _best_seconds(lambda: source.sum(), device)
    return 2 * num_bytes / copy_s, num_bytes / read_s


def _product_rate(size: int, device: torch.device, dtype: torch.dtype) -> float:
    """Measure operations a second of a square product."""
    left, right = (torch.empty(size, size, device=device).normal_().to(dtype) for _ in range(2))
    return 2 * size**3 / _best_seconds(lambda: left @ right, device)


def _best_seconds(operation: Any, device: torch.device, num_repeats: int = 10) -> float:
    """Time an operation; the best of several, after two that do not count."""
    best = float("inf")
    for number in range(num_repeats + 2):
        synchronize(device)
        started = time.perf_counter()
        operation()
        synchronize(device)
        if number >= 2:
            best = min(best, time.perf_counter() - started)
    return best


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"


def _run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
