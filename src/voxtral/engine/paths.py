"""The ways of computing that an engine may close: each with what is done instead, and why it was closed.

A path that is closed stays closed for the life of its `Paths`, which outlives a restart of the engine. Kernels are
closed one by one elsewhere (`voxtral.model.kernels.dispatch`), and captures that are impossible in this process in
`voxtral.engine.graphs`. No torch.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Final, Literal

_log = logging.getLogger(__name__)

PathName = Literal["static", "folded", "graphs", "codec_step", "codec_stream", "ahead", "text"]

# What each path is called, and what is done without it.
PATHS: Final[Mapping[PathName, tuple[str, str]]] = {
    "static": ("frames in static buffers", "frames are computed one sequence at a time"),
    "folded": ("the folded flow", "the plain flow computes"),
    "graphs": ("CUDA graphs", "frames and audio are launched one operation at a time"),
    "codec_step": ("the codec in static shapes", "audio is decoded with a state for each stream"),
    "codec_stream": ("the codec's own stream", "audio is decoded between frames"),
    "ahead": ("the late look", "each frame is looked at before the next is asked for"),
    "text": ("following the text", "speech ends where the model says, and words are timed by their letters"),
}


class Paths:
    """Which paths are open; the engine's thread closes them, any may ask.

    Args:
        where: the device by its name, for the warning.
        closed: paths that are closed from the start, with the reason of each; nobody is warned of them.
    """

    def __init__(self, where: str = "this device", closed: Mapping[PathName, str] | None = None) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._closed: dict[PathName, str] = dict(closed or {})

    def is_open(self, path: PathName) -> bool:
        """Tell whether a path may be taken."""
        return path not in self._closed

    @property
    def closed(self) -> Mapping[PathName, str]:
        """The paths that are closed, each with the reason."""
        return dict(self._closed)

    def close(self, path: PathName, reason: str) -> None:
        """Take a path no more, and warn of it once."""
        with self._lock:
            if path in self._closed:
                return
            self._closed[path] = reason
        _log.warning("%s", say_closed(path, self._where, reason))


def say_closed(path: PathName, where: str, reason: str) -> str:
    """Say that a path is closed and what that means.

    >>> say_closed("graphs", "NVIDIA L4", "capture failed: out of memory")[:60]
    'voxtral: CUDA graphs are off on NVIDIA L4 (capture failed: o'
    """
    name, instead = PATHS[path]
    verb = "are" if name.endswith("s") else "is"
    cost = "" if path == "text" else ": speech is right but slower"
    return (
        f"voxtral: {name} {verb} off on {where} ({reason}); {instead}{cost}; "
        'run "voxtral doctor" and report its last block'
    )
