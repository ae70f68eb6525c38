"""Whether a second file follows in the bytes of a first, as `cat a.ogg b.ogg` makes them; nothing is decoded.

Decoders stop at the end of the first, or take the header of the second for sound. MP3 and AAC without tags are no
files but frames, which may be joined, and WebM may, too: what decodes them reads on.
"""

from __future__ import annotations

import re

from voxtral.audio.containers import recognise, skip_id3

# How a file begins, in enough bytes that chance does not write them, and the rarest part to look for. Ogg: a page that
# begins a stream, at position 0. FLAC: the block that must come first, of 34 bytes.
_BEGINNINGS: tuple[tuple[bytes, int, re.Pattern[bytes]], ...] = (
    (b"WAVEfmt ", 8, re.compile(rb"RIF[FX].{4}WAVEfmt ", re.DOTALL)),
    (b"WAVEds64", 8, re.compile(rb"(RF|BW)64.{4}WAVEds64", re.DOTALL)),
    (b"AIFF", 8, re.compile(rb"FORM.{4}AIFF", re.DOTALL)),
    (b"AIFC", 8, re.compile(rb"FORM.{4}AIFC", re.DOTALL)),
    (b"riff\x2e\x91\xcf\x11", 0, re.compile(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", re.DOTALL)),
    (b"caff\x00\x01\x00\x00", 0, re.compile(rb"caff\x00\x01\x00\x00desc")),
    (b".snd\x00\x00", 0, re.compile(rb"\.snd\x00\x00.{6}\x00\x00\x00[\x01-\x1b]", re.DOTALL)),
    (b"fLaC", 0, re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")),
    (b"OggS\x00", 0, re.compile(rb"OggS\x00[\x02\x06]\x00{8}")),
    (b"ftyp", 4, re.compile(rb"\x00\x00\x00[\x0c-\xff]ftyp[\w ]{4}")),
    (b"\x1a\x45\xdf\xa3", 0, re.compile(rb"\x1a\x45\xdf\xa3.{1,60}(webm|matroska)", re.DOTALL)),
    (b"ID3", 0, re.compile(rb"ID3[\x02-\x04][\x00-\x0a].[\x00-\x7f]{4}", re.DOTALL)),
)

# MP3 counts its frames in a first frame without sound; the mark is behind a header of 4 bytes and so many of nothing,
# by version and channels.
_COUNT_MARKS = (b"Xing\x00\x00\x00", b"Info\x00\x00\x00", b"VBRI\x00\x01")
_HEADER_BYTES, _SIDE_BYTES = 4, (9, 17, 32)

# More places than this are no file's beginnings but somebody's joke.
_MAX_PLACES = 1000

# A second file of fewer bytes holds no speech.
_MIN_SECOND_BYTES = 512


def second_file_at(data: bytes, kind: str) -> int | None:
    """Find where a second file begins.

    Args:
        data: the bytes of a clip, without the tags before it.
        kind: as `recognise` names it.

    Returns:
        Its place in `data`, or None if there is none, or if the decoder of this kind reads both.
    """
    first = _first_stream_end(data) if kind == "ogg" else 4
    found = [_find(data, rare, distance, form, first) for rare, distance, form in _BEGINNINGS]
    if kind in ("mp3", "ogg", "flac"):  # in others an MP3 may be what the file is made of
        found.append(_find_count(data))
    places = [place for place in found if place is not None and len(data) - place >= _MIN_SECOND_BYTES]
    if not places or (kind == "webm" and recognise(data[min(places) :][:64]) == "webm"):
        return None
    return min(places)


def _find(data: bytes, rare: bytes, distance: int, form: re.Pattern[bytes], first: int) -> int | None:
    """Find the first place after `first` that has the form of a beginning."""
    position = first + distance
    for _ in range(_MAX_PLACES):
        position = data.find(rare, position)
        if position < 0:
            return None
        place = position - distance
        if form.match(data, place) and (rare != b"ID3" or _precedes_sound(data[place:])):
            return place
        position += 1
    return None


def _precedes_sound(rest: bytes) -> bool:
    """Tell whether behind tags there is a file that may have them; a WAV may hold tags as a part of its own."""
    return recognise(skip_id3(rest)[:64]) in ("mp3", "aac", "flac")


def _first_stream_end(data: bytes) -> int:
    """Find the first page that does not begin a stream; streams that sound together begin together."""
    position = 0
    for _ in range(_MAX_PLACES):
        position = data.find(b"OggS\x00", position)
        if position < 0 or position + 5 >= len(data):
            return len(data)
        if not data[position + 5] & 2:
            return position
        position += 1
    return len(data)


def _find_count(data: bytes) -> int | None:
    """Find the first frame of a second MP3 that counts its frames."""
    for mark in _COUNT_MARKS:
        position = 64
        for _ in range(_MAX_PLACES):
            position = data.find(mark, position)
            if position < 0:
                break
            for side in _SIDE_BYTES:
                place = position - _HEADER_BYTES - side
                if data[place] == 0xFF and data[place + 1] & 0xE6 in (0xE2, 0xE4):
                    return place
            position += 1
    return None
