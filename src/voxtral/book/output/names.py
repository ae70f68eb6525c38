"""Names of files that every system takes, whatever a chapter is called, and lists of them for players."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from voxtral.book.output.tags import one_line
from voxtral.text.graphemes import find_invisible, grapheme_ends

# What Windows refuses, and what shells and lists of files take for something else.
_FORBIDDEN = {ord("/"): "-", ord("\\"): "-", ord(":"): " -", ord("|"): "-", ord('"'): "'", ord("<"): "(", ord(">"): ")"}
_FORBIDDEN |= {ord("*"): None, ord("?"): None}
# Names of devices, with any extension.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)
# 255 bytes are allowed to a name; some copies and archives add to it.
_MOST_BYTES = 160


@dataclass(frozen=True)
class Entry:
    """A file of a list.

    Attributes:
        name: of the file.
        title: to be shown.
        duration_s: of its audio.
    """

    name: str
    title: str
    duration_s: float


def safe_name(title: str, *, most_bytes: int = _MOST_BYTES) -> str:
    """Make a name of a file, without extension, out of a title; "" where nothing is left of it.

    >>> safe_name("What? No: 1/2..."), safe_name("NUL"), safe_name("???")
    ('What No - 1-2', 'NUL_', '')
    """
    text = unicodedata.normalize("NFC", one_line(title)).translate(_FORBIDDEN)
    name, size, start = "", 0, 0
    for end in grapheme_ends(text, 0, len(text)):
        piece, start = text[start:end], end
        if not piece.isspace() and _is_invisible(piece):
            continue
        size += len(piece.encode())
        if size > most_bytes:
            break
        name += piece
    name = " ".join(name.split()).strip(" .-_~")
    return f"{name}_" if _DEVICES.match(name) else name


def numbered_name(number: int, num_files: int, title: str, extension: str) -> str:
    """Name a file so that any list of names is in order.

    >>> numbered_name(7, 120, "Loomings", "mp3"), numbered_name(1, 2, "?", "m4a")
    ('007 - Loomings.mp3', '01.m4a')
    """
    width = max(2, len(str(num_files)))
    name = safe_name(title)
    return f"{number:0{width}} - {name}.{extension}" if name else f"{number:0{width}}.{extension}"


def playlist(title: str, artist: str, entries: Sequence[Entry]) -> str:
    """Make an extended M3U of files in the same folder."""
    lines = ["#EXTM3U", f"#PLAYLIST:{one_line(title)}"]
    for entry in entries:
        shown = f"{artist} - {one_line(entry.title)}" if artist else one_line(entry.title)
        lines += [f"#EXTINF:{round(entry.duration_s)},{shown}", entry.name]
    return "\n".join(lines) + "\n"


def _is_invisible(piece: str) -> bool:
    """Tell whether nobody sees anything of a grapheme; what joins letters stays within it."""
    return all(find_invisible(char) is not None for char in piece)
