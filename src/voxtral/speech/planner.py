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
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

from voxtral.audio.source import AudioSource
from voxtral.config import ModelConfig
from voxtral.engine.sequence import too_late
from voxtral.errors import LanguageError, OptionError, SsmlError, TextError, quoted
from voxtral.speech.plan import PlannedSegment, SegmentTemplate, SpeechPlan
from voxtral.speech.request import check_number, check_options
from voxtral.speech.script import Script
from voxtral.speech.stretches import SegmentsOfFeed
from voxtral.text.capitals import lower_capitals
from voxtral.text.clean import check_rewritten, clean_unless_off
from voxtral.text.dictionary import Dictionary, joined, load_dictionary
from voxtral.text.edits import NormalizedText
from voxtral.text.guess import guess_language
from voxtral.text.language import (
    LANGUAGES,
    check_speakable,
    is_speakable,
    region_of,
    resolve_language,
    script_mismatch,
    unknown_script,
)
from voxtral.text.normalize import prepare
from voxtral.text.segment import Origin, TextSegment, split_rewritten
from voxtral.text.ssml import MAX_BREAK_S, SsmlText, is_ssml, read_ssml
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.types import OneVoice, SpeechRequest, SpokenLanguage, Voice, VoiceBlend
from voxtral.voices.blend import find_blend
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.presets import voice_language
from voxtral.voices.prompt import VoicePrompt

if TYPE_CHECKING:
    from voxtral.align.known import KnownAlignment
    from voxtral.speech.feed import Feed, TextFeed
    from voxtral.text.pieces import Stretch

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
        dictionary: words that hold for all requests, after those of the request.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: SpeechTokenizer,
        voices: VoiceLibrary,
        clone: Clone,
        known: KnownAlignment | None = None,
        dictionary: Dictionary | None = None,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._voices = voices
        self._clone = clone
        self._known = known
        self._dictionary = dictionary

    def plan(self, request: SpeechRequest, *, hold_segments: bool, warn: Warn, feed: Feed = None) -> SpeechPlan:
        """Resolve and check a request.

        Args:
            request: what to speak.
            hold_segments: see SpeechPlan.
            warn: gets what the caller should know and what does not stop the work.
            feed: gives the text in pieces; waits for the first words of it.

        Raises:
            RequestError: text, voice, language, reference audio or an option breaks a rule. Of what comes later in a
                feed, the segments raise it.
            CancelledError: nobody wants the text of the feed any more.
            DeadlineError: no words have come in the feed before the deadline.
        """
        if feed is not None:
            return self._plan_feed(request, feed, hold_segments=hold_segments, warn=warn)
        if not isinstance(request.text, str):
            raise TextError(
                f"the text is a {type(request.text).__name__}; it must be a str; decode bytes as UTF-8 first"
            )
        check_options(request)
        check_number("max_frames", request.sampling.max_frames, 1, self._config.backbone.max_seq_len, whole=True)
        document = read_ssml(request.text) if request.ssml or is_ssml(request.text) else None
        if document is not None and request.language is None:
            request = replace(request, language=document.language)
        words = request.text if document is None else document.words.text
        language = self._choose_language(request, clean_unless_off(words, request.normalize).text, warn)
        spoken = self._prepare_text(request, document, language.code, warn)
        template = self._template(request, language.code, warn)
        segments, end_pause_s = self._lay_out(request, document, spoken, language.code, template)
        plan = self._plan(request, template, language, segments, hold_segments=hold_segments)
        return replace(plan, end_pause_s=end_pause_s)

    def _plan_feed(self, request: SpeechRequest, feed: TextFeed, *, hold_segments: bool, warn: Warn) -> SpeechPlan:
        if request.text:
            raise TextError("there are both a text and a feed of one; a request has one text; leave one out")
        check_options(request)
        if request.ssml:
            raise OptionError("ssml is true of a text that comes in pieces; SSML is one document; pass it as one text")
        check_number("max_frames", request.sampling.max_frames, 1, self._config.backbone.max_seq_len, whole=True)
        warn = _once(warn)
        # Where it is known before, so that where the first stretch ends does not hang on a guess.
        known = self._choose_language(replace(request, normalize="off"), "", lambda _: None)
        if known.source != "default":
            feed.read_as(known.code)
        try:
            first = feed.take(request.deadline_s)
        except TimeoutError:
            raise too_late(request.deadline_s or 0.0) from None
        if first is None:
            check_speakable("")
            raise AssertionError("an empty text is refused")
        if is_ssml(first.text):
            raise SsmlError("the text comes in pieces and begins with <speak; SSML is one document; pass it whole")
        words = clean_unless_off(first.text, request.normalize).text
        language = self._choose_language(request, words, warn)
        feed.read_as(language.code)
        template = self._template(request, language.code, warn)

        def plan_stretch(stretch: Stretch) -> Iterator[PlannedSegment]:
            part = replace(request, text=stretch.text)
            if request.emoji == "off" and not is_speakable(stretch.text):
                return iter(())
            spoken = self._prepare_text(part, None, language.code, warn, offset=stretch.start, is_part=True)
            return self._lay_out(part, None, spoken, language.code, template, offset=stretch.start)[0]

        segments = SegmentsOfFeed(feed, plan_stretch, first)
        plan = self._plan(request, template, language, segments, hold_segments=hold_segments)
        return replace(plan, feed=feed)

    def _template(self, request: SpeechRequest, language: str, warn: Warn) -> SegmentTemplate:
        """Resolve the voice, and what else all segments have in common."""
        config, sampling = self._config, request.sampling
        voice = self._resolve_voice(request, language, warn)
        return SegmentTemplate(
            voice=voice,
            is_voice_stored=self._voices.is_preset(voice),
            guidance_scale=_given(sampling.guidance_scale, config.generation.guidance_scale),
            noise_scale=_given(sampling.noise_scale, config.generation.noise_scale),
            num_euler_steps=_given(sampling.num_euler_steps, config.generation.num_euler_steps),
            num_noise_values=config.codebooks.num_acoustic,
        )

    def _lay_out(
        self,
        request: SpeechRequest,
        document: SsmlText | None,
        spoken: NormalizedText,
        language: str,
        template: SegmentTemplate,
        *,
        offset: int = 0,
    ) -> tuple[Iterator[PlannedSegment], float]:
        """Cut a text that was prepared into segments; gives them, and the silence that is asked for after the last."""
        in_kana = self._is_in_kana(language)
        is_rewritten = request.normalize == "auto" or in_kana or document or self._dictionary_of(request)
        is_rewritten = is_rewritten or request.emoji == "name"
        breaks = [] if document is None else _places(document, spoken)
        at_the_end = [seconds for place, seconds in breaks if not is_speakable(spoken.text[place:])]
        parts = self._split_at(breaks, spoken, is_plain=not is_rewritten, in_kana=in_kana)
        script = Script(
            spoken,
            request.text,
            self._tokenizer,
            self._config,
            template.voice.rows.shape[0],
            request.sampling.max_frames,
            offset=offset,
        )
        return self._plan_segments(script, parts, len(request.text)), min(MAX_BREAK_S, sum(at_the_end))

    def _plan(
        self,
        request: SpeechRequest,
        template: SegmentTemplate,
        language: SpokenLanguage,
        segments: Iterator[PlannedSegment],
        *,
        hold_segments: bool,
    ) -> SpeechPlan:
        config = self._config
        wants_path = request.timestamps or request.keep_to_text or request.verify != "off"
        hold_segments |= request.verify == "retry"
        return SpeechPlan(
            segments=segments,
            template=template,
            language=language,
            seed=secrets.randbits(32) if request.seed is None else int(request.seed),
            has_explicit_budget=request.sampling.max_frames is not None,
            speed=float(request.speed),
            pause_s=float(request.pause_s),
            deadline_s=request.deadline_s,
            sample_rate=config.sample_rate,
            frame_rate=config.frame_rate,
            hold_segments=hold_segments,
            segments_in_flight=_SEGMENTS_IN_FLIGHT_HELD if hold_segments else _SEGMENTS_IN_FLIGHT,
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
        self,
        request: SpeechRequest,
        document: SsmlText | None,
        language: str,
        warn: Warn,
        *,
        offset: int = 0,
        is_part: bool = False,
    ) -> NormalizedText:
        """Rewrite the text as it is to be spoken, and check it; a part of one may have nothing to say."""
        in_kana = self._is_in_kana(language)
        if document is None and request.normalize != "auto" and request.emoji == "off":
            check_rewritten(clean_unless_off(request.text, request.normalize), request.text, offset)
        rules = language if language in LANGUAGES else "en"
        if request.language is not None and (region := region_of(request.language)):
            rules = f"{rules}-{region}"
        dictionary = self._dictionary_of(request)
        spoken = prepare(
            request.text,
            rules,
            request.normalize,
            in_kana=in_kana,
            dictionary=dictionary,
            ssml=document,
            emoji=request.emoji,
        ).normalized
        if is_speakable(spoken.text) or not is_part:
            check_rewritten(spoken, request.text, offset)
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

    def _dictionary_of(self, request: SpeechRequest) -> Dictionary | None:
        """Put the words of a request before those that hold for all."""
        given = None if request.dictionary is None else load_dictionary(request.dictionary)
        return joined(given, self._dictionary)

    def _split_at(
        self, breaks: list[tuple[int, float]], spoken: NormalizedText, *, is_plain: bool, in_kana: bool
    ) -> Iterator[tuple[TextSegment, float | None]]:
        """Cut the text as spoken where silence is asked for, and each stretch into parts with the silence before it."""
        if not breaks:
            yield from ((part, None) for part in self._split(spoken, is_plain=is_plain, in_kana=in_kana))
            return
        pause_s: float | None = None
        for (start, asked_s), (end, _) in pairwise([(0, None), *breaks, (len(spoken.text), None)]):
            pause_s = pause_s if asked_s is None else min(MAX_BREAK_S, (pause_s or 0.0) + asked_s)
            stretch = spoken.text[start:end]
            start, end = start + len(stretch) - len(stretch.lstrip()), start + len(stretch.rstrip())
            for part in self._split(spoken, start, end, is_plain=is_plain, in_kana=in_kana):
                yield part, pause_s
                pause_s = None

    def _split(
        self, spoken: NormalizedText, start: int = 0, end: int | None = None, *, is_plain: bool, in_kana: bool
    ) -> Iterator[TextSegment]:
        """Cut a stretch of the text as spoken into parts; only those that can be spoken."""
        max_chars = self._config.generation.max_segment_chars

        def may_part(before: int, after: int) -> bool:
            return spoken.may_part(start + before, start + after)

        def num_written(first: int, last: int) -> int:
            return spoken.num_written(start + first, start + last)

        # What was only cleaned is cut as its plain twin would be.
        origin = Origin() if is_plain else Origin(may_part, num_written)
        if in_kana:
            # Here, because no published weights speak Japanese.
            from voxtral.text.kana import LETTERS_PER_KANA

            # Kana is longer than kanji by what is spoken, not by how it is written.
            origin = Origin(may_part)
            max_chars = max(1, max_chars // LETTERS_PER_KANA)
        # Sentences are gathered up to a quarter of the longest segment, so that short ones keep their melody.
        text = spoken.text[start:end]
        parts = split_rewritten(text, origin, min_chars=max(1, max_chars // 4), max_chars=max_chars)
        return (
            TextSegment(part.text, start + part.start, start + part.end) for part in parts if is_speakable(part.text)
        )

    def _plan_segments(
        self, script: Script, parts: Iterator[tuple[TextSegment, float | None]], num_chars: int
    ) -> Iterator[PlannedSegment]:
        """Lay out each part when it is wanted; no character of the text as given is in two parts.

        What is spoken in no part, such as markup, is told of with the part before it, or with the first one.
        """
        reached = told = 0
        planned = next(parts, None)
        while planned is not None:
            part, pause_s = planned
            segment = script.lay_out(part.start, part.end, source_from=reached)
            reached = segment.text.end
            planned = next(parts, None)
            until = num_chars
            if planned is not None:
                until = script.source_span(planned[0].start, planned[0].end, reached)[0]
            yield replace(segment, words_within=(told, until), pause_s=pause_s)
            told = until

    def _resolve_voice(self, request: SpeechRequest, language: str, warn: Warn) -> VoicePrompt:
        if request.reference_audio is not None:
            return self._clone(request.reference_audio, warn=warn)
        if request.voice is not None:
            return self._voices.load(request.voice)
        name = self._voices.default_for(language)
        if language in self._config.languages and voice_language(name, self._config.languages) != language:
            warn(f"this checkpoint has no {language} voice; {name} speaks with an accent; name another voice")
        return self._voices.load(name)


def _once(warn: Warn) -> Warn:
    """Make of a warning one that says each remark once."""
    said: set[str] = set()

    def tell(message: str) -> None:
        if message not in said:
            said.add(message)
            warn(message)

    return tell


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def _places(document: SsmlText, spoken: NormalizedText) -> list[tuple[int, float]]:
    """Find where in the text as spoken silence is asked for, and how much; what is asked for at one place adds up."""
    found: dict[int, float] = {}
    for each in document.breaks:
        place = spoken.place_of(each.at)
        if each.seconds:
            found[place] = min(MAX_BREAK_S, found.get(place, 0.0) + each.seconds)
    return sorted(found.items())
