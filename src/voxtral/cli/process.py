"""The process of a command: its standard streams, the signals that end it, and how it ends.

It is imported first, so that there is a handler for Ctrl-C before anything that takes time, and therefore imports next
to nothing. Where a command has something to undo, `voxtral.cli.terminal.deferred_interrupts` takes the signals over.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

# The word for a person, by signal; Windows has no SIGHUP.
_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
ENDING = {number: word for name, word in _WORDS.items() if (number := getattr(signal, name, None)) is not None}

UNHEARD = 141
"""Exit code where the reader of standard output went away: 128 and SIGPIPE, as shells say it."""


def exit_code(number: int) -> int:
    """Give the exit code of a command that a signal ended, as shells say it.

    >>> exit_code(signal.SIGINT)
    130
    """
    return 128 + number


def end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """End the process: the handler of signals wherever there is nothing to undo.

    An exception would have to get through whatever runs, and does not: libraries that call back into Python lose it,
    and C++ threads that are still at work when the interpreter is taken down abort the process.
    """
    # Not print: the signal may have come in the middle of one.
    is_behind_something = os.isatty(2)  # the echo of ^C, or the bar of a download
    try:
        os.write(2, f"{chr(10) if is_behind_something else ''}{ENDING[number]}\n".encode())
    except OSError:
        pass
    finally:
        os._exit(exit_code(number))


def is_default(number: int, handler: object) -> bool:
    """Tell whether nobody has chosen this handler: it is Python's, the system's, or `end_at_once`.

    Not so where the caller has set one, or has the signal ignored, as nohup and shells do for background jobs.
    """
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    return handler in (usual, end_at_once)


def end_on_signals() -> None:
    """Let Ctrl-C, SIGTERM and the end of the terminal end this process, with an exit code that says so."""
    for number in ENDING:
        if is_default(number, signal.getsignal(number)):
            signal.signal(number, end_at_once)


def open_closed_streams() -> None:
    """Put something in the place of standard streams that are closed, as `>&-` in a shell leaves them.

    The next file that is opened would get the number of the closed one, and whatever a library writes to standard
    error would go into it. Messages go nowhere then; reading and writing the other two is an error that says so.
    """
    for number, name, access in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, access)  # gets the lowest number that is free
            mode = "r" if number == 0 else "w"
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def leave(code: int) -> NoReturn:
    """End the process with a code, once all is written and closed, without taking the interpreter down.

    That would take everybody who loaded torch half a second for nothing: a look at each object of each module. And it
    aborts where a thread still computes that nobody waits for, such as one that loads a model.

    Args:
        code: the exit code. Standard output has been flushed, or is not to be waited for.
    """
    try:
        atexit._run_exitfuncs()  # what libraries have to do: logs, temporary files, the engines of forgotten models
    finally:
        os._exit(code)
