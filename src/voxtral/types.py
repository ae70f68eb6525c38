"""The values that cross boundaries: what a caller asks for and what comes back. Frozen, no torch.

Read next: `voxtral.tts`, which takes a SpeechRequest, and `voxtral.engine`, which makes AudioChunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from voxtral.errors import VoiceError, quoted
from voxtral.options import EMOJI, KEEP_TO_TEXT, MAX_ATTEMPTS, NORMALIZE, PAUSE, SPEED, SSML, TIMESTAMPS, VERIFY

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from voxtral.audio.source import AudioSource
    from voxtral.text.dictionary import Alias, Dictionary
    from voxtral.voices.prompt import VoicePrompt

    Samples = npt.NDArray[np.float32]

FinishReason = Literal["end", "length", "retried"]
"""Why speech stopped: the model ended it, an explicit `max_frames` did, or it ended after a retry."""

LanguageSource = Literal["given", "voice", "text", "default"]
"""What chose a language: the caller, the voice that the caller named, a guess by the text, or nothing."""

Normalize = Literal["off", "clean", "auto"]

Emoji = Literal["off", "name"]
"""What is done with emoji: what `normalize` does, or say their names."""

Timing = Literal["attention", "proportional", "none"]
"""Where word times come from: the model's own attention, the share of the characters, or nowhere."""

Verify = Literal["off", "report", "retry"]
"""What is done about speech that does not follow its text: nothing, say so, or make it again."""

FindingKind = Literal["skipped", "repeated", "invented", "changed", "cut_off", "stuck", "silence", "rate"]

DictionaryLike: TypeAlias = (
    "Dictionary | str | os.PathLike[str] | Mapping[str, str] | Sequence[Alias | Mapping[str, str]]"
)
"""What is said for words: a Dictionary, the path of a file of one, or its rules as plain data."""

MAX_BLENDED_VOICES = 4

OneVoice: TypeAlias = "str | os.PathLike[str] | VoicePrompt"
"""A preset's name, the path of a saved voice, or a voice at hand."""


@dataclass(frozen=True)
class VoiceBlend:
    """Voices to be blended; `"a:0.7+b:0.3"` says the same of voices that have names.

    Attributes:
        parts: 1 to 4 voices with weights from 0, whose sum is what 1 is of the whole.

    Raises:
        VoiceError: a weight is no such number, all are 0, or there are too many voices, or none.
    """

    parts: tuple[tuple[OneVoice, float], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.parts) <= MAX_BLENDED_VOICES:
            raise VoiceError(f"the blend has {len(self.parts)} voices; it must have 1 to {MAX_BLENDED_VOICES}")
        weights = [weight for _, weight in self.parts]
        for weight in weights:
            # Callers without a type checker pass anything.
            is_number = isinstance(weight, int | float)  # pyright: ignore[reportUnnecessaryIsInstance]
            if not is_number or isinstance(weight, bool) or not 0 <= weight < math.inf:
                raise VoiceError(
                    f"a weight in the blend of voices is {quoted(weight)}; it must be a number from 0, such as 0.7"
                )
        if not 0 < sum(weights) < math.inf:
            raise VoiceError(
                "the weights in the blend of voices do not sum to a positive number; give one voice a weight above 0"
            )


Voice: TypeAlias = "OneVoice | VoiceBlend"
"""One voice, or a blend; a name such as `a:0.7+b:0.3` is one too."""


@dataclass(frozen=True)
class SpokenLanguage:
    """The language that chose the voice and the rules of normalisation, unless they were named.

    Attributes:
        code: such as "de".
        source: what chose it.
    """

    code: str
    source: LanguageSource


UNSAID = SpokenLanguage("en", "default")
"""What stands where nothing chooses a language."""


@dataclass(frozen=True)
class SamplingOptions:
    """How frames are drawn; None means the checkpoint's default.

    `max_frames` bounds each segment; None derives a budget from the length of the text.
    """

    guidance_scale: float | None = None
    noise_scale: float | None = None
    num_euler_steps: int | None = None
    max_frames: int | None = None


@dataclass(frozen=True)
class SpeechRequest:
    """One utterance, as a caller asks for it.

    Attributes:
        text: what is spoken; `normalize` says how it is read.
        language: any spelling of a language; chooses the default voice and the rules of
            normalisation; it is no model input. None: that of the voice, or, where none is named, that of the text
            where it is sure, or English.
        voice: a preset's name, a path to a saved voice, a blend of them such as `a:0.7+b:0.3`, a VoicePrompt, or a
            VoiceBlend.
        reference_audio: a clip to clone: path, bytes, or (samples, sample rate).
        normalize: "clean" speaks the words as they are, in plain characters: white space of all kinds becomes a
            space, invisible characters go, dressed letters such as full-width ones become plain; offsets stay those of
            the text as given. "auto" also removes what cannot be spoken and writes numbers as words. "off" gives the
            model the text byte for byte, as the official code does.
        sampling: how frames are drawn.
        seed: 0 .. 2**63 - 1; None draws one, which the result reports.
        speed: 0.25 to 4, pitch kept.
        pause_s: seconds of silence between the segments of a long text.
        deadline_s: seconds from `submit` in which all audio must be made, time that its reader lets pass included;
            None for no limit.
        timestamps: whether the words and when they are heard are wanted.
        verify: what is done about speech that does not follow its text.
        max_attempts: times that a segment is made at most where `verify` is "retry".
        keep_to_text: do not let the model end before it has said the text, nor go on after it; only where the
            checkpoint has an aligner.
        ssml: the text is SSML; one that begins with "<speak" is taken for that without it.
        dictionary: what is said for words: a Dictionary, a path to a file of one, or its rules as plain data.
        emoji: "name" says the names of emoji at any level of `normalize`; "off" leaves them to that.
    """

    text: str
    language: str | None = None
    voice: Voice | None = None
    reference_audio: AudioSource | None = None
    normalize: Normalize = NORMALIZE.default
    sampling: SamplingOptions = SamplingOptions()
    seed: int | None = None
    speed: float = SPEED.default
    pause_s: float = PAUSE.default
    deadline_s: float | None = None
    timestamps: bool = TIMESTAMPS.default
    verify: Verify = VERIFY.default
    max_attempts: int = MAX_ATTEMPTS.default
    keep_to_text: bool = KEEP_TO_TEXT.default
    ssml: bool = SSML.default
    dictionary: DictionaryLike | None = None
    emoji: Emoji = EMOJI.default


@dataclass(frozen=True)
class WordTime:
    """A word and when it is heard.

    Attributes:
        text_start: offset into the text as given, inclusive.
        text_end: exclusive; text[text_start:text_end] is the word.
        start_s: seconds in the audio as heard: pauses, speed and retries included.
        end_s: seconds, at least `start_s`.
        confidence: how much of the model's attention was on the word meanwhile, 0 to 1; 0 for a word that was not
            heard, which has no length.
    """

    text_start: int
    text_end: int
    start_s: float
    end_s: float
    confidence: float

    def to_dict(self) -> dict[str, int | float]:
        """Give plain values for JSON."""
        return {
            "text_start": self.text_start,
            "text_end": self.text_end,
            "start_s": round(self.start_s, 4),
            "end_s": round(self.end_s, 4),
            "confidence": round(self.confidence, 4),
        }


@dataclass(frozen=True)
class Finding:
    """A place where speech does not follow its text.

    Attributes:
        kind: what is wrong.
        text_start: offset into the text as given, inclusive.
        text_end: exclusive.
        start_s: seconds in the audio as heard.
        end_s: seconds.
        strength: 1 at the threshold, more beyond it, 100 at most.
    """

    kind: FindingKind
    text_start: int
    text_end: int
    start_s: float
    end_s: float
    strength: float

    def to_dict(self) -> dict[str, str | int | float]:
        """Give plain values for JSON."""
        return {
            "kind": self.kind,
            "text_start": self.text_start,
            "text_end": self.text_end,
            "start_s": round(self.start_s, 4),
            "end_s": round(self.end_s, 4),
            "strength": round(self.strength, 4),
        }


Verdict = Literal["ok", "suspect", "bad", "unchecked"]

VERDICTS: tuple[Verdict, ...] = ("ok", "unchecked", "suspect", "bad")
"""From the best to the worst; of several segments the worst counts."""


@dataclass(frozen=True)
class SegmentCheck:
    """Whether a segment says its text, as far as the model itself knows.

    Attributes:
        verdict: "ok": nothing was skipped, repeated or added that the model knows of; it says nothing of how words
            are pronounced. "unchecked" where the checkpoint has no aligner.
        score: of the attempt that is heard; more is worse; it ranks attempts at one text.
        findings: what is wrong, in order of the text.
        attempts: times that the segment was made.
    """

    verdict: Verdict
    score: float
    findings: tuple[Finding, ...]
    attempts: int

    def to_dict(self) -> dict[str, object]:
        """Give plain values for JSON."""
        return {
            "verdict": self.verdict,
            "score": round(self.score, 4),
            "findings": [finding.to_dict() for finding in self.findings],
            "attempts": self.attempts,
        }


def worst_verdict(segments: Iterable[SegmentInfo]) -> Verdict | None:
    """Give the verdict on an utterance: the worst of its segments; None where none was checked."""
    verdicts: list[Verdict] = [segment.check.verdict for segment in segments if segment.check is not None]
    return max(verdicts, key=VERDICTS.index) if verdicts else None


@dataclass(frozen=True)
class Mark:
    """A place in the audio that belongs to a place in the text.

    Attributes:
        kind: "segment", the first sample of a part of the text.
        text_start: offset into the text as given, inclusive.
        text_end: exclusive.
        start: index of the sample in the utterance.
    """

    kind: Literal["segment"]
    text_start: int
    text_end: int
    start: int


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """Audio given to the caller in one piece, with its place in the utterance.

    Attributes:
        samples: [S] float32, mono.
        sample_rate: samples per second.
        segment: index of the text segment that the first sample belongs to.
        start: index of the first sample in the utterance.
        marks: places of the text that begin within these samples, in order.
        words: those whose times are final by this chunk and were not with an earlier one, in order; only where
            timestamps are wanted.
    """

    samples: Samples
    sample_rate: int
    segment: int = 0
    start: int = 0
    marks: tuple[Mark, ...] = ()
    words: tuple[WordTime, ...] = ()

    def numpy(self) -> Samples:
        """Return the samples."""
        return self.samples

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True)
class SegmentInfo:
    """One part of the text and where it is heard.

    Attributes:
        text_start: offset into the text as given, inclusive.
        text_end: exclusive.
        start_s: seconds from the start of the audio.
        end_s: seconds; the pause that follows is not included.
        num_frames: frames of the attempt that is heard.
        finish_reason: of this segment.
        seed: of the attempt that is heard; not the request's seed after a retry.
        words: of the segment, each once, in order; empty where timestamps are not wanted.
        timing: where the times of the words come from.
        check: whether it says its text; None where `verify` is "off".
    """

    text_start: int
    text_end: int
    start_s: float
    end_s: float
    num_frames: int
    finish_reason: FinishReason
    seed: int
    words: tuple[WordTime, ...] = ()
    timing: Timing = "none"
    check: SegmentCheck | None = None


@dataclass(frozen=True)
class SpeechStats:
    """What an utterance took.

    Attributes:
        seed: of the request; the same seed gives the same samples.
        ttfa_s: seconds from acceptance to the first audio.
        compute_s: seconds that the engine worked for this request, retries included.
        duration_s: seconds of audio.
        num_frames: frames made, retries included.
        num_retries: segments that were made twice.
    """

    seed: int
    ttfa_s: float
    compute_s: float
    duration_s: float
    num_frames: int
    num_retries: int

    @property
    def rtf(self) -> float:
        """Compute seconds per audio second; below 1 is faster than real time."""
        return self.compute_s / self.duration_s if self.duration_s else 0.0

    def to_dict(self) -> dict[str, float | int]:
        """Give plain values for JSON."""
        return {
            "seed": self.seed,
            "ttfa_s": round(self.ttfa_s, 4),
            "compute_s": round(self.compute_s, 4),
            "duration_s": round(self.duration_s, 4),
            "rtf": round(self.rtf, 4),
            "num_frames": self.num_frames,
            "num_retries": self.num_retries,
        }
