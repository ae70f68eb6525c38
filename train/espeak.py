"""espeak-ng as a teacher of the corpus of shards: its events as phonemes of the common alphabet and as words."""

from __future__ import annotations

import numpy as np
import soxr

from train.phonemes import SYMBOLS, find_words, reduce_ipa
from train.spoken import SAMPLE_RATE, Spoken, measure_pitch
from train.teacher import SilentTextError, Speaker, Teacher


class EspeakTeacher:
    """The one espeak-ng of a process, its phonemes named in IPA.

    Raises:
        TeacherError: the library is not installed.
    """

    def __init__(self) -> None:
        self._teacher = Teacher(in_ipa=True)

    def say(self, text: str, language: str, speaker: Speaker) -> Spoken:
        """Speak a text.

        Raises:
            TeacherError: espeak-ng does not know the voice.
            SilentTextError: the text makes no sound.
        """
        heard = self._teacher.say(text, language, speaker)
        samples = soxr.resample(heard.samples.astype(np.float32) / 32768, heard.sample_rate, SAMPLE_RATE)
        length = len(samples)
        phonemes: list[int] = []
        starts: list[int] = []
        ends = [round(start * SAMPLE_RATE) for start, _ in heard.phonemes[1:]] + [length]
        last = 0
        for (start, name), end in zip(heard.phonemes, ends, strict=True):
            begin = round(start * SAMPLE_RATE)
            symbols = "" if name.startswith(("_", "(")) else reduce_ipa(name)
            if not symbols:
                continue
            for index, symbol in enumerate(symbols):
                phonemes.append(SYMBOLS[symbol])
                starts.append(begin + (end - begin) * index // len(symbols))
            last = end
        if not phonemes:
            raise SilentTextError(f"espeak-ng made no sound for {len(text)} characters in {language}; use another text")
        return Spoken(
            samples=samples.astype(np.float32),
            pitch=measure_pitch(samples),
            phonemes=phonemes,
            phoneme_starts=starts,
            phoneme_end=last,
            words=_words(text, heard.words, last),
            times="teacher",
            pitch_kind="measured",
        )


def _words(text: str, events: tuple[tuple[float, int, int], ...], last: int) -> list[tuple[int, int, int, int]]:
    """Turn word events into spans of time and of the text's own words."""
    starts = [round(start * SAMPLE_RATE) for start, _, _ in events]
    timed: list[tuple[int, int, int, int]] = []
    for first, length in find_words(text):
        covering = [index for index, (_, at, count) in enumerate(events) if at < first + length and at + count > first]
        if not covering:
            if timed:
                timed.append((timed[-1][0], timed[-1][1], first, length))
            continue
        end = starts[covering[-1] + 1] if covering[-1] + 1 < len(starts) else last
        timed.append((starts[covering[0]], end, first, length))
    return timed
