"""The thresholds of the checks, measured once for a checkpoint: what good speech of its own looks like.

`voxtral.align.calibrate` calls it with the sentences that it has said; more are said here, because a check looks for
the rarest, and segments of several sentences among them, because long texts stray further than short ones. Read next:
`voxtral.align.checks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from voxtral.align.calibrate import AlignedSentence, Sentence, Speaking, align_sentence, say_sentences
from voxtral.align.capitals import measure_capitals
from voxtral.align.checks import MIN_UTTERANCES, GoodSpeech, measure_good_speech, thresholds_from
from voxtral.align.signals import SpokenSegment
from voxtral.align.words import spoken_words, verbatim_sources

if TYPE_CHECKING:
    from voxtral.align.alignment import Alignment

_FIRST_SEED = 1000
# Utterances that come to no end are not replaced for ever.
_MAX_ROUNDS = 40


def measure_thresholds(
    speaking: Speaking, alignment: Alignment, aligned: Sequence[AlignedSentence]
) -> dict[str, float]:
    """Measure good speech, and make thresholds of it; see `voxtral.align.calibrate.Thresholds`.

    Args:
        speaking: the loaded model; it computes about as long again as the calibration.
        alignment: what has been found so far.
        aligned: what was said for it.

    Returns:
        None of them, an empty mapping, where too little was said to its end.
    """
    plain = [one for one in aligned if not one.spoken.sentence.is_list]
    speech = [_measure(speaking, alignment, one) for one in plain]
    seed = _FIRST_SEED
    for _ in range(_MAX_ROUNDS):
        more = list(_joined([one.spoken.sentence for one in plain], seed))
        seed += len(more)
        for said in say_sentences(speaking, more):
            one = align_sentence(speaking, said, alignment.heads, alignment.max_step)
            speech.append(_measure(speaking, alignment, one))
        if len(speech) >= MIN_UTTERANCES or not more:
            break
    if len(speech) < MIN_UTTERANCES:
        return {}
    return thresholds_from(speech) | measure_capitals(speaking, [one.spoken for one in plain])


def _joined(sentences: Sequence[Sentence], seed: int) -> Iterator[Sentence]:
    """Make segments of two sentences of each language, each of which begins one and ends one."""
    for language in dict.fromkeys(sentence.language for sentence in sentences):
        texts = {sentence.text: sentence for sentence in sentences if sentence.language == language}
        distinct = list(texts.values())
        for first, second in pairwise([*distinct, *distinct[:1]]):
            yield replace(first, text=f"{first.text} {second.text}", seed=seed)
            seed += 1


def _measure(speaking: Speaking, alignment: Alignment, one: AlignedSentence) -> GoodSpeech:
    sentence, prompt = one.spoken.sentence, one.spoken.prompt
    text = sentence.text
    pieces = speaking.tokenizer.pieces(prompt.token_ids[slice(*prompt.text_span)])
    segment = SpokenSegment(
        spoken=text,
        words=spoken_words(text, text, verbatim_sources(0, len(text)), pieces),
        times=(),
        weights=one.weights,
        path=one.path,
        samples=one.spoken.samples,
        sample_rate=speaking.config.sample_rate,
        frame_rate=speaking.config.frame_rate,
        stop="end",
        language=sentence.language,
    )
    return measure_good_speech(segment, alignment)
