"""Was the text said, all of it and nothing else? The verdict on a segment, and the places where it was not.

Signals become findings where they pass thresholds, which are those of good speech of the same checkpoint. docs/ALIGN.md
says what each finding means, how often it is right, and what "ok" does not mean. Read next: `voxtral.align.signals`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from voxtral.align.pace import KnownPace, count_letters, least_seconds, most_seconds
from voxtral.align.signals import Evidence, Signal, SpokenSegment, follow_again, gather_evidence, judge_sound, strongest
from voxtral.align.sound import Sound
from voxtral.types import Finding, FindingKind, SegmentCheck

if TYPE_CHECKING:
    import numpy.typing as npt

    from voxtral.align.alignment import Alignment
    from voxtral.engine.sequence import Stop

    Samples = npt.NDArray[np.float32]

SCORE_BAND = 10.0
"""Between verdicts: an "ok" or "unchecked" score is below it, a "suspect" one below twice, a "bad" one below thrice."""

MAX_STRENGTH = 100.0
"""Of a finding; more says nothing more, and JSON has no infinity."""

MIN_UTTERANCES = 120
"""Good utterances for thresholds; the 99th percentile of fewer gives up to 9 % of false alarms (docs/ALIGN.md)."""

_KINDS: Mapping[Signal, FindingKind] = {
    "word_mass": "skipped",
    "unseen": "skipped",
    "jump": "skipped",
    "back": "repeated",
    "loop": "repeated",
    "strain": "invented",
    "score": "changed",
    "clipping": "changed",
    "end_gap": "cut_off",
    "no_end": "cut_off",
    "stop": "cut_off",
    "stall": "stuck",
    "silence": "silence",
    "silent": "silence",
    "pace": "rate",
}

# What holds for any speech. The rest is where thresholds of a checkpoint begin: signals of speech that is clear beyond
# doubt are so small that their 99th percentile says nothing.
_FIXED: Mapping[Signal, float] = {"loop": 2.5, "silence": 1.2, "silent": 0.5, "clipping": 0.01, "stop": 0.5}
_LEAST: Mapping[Signal, float] = {
    "word_mass": 0.8,
    "unseen": 0.4,
    "jump": 3.0,
    "strain": 0.5,
    "score": 0.1,
    "back": 0.5,
    "stall": 6.0,
    "end_gap": 1.0,
    "no_end": 1.5,
    "pace": 0.5,
}
_PERCENTILE = 99
# Sentences that were not measured stray further: of nano, 12 sentences a language give thresholds that are a fifth
# above those of 6. Without this 6.7 % of other good segments are flagged, with it 2.4 % (docs/ALIGN.md).
_MARGIN = 1.2
_WITH_MARGIN: frozenset[Signal] = frozenset(("word_mass", "unseen", "jump", "strain", "score", "back"))
# Some languages write letters that nobody says; what is usual there is taken off before anything is compared.
_BY_LANGUAGE: tuple[Signal, ...] = ("unseen",)

# Signals that mean speech which has to be made again, and how far beyond the threshold they must be.
_GRAVE: Mapping[Signal, float] = {
    "word_mass": 1.15,
    "unseen": 1.5,
    "score": 1.15,
    "end_gap": 1.15,
    "no_end": 1.15,
    "back": 8.0,
    "loop": 1.0,
    "silent": 1.0,
    "stop": 1.0,
}
_UNENDED: frozenset[Stop] = frozenset(("length", "lost"))

# A follower may wait longer than good speech ever made it, because giving up is what one hears.
_STALL_MARGIN, _TAIL_MARGIN = 2.0, 2.0
# Numbers hold speech for longer than the words of good sentences do (`FollowLimits.stall_frames`).
_LEAST_STALL_FRAMES = 20.0
_FOLLOWED = ("end_left", "stall_frames", "tail_frames")


def check_speech(segment: SpokenSegment, alignment: Alignment) -> SegmentCheck:
    """Judge a segment by the attention of the model that spoke it.

    Args:
        segment: as it was spoken.
        alignment: of the checkpoint, with an aligner.

    Returns:
        The check of one attempt, with times from the start of the segment. Its `score` ranks attempts at one text so
        that it agrees with the verdicts: any "bad" one has a greater score than any "suspect" one, and that than any
        "ok" one; among equals, it is the mean of the negative logarithm of the attention on the path.
    """
    num_words = len(segment.words.words)
    if not segment.num_frames or not num_words:
        return _nothing(segment, num_words)
    # What reaches no threshold is not found.
    thresholds: dict[Signal, float] = {
        name: max(least, alignment.thresholds.get(name, 0.0)) for name, least in _LEAST.items()
    }
    evidence = list(gather_evidence(segment, alignment.pace.get(segment.language), thresholds))
    evidence.append(_of_stop(segment.stop, evidence, num_words, segment.num_frames))
    strengths = [_strength(one, alignment.thresholds, segment.language) for one in evidence]
    found = [(one, strength) for one, strength in zip(evidence, strengths, strict=True) if strength > 1]
    within = next(one.value for one in evidence if one.signal == "score")
    findings = _findings(segment, found, alignment.shift_s)
    return _verdict(found, within, findings, usual="ok")


def unchecked_speech(
    spoken: str,
    text_span: tuple[int, int],
    samples: Samples,
    sample_rate: int,
    *,
    stop: Stop | None = None,
    known: KnownPace | None = None,
) -> SegmentCheck:
    """Judge a segment whose model has no aligner, by its silence, its length and its end alone.

    Args:
        spoken: the segment's text as the model was given it.
        text_span: of the segment in the text as given; all findings are of all of it.
        samples: [S], as they were made.
        sample_rate: in Hz.
        stop: how the engine ended; None where nobody knows.
        known: of the voice, from speech before; see `with_speech`.

    Returns:
        "unchecked" where nothing is wrong as far as can be told; the score ranks as in `check_speech`, among equals by
        how far the length is from what is expected.
    """
    letters, seconds = count_letters(spoken), sounding_seconds(samples, sample_rate)
    duration_s = len(samples) / sample_rate
    evidence = list(judge_sound(samples, sample_rate, 1.0, 1))
    evidence.append(_of_stop(stop, evidence, 1, 1))
    found = [(one, value) for one in evidence if (value := _strength(one, {}, "")) > 1]
    least, most = least_seconds(letters, known), most_seconds(letters, known)
    is_grave = False
    if seconds < least:
        is_grave = True
        found.append((Evidence("pace", 0.0, (0, 1), (0, 1)), least / max(seconds, 0.01)))
    elif most is not None and seconds > most:
        found.append((Evidence("pace", 0.0, (0, 1), (0, 1)), seconds / most))
    findings = tuple(
        Finding(kind, *text_span, 0.0, duration_s, strength) for kind, strength in _strongest_of_kinds(found).items()
    )
    expected = (known.expected_s(letters) if known is not None else None) or least
    within = abs(math.log(max(seconds, 0.01) / max(expected, 0.01)))
    check = _verdict(found, within, findings, usual="unchecked")
    if is_grave and check.verdict != "bad":
        return SegmentCheck("bad", 2 * SCORE_BAND + min(within, SCORE_BAND / 2), findings, 1)
    return check


def sounding_seconds(samples: Samples, sample_rate: int) -> float:
    """Measure how long speech is, silence at its ends and longer pauses left out."""
    sound = Sound(sample_rate)
    sound.add(samples)
    if not sound.sounding(sound.seconds).any():
        return 0.0
    start_s, end_s = sound.span()
    return end_s - start_s - sum(stop - start for start, stop in sound.gaps(0.2))


@dataclass(frozen=True)
class GoodSpeech:
    """What was measured of an utterance that is good.

    Attributes:
        language: of the text.
        values: of each signal, and of what a follower sees.
    """

    language: str
    values: Mapping[str, float]


def measure_good_speech(segment: SpokenSegment, alignment: Alignment) -> GoodSpeech:
    """Measure what `thresholds_from` wants of an utterance that is good.

    Args:
        segment: with the row that made its end among the weights.
        alignment: of the checkpoint; its thresholds are not looked at.
    """
    figures = follow_again(segment.words, segment.weights, alignment.max_step)
    found = strongest(gather_evidence(segment, alignment.pace.get(segment.language)))
    values = {signal: found.get(signal, 0.0) for signal in _LEAST}
    return GoodSpeech(segment.language, {**values, **{name: float(getattr(figures, name)) for name in _FOLLOWED}})


def thresholds_from(speech: Sequence[GoodSpeech]) -> dict[str, float]:
    """Make the thresholds of a checkpoint: the 99th percentile of each signal of good speech, and what others add.

    Args:
        speech: MIN_UTTERANCES at least, segments of several sentences among them, in all languages of the checkpoint.

    Returns:
        Those of the checks, what is usual in each language, and those of the follower (`FollowLimits.from_thresholds`).

    Raises:
        ValueError: there are too few utterances.
    """
    if len(speech) < MIN_UTTERANCES:
        raise ValueError(
            f"{len(speech)} utterances; thresholds need {MIN_UTTERANCES}; speak the sentences with more seeds"
        )
    usual = {
        f"{signal}.{language}": round(
            float(np.median([one.values[signal] for one in speech if one.language == language])), 4
        )
        for signal in _BY_LANGUAGE
        for language in sorted({one.language for one in speech})
    }

    def percentile(name: str) -> float:
        values = [one.values[name] - usual.get(f"{name}.{one.language}", 0.0) for one in speech]
        return float(np.percentile(values, _PERCENTILE))

    thresholds = {
        signal: round(max(least, percentile(signal) * (_MARGIN if signal in _WITH_MARGIN else 1.0)), 4)
        for signal, least in _LEAST.items()
    }
    follower = {
        "end_left": max(1.0, math.floor(percentile("end_left"))),
        "stall_frames": max(_LEAST_STALL_FRAMES, math.ceil(_STALL_MARGIN * percentile("stall_frames"))),
        "tail_frames": math.ceil(percentile("tail_frames")) + _TAIL_MARGIN,
    }
    return thresholds | usual | follower


def _strength(one: Evidence, thresholds: Mapping[str, float], language: str) -> float:
    """Say how a signal compares with its threshold, which is 1."""
    if (fixed := _FIXED.get(one.signal)) is not None:
        return min(MAX_STRENGTH, one.value / fixed)
    value = one.value
    if one.signal in _BY_LANGUAGE:
        known = {name: usual for name, usual in thresholds.items() if name.startswith(f"{one.signal}.")}
        value -= known.get(f"{one.signal}.{language}", max(known.values(), default=0.0))
    return min(MAX_STRENGTH, value / max(_LEAST[one.signal], thresholds.get(one.signal, 0.0)))


def _of_stop(stop: Stop | None, evidence: Sequence[Evidence], num_words: int, num_frames: int) -> Evidence:
    """Take an end that was none for a signal: speech was cut off, wherever its path had come to."""
    end = next((one for one in evidence if one.signal == "end_gap"), None)
    words = (0, num_words) if end is None else end.words
    return Evidence("stop", float(stop in _UNENDED), words, (num_frames - 1, num_frames))


def _nothing(segment: SpokenSegment, num_words: int) -> SegmentCheck:
    """Judge what has no frames, which said nothing, or no words, of which nothing was to be said."""
    if not num_words:
        return SegmentCheck("ok", 0.0, (), 1)
    words = segment.words.words
    finding = Finding("cut_off", words[0].text_start, words[-1].text_end, 0.0, 0.0, 2.0)
    return SegmentCheck("bad", 2 * SCORE_BAND + SCORE_BAND / 2, (finding,), 1)


def _verdict(
    found: Sequence[tuple[Evidence, float]], within: float, findings: tuple[Finding, ...], *, usual: str
) -> SegmentCheck:
    is_bad = any(strength > _GRAVE.get(one.signal, math.inf) for one, strength in found)
    band = 2 if is_bad else 1 if found else 0
    verdict = "bad" if is_bad else "suspect" if found else "ok" if usual == "ok" else "unchecked"
    return SegmentCheck(verdict, band * SCORE_BAND + min(max(0.0, within), 0.99 * SCORE_BAND), findings, 1)


def _strongest_of_kinds(found: Iterable[tuple[Evidence, float]]) -> dict[FindingKind, float]:
    strengths: dict[FindingKind, float] = {}
    for one, strength in found:
        kind = _KINDS[one.signal]
        strengths[kind] = max(strength, strengths.get(kind, 0.0))
    return strengths


@dataclass
class _Phrase:
    """Neighbouring places of one kind."""

    kind: FindingKind
    first: int
    stop: int
    frames: tuple[int, int]
    strength: float

    def joins(self, one: Evidence, words: _WordsBetween) -> bool:
        return one.words[0] <= words.after(self.stop)

    def add(self, one: Evidence, strength: float) -> None:
        self.stop = max(self.stop, one.words[1])
        self.frames = (min(self.frames[0], one.frames[0]), max(self.frames[1], one.frames[1]))
        self.strength = max(self.strength, strength)


class _WordsBetween:
    """Knows which words follow each other when lone punctuation is left out."""

    def __init__(self, segment: SpokenSegment) -> None:
        self._words = segment.words.words

    def after(self, stop: int) -> int:
        """Give the next word that sounds, from a place on."""
        while stop < len(self._words) and not self._words[stop].is_sounding:
            stop += 1
        return stop


def _findings(segment: SpokenSegment, found: Sequence[tuple[Evidence, float]], shift_s: float) -> tuple[Finding, ...]:
    """Name phrases: neighbouring words with the same fault are one finding."""
    between = _WordsBetween(segment)
    phrases: list[_Phrase] = []
    ordered = sorted(found, key=lambda pair: (_kind_of(pair), pair[0].words, pair[0].frames))
    for kind, group in groupby(ordered, key=_kind_of):
        of_kind: list[_Phrase] = []
        for one, strength in group:
            if of_kind and of_kind[-1].joins(one, between):
                of_kind[-1].add(one, strength)
            else:
                of_kind.append(_Phrase(kind, *one.words, one.frames, strength))
        phrases += of_kind
    ends = [phrase for phrase in phrases if phrase.kind == "cut_off"]
    # What was not said because speech broke off is no gap besides.
    skipped = [p for p in phrases if p.kind == "skipped" and any(end.first <= p.first for end in ends)]
    for end in ends:
        end.strength = max([end.strength, *(phrase.strength for phrase in skipped)])
    kept = [p for p in phrases if p not in skipped]
    # That a phrase is otherwise than written is said only where nothing says how.
    named = [p for p in kept if p.kind not in ("changed", "rate")]
    kept = [p for p in kept if p.kind != "changed" or not any(p.first < n.stop and n.first < p.stop for n in named)]
    return tuple(sorted((_finding(segment, phrase, shift_s) for phrase in kept), key=_place))


def _kind_of(pair: tuple[Evidence, float]) -> FindingKind:
    return _KINDS[pair[0].signal]


def _place(finding: Finding) -> tuple[int, int, str]:
    return finding.text_start, finding.text_end, finding.kind


def _finding(segment: SpokenSegment, phrase: _Phrase, shift_s: float) -> Finding:
    words = segment.words.words[phrase.first : phrase.stop]
    total_s = len(segment.samples) / segment.sample_rate
    if phrase.kind == "skipped" and segment.times:
        start_s, end_s = segment.times[phrase.first].start_s, segment.times[phrase.stop - 1].end_s
    elif phrase.kind == "cut_off":
        start_s = end_s = total_s
    else:
        start_s, end_s = (frame / segment.frame_rate + shift_s for frame in phrase.frames)
    start_s = min(max(0.0, start_s), total_s)
    return Finding(
        phrase.kind,
        words[0].text_start,
        words[-1].text_end,
        start_s,
        min(max(start_s, end_s), total_s),
        round(phrase.strength, 3),
    )
