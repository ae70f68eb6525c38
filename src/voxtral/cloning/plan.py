"""How large a training is, and what it needs of a machine: chosen by the size of the encoder, and reckoned beforehand.

No torch: what a step takes is measured elsewhere and comes as numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxtral.errors import DeviceError, OptionError

# An encoder below this is a small one: it needs hundredths of the data, and smaller steps are enough.
_SMALL_PARAMETERS = 20_000_000

# Bytes that a frame of pairs takes, and those that a parameter does: in float32 its value, gradient, mean and two
# moments; in the state of a training all but the gradient; in bfloat16 the file.
BYTES_PER_FRAME, _TRAINED_BYTES, _STATE_BYTES, _FILE_BYTES = 38, 20, 16, 2

SHARD_HOURS = 1.0
_MAX_HOURS = 100_000.0


@dataclass(frozen=True)
class RunSize:
    """How long a training is.

    Attributes:
        hours: of pairs.
        seen_hours: of sound that is heard, again and again.
        rows: of a step.
        frames: of a row.
        steps: of all.
        rate: of the first steps.
    """

    hours: float
    seen_hours: float
    rows: int
    frames: int
    steps: int
    rate: float

    def hours_of(self, steps: int, frame_rate: float) -> float:
        """Hours of sound that some steps hear."""
        return steps * self.rows * self.frames / frame_rate / 3600


def choose_size(
    num_parameters: int, frame_rate: float, *, is_fast: bool, hours: float | None, seen_hours: float | None
) -> RunSize:
    """Choose the size of a training.

    Args:
        num_parameters: of the encoder.
        frame_rate: of the codec.
        is_fast: to see whether a long one is worth its time.
        hours: of pairs; None chooses.
        seen_hours: that are heard; None chooses.

    Raises:
        OptionError: a number of hours is none.
    """
    is_small = num_parameters < _SMALL_PARAMETERS
    usual = ((0.4, 2.5) if is_fast else (1.0, 8.0)) if is_small else ((4.0, 60.0) if is_fast else (40.0, 700.0))
    chosen = [usual[n] if given is None else given for n, given in enumerate((hours, seen_hours))]
    for name, value in zip(("hours", "seen-hours"), chosen, strict=True):
        if not math.isfinite(value) or not 0 < value <= _MAX_HOURS:
            raise OptionError(f"--{name} is {value:g}; it must be a number above 0, up to {_MAX_HOURS:g}")
    rows, frames, rate = (8, 24, 2e-3) if is_small else (32, 50, 3e-4)
    steps = max(1, round(chosen[1] * 3600 * frame_rate / (rows * frames)))
    return RunSize(chosen[0], chosen[1], rows, frames, steps, rate)


@dataclass(frozen=True)
class ShardPlan:
    """The shards of the pairs.

    Attributes:
        shard_frames: of a full one.
        frames: of each, by number.
    """

    shard_frames: int
    frames: tuple[int, ...]


def plan_shards(hours: float, frame_rate: float) -> ShardPlan:
    """Cut hours of pairs into shards of one, the last of them shorter.

    >>> [count / 45000 for count in plan_shards(2.5, 12.5).frames]
    [1.0, 1.0, 0.5]
    """
    full = round(SHARD_HOURS * 3600 * frame_rate)
    total = max(1, round(hours * 3600 * frame_rate))
    whole, rest = divmod(total, full)
    return ShardPlan(full, (full,) * whole + ((rest,) if rest else ()))


def parse_shards(text: str | None, count: int) -> range:
    """Read which shards are meant, such as 0-19 or 3; all by default.

    >>> parse_shards("0-4", 3), parse_shards("2", 3), parse_shards(None, 3)
    (range(0, 3), range(2, 3), range(0, 3))

    Raises:
        OptionError: it is no such thing, or there are no such shards.
    """
    if text is None:
        return range(count)
    first, dash, last = text.strip().partition("-")
    numbers = (first, last) if dash else (first, first)
    if not all(number.isascii() and number.isdigit() and len(number) <= 6 for number in numbers):
        raise OptionError(f"--shards is {text!r}; it must be a number or two, counted from 0, such as 0-19")
    start, stop = int(numbers[0]), int(numbers[1]) + 1
    if start >= stop or start >= count:
        raise OptionError(
            f"--shards is {text!r}; there are {count} of one hour each, counted from 0; name some of them"
        )
    return range(start, min(stop, count))


@dataclass(frozen=True)
class MemoryNeed:
    """Memory of the training.

    Attributes:
        fixed_bytes: weights, gradients, moments, mean, decoder.
        row_bytes: of a row that is computed, with its comparison of sound.
    """

    fixed_bytes: int
    row_bytes: int

    def total(self, rows: int) -> int:
        """Bytes with so many rows side by side."""
        return self.fixed_bytes + rows * self.row_bytes


def fixed_bytes(encoder_parameters: int, decoder_bytes: int) -> int:
    """Reckon the memory of a training that does not depend on its rows."""
    return encoder_parameters * _TRAINED_BYTES + decoder_bytes


def choose_rows(need: MemoryNeed, rows: int, budget: int | None) -> int:
    """Halve the rows that are computed side by side until they fit; the others follow, and gradients add up.

    Args:
        need: of the training.
        rows: of a step.
        budget: bytes; None for no limit.

    Raises:
        DeviceError: not even one row fits.
    """
    chosen = rows
    while budget is not None and need.total(chosen) > budget:
        if chosen == 1:
            raise DeviceError(
                f"max_memory is {budget / 1e9:.2f} GB; this training needs {need.total(1) / 1e9:.2f} GB with a single "
                "row at a time; allow more"
            )
        chosen //= 2
    return chosen


def disk_bytes(hours: float, frame_rate: float, encoder_parameters: int) -> int:
    """Reckon what a training takes of the disk: pairs, two states, of which one is being written, and two files."""
    pairs = round(hours * 3600 * frame_rate) * BYTES_PER_FRAME
    return pairs + encoder_parameters * 2 * (_STATE_BYTES + _FILE_BYTES)
