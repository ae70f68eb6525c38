"""Clips that lie: headers of one's choice, and small files that decode to hours."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile

RATE = 24000


def wav(data: bytes, *, rate: int = RATE, channels: int = 1, claimed: int | None = None) -> bytes:
    """A 16-bit WAV whose header says what it is told to say."""
    claimed = len(data) if claimed is None else claimed
    layout = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels & 0xFFFFFFFF, 2 * channels & 0xFFFF, 16)
    riff = struct.pack("<4sI4s", b"RIFF", min(claimed + 36, 0xFFFFFFFF), b"WAVE")
    return riff + struct.pack("<4sI", b"fmt ", 16) + layout + struct.pack("<4sI", b"data", claimed) + data


def ogg_page(packets: list[bytes], position: int, number: int, flags: int) -> bytes:
    """One page of an Ogg stream, with its checksum (polynomial 0x04c11db7, RFC 3533)."""
    header = struct.pack("<4sBBqIII", b"OggS", 0, flags, position, 1, number, 0)
    page = bytearray(header + bytes([len(packets), *map(len, packets)]) + b"".join(packets))
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum & 0x80000000 else 0)) & 0xFFFFFFFF
    page[22:26] = struct.pack("<I", checksum)
    return bytes(page)


def opus_bomb(hours: float) -> bytes:
    """Silence in packets of two bytes for 120 ms each: 93 kB an hour."""
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, 48000, 0, 0)
    pages = [ogg_page([head], 0, 0, 2), ogg_page([b"OpusTags" + bytes(8)], 0, 1, 0)]
    count = round(hours * 3600 / (255 * 0.12))
    packet = bytes([16 << 3 | 3, 48])  # 48 frames of 2.5 ms, RFC 6716 section 3.2.5
    for index in range(count):
        position = (index + 1) * 255 * 5760
        pages.append(ogg_page([packet] * 255, position, 2 + index, 4 if index == count - 1 else 0))
    return b"".join(pages)


def flac_bomb(hours: float, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    silence = np.zeros(rate * 60, dtype=np.int16)
    with soundfile.SoundFile(file, "w", rate, 1, "PCM_16", format="FLAC") as encoder:
        for _ in range(round(hours * 60)):
            encoder.write(silence)
    return file.getvalue()
