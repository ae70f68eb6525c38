"""Kokoro-82M as a teacher: natural speech with the durations and the pitch that the model itself drew.

Kokoro (Apache-2.0) is a tool of training, put together by `train.packages`; the product never loads it. A style is
two vectors of 128 numbers, one for how a voice sounds (timbre) and one for how it moves (pitch and durations), so
voices can be mixed, and a timbre of any language can speak with the melody of another. Read next: `train.speak`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from train.phonemes import EspeakPhonemizer, Phonemizer, Pronunciation, is_sound
from train.spoken import Spoken
from train.teacher import SilentTextError

SAMPLE_RATE = 24000
SAMPLES_PER_DURATION = 600
SAMPLES_PER_PITCH = 300
MAX_SYMBOLS = 400  # a style has 510 rows, one for each number of symbols; long texts are spoken hastily

_DURATIONS, _PITCH = "/encoder/Clip_output_0", "/encoder/F0_proj/Conv_output_0"
_MIN_PITCH = 50.0  # Hz, below which its source is off


class Kokoro:
    """One model in one process, on one thread.

    Args:
        folder: what `train.packages` made.
        phonemizers: by language, of those that espeak-ng does not serve.

    Raises:
        ImportError: onnxruntime is not installed.
    """

    def __init__(self, folder: Path, phonemizers: dict[str, Phonemizer] | None = None) -> None:
        import onnxruntime  # pyright: ignore[reportMissingImports]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            str(folder / "kokoro.onnx"), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._folder = folder / "styles"
        self._phonemizers = dict(phonemizers or {})
        self._read_style = cache(self._read_style_file)

    def style(self, timbre: dict[str, float], prosody: dict[str, float]) -> np.ndarray:
        """Mix styles: [510, 256] float32, a row for each number of symbols."""
        return np.concatenate([self._mix(timbre)[:, :128], self._mix(prosody)[:, 128:]], axis=1)

    def _mix(self, weights: dict[str, float]) -> np.ndarray:
        return np.asarray(sum(weight * self._read_style(name) for name, weight in weights.items()), np.float32)

    def _read_style_file(self, name: str) -> np.ndarray:
        return np.fromfile(self._folder / f"{name}.bin", np.float32).reshape(-1, 256)

    def phonemizer(self, language: str) -> Phonemizer:
        """Find who writes a language in phonemes."""
        if language not in self._phonemizers:
            self._phonemizers[language] = EspeakPhonemizer(language)
        return self._phonemizers[language]

    def say(self, text: str, language: str, style: np.ndarray, speed: float = 1.0) -> Spoken:
        """Speak a text.

        Args:
            text: as the front-end leaves it.
            language: its code.
            style: [510, 256].
            speed: factor; above 1 is faster.

        Raises:
            SilentTextError: nothing in the text sounds, or it is longer than the model speaks well.
        """
        return self.say_phonemes(self.phonemizer(language).pronounce(text), style, speed)

    def say_phonemes(self, said: Pronunciation, style: np.ndarray, speed: float = 1.0) -> Spoken:
        """Speak phonemes; see `say`."""
        count = len(said.symbols)
        if not any(is_sound(symbol) for symbol in said.symbols) or count > MAX_SYMBOLS:
            raise SilentTextError(f"Kokoro speaks 1 to {MAX_SYMBOLS} phonemes at a time, got {count}; use another text")
        samples, durations, pitch = self._session.run(
            ["audio", _DURATIONS, _PITCH],
            {
                "tokens": np.array([[0, *said.ids, 0]], np.int64),
                "style": style[count - 1].reshape(1, 256).astype(np.float32),
                "speed": np.array([speed], np.float32),
            },
        )
        samples = np.asarray(samples, np.float32).ravel()
        ends = np.cumsum(np.asarray(durations).ravel().round().astype(int))
        edges = [int(end) * SAMPLES_PER_DURATION for end in (0, *ends)]
        curve = np.asarray(pitch, np.float32).ravel()
        return Spoken(
            samples=samples,
            pitch=np.where(curve > _MIN_PITCH, curve, 0).astype(np.float32),
            phonemes=said.ids,
            phoneme_starts=edges[1 : count + 1],
            phoneme_end=edges[count + 1],
            words=time_words(said, edges[1 : count + 2]),
            times="teacher",
            pitch_kind="source",
        )


def time_words(said: Pronunciation, edges: list[int]) -> list[tuple[int, int, int, int]]:
    """Time the words of a pronunciation.

    Args:
        said: the symbols and their words.
        edges: where each symbol begins, and where the last one ends.

    Returns:
        Start, end, first character and length of each word that has a symbol; times never go back.
    """
    spans: dict[int, tuple[int, int]] = {}
    for index, owner in enumerate(said.owners):
        if owner >= 0:
            start, _ = spans.get(owner, (edges[index], 0))
            spans[owner] = (start, edges[index + 1])
    timed: list[tuple[int, int, int, int]] = []
    for number, (first, length) in enumerate(said.words):
        if number in spans:
            timed.append((*spans[number], first, length))
        elif timed:  # run together with the word before it
            timed.append((timed[-1][0], timed[-1][1], first, length))
    return timed
