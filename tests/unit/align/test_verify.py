"""A user's recogniser is asked as promised, and its errors are counted in words."""

from __future__ import annotations

import numpy as np
import pytest

from voxtral.align.verify import error_rate, transcribe


def test_a_recogniser_gets_the_speech_and_its_language() -> None:
    asked: list[tuple[int, int, str]] = []

    def recogniser(samples: np.ndarray, sample_rate: int, language: str) -> str:
        asked.append((len(samples), sample_rate, language))
        return "guten tag"

    found = transcribe(recogniser, "Guten Tag!", np.zeros(5, np.float32), 24000, "de")
    assert (asked, found.text, found.error_rate) == ([(5, 24000, "de")], "guten tag", 0.0)


@pytest.mark.parametrize(
    ("wanted", "heard", "rate"),
    [
        ("One two three four.", "one TWO three four", 0.0),
        ("One two three four.", "one two four", 0.25),
        ("One two.", "one two three four", 1.0),
        ("déjà vu", "deja vu", 0.0),
        ("你好吗", "你好", 1 / 3),
        ("", "", 0.0),
        ("a b", "", 1.0),
    ],
)
def test_errors_are_counted(wanted: str, heard: str, rate: float) -> None:
    assert error_rate(wanted, heard) == pytest.approx(rate)
