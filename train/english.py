"""English: hibari as a teacher, a student of one Kokoro voice at 45 times real time; and its dictionary for Kokoro.

hibari (Apache-2.0) is a tool of training, installed by `train.packages`; the product never loads it. Its dictionary
and rules of English are misaki's, which Kokoro was trained with, so they serve Kokoro too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from train.kokoro import time_words
from train.phonemes import Pronunciation, is_sound, tidy
from train.spoken import Spoken
from train.teacher import SilentTextError

_SAMPLES_PER_DURATION = 600
_MAX_SYMBOLS = 400
_OUTPUTS, _DURATIONS = ("lh", "theta", "ln", "lr", "phi", "f0"), "/Clip_output_0"
_VOICED = 40.0  # Hz, below which its source is off


class EnglishPhonemizer:
    """Phonemes of English by a dictionary with parts of speech, and a net for words that it lacks."""

    def __init__(self) -> None:
        from hibari.g2p import G2P  # pyright: ignore[reportMissingImports]

        self._rules: Any = G2P()

    def pronounce(self, text: str) -> Pronunciation:
        """Write a text in phonemes; words are the dictionary's tokens."""
        symbols, owners, words = "", [], []
        place = 0
        for token in self._rules.phonemize_tokens(self._rules.tokenize(text)):
            found = text.find(token.text, place)
            sounds = token.phonemes or ""
            owner = -1
            if found >= 0:
                place = found + len(token.text)
                if any(is_sound(symbol) for symbol in sounds):
                    owner = len(words)
                    words.append((found, len(token.text)))
            sounds += " " if token.whitespace else ""
            symbols += sounds
            owners += [owner if is_sound(symbol) or symbol in "ˈˌ" else -1 for symbol in sounds]
        return tidy(symbols, owners, words)


class Hibari:
    """The student, on one thread.

    Args:
        folder: what `train.packages` made.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime  # pyright: ignore[reportMissingImports]
        from hibari import dsp  # pyright: ignore[reportMissingImports]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(folder / "hibari.onnx"), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._sound: Any = dsp

    def say_phonemes(self, said: Pronunciation, speed: float, seed: int) -> Spoken:
        """Speak phonemes.

        Args:
            said: by `EnglishPhonemizer`.
            speed: factor.
            seed: of its noise.

        Raises:
            SilentTextError: nothing sounds, or it is longer than the model was taught.
        """
        count = len(said.symbols)
        if not any(is_sound(symbol) for symbol in said.symbols) or count > _MAX_SYMBOLS:
            raise SilentTextError(f"hibari speaks 1 to {_MAX_SYMBOLS} phonemes, got {count}; use another text")
        *spectra, pitch, durations = self._session.run(
            [*_OUTPUTS, _DURATIONS],
            {"ids": np.array([[0, *said.ids, 0]], np.int64), "speed": np.array([speed], np.float32)},
        )
        curve = np.asarray(pitch[0], np.float32)
        samples = self._sound.synth(*(each[0] for each in spectra), curve, np.random.default_rng(seed))
        ends = np.cumsum(np.asarray(durations).ravel())
        edges = [int(end) * _SAMPLES_PER_DURATION for end in (0, *ends)]
        return Spoken(
            samples=np.asarray(samples, np.float32),
            pitch=np.where(curve > _VOICED, curve, 0).astype(np.float32),
            phonemes=said.ids,
            phoneme_starts=edges[1 : count + 1],
            phoneme_end=edges[count + 1],
            words=time_words(said, edges[1 : count + 2]),
            times="teacher",
            pitch_kind="source",
        )
