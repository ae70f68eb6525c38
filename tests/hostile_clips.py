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


CONTAINERS = ("WAV", "RF64", "W64", "CAF", "AU", "AIFF")

_SIZE_FIELDS = {
    # The mark before the size of the samples, the distance to it, its form, and what it counts besides the samples.
    "WAV": (b"data", 4, "<I", 0),
    "RF64": (b"ds64", 16, "<Q", 0),
    "W64": (b"data\xf3\xac", 16, "<Q", 24),
    "CAF": (b"data", 4, ">Q", 4),
    "AU": (b".snd", 8, ">I", 0),
    "AIFF": (b"SSND", 4, ">I", 8),
}


def container(format: str, samples: np.ndarray, claimed: int | None = None) -> bytes:
    """A 16-bit file of one of `CONTAINERS` whose samples claim so many bytes, as the field has it; None: the truth."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=format, subtype="PCM_16")
    data = bytearray(file.getvalue())
    if claimed is not None:
        mark, distance, form, _ = _SIZE_FIELDS[format]
        struct.pack_into(form, data, data.index(mark) + distance, claimed & (2 ** (8 * struct.calcsize(form)) - 1))
    return bytes(data)


def true_claim(format: str, num_samples: int) -> int:
    """What the field of an honest file has."""
    return 2 * num_samples + _SIZE_FIELDS[format][3]


def recorder_left(format: str, samples: np.ndarray, claimed: int) -> bytes:
    """What a recorder leaves that writes its header first and never comes back: no length is right."""
    data = bytearray(container(format, samples, claimed))
    if format in ("WAV", "AIFF", "RF64"):
        struct.pack_into("<I", data, 4, claimed & 0xFFFFFFFF)
    if format == "AIFF":
        struct.pack_into(">I", data, data.index(b"COMM") + 10, 0)
    return bytes(data)
