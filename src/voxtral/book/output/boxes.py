"""Boxes, of which MP4 files are made: a size, a name of four letters, and what is in it. Source: ISO 14496-12."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable

IDENTITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
"""A picture that is shown as it is."""

_MOST_32 = 0xFFFFFFFF


def box(name: bytes, *parts: bytes) -> bytes:
    """Make a box."""
    return struct.pack(">I4s", 8 + sum(map(len, parts)), name) + b"".join(parts)


def full_box(name: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """Make a box with a version and flags."""
    return box(name, struct.pack(">I", version << 24 | flags), *parts)


def times(longest: int) -> tuple[int, Callable[..., bytes]]:
    """Choose a version of a box by the longest time in it, and how its times are written.

    >>> times(24000)[0], times(2**32)[1](1).hex()
    (0, '0000000000000001')
    """
    form = "I" if longest <= _MOST_32 else "Q"
    return int(form == "Q"), lambda *values: struct.pack(f">{len(values)}{form}", *values)


def language_bits(code: str) -> bytes:
    """Pack three letters into two bytes, with the two behind them that mean nothing."""
    first, second, third = (ord(letter) - 0x60 for letter in code)
    return struct.pack(">HH", first << 10 | second << 5 | third, 0)


def sample_sizes(sizes: array[int]) -> bytes:
    """Make the table of the sizes of samples."""
    return full_box(b"stsz", 0, 0, struct.pack(">II", 0, len(sizes)), _big_endian(sizes))


def chunk_offsets(offsets: array[int]) -> bytes:
    """Make the table of places in the file, of 8 bytes each where 4 do not reach."""
    count = struct.pack(">I", len(offsets))
    if offsets and offsets[-1] > _MOST_32:
        return full_box(b"co64", 0, 0, count, _big_endian(offsets))
    return full_box(b"stco", 0, 0, count, _big_endian(array("I", offsets)))


def tag(name: bytes, kind: int, data: bytes) -> bytes:
    """Make an entry of a list of tags."""
    return box(name, box(b"data", struct.pack(">II", kind, 0), data))


def _big_endian(values: array[int]) -> bytes:
    if sys.byteorder == "little":
        values = values[:]
        values.byteswap()
    return values.tobytes()
