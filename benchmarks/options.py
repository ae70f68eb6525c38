"""The options that all benchmarks have, and what follows from them."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.worker import Variant
from voxtral.device import plan_compute


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the common options."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="nano", help="4b-random, tiny-random (weights made on the spot), nano or a folder"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16, int8, int4 or int4-all")
    parser.add_argument(
        "--loops", default="engine", help="engine, eager, stand-in, with commas between; engine:NAME=VALUE;NAME=VALUE"
    )
    parser.add_argument("--engine", action="append", default=[], metavar="NAME=VALUE", help="an option of the engine")
    parser.add_argument("--json", type=Path, help="written after every cell")
    parser.add_argument("--short", action="store_true", help="few and small rounds: to see that it runs")
    return parser


def read_numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between.

    >>> read_numbers("1,8,32")
    (1, 8, 32)
    """
    return tuple(int(part) for part in text.split(","))


def read_engine_options(words: list[str]) -> dict[str, int | bool | str]:
    """Read options of the engine.

    >>> read_engine_options(["max_batch=64", "flow=folded", "batch_invariant=true"])
    {'max_batch': 64, 'flow': 'folded', 'batch_invariant': True}
    """
    words_for = {"true": True, "false": False}
    pairs = (word.partition("=") for word in words)
    return {name: words_for.get(value, int(value) if value.isdecimal() else value) for name, _, value in pairs}


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


def make_variants(arguments: argparse.Namespace) -> list[Variant]:
    """Make the variants that `--loops` names: loops, the engine with options of its own if there are some.

    `engine,engine:flow=folded;max_batch=8,eager` are three. Options of `--engine` hold for every engine.
    """
    device, precision = resolve(arguments)
    common = read_engine_options(arguments.engine)
    variants: list[Variant] = []
    for word in arguments.loops.split(","):
        loop, _, own = word.partition(":")
        options = common | read_engine_options(own.split(";") if own else []) if loop == "engine" else {}
        variants.append(Variant(loop, arguments.model, str(device), precision, options))
    return variants
