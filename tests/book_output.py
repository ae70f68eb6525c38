"""What tests of finished books share: speech-like sound, covers, readers of containers that are not the writers'."""

from __future__ import annotations

import shutil
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

RATE = 24000


def babble(num_samples: int, seed: int = 0, peak: float = 0.5) -> np.ndarray:
    """Make sound with the spectrum of speech, in bursts, that correlates with itself at one place only."""
    noise = np.cumsum(np.random.default_rng(seed).standard_normal(num_samples + 400))
    noise = noise[200:-200] - np.convolve(noise, np.ones(400) / 400, "same")[200:-200]
    noise *= np.sin(np.arange(num_samples) / 3000) > -0.4
    return (peak * noise / max(1e-9, np.abs(noise).max())).astype(np.float32)


def png(width: int = 3, height: int = 2) -> bytes:
    """Make a picture."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes([40, 80, 160]) * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def has_aac() -> bool:
    """Tell whether anything here makes AAC."""
    try:
        import av  # noqa: F401
    except ImportError:
        return shutil.which("ffmpeg") is not None
    return True


needs_aac = pytest.mark.skipif(not has_aac(), reason="needs PyAV or ffmpeg")


@dataclass
class Box:
    """A box of an MP4 file; `data` is without its header, and a place in the file goes with it."""

    name: str
    start: int
    data: bytes
    boxes: list[Box] = field(default_factory=list)

    def find(self, path: str) -> Box:
        """Give the first box at a path."""
        box = self
        for name in path.split("/"):
            box = next(each for each in box.boxes if each.name == name)
        return box

    def all(self, name: str) -> list[Box]:
        return [box for box in self.boxes if box.name == name]

    def numbers(self, form: str, offset: int = 4) -> tuple[int, ...]:
        return struct.unpack_from(form, self.data, offset)


_HOLDERS = {"moov", "trak", "edts", "mdia", "minf", "dinf", "stbl", "udta", "ilst", "tref", "gmhd"}


def read_boxes(path: Path) -> Box:
    """Read a file of boxes; of what is larger than 64 MiB the header alone."""
    root = Box("", 0, b"")
    with path.open("rb") as file:
        end = file.seek(0, 2)
        at = 0
        while at < end:
            file.seek(at)
            size, name = struct.unpack(">I4s", file.read(8))
            header = 8
            if size == 1:
                (size,) = struct.unpack(">Q", file.read(8))
                header = 16
            assert size >= header
            assert at + size <= end, f"{name!r} goes beyond the end"
            data = file.read(size - header) if size < 2**26 else b""
            root.boxes.append(_box(name, at + header, data))
            at += size
    return root


def _box(name: bytes, start: int, data: bytes) -> Box:
    text = name.decode("latin-1")
    box = Box(text, start, data)
    skip = {"meta": 4, "stsd": 8, "dref": 8}.get(text, 0)
    if text in _HOLDERS or skip or text[0] == "\xa9" or text in ("aART", "desc", "ldes", "stik", "covr", "trkn"):
        at = skip
        while at < len(data):
            size, inner = struct.unpack_from(">I4s", data, at)
            assert 8 <= size <= len(data) - at, f"{inner!r} in {text!r}"
            box.boxes.append(_box(inner, start + at + 8, data[at + 8 : at + size]))
            at += size
        assert at == len(data)
    return box


def read_id3(data: bytes) -> tuple[list[tuple[str, bytes]], int]:
    """Read the frames of an ID3v2.4 tag, and where it ends."""
    assert data[:6] == b"ID3\4\0\0"

    def size_of(field: bytes) -> int:
        assert max(field) < 128
        return sum(byte << shift for byte, shift in zip(field, (21, 14, 7, 0), strict=True))

    end = 10 + size_of(data[6:10])
    return _id3_frames(data, 10, end, size_of), end


def _id3_frames(data: bytes, at: int, end: int, size_of) -> list[tuple[str, bytes]]:
    frames = []
    while at < end:
        size = size_of(data[at + 4 : at + 8])
        assert data[at + 8 : at + 10] == b"\0\0"
        frames.append((data[at : at + 4].decode("ascii"), data[at + 10 : at + 10 + size]))
        at += 10 + size
    assert at == end
    return frames


def read_ogg(data: bytes) -> list[bytes]:
    """Check each page of a stream, and give its packets."""
    packets: list[bytes] = []
    parts = b""
    at = number = 0
    serial = data[14:18]
    while at < len(data):
        page_number, checksum, count = struct.unpack_from("<IIB", data, at + 18)
        laces = data[at + 27 : at + 27 + count]
        end = at + 27 + count + sum(laces)
        page = data[at:end]
        assert page[:4] == b"OggS"
        assert page[14:18] == serial
        assert page_number == number
        assert checksum == _ogg_checksum(page[:22] + bytes(4) + page[26:])
        assert bool(page[5] & 1) == bool(parts)
        place = at + 27 + count
        for lace in laces:
            parts += data[place : place + lace]
            place += lace
            if lace < 255:
                packets.append(parts)
                parts = b""
        at, number = end, number + 1
    assert page[5] & 4
    return packets


def _ogg_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_OGG_TABLE = _ogg_table()


def _ogg_checksum(page: bytes) -> int:
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _OGG_TABLE[value >> 24 ^ byte]
    return value


def read_comments(block: bytes) -> list[tuple[str, str]]:
    """Read Vorbis comments."""
    at = 4 + struct.unpack_from("<I", block)[0]
    (count,) = struct.unpack_from("<I", block, at)
    at += 4
    found = []
    for _ in range(count):
        (size,) = struct.unpack_from("<I", block, at)
        name, _, value = block[at + 4 : at + 4 + size].decode("utf-8").partition("=")
        found.append((name, value))
        at += 4 + size
    assert at == len(block)
    return found


def lag_of(decoded: np.ndarray, samples: np.ndarray, start: int, *, size: int = 8000, reach: int = 1500) -> int:
    """Find by how much decoded sound is late, from what is at a place."""
    part = samples[start : start + size].astype(np.float64)
    around = decoded[start - reach : start + size + reach].astype(np.float64)
    return int(np.correlate(around, part, "valid").argmax()) - reach
