"""espeak-ng as a teacher of shards: every sound it makes is a phoneme of the common alphabet, in time."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from train.espeak import EspeakTeacher
from train.phonemes import SYMBOLS
from train.teacher import Speaker, TeacherError


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> EspeakTeacher:
    # The pitch is measured by a package of the tools, which the tests have not.
    world = types.ModuleType("pyworld")
    world.dio = lambda wave, rate, **options: (np.zeros(len(wave) // 300 + 1), np.zeros(1))  # type: ignore[attr-defined]
    world.stonemask = lambda wave, found, times, rate: found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyworld", world)
    try:
        return EspeakTeacher()
    except TeacherError as error:
        pytest.skip(str(error))


def test_phonemes_are_those_of_the_words_in_their_times(teacher: EspeakTeacher) -> None:
    text = "Schöne Häuser, nicht?"
    said = teacher.say(text, "de", Speaker("f2", 50, 165))
    names = {number: symbol for symbol, number in SYMBOLS.items()}
    assert "".join(names[number] for number in said.phonemes).startswith("ʃøːnəhɔ")
    assert said.phoneme_starts == sorted(said.phoneme_starts)
    assert [text[first : first + length] for *_, first, length in said.words] == ["Schöne", "Häuser", "nicht"]
    (_, first_end, *_), (second_start, *_), (_, last_end, *_) = said.words
    assert first_end == second_start
    assert last_end == said.phoneme_end <= len(said.samples)
    assert len(said.pitch) == -(-len(said.samples) // 300)
