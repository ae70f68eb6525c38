"""The process that a model belongs to: its threads and locks go with no fork and no pickle.

A forked child gets the memory of its parent without the threads in it. Whatever asks an engine there would wait for
ever: for a thread that is not there, or for a lock that nobody will release. So whoever has a lock or a thread asks
here first, before it touches either.
"""

from __future__ import annotations

import os
from typing import NoReturn, SupportsIndex

from voxtral.errors import EngineStoppedError


class BoundToProcess:
    """An object of use only in the process that made it; a base class."""

    def __init__(self) -> None:
        self._made_in = os.getpid()

    @property
    def is_foreign(self) -> bool:
        """Whether this is a forked copy, in which nothing may be waited for."""
        return os.getpid() != self._made_in

    def check_process(self) -> None:
        """Refuse a forked copy.

        Raises:
            EngineStoppedError: this process is not the one that made the object.
        """
        if self.is_foreign:
            raise _elsewhere(f"process {self._made_in} loaded the model, and this is its fork {os.getpid()}")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse pickle and copy: for pickle.dumps, copy.copy, copy.deepcopy and whatever sends an object elsewhere.

        Raises:
            EngineStoppedError: always.
        """
        raise _elsewhere(f"a {type(self).__name__} was to be copied or pickled")


def _elsewhere(got: str) -> EngineStoppedError:
    return EngineStoppedError(
        f"{got}; a loaded model has threads, which stay in the process that started them; load the model in the child"
    )
