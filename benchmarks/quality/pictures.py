"""Spectrograms as PNG files, written with zlib alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_WINDOW, _HOP, _HEIGHT = 1024, 120, 160
_RANGE = 9.0  # nepers from black to white
_GAP = 4  # rows between two spectrograms
_HIGHEST_BIN = 384  # 9 kHz at 24 kHz


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """Draw the magnitudes of [S] float32 at 24 kHz up to 9 kHz: [160, T] uint8, low frequencies at the bottom."""
    padded = np.pad(np.asarray(samples, np.float64), _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW)))[:, :_HIGHEST_BIN]
    loudness = np.log(np.maximum(magnitude, 1e-6))
    scaled = np.clip((loudness - loudness.max()) / _RANGE + 1, 0, 1)
    # Two or three bins to a row of the picture.
    rows = np.array([part.max(1) for part in np.array_split(scaled, _HEIGHT, axis=1)])
    return np.rint(255 * rows[::-1]).astype(np.uint8)


def stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Put pictures [H, T] under each other with a white line between; short ones are filled with black."""
    width = max(picture.shape[1] for picture in pictures)
    rows: list[np.ndarray] = []
    for picture in pictures:
        if rows:
            rows.append(np.full((_GAP, width), 255, np.uint8))
        rows.append(np.pad(picture, ((0, 0), (0, width - picture.shape[1]))))
    return np.concatenate(rows)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode grey pixels [H, W] uint8."""
    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    # Every row begins with the number of its filter: 0, none.
    rows = np.concatenate((np.zeros((height, 1), np.uint8), pixels), axis=1)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_picture(path: Path, utterances: Sequence[np.ndarray]) -> None:
    """Draw utterances [S] float32 under each other, in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(stack([spectrogram(samples) for samples in utterances])))
