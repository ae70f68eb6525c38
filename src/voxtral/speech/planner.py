"""From a SpeechRequest to a SpeechPlan: language, text, voice, budget. No engine, no lock, no audio.

Everything that can be refused is refused here, before any work is done. Read next: `voxtral.speech.utterance`, which
speaks a plan.
"""

# pyright: reportUnnecessaryIsInstance=false
# (callers without a type checker pass anything)

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from voxtral.audio.source import AudioSource
from voxtral.config import ModelConfig
from voxtral.errors import LanguageError, TextError, quoted
from voxtral.speech.plan import PlannedSegment, SegmentTemplate, SpeechPlan
from voxtral.speech.request import check_number, check_options
from voxtral.speech.script import Script
from voxtral.text.capitals import lower_capitals
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
from voxtral.text.segment import Origin, TextSegment, split_rewritten
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.types import OneVoice, SpeechRequest, SpokenLanguage, Voice, VoiceBlend
from voxtral.voices.blend import find_blend
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.presets import voice_language
from voxtral.voices.prompt import VoicePrompt

if TYPE_CHECKING:
    from voxtral.align.known import KnownAlignment

T = TypeVar("T")

Warn = Callable[[str], None]

# Segments of one text that are made side by side: as many as pay where nobody listens yet; where somebody does, the
# next one only, so that it does not slow the one that is heard.
_SEGMENTS_IN_FLIGHT, _SEGMENTS_IN_FLIGHT_HELD = 2, 8


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
        known: of the checkpoint's attention; None where nobody will want to know.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: SpeechTokenizer,
        voices: VoiceLibrary,
        clone: Clone,
        known: KnownAlignment | None = None,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._voices = voices
        self._clone = clone
        self._known = known

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
        spoken = self._prepare_text(request, written, language.code, warn)
        voice = self._resolve_voice(request, language.code, warn)
        template = SegmentTemplate(
            voice=voice,
            is_voice_stored=self._voices.is_preset(voice),
            guidance_scale=_given(sampling.guidance_scale, config.generation.guidance_scale),
            noise_scale=_given(sampling.noise_scale, config.generation.noise_scale),
            num_euler_steps=_given(sampling.num_euler_steps, config.generation.num_euler_steps),
            num_noise_values=config.codebooks.num_acoustic,
        )
        in_kana = self._is_in_kana(language.code)
        parts = self._split(spoken, is_plain=request.normalize != "auto" and not in_kana, in_kana=in_kana)
        script = Script(
            spoken, request.text, self._tokenizer, config, template.voice.rows.shape[0], sampling.max_frames
        )
        wants_path = request.timestamps or request.keep_to_text or request.verify != "off"
        hold_segments |= request.verify == "retry"
        return SpeechPlan(
            segments=self._plan_segments(script, parts, len(request.text)),
            template=template,
            language=language,
            seed=secrets.randbits(32) if request.seed is None else int(request.seed),
            has_explicit_budget=sampling.max_frames is not None,
            speed=float(request.speed),
            pause_s=float(request.pause_s),
            deadline_s=request.deadline_s,
            sample_rate=config.sample_rate,
            frame_rate=config.frame_rate,
            hold_segments=hold_segments,
            segments_in_flight=_SEGMENTS_IN_FLIGHT_HELD if hold_segments else _SEGMENTS_IN_FLIGHT,
            script=script,
            alignment=self._known.alignment if wants_path and self._known is not None else None,
            timestamps=request.timestamps,
            verify=request.verify,
            max_attempts=request.max_attempts,
            keep_to_text=request.keep_to_text,
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
        voice = self._first_of(request.voice)
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

    def _first_of(self, voice: Voice | None) -> OneVoice | None:
        """Take the voice of a blend that its language comes from."""
        if isinstance(voice, VoiceBlend):
            return voice.parts[0][0]
        blend = find_blend(voice, self._voices.names)
        return voice if blend is None else blend.parts[0][0]

    def _language_of(self, voice: OneVoice | None) -> str:
        """Guess the language of a text from the voice that is to speak it."""
        if isinstance(voice, VoicePrompt):
            said = voice.metadata.get("language", "")
            return said if said in self._config.languages else "en"
        return voice_language(voice, self._config.languages) if isinstance(voice, str) else "en"

    def _is_in_kana(self, language: str) -> bool:
        return language == "ja" and language in self._config.languages

    def _prepare_text(
        self, request: SpeechRequest, written: NormalizedText, language: str, warn: Warn
    ) -> NormalizedText:
        """Rewrite the text as it is to be spoken, and check it."""
        in_kana = self._is_in_kana(language)
        if request.normalize == "auto":
            spoken = normalize(request.text, language if language in LANGUAGES else "en", in_kana=in_kana)
        else:
            check_rewritten(written, request.text)
            spoken = write_in_kana(written.text).through(written) if in_kana else written
        check_rewritten(spoken, request.text)
        return self._as_taught(request, spoken, language, warn)

    def _as_taught(self, request: SpeechRequest, spoken: NormalizedText, language: str, warn: Warn) -> NormalizedText:
        """Write capitals in small letters for weights that cannot read them, unless the text is wanted verbatim."""
        if self._known is None or self._known.reads_capitals:
            return spoken
        if request.normalize == "off" or not (request.keep_to_text or request.normalize == "auto"):
            return spoken
        text = lower_capitals(spoken.text, language)
        if text is spoken.text:
            return spoken
        warn(
            "words in capitals are given to these weights in small letters, because they cannot read capitals; "
            "normalize=off leaves them"
        )
        return replace(spoken, text=text)

    def _split(self, spoken: NormalizedText, *, is_plain: bool, in_kana: bool) -> Iterator[TextSegment]:
        """Cut the text as spoken into parts; only those that can be spoken."""
        max_chars = self._config.generation.max_segment_chars
        # What was only cleaned is cut as its plain twin would be.
        origin = Origin() if is_plain else Origin(spoken.may_part, spoken.num_written)
        if in_kana:
            # Here, because no published weights speak Japanese.
            from voxtral.text.kana import LETTERS_PER_KANA

            # Kana is longer than kanji by what is spoken, not by how it is written.
            origin = Origin(spoken.may_part)
            max_chars = max(1, max_chars // LETTERS_PER_KANA)
        # Sentences are gathered up to a quarter of the longest segment, so that short ones keep their melody.
        parts = split_rewritten(spoken.text, origin, min_chars=max(1, max_chars // 4), max_chars=max_chars)
        return (part for part in parts if is_speakable(part.text))

    def _plan_segments(self, script: Script, parts: Iterator[TextSegment], num_chars: int) -> Iterator[PlannedSegment]:
        """Lay out each part when it is wanted; no character of the text as given is in two parts.

        What is spoken in no part, such as markup, is told of with the part before it, or with the first one.
        """
        reached = told = 0
        part = next(parts, None)
        while part is not None:
            segment = script.lay_out(part.start, part.end, source_from=reached)
            reached = segment.text.end
            following = next(parts, None)
            until = num_chars if following is None else script.source_span(following.start, following.end, reached)[0]
            yield replace(segment, words_within=(told, until))
            part, told = following, until

    def _resolve_voice(self, request: SpeechRequest, language: str, warn: Warn) -> VoicePrompt:
        if request.reference_audio is not None:
            return self._clone(request.reference_audio, warn=warn)
        if request.voice is not None:
            return self._voices.load(request.voice)
        name = self._voices.default_for(language)
        if language in self._config.languages and voice_language(name, self._config.languages) != language:
            warn(f"this checkpoint has no {language} voice; {name} speaks with an accent; name another voice")
        return self._voices.load(name)


def _given(value: T | None, default: T) -> T:
    return default if value is None else value
