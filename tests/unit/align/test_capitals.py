"""Whether a checkpoint reads capitals is seen in the codes that it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch

from voxtral.align import capitals
from voxtral.align.alignment import Alignment
from voxtral.align.calibrate import Sentence, SpokenSentence
from voxtral.align.capitals import measure_capitals

TEXTS = {
    "en": ["The mill is old.", "We saw a ship.", "Nobody came."],
    "fr": ["Le moulin est vieux.", "Il pleut.", "On y va."],
    "hi": ["चक्की पुरानी है।", "हम आए।"],  # no capitals
}


def knowing(thresholds: dict[str, float]) -> Alignment:
    return Alignment("0" * 64, (), 1, 0.0, 0.0, thresholds)


def say(sentence: Sentence, *, reads: bool) -> SpokenSentence:
    """Say a code a letter; another seed changes one in five."""
    text = sentence.text.lower() if reads else sentence.text
    codes = [ord(letter) + (1000 * sentence.seed if place % 5 == 0 else 0) for place, letter in enumerate(text)]
    return SpokenSentence(sentence, cast(Any, None), torch.tensor(codes)[:, None].repeat(1, 2), np.zeros(0, np.float32))


def measured(monkeypatch: pytest.MonkeyPatch, *, reads: bool, num_ended: int = 99) -> dict[str, float]:
    def say_all(_: object, sentences: Sequence[Sentence]) -> list[SpokenSentence]:
        return [say(one, reads=reads) for one in sentences][:num_ended]

    monkeypatch.setattr(capitals, "say_sentences", say_all)
    spoken = [say(Sentence(text, code, "x", 1), reads=reads) for code, texts in TEXTS.items() for text in texts]
    return measure_capitals(cast(Any, None), spoken)


@pytest.mark.parametrize("reads", [True, False])
def test_capitals_that_are_read_change_no_more_than_another_seed(monkeypatch: pytest.MonkeyPatch, reads: bool) -> None:
    found = measured(monkeypatch, reads=reads)
    assert knowing(found).reads_capitals is reads


def test_too_few_sentences_tell_nothing_and_then_capitals_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, reads=False, num_ended=5) == {}
    assert knowing({}).reads_capitals
