"""What is known of a take when it ends."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from voxtral.speech.take import Left, Take
from voxtral.text.segment import TextSegment


@pytest.mark.parametrize("verify", ["off", "report"])
def test_words_that_were_given_up_are_told_of_in_plain_json(verify: str) -> None:
    plan = SimpleNamespace(
        seed=1, timestamps=False, verify=verify, alignment=None, script=None, sample_rate=24000, frame_rate=12.5
    )
    segment = SimpleNamespace(text=TextSegment("word", 3, 7), spoken_start=3)
    handle = SimpleNamespace(stop="lost", stats=SimpleNamespace(num_frames=0))
    take = Take(cast(Any, plan), cast(Any, segment), cast(Any, handle), None, number=1)
    take.finish(Left(given_up=(3, 7)))
    assert take.check is not None
    assert take.check.verdict == "bad"
    said = json.loads(json.dumps(take.check.to_dict(), allow_nan=False))
    assert (said["findings"][-1]["text_start"], said["findings"][-1]["text_end"]) == (3, 7)
