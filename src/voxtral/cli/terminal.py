"""What a person reads and types: lines on standard error, and Ctrl-C.

Standard output is left to audio, tables and JSON. Nothing here knows a model.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

from voxtral.cli.process import ENDING, is_default
from voxtral.errors import AudioError, CancelledError, VoxtralWarning


def say(message: str) -> None:
    """Print one line to standard error, if it takes any: no work ends because nobody reads about it."""
    with suppress(OSError):
        print(one_line(message), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a result to standard output, as a line or many.

    Raises:
        BrokenPipeError: its reader went away.
        AudioError: it cannot be written.
    """
    with writing_output():
        print(text, flush=True)


@contextmanager
def writing_output() -> Iterator[None]:
    """Explain why standard output cannot be written.

    Raises:
        BrokenPipeError: its reader went away.
        AudioError: it is closed, or the disk behind it refuses.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AudioError(
            f"standard output cannot be written ({error.strerror}); it must take all of what was asked for; "
            "check where it is sent"
        ) from error


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


class Stopped(KeyboardInterrupt):
    """SIGTERM, which service managers and timeouts send, or SIGHUP, when a terminal goes away; treated as Ctrl-C is.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def deferred_interrupts(cancel: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Let Ctrl-C, SIGTERM or SIGHUP stop the work in the block at a place of its own choosing.

    An exception that is raised while a C library calls back into Python is printed and lost: an encoder would write
    a damaged file and the program would go on. So the first signal in the block raises nothing and calls `cancel`;
    a second one is raised wherever the program is, and a third acts as outside of the block.

    Args:
        cancel: makes the work end with CancelledError, which then becomes KeyboardInterrupt.

    Yields:
        A function that raises KeyboardInterrupt if Ctrl-C was pressed, Stopped after another of the signals.
    """
    usual = {number: signal.getsignal(number) for number in ENDING}
    ours = {number: handler for number, handler in usual.items() if is_default(number, handler)}
    received: list[int] = []

    def restore() -> None:
        for number, handler in ours.items():
            signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            restore()
            raise _as_exception(number)
        cancel()

    def check() -> None:
        if received:
            raise _as_exception(received[0])

    for number in ours:
        signal.signal(number, stop)
    try:
        yield check
    except CancelledError:
        check()
        raise
    finally:
        restore()


def _as_exception(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Stopped(number)
