"""What the bytes of an audio file say of it: the format, tags, and whether it is cut short. Nothing is decoded.

Formats are recognised by their first bytes, so that only the decoders that `voxtral.audio.read` names ever see a
user's file.
"""

from __future__ import annotations

import struct

# More than an honest clip has of tags, chunks or boxes; a file of nothing else is not walked to its end.
_MAX_PIECES = 65536

# A length of all ones, and what recorders write that start from the largest signed number, say "not known yet".
_UNKNOWN_LENGTH = 0x7FFF0000


def skip_id3(data: bytes) -> bytes:
    """Drop the tags that may stand before MP3, AAC and FLAC audio."""
    start = 0
    for _ in range(_MAX_PIECES):
        if not data.startswith(b"ID3", start) or start + 10 > len(data):
            break
        size = 0
        for byte in data[start + 6 : start + 10]:
            size = size << 7 | byte & 0x7F
        footer = 10 if data[start + 5] & 0x10 else 0
        start += 10 + size + footer
    return data[start:] if start else data


def recognise(data: bytes) -> str | None:
    """Name the format by the first bytes, or return None."""
    is_frame = len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0
    checks = {
        "wav": data[:4] in (b"RIFF", b"RIFX") and data[8:12] == b"WAVE",
        "aiff": data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"),
        "flac": data[:4] == b"fLaC",
        "ogg": data[:4] == b"OggS",
        # The same frame mark starts AAC and MP3; the layer bits are zero in AAC only.
        "aac": is_frame and data[1] & 0xF6 == 0xF0,
        "mp3": is_frame and data[1] & 0x06 != 0,
        "mp4": data[4:8] == b"ftyp",
        "webm": data[:4] == b"\x1a\x45\xdf\xa3",
    }
    return next((kind for kind, matches in checks.items() if matches), None)


def is_cut_short(data: bytes, kind: str) -> bool:
    """Say whether the file ends before its own structure does, where the format has one that tells."""
    if kind in ("wav", "aiff"):
        return _is_chunk_cut(data, "<" if data[:4] == b"RIFF" else ">")
    if kind == "mp4":
        return _is_box_cut(data)
    if kind == "webm":
        return _is_segment_cut(data)
    if kind == "ogg":
        page = data.rfind(b"OggS")
        segments = data[page + 27 : page + 27 + data[page + 26]] if page + 26 < len(data) else b""
        return not segments or page + 27 + len(segments) + sum(segments) > len(data)
    return False


def _is_chunk_cut(data: bytes, byte_order: str) -> bool:
    """Walk the chunks of a WAV or AIFF file to the one that holds the samples."""
    position = 12
    for _ in range(_MAX_PIECES):
        if position + 8 > len(data):
            break
        name, size = struct.unpack_from(byte_order + "4sI", data, position)
        if name in (b"data", b"SSND"):
            return position + 8 + size > len(data) and size < _UNKNOWN_LENGTH
        position += 8 + size + size % 2
    return True


def _is_box_cut(data: bytes) -> bool:
    """Walk the top-level boxes of an MP4 file."""
    position = 0
    for _ in range(_MAX_PIECES):
        if position + 8 > len(data):
            break
        (size,) = struct.unpack_from(">I", data, position)
        if size == 0:
            return False
        if size == 1 and position + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, position + 8)
        position += max(size, 8)
    return position > len(data)


def _is_segment_cut(data: bytes) -> bool:
    """Compare the length of a WebM file's main element with what is there; a live recording does not tell its own."""
    start = data.find(b"\x18\x53\x80\x67") + 4
    if not 4 <= start < len(data) or data[start] == 0:
        return True
    width = 9 - data[start].bit_length()
    unknown = (1 << 7 * width) - 1
    size = int.from_bytes(data[start : start + width], "big") & unknown
    return size != unknown and start + width + size > len(data)


def has_frame_count(data: bytes) -> bool:
    """Say whether the first frame of an MP3 counts the frames."""
    head = data[:64]
    for mark in (b"Xing", b"Info"):
        position = head.find(mark)
        if position >= 0:
            return bool(int.from_bytes(head[position + 4 : position + 8], "big") & 1)
    return b"VBRI" in head
