"""The options that all benchmarks have, and what follows from them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.worker import Variant
from voxtral.device import plan_compute

LOOPS = ("engine", "eager", "stand-in")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the common options."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="nano", help="4b-random, tiny-random (weights made on the spot), nano or a folder"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16, int8, int4 or int4-all")
    parser.add_argument("--json", type=Path, help="written after every cell")
    parser.add_argument("--short", action="store_true", help="few and small rounds: to see that it runs")
    return parser


def read_numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between.

    >>> read_numbers("1,8,32")
    (1, 8, 32)
    """
    return tuple(int(part) for part in text.split(","))


def read_engine_options(words: list[str]) -> dict[str, int]:
    """Read options of the engine.

    >>> read_engine_options(["max_batch=64"])
    {'max_batch': 64}
    """
    return {name: int(value) for name, _, value in (word.partition("=") for word in words)}


def resolve(arguments: argparse.Namespace) -> tuple[torch.device, str]:
    """Choose device and precision, as the product would where the options say auto.

    Raises:
        DeviceError: the device is not there.
    """
    device = plan_compute(arguments.device).device
    if arguments.precision != "auto":
        return device, arguments.precision
    is_large = arguments.model == "4b-random"
    return device, "bfloat16" if is_large or device.type == "cuda" else "float32"


def make_variants(
    arguments: argparse.Namespace, loops: tuple[str, ...], options: dict[str, Any] | None = None
) -> list[Variant]:
    """Make one variant for each loop."""
    device, precision = resolve(arguments)
    return [
        Variant(loop, arguments.model, str(device), precision, dict(options or {}) if loop == "engine" else {})
        for loop in loops
    ]
