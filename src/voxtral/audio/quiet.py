"""Keeping a decoder's own remarks off the standard error of the process.

libmpg123, which libsndfile brings, writes to C's `stderr` what it thinks of a damaged MP3, and libsndfile cannot tell
it not to. Descriptor 2 is left alone: what Python's logging or any other thread writes to it arrives.
Instead the variable `stderr` of the C library, which Python does not use, points to the null device while a clip is
decoded. What other C code writes through that variable in those milliseconds is lost; libstdc++ keeps its own copy.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_depth = 0
_before: int | None = None


@contextmanager
def without_remarks() -> Generator[None]:
    """Let C code write no remarks; for many threads at a time, the last of which puts the variable back."""
    global _depth, _before
    found = _streams()
    if found is None:
        yield
        return
    variable, null = found
    with _lock:
        if not _depth:
            _before, variable.value = variable.value, null
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                variable.value = _before


@cache
def _streams() -> tuple[Any, int] | None:
    """Find the variable, and open the null device as a stream; None where the variable cannot be set."""
    try:
        library = ctypes.CDLL(None)
        # glibc says that the variable may be set, and macOS has it under another name; in musl it is a constant.
        is_glibc = hasattr(library, "gnu_get_libc_version")
        name = "stderr" if is_glibc else "__stderrp"
        variable = ctypes.c_void_p.in_dll(library, name)
        library.fopen.restype = ctypes.c_void_p
        # Never closed, because another thread may just have looked it up.
        null = library.fopen(os.devnull.encode(), b"w")
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return (variable, null) if null else None
