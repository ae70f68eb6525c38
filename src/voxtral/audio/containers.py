"""What the bytes of an audio file say of it: the format, tags, and whether it is cut short. Nothing is decoded.

Formats are recognised by their first bytes, so that only the decoders that `voxtral.audio.read` names ever see a
user's file. The lengths that a file claims are compared with what is there before a decoder takes memory for them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

# More than an honest clip has of tags, chunks or boxes; a file of nothing else is not walked to its end.
_MAX_PIECES = 65536

# A length of all ones, and what recorders write that start from the largest signed number, say "not known yet".
_UNKNOWN_LENGTH = 0x7FFF0000
_UNKNOWN_LONG = 0x7FFFFFFFFFFF0000

# How a Sony Wave64 file names its parts: a tag and the rest of a GUID.
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_MAGIC = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")


@dataclass(frozen=True)
class _Chunk:
    """A part of a file and what it claims of itself.

    Attributes:
        name: of its kind.
        start: offset of its first byte after the header.
        size: bytes that it claims to have from there.
        is_unknown: it says that its length was not known when it was begun.
        field: where the size is written, and in which form of `struct`.
        overhead: what the written size counts besides.
    """

    name: bytes
    start: int
    size: int
    is_unknown: bool
    field: tuple[int, str]
    overhead: int = 0


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
        "rf64": data[:4] in (b"RF64", b"BW64") and data[8:12] == b"WAVE",
        "w64": data[:16] == _W64_MAGIC and data[24:40] == b"wave" + _W64_TAIL,
        "au": data[:4] in (b".snd", b"dns."),
        "caf": data[:8] == b"caff\x00\x01\x00\x00",
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
    if kind in _CHUNKED:
        return _is_chunk_cut(data, kind)
    if kind == "mp4":
        return _is_box_cut(data)
    if kind == "webm":
        return _is_segment_cut(data)
    if kind == "ogg":
        page = data.rfind(b"OggS")
        segments = data[page + 27 : page + 27 + data[page + 26]] if page + 26 < len(data) else b""
        return not segments or page + 27 + len(segments) + sum(segments) > len(data)
    return False


def with_length(data: bytes, kind: str) -> bytes:
    """Write down the length of the samples where a recorder or a pipe has left it open.

    Args:
        data: a file that is not cut short.
        kind: as `recognise` names it.

    Returns:
        The same samples, in a file of the same length whose header has the number of bytes that are there.
    """
    if data[:4] == b"BW64":
        data = b"RF64" + data[4:]  # the same under another name, which libsndfile does not know
    samples = _samples(data, kind) if kind in _CHUNKED else None
    if samples is None or not samples.is_unknown:
        return data
    mended = bytearray(data)
    size = len(data) - samples.start
    place, form = samples.field
    struct.pack_into(form, mended, place, size + samples.overhead)
    if kind == "aiff":
        _count_frames(mended, size)
    return bytes(mended)


_CHUNKED = ("wav", "rf64", "aiff", "w64", "caf", "au")


def _is_chunk_cut(data: bytes, kind: str) -> bool:
    """Compare what the parts of a file claim with what is there."""
    samples = None
    for chunk in _chunks(data, kind):
        if chunk.name in _SAMPLES and samples is None:
            samples = chunk
            if chunk.is_unknown:
                return False
        if chunk.start + chunk.size > len(data):
            # What is left over at the end of a usual file does no harm. In formats with lengths of 64 bits libsndfile
            # takes memory for what is claimed.
            return samples is None or samples is chunk or kind in ("w64", "caf")
    return samples is None


_SAMPLES = (b"data", b"SSND")


def _samples(data: bytes, kind: str) -> _Chunk | None:
    """Find the part that holds the samples."""
    return next((chunk for chunk in _chunks(data, kind) if chunk.name in _SAMPLES), None)


def _chunks(data: bytes, kind: str) -> Iterator[_Chunk]:
    """Walk the parts of a file; the last one may claim more than there is."""
    if kind == "au":
        yield from _au_chunk(data)
        return
    walk = {"w64": _w64_chunks, "caf": _caf_chunks}.get(kind, _riff_chunks)
    for chunk in walk(data):
        if chunk.name not in _SAMPLES or chunk.is_unknown or chunk.size or _holds_chunks(data[chunk.start :], kind):
            yield chunk
        else:
            yield replace(chunk, is_unknown=True)


def _holds_chunks(rest: bytes, kind: str) -> bool:
    """Tell whether what follows empty samples are further parts, or nothing, and no samples after all."""
    position = 0
    order = ">" if kind in ("aiff", "caf") else "<"
    for _ in range(_MAX_PIECES):
        if position >= len(rest):
            break
        name = rest[position : position + 4]
        if position + 8 > len(rest) or not (name.isascii() and name.decode("ascii").isprintable()):
            return False
        (size,) = struct.unpack_from(order + "I", rest, position + 4)
        position += 8 + size + size % 2
    return position <= len(rest) + 1


def _riff_chunks(data: bytes) -> Iterator[_Chunk]:
    """Walk a WAV, RF64 or AIFF file."""
    order = ">" if data[:4] in (b"FORM", b"RIFX") else "<"
    long_size: tuple[int, int] | None = None
    position = 12
    for _ in range(_MAX_PIECES):
        if position + 8 > len(data):
            return
        name, size = struct.unpack_from(order + "4sI", data, position)
        chunk = _Chunk(name, position + 8, size, size >= _UNKNOWN_LENGTH, (position + 4, order + "I"))
        if name == b"ds64" and size >= 16 and position + 24 <= len(data):
            long_size = position + 16, struct.unpack_from("<Q", data, position + 16)[0]
        if name == b"data" and long_size is not None and size == 0xFFFFFFFF:
            place, size = long_size
            chunk = replace(chunk, size=size, is_unknown=size >= _UNKNOWN_LONG, field=(place, "<Q"))
        yield chunk
        position += 8 + size + size % 2


def _w64_chunks(data: bytes) -> Iterator[_Chunk]:
    """Walk a Sony Wave64 file; sizes count the header of 24 bytes, and parts begin at every eighth byte."""
    position = 40
    for _ in range(_MAX_PIECES):
        if position + 24 > len(data):
            return
        (size,) = struct.unpack_from("<Q", data, position + 16)
        name = data[position : position + 4] if data[position + 4 : position + 16] == _W64_TAIL else b""
        is_unknown = size == 0 or size >= _UNKNOWN_LONG
        yield _Chunk(name, position + 24, max(0, size - 24), is_unknown, (position + 16, "<Q"), 24)
        position += max(24, size + -size % 8)


def _caf_chunks(data: bytes) -> Iterator[_Chunk]:
    """Walk a Core Audio file."""
    position = 8
    for _ in range(_MAX_PIECES):
        if position + 12 > len(data):
            return
        name, size = struct.unpack_from(">4sQ", data, position)
        yield _Chunk(name, position + 12, size, size >= _UNKNOWN_LONG, (position + 4, ">Q"))
        position += 12 + size


def _au_chunk(data: bytes) -> Iterator[_Chunk]:
    """Give the only part of a Sun or NeXT file."""
    order = ">" if data[:1] == b"." else "<"
    if len(data) >= 24:
        start, size = struct.unpack_from(order + "II", data, 4)
        is_unknown = start <= len(data) and (size == 0 or size >= _UNKNOWN_LENGTH)
        yield _Chunk(b"data", start, size, is_unknown, (8, order + "I"))


def _count_frames(data: bytearray, size: int) -> None:
    """Write the number of frames into an AIFF file that was left without one."""
    for chunk in _riff_chunks(bytes(data)):
        if chunk.name == b"COMM" and chunk.size >= 8:
            channels, _, bits = struct.unpack_from(">hIh", data, chunk.start)
            frame_size = channels * ((bits + 7) // 8)
            if frame_size > 0:
                struct.pack_into(">I", data, chunk.start + 2, max(0, size - 8) // frame_size)


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
