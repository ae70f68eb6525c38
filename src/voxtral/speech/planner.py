"""From a SpeechRequest to a SpeechPlan: language, text, voice, budget. No engine, no lock, no audio.

Everything that can be refused is refused here, before any work is done. Read next: `voxtral.speech.utterance`, which
speaks a plan.
"""

# pyright: reportUnnecessaryIsInstance=false
# (callers without a type checker pass anything)

from __future__ import annotations

import math
import secrets
import unicodedata
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from voxtral.audio.read import AudioSource
from voxtral.config import ModelConfig
from voxtral.errors import LanguageError, TextError, quoted
from voxtral.speech.plan import PlannedSegment, SegmentTemplate, SpeechPlan
from voxtral.speech.request import check_number, check_options
from voxtral.text.clean import check_rewritten, clean_unless_off
from voxtral.text.edits import NormalizedText
from voxtral.text.guess import guess_language
from voxtral.text.language import (
    LANGUAGES,
    is_speakable,
    resolve_language,
    script_mismatch,
    unknown_script,
)
from voxtral.text.normalize import normalize, write_in_kana
from voxtral.text.prompt import build_prompt
from voxtral.text.segment import Origin, TextSegment, split_rewritten
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.types import SpeechRequest, SpokenLanguage, Voice
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.presets import voice_language
from voxtral.voices.prompt import VoicePrompt

T = TypeVar("T")

Warn = Callable[[str], None]

# Segments of one text that are made side by side: as many as pay where nobody listens yet; where somebody does, the
# next one only, so that it does not slow the one that is heard.
_SEGMENTS_IN_FLIGHT, _SEGMENTS_IN_FLIGHT_HELD = 2, 8

# The default frame budget, in seconds of speech. Typical English is 0.08 s a character; two or three
# words may take 6 s without fault (docs/MODEL.md, "Habits").
_BUDGET_BASE_S, _BUDGET_PER_CHAR_S = 6.0, 0.25


class Clone(Protocol):
    """Makes a voice of a clip; `voxtral.speech.coding` does."""

    def __call__(self, reference_audio: AudioSource, *, warn: Warn) -> VoicePrompt:
        """Clone a voice."""
        ...


class Planner:
    """Resolves and checks requests for one checkpoint.

    Args:
        config: of the checkpoint.
        tokenizer: of the checkpoint.
        voices: of the checkpoint.
        clone: makes a voice of reference audio.
    """

    def __init__(self, config: ModelConfig, tokenizer: SpeechTokenizer, voices: VoiceLibrary, clone: Clone) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._voices = voices
        self._clone = clone

    def plan(self, request: SpeechRequest, *, hold_segments: bool, warn: Warn) -> SpeechPlan:
        """Resolve and check a request.

        Args:
            request: what to speak.
            hold_segments: see SpeechPlan.
            warn: gets what the caller should know and what does not stop the work.

        Raises:
            RequestError: text, voice, language, reference audio or an option breaks a rule.
        """
        if not isinstance(request.text, str):
            raise TextError(
                f"the text is a {type(request.text).__name__}; it must be a str; decode bytes as UTF-8 first"
            )
        check_options(request)
        config, sampling = self._config, request.sampling
        check_number("max_frames", sampling.max_frames, 1, config.backbone.max_seq_len, whole=True)
        written = clean_unless_off(request.text, request.normalize)
        language = self._choose_language(request, written.text, warn)
        parts = self._prepare_text(request, written, language.code)
        voice = self._resolve_voice(request, language.code, warn)
        template = SegmentTemplate(
            voice=voice,
            is_voice_stored=self._voices.is_preset(voice),
            guidance_scale=_given(sampling.guidance_scale, config.generation.guidance_scale),
            noise_scale=_given(sampling.noise_scale, config.generation.noise_scale),
            num_euler_steps=_given(sampling.num_euler_steps, config.generation.num_euler_steps),
            num_noise_values=config.codebooks.num_acoustic,
        )
        return SpeechPlan(
            segments=self._plan_segments(parts, template.voice.rows.shape[0], sampling.max_frames),
            template=template,
            language=language,
            seed=secrets.randbits(32) if request.seed is None else int(request.seed),
            has_explicit_budget=sampling.max_frames is not None,
            speed=float(request.speed),
            pause_s=float(request.pause_s),
            deadline_s=request.deadline_s,
            sample_rate=config.sample_rate,
            hold_segments=hold_segments,
            segments_in_flight=_SEGMENTS_IN_FLIGHT_HELD if hold_segments else _SEGMENTS_IN_FLIGHT,
        )

    def _choose_language(self, request: SpeechRequest, text: str, warn: Warn) -> SpokenLanguage:
        """Take the language that is given, or that of the voice that is named, or that of the text where it is sure."""
        if (given := self._check_language(request, text, warn)) is not None:
            return SpokenLanguage(given, "given")
        languages = self._config.languages
        # A checkpoint may speak languages that this package knows nothing of.
        is_known = all(code in LANGUAGES for code in languages)
        strange = unknown_script(text, languages) if is_known else None
        if strange is not None:
            warn(strange)
        voice = request.voice
        is_silent = isinstance(voice, VoicePrompt) and not voice.metadata.get("language")
        if voice is not None and not is_silent:
            return SpokenLanguage(self._language_of(voice), "voice")
        guess = guess_language(text)
        if guess in languages:
            return SpokenLanguage(guess, "text")
        if guess is not None and strange is None:
            warn(
                f"the text looks {LANGUAGES[guess]}, which this checkpoint does not speak; expect poor speech; "
                f"it speaks {', '.join(languages)}"
            )
        return SpokenLanguage(self._language_of(voice), "default")

    def _check_language(self, request: SpeechRequest, text: str, warn: Warn) -> str | None:
        if request.language is None:
            return None
        if not isinstance(request.language, str):
            raise LanguageError(
                f"language is {quoted(request.language)}; it must be a name or code, such as en or English"
            )
        languages = self._config.languages
        # A checkpoint may speak languages that this package has no name for.
        language = request.language if request.language in languages else resolve_language(request.language)
        if language not in languages:
            spoken = ", ".join(languages)
            # The users' guide lists Japanese, the published weights do not know it.
            if language != "ja":
                raise LanguageError(
                    f"language {quoted(request.language)} is not spoken by this checkpoint; it speaks {spoken}; "
                    "choose one"
                )
            warn(f"the weights were not trained on {LANGUAGES[language]}; expect poor speech; they speak {spoken}")
        mismatch = script_mismatch(text, language) if language in LANGUAGES else None
        if mismatch:
            warn(mismatch)
        return language

    def _language_of(self, voice: Voice | None) -> str:
        """Guess the language of a text from the voice that is to speak it."""
        if isinstance(voice, VoicePrompt):
            said = voice.metadata.get("language", "")
            return said if said in self._config.languages else "en"
        return voice_language(voice, self._config.languages) if isinstance(voice, str) else "en"

    def _prepare_text(self, request: SpeechRequest, written: NormalizedText, language: str) -> Iterator[TextSegment]:
        """Check the text, and cut it into parts that can be spoken; offsets are those of the text as given."""
        in_kana = language == "ja" and language in self._config.languages
        if request.normalize == "auto":
            spoken = normalize(request.text, language if language in LANGUAGES else "en", in_kana=in_kana)
        else:
            check_rewritten(written, request.text)
            if not in_kana:
                # It is cut as its plain twin would be.
                return _in_source(self._split(written.text, Origin(), in_kana=False), written)
            spoken = write_in_kana(written.text).through(written)
        check_rewritten(spoken, request.text)
        # Kana is longer than kanji by what is spoken, not by how it is written.
        origin = Origin(spoken.may_part, None if in_kana else spoken.num_written)
        return _in_source(self._split(spoken.text, origin, in_kana=in_kana), spoken)

    def _split(self, text: str, origin: Origin, *, in_kana: bool) -> Iterator[TextSegment]:
        max_chars = self._config.generation.max_segment_chars
        if in_kana:
            # Here, because no published weights speak Japanese.
            from voxtral.text.kana import LETTERS_PER_KANA

            max_chars = max(1, max_chars // LETTERS_PER_KANA)
        # Sentences are gathered up to a quarter of the longest segment, so that short ones keep their melody.
        parts = split_rewritten(text, origin, min_chars=max(1, max_chars // 4), max_chars=max_chars)
        return (part for part in parts if is_speakable(part.text))

    def _plan_segments(
        self, parts: Iterator[TextSegment], num_voice_rows: int, max_frames: int | None
    ) -> Iterator[PlannedSegment]:
        """Lay out the prompt of each part when it is wanted, and give it its budget."""
        max_positions = self._config.backbone.max_seq_len
        for part in parts:
            prompt = build_prompt(self._tokenizer, part.text, num_voice_rows)
            room = max_positions - len(prompt.token_ids)
            if room < 1:
                raise TextError(
                    f"the prompt has {len(prompt.token_ids)} tokens; the model takes {max_positions}; use a shorter "
                    "reference or shorter words"
                )
            yield PlannedSegment(part, prompt, min(max_frames or self._frame_budget(part.text), room))

    def _frame_budget(self, text: str) -> int:
        seconds = _BUDGET_BASE_S + _BUDGET_PER_CHAR_S * sum(map(_spoken_weight, text))
        return math.ceil(seconds * self._config.frame_rate)

    def _resolve_voice(self, request: SpeechRequest, language: str, warn: Warn) -> VoicePrompt:
        if request.reference_audio is not None:
            return self._clone(request.reference_audio, warn=warn)
        if request.voice is not None:
            return self._voices.load(request.voice)
        name = self._voices.default_for(language)
        if language in self._config.languages and voice_language(name, self._config.languages) != language:
            warn(f"this checkpoint has no {language} voice; {name} speaks with an accent; name another voice")
        return self._voices.load(name)


def _in_source(parts: Iterator[TextSegment], spoken: NormalizedText) -> Iterator[TextSegment]:
    """Give parts of a rewritten text the offsets of the text as given; no character of it is in two parts."""
    reached = 0
    for part in parts:
        start, end = spoken.source_span(part.start, part.end)
        yield TextSegment(text=part.text, start=max(start, reached), end=max(end, reached))
        reached = end


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def _spoken_weight(character: str) -> float:
    """Weigh a character by how long it may be spoken, a Latin letter being 1."""
    if character.isdigit():
        return 4.0  # "7" is a word, and "2024" three
    # Ideographs and syllables are a syllable or more each.
    return 3.0 if unicodedata.east_asian_width(character) == "W" else 1.0
