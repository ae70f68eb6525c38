"""Text files as people have them: UTF-8, perhaps with a byte order mark; anything else is refused with its place."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from voxtral.errors import TextError

MAX_TEXT_BYTES = 256 * 2**20
"""Of a text in a file or a pipe: 50 times the longest novel; a device may give without end."""


def read_text(path: Path) -> str:
    """Read a text file as UTF-8; a byte order mark is dropped.

    Raises:
        TextError: it cannot be read, is not UTF-8, or has no end; the message says where.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise unreadable(str(path), error) from error
    return decode_text(data, str(path))


def decode_text(data: bytes, name: str) -> str:
    """Decode bytes as UTF-8; a byte order mark is dropped.

    Args:
        data: all of the text.
        name: where it came from, for the message.

    Raises:
        TextError: they are not UTF-8, or too many; the message says where.
    """
    if len(data) > MAX_TEXT_BYTES:
        raise _too_long(name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(name, data[error.start], error.start) from error


def decode_pieces(pieces: Iterable[bytes], name: str) -> Iterator[str]:
    """Decode bytes as they come as UTF-8, cut anywhere; a byte order mark is dropped.

    Args:
        pieces: of the text.
        name: where it comes from, for the message.

    Raises:
        TextError: they are not UTF-8, or too many; the message says where.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    num_bytes, is_first = 0, True
    for data in chain(pieces, [b""]):
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place = num_bytes + len(data) - len(error.object) + error.start
            raise _not_utf8(name, error.object[error.start], place) from error
        num_bytes += len(data)
        if num_bytes > MAX_TEXT_BYTES:
            raise _too_long(name)
        if text:
            yield text.removeprefix("\ufeff") if is_first else text
            is_first = False


def _too_long(name: str) -> TextError:
    return TextError(f"{name} has more than {MAX_TEXT_BYTES} bytes, which a text may have; cut it into several")


def _not_utf8(name: str, byte: int, place: int) -> TextError:
    return TextError(
        f"{name} is not UTF-8 (byte 0x{byte:02x} at position {place}); a text must be UTF-8; save it again as UTF-8, "
        "or convert it, for example with iconv"
    )


def unreadable(name: str, error: OSError) -> TextError:
    """Say that a text cannot be read."""
    return TextError(
        f"{name} cannot be read ({error.strerror}); the text comes from there; check the path and its permissions"
    )
