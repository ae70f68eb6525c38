"""What a person reads and types: lines on standard error, and Ctrl-C.

Standard output is left to audio, tables and JSON. Nothing here knows a model.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from voxtral.errors import CancelledError, VoxtralWarning


def say(message: str) -> None:
    """Print one line to standard error."""
    print(one_line(message), file=sys.stderr, flush=True)


def reporter(*, is_quiet: bool) -> Callable[[str], None]:
    """Return `say`, or a function that drops what it is told."""
    return (lambda _: None) if is_quiet else say


def one_line(text: str) -> str:
    r"""Make a text safe to print as one line.

    Texts, file names and what files say of themselves end up in messages; none of them may move the
    cursor or pretend to be another line.

    >>> one_line("two\nlines,\x1b[2J and more")
    'two lines, [2J and more'
    """
    return "".join(character if character.isprintable() else " " for character in text)


@contextmanager
def tidy_warnings() -> Iterator[None]:
    """Show each VoxtralWarning as one line; the warnings of other packages stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", VoxtralWarning)
        show_as_usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, VoxtralWarning):
                say(f"warning: {message}")
            else:
                show_as_usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


class Terminated(KeyboardInterrupt):
    """SIGTERM, which service managers and timeouts send; treated as Ctrl-C is."""


@contextmanager
def deferred_interrupts(cancel: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Let Ctrl-C or SIGTERM stop the work in the block at a place of its own choosing.

    An exception that is raised while a C library calls back into Python is printed and lost: an encoder would write
    a damaged file and the program would go on. So the first signal in the block raises nothing and calls `cancel`;
    a second one acts at once, as usual.

    Args:
        cancel: makes the work end with CancelledError, which then becomes KeyboardInterrupt.

    Yields:
        A function that raises KeyboardInterrupt if Ctrl-C was pressed, Terminated after SIGTERM.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    # Not where the caller has set a handler, or has the signal ignored, as shells do for background jobs.
    ours = [number for number, handler in usual.items() if signal.getsignal(number) is handler]
    received: list[int] = []

    def restore() -> None:
        for number in ours:
            signal.signal(number, usual[number])

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        restore()
        cancel()

    def check() -> None:
        if received:
            raise Terminated if received[0] == signal.SIGTERM else KeyboardInterrupt

    for number in ours:
        signal.signal(number, stop)
    try:
        yield check
    except CancelledError:
        check()
        raise
    finally:
        restore()
