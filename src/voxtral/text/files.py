"""Text files as people have them: UTF-8, perhaps with a byte order mark; anything else is refused with its place."""

from __future__ import annotations

from pathlib import Path

from voxtral.errors import TextError


def read_text(path: Path) -> str:
    """Read a text file as UTF-8; a byte order mark is dropped.

    Raises:
        TextError: it cannot be read, or is not UTF-8; the message says where.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(str(path), error) from error
    return decode_text(data, str(path))


def decode_text(data: bytes, name: str) -> str:
    """Decode bytes as UTF-8; a byte order mark is dropped.

    Args:
        data: all of the text.
        name: where it came from, for the message.

    Raises:
        TextError: they are not UTF-8; the message says where.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{name} is not UTF-8 (byte 0x{data[error.start]:02x} at position {error.start}); a text must be UTF-8; "
            "save it again as UTF-8, or convert it, for example with iconv"
        ) from error


def unreadable(name: str, error: OSError) -> TextError:
    """Say that a text cannot be read."""
    return TextError(
        f"{name} cannot be read ({error.strerror}); the text comes from there; check the path and its permissions"
    )
