"""What is known of a take when it ends."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from voxtral.speech.take import Left, Take, after
from voxtral.text.segment import TextSegment
from voxtral.types import WordTime


@pytest.mark.parametrize("verify", ["off", "report"])
def test_words_that_were_given_up_are_told_of_in_plain_json(verify: str) -> None:
    plan = SimpleNamespace(seed=1, timestamps=False, verify=verify, alignment=None, sample_rate=24000, frame_rate=12.5)
    segment = SimpleNamespace(text=TextSegment("word", 3, 7), spoken_start=3)
    handle = SimpleNamespace(stop="lost", stats=SimpleNamespace(num_frames=0))
    take = Take(cast(Any, plan), cast(Any, segment), cast(Any, handle), None, number=1)
    take.finish(Left(given_up=(3, 7)))
    assert take.check is not None
    assert take.check.verdict == "bad"
    said = json.loads(json.dumps(take.check.to_dict(), allow_nan=False))
    assert (said["findings"][-1]["text_start"], said["findings"][-1]["text_end"]) == (3, 7)


def word(number: int, start_s: float, end_s: float) -> WordTime:
    return WordTime(4 * number, 4 * number + 3, start_s, end_s, 0.5)


def test_words_that_were_given_stay_and_the_others_come_after_them() -> None:
    given = (word(0, 0.0, 0.5), word(1, 0.6, 1.4))
    guessed = (word(0, 0.0, 0.4), word(1, 0.4, 0.9), word(2, 0.9, 1.3), word(3, 1.3, 1.9))
    assert after(given, guessed) == (word(2, 1.4, 1.4), word(3, 1.4, 1.9))
    assert after((), guessed) == guessed
    assert after(given, guessed[:2]) == ()
