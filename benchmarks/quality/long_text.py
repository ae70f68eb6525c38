"""A minute of text in one go, and whether speech ends by itself."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.quality.acoustics import SAMPLE_RATE, longest_silence
from benchmarks.quality.cases import Sentence
from benchmarks.quality.judge import Judge
from benchmarks.quality.phonemes import cut_by_alignment, error_rate, is_retrieved
from benchmarks.quality.systems import Narrator
from train.texts import TextSource
from voxtral.errors import GenerationError
from voxtral.speech.result import Audio

# So many are verdict enough; each costs its whole frame budget twice.
_MAX_FAILED = 20


@dataclass(frozen=True)
class LongText:
    """What became of a long text.

    Attributes:
        language: of the text.
        voice: who spoke.
        num_sentences: in the text.
        num_retrieved: sentences whose piece of what was heard is nearer to them than to any distractor.
        error_rate: mean over sentences.
        seconds: of speech.
        length_ratio: to the teacher's sentences one after the other, pauses between segments left out; None where the
            teacher was not heard.
        longest_silence_s: anywhere in it.
        num_segments: that the text was cut into.
        has_failed: it was not spoken to its end.
    """

    language: str
    voice: str
    num_sentences: int
    num_retrieved: int
    error_rate: float
    seconds: float
    length_ratio: float | None
    longest_silence_s: float
    num_segments: int
    has_failed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def speak_long_text(
    narrator: Narrator,
    judge: Judge,
    language: str,
    voice: str,
    taken: Sequence[Sentence],
    *,
    is_teacher_heard: bool = True,
) -> LongText:
    """Speak sentences as one text through the public API, and look for each of them in what was heard.

    Args:
        narrator: speaks.
        judge: hears.
        language: of the sentences.
        voice: preset.
        taken: the sentences.
        is_teacher_heard: their lengths are those of the teacher.
    """
    text = " ".join(sentence.text for sentence in taken)
    expected = sum(sentence.num_samples for sentence in taken) / SAMPLE_RATE
    try:
        audio = narrator.tts.synthesize(text, language, voice=voice, seed=narrator.seed, **narrator.sampling)
    except GenerationError as error:
        made = error.audio if error.audio is not None else np.zeros(0, np.float32)
        silence = longest_silence(made)
        num_seconds = len(made) / SAMPLE_RATE
        ratio = num_seconds / expected if is_teacher_heard else None
        return LongText(language, voice, len(taken), 0, 1.0, num_seconds, ratio, silence, 0, has_failed=True)
    heard = [symbol for piece in cut_segments(audio) for symbol in judge.hear(piece, language)]
    pieces = cut_by_alignment(heard, [sentence.phonemes for sentence in taken])
    pairs = [(piece, sentence.phonemes) for piece, sentence in zip(pieces, taken, strict=True)]
    spoken_s = sum(segment.end_s - segment.start_s for segment in audio.segments)
    return LongText(
        language=language,
        voice=voice,
        num_sentences=len(taken),
        num_retrieved=sum(is_retrieved(piece, right, judge.distractors[language]) for piece, right in pairs),
        error_rate=float(np.mean([error_rate(piece, right) for piece, right in pairs])),
        seconds=audio.duration,
        length_ratio=spoken_s / expected if is_teacher_heard else None,
        longest_silence_s=longest_silence(audio.samples),
        num_segments=len(audio.segments),
    )


def cut_segments(audio: Audio) -> list[np.ndarray]:
    """Cut speech at the bounds of its segments; the pauses between are left out."""
    rate = audio.sample_rate
    return [audio.samples[round(part.start_s * rate) : round(part.end_s * rate)] for part in audio.segments]


@dataclass
class Stops:
    """How many texts ended by themselves.

    Attributes:
        num_texts: spoken.
        num_ended: said END_AUDIO within the default frame budget, at the first attempt, with sound before it.
        num_retried: did so at the second attempt.
        failed: (language, text) of those that never did.
    """

    num_texts: int = 0
    num_ended: int = 0
    num_retried: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        share = round(self.num_ended / self.num_texts, 4) if self.num_texts else None
        return asdict(self) | {"share": share}


def draw_texts(sources: Sequence[TextSource], count: int, seed: int) -> list[tuple[str, str]]:
    """Compose texts of all languages in turn, as the training texts are composed: (language, text)."""
    rng = random.Random(seed)
    return [(source.language, source.draw(rng)) for source in (sources[n % len(sources)] for n in range(count))]


def count_stops(narrator: Narrator, texts: Iterable[tuple[str, str, str]]) -> Stops:
    """Speak texts (language, text, voice) and count who ends by itself; stops at the 20th that does not."""
    stops = Stops()
    for language, text, voice in texts:
        if len(stops.failed) >= _MAX_FAILED:
            break
        spoken = narrator.say(text, language, voice=voice, seed=narrator.seed + stops.num_texts)
        stops.num_texts += 1
        if spoken.has_failed:
            stops.failed.append((language, text))
        elif spoken.num_retries:
            stops.num_retried += 1
        else:
            stops.num_ended += 1
    return stops
