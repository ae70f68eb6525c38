"""Spectrograms as PNG files, written with zlib alone; and a page of them: python -m benchmarks.quality.pictures.

    python -m benchmarks.quality.pictures CLIPS docs/pictures --systems teacher nano-3 nano-4

draws, for each language, the first sentence that all systems have said into CLIPS (`clips.py`), in their order from top
to bottom, and writes a page that shows them, `spectrograms.md`.
"""

from __future__ import annotations

import argparse
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.clips import LANGUAGES, Clip, read_clips, read_samples

PAGE = "spectrograms.md"

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


def find_sentences(said: Mapping[str, Sequence[Clip]]) -> dict[str, list[Clip]]:
    """Find the first sentence of each language that every system has said: its clips, in the order of the systems."""
    found: dict[str, list[Clip]] = {}
    for language in LANGUAGES:
        by_number = [{clip.number: clip for clip in clips if clip.language == language} for clips in said.values()]
        shared = set.intersection(*(set(one) for one in by_number))
        if shared:
            found[language] = [one[min(shared)] for one in by_number]
    return found


def write_page(folder: Path, clips: Path, systems: Sequence[str]) -> list[str]:
    """Draw a sentence of each language as all systems say it, and write the page.

    Args:
        folder: of the page and its pictures.
        clips: what `clips.py` wrote.
        systems: who said them, from top to bottom.

    Returns:
        The languages that are shown.

    Raises:
        SystemExit: a system has said nothing.
    """
    said = {system: read_clips(clips / f"{system}.jsonl") for system in systems}
    if missing := [system for system, found in said.items() if not found]:
        raise SystemExit(
            f"{clips} has no clips of {', '.join(missing)}; each system must have said something; run "
            "python -m benchmarks.quality.clips for it"
        )
    shown = find_sentences(said)
    lines = ["# Spectrograms", "", f"From top to bottom: {', '.join(systems)}. The same sentence, up to 9 kHz."]
    for language, takes in shown.items():
        name = f"spectrograms-{language}.png"
        write_picture(folder / name, [read_samples(clips, clip) for clip in takes])
        lines += ["", f"{language}, {takes[-1].voice}: {takes[-1].text}", "", f"![{language}]({name})"]
    (folder / PAGE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list(shown)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw clips, and write the page."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.quality.pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, help="folder that benchmarks.quality.clips wrote")
    parser.add_argument("folder", type=Path, help="for the page and its pictures")
    parser.add_argument("--systems", nargs="+", required=True, help="from top to bottom")
    options = parser.parse_args(arguments)
    print(f"{options.folder / PAGE}: {', '.join(write_page(options.folder, options.clips, options.systems))}")


if __name__ == "__main__":
    main()
