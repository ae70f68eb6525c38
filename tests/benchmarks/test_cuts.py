"""Speech with a known span cut out: what is left, and what is said to be gone, fit together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.quality.cases import Studio
from benchmarks.quality.coverage import BAR, Reference, compare
from benchmarks.quality.cuts import Cutter, spell_words
from benchmarks.quality.teachers import Take, TeacherVoice
from train.sounds import IPA, SOUNDS, Sounds

_LETTER = 2400
TEXT = "Sato mika, nepo tami sone (kito) pase."


class LetterTeacher:
    """Says each letter for 100 ms, at a level of its own."""

    alphabet = IPA
    has_sound = True
    voices = (TeacherVoice("en_f1", "preset", "en", ("en",), "preset"),)

    def say(self, text: str, language: str, voice: str) -> Take:
        letters = [(place, char.lower()) for place, char in enumerate(text) if char.isalpha()]
        levels = np.array([SOUNDS.get(char, SOUNDS["ɥ"]) for _, char in letters], np.float32) / 256
        samples = np.repeat(levels, _LETTER)
        phonemes = [(number / 10, char) for number, (_, char) in enumerate(letters)]
        words = [
            (number / 10, place, 1)
            for number, (place, _) in enumerate(letters)
            if place == 0 or not text[place - 1].isalpha()
        ]
        return Take(samples, len(samples) / 24000, [*phonemes, (len(letters) / 10, "_")], words)


class Ear:
    """Reads the levels."""

    phonemes = Sounds(SOUNDS, {})

    def transcribe(self, samples: np.ndarray, language: str) -> list[int]:
        levels = [round(float(level) * 256) for level in samples[_LETTER // 2 :: _LETTER]]
        return [level for place, level in enumerate(levels) if place == 0 or levels[place - 1] != level]


class Speaker:
    """Says what the teacher would."""

    max_batch = 1
    voices = (SimpleNamespace(name="en_f1", language="en"),)
    config = SimpleNamespace(sample_rate=24000)

    def check(self, *_: Any, **__: Any) -> None:
        pass

    def synthesize(self, text: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(samples=LetterTeacher().say(text, "en", "").samples, segments=())


@pytest.fixture
def cutter(monkeypatch: pytest.MonkeyPatch) -> Cutter:
    monkeypatch.setattr("benchmarks.quality.spoken.make_request", lambda *_, **__: None)
    studio = Studio(Ear.phonemes, LetterTeacher(), with_word_lists=False)
    return Cutter(Ear(), studio, Speaker())  # type: ignore[arg-type]


def test_words_are_spelled_where_they_stand() -> None:
    ear: Any = Ear()
    spelled = spell_words(TEXT, LetterTeacher().say(TEXT, "en", "en_f1"), ear, "en")
    assert spelled == [[SOUNDS[char] for char in word.lower() if char.isalpha()] for word in TEXT.split()]


def test_every_kind_of_cut_is_what_it_is_called(cutter: Cutter) -> None:
    cases = {case.kind: case for case in cutter.cut([("en-dev-0", "dev", TEXT)])}
    assert set(cases) == {"teacher", "teacher, cut", "teacher, replaced", "nano", "nano, cut", "nano, added"}
    found = {kind: compare(case.heard, Reference(case.reference)) for kind, case in cases.items()}
    for kind in ("teacher", "nano"):
        assert (found[kind].is_lost, found[kind].is_extended) == (False, False)
    for kind in ("teacher, cut", "nano, cut"):
        assert found[kind].is_dropped
        # As many phonemes are gone as it says, but where the sounds at both sides of the gap happen to fit.
        assert 0 <= cases[kind].num_cut - found[kind].missing.score <= 2
        assert cases[kind].num_cut >= BAR
    # Other speech in its place fits by chance here and there.
    assert found["teacher, replaced"].missing.score > 0
    assert found["nano, added"].is_extended
