"""Whether a checkpoint reads capitals: said in them, are sentences the same sounds?

No recogniser is needed. A model that reads them says the same semantic codes, but for what another seed changes as
well; one that was not taught them says others. Read next: `voxtral.text.capitals`, which helps it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from voxtral.align.calibrate import Sentence, Speaking, SpokenSentence, say_sentences

if TYPE_CHECKING:
    from torch import Tensor

CAPITALS = "capitals"
"""Name of the measure among the thresholds of an alignment."""

_PER_LANGUAGE = 3
_MIN_PAIRS = 6
_OTHER_SEED = 5000


def measure_capitals(speaking: Speaking, spoken: Sequence[SpokenSentence]) -> dict[str, float]:
    """Measure how much more of a sentence's codes capitals change than another seed does, 0 to 1.

    Args:
        speaking: the loaded model; it says each of some sentences twice more.
        spoken: what it has said, in small letters.

    Returns:
        The measure by its name; nothing where too few sentences were said to their end, or no script has capitals.
    """
    chosen = list(_choose(spoken))
    loud = [replace(one.sentence, text=_raise(one.sentence.text)) for one in chosen]
    again = [replace(one.sentence, seed=one.sentence.seed + _OTHER_SEED) for one in chosen]
    by_capitals, by_seed = (_apart(speaking, chosen, sentences) for sentences in (loud, again))
    if min(len(by_capitals), len(by_seed)) < _MIN_PAIRS:
        return {}
    return {CAPITALS: round(float(np.median(by_capitals) - np.median(by_seed)), 4)}


def _choose(spoken: Iterable[SpokenSentence]) -> Iterator[SpokenSentence]:
    """Take a few sentences of each language whose script has capitals."""
    by_language: dict[str, dict[str, SpokenSentence]] = {}
    for one in spoken:
        text = one.sentence.text
        if not one.sentence.is_list and _raise(text) != text:
            by_language.setdefault(one.sentence.language, {}).setdefault(text, one)
    for of_language in by_language.values():
        yield from islice(of_language.values(), _PER_LANGUAGE)


def _raise(text: str) -> str:
    return "".join(great if len(great := letter.upper()) == 1 else letter for letter in text)


def _apart(speaking: Speaking, chosen: Sequence[SpokenSentence], others: Sequence[Sentence]) -> list[float]:
    """Compare sentences with what was said instead; those that came to no end are left out."""
    said = {one.sentence: one for one in say_sentences(speaking, others)}
    return [
        _distance(one.audio_tokens, said[other].audio_tokens)
        for one, other in zip(chosen, others, strict=True)
        if other in said
    ]


def _distance(one: Tensor, other: Tensor) -> float:
    """Give the share of semantic codes that two sequences [T, K] do not have in common, in order."""
    first, second = one[:, 0].tolist(), other[:, 0].tolist()
    return 1 - difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()
