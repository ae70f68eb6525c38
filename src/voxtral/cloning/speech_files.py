"""Speech of people that nobody has written down, from a folder of audio files, as crops at the level of the presets.

Which file a step hears is told by its number, so that a training that goes on hears the same. What cannot be read is
left out, and said once.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from voxtral.audio.condition import active_level, fill_zeros, gain_to, high_pass
from voxtral.audio.read import AudioLimits, read_audio
from voxtral.audio.reference import LEVEL_DB
from voxtral.disk import why
from voxtral.errors import ReferenceAudioError, TrainingError

_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".aif", ".webm", ".w64"})
_MAX_FILES = 1_000_000
# A file may be an hour of stereo.
_LIMITS = AudioLimits(max_bytes=2**31, max_seconds=2 * 3600.0, max_decoded_bytes=2**32)
# Files that are kept decoded: their samples, 16 bits each.
_MAX_KEPT_BYTES = 2**29
_LOUD_DB = -60.0
_MAX_TRIES = 20


class SpeechFiles:
    """Crops of the audio files below some folders.

    Args:
        folders: where to look; files are told by the end of their name.
        sample_rate: of the crops, in Hz.
        warn: told of each file that is left out.

    Raises:
        TrainingError: a folder is none, or cannot be looked at, or there is no audio in it.
    """

    def __init__(self, folders: list[Path], sample_rate: int, warn: Callable[[str], None]) -> None:
        self._paths = sorted(path for folder in folders for path in _audio_files(folder))[:_MAX_FILES]
        self._sample_rate = sample_rate
        self._warn = warn
        self._kept: OrderedDict[Path, np.ndarray | None] = OrderedDict()
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="speech-files")
        self._ahead: tuple[int, Future[np.ndarray]] | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def close(self) -> None:
        """Stop reading ahead."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def crops(self, seed: int, step: int, count: int, num_samples: int) -> np.ndarray:
        """Cut the crops of a step, and begin to read those of the next one.

        Returns:
            [count, num_samples] float32, at the level of the presets.

        Raises:
            TrainingError: file after file cannot be read.
        """
        if self._ahead is not None and self._ahead[0] == step:
            found = self._ahead[1].result()
        else:
            found = self._readers.submit(self._cut, seed, step, count, num_samples).result()
        self._ahead = step + 1, self._readers.submit(self._cut, seed, step + 1, count, num_samples)
        return found

    def _cut(self, seed: int, step: int, count: int, num_samples: int) -> np.ndarray:
        draw = np.random.default_rng([seed, step, 1])
        return np.stack([self._crop(draw, num_samples) for _ in range(count)])

    def _crop(self, draw: np.random.Generator, num_samples: int) -> np.ndarray:
        for _ in range(_MAX_TRIES):
            path = self._paths[int(draw.integers(len(self._paths)))]
            place = float(draw.random())
            whole = self._read(path)
            if whole is None:
                continue
            start = int(place * max(0, len(whole) - num_samples + 1))
            part = whole[start : start + num_samples]
            crop = np.zeros(num_samples, np.float32)
            crop[: len(part)] = part / np.float32(32768)
            level = active_level(crop, self._sample_rate)
            if level > _LOUD_DB:
                raised = high_pass(crop, self._sample_rate)
                raised = raised * np.float32(gain_to(raised, level, LEVEL_DB, 0.0))
                return fill_zeros(raised, self._sample_rate)
        raise TrainingError(
            f"{_MAX_TRIES} files of --speech in a row hold no sound or cannot be read; it must be folders of speech"
        )

    def _read(self, path: Path) -> np.ndarray | None:
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        try:
            samples = read_audio(path, sample_rate=self._sample_rate, limits=_LIMITS)
            whole = np.rint(samples.clip(-1, 1) * 32767).astype(np.int16)
        except ReferenceAudioError as error:
            self._warn(f"{path} is left out: {error}")
            whole = None
        self._kept[path] = whole
        while len(self._kept) > 1 and sum(0 if each is None else each.nbytes for each in self._kept.values()) > (
            _MAX_KEPT_BYTES
        ):
            self._kept.popitem(last=False)
        return whole


def _audio_files(folder: Path) -> list[Path]:
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise TrainingError(
            f"{error.filename} cannot be looked at ({why(error)}); --speech must be a folder of audio files"
        ) from error

    if not folder.is_dir():
        raise TrainingError(f"{folder} is no folder; --speech must be a folder of audio files")
    for place, _, names in os.walk(folder, onerror=refuse):
        found += [Path(place, name) for name in names if Path(name).suffix.lower() in _SUFFIXES]
    if not found:
        raise TrainingError(
            f"{folder} holds no audio files; they are told by names in {', '.join(sorted(_SUFFIXES))}; name another"
        )
    return found
