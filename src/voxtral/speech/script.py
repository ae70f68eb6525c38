"""The text of an utterance as it is spoken: parts of it laid out for the model, and where each word of it is.

A part may have to be spoken anew, in two halves, or from where the model has lost its place; all of them keep the
offsets of the text as given. Knows no engine. Read next: `voxtral.speech.plan`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from voxtral.errors import TextError
from voxtral.speech.plan import PlannedSegment
from voxtral.text.graphemes import grapheme_ends, has_unspaced_script
from voxtral.text.language import is_speakable
from voxtral.text.prompt import build_prompt
from voxtral.text.segment import TextSegment, split_text

if TYPE_CHECKING:
    from voxtral.align.words import WordSpans
    from voxtral.config import ModelConfig
    from voxtral.text.edits import NormalizedText
    from voxtral.text.tokenizer import SpeechTokenizer
    from voxtral.types import Samples, WordTime

# The default frame budget, in seconds of speech. Typical English is 0.08 s a character; two or three
# words may take 6 s without fault (docs/MODEL.md, "Habits").
_BUDGET_BASE_S, _BUDGET_PER_CHAR_S = 6.0, 0.25

_WORD = re.compile(r"\S+")


class Script:
    """Lays out parts of one text.

    Args:
        spoken: the text as it is spoken, with the way back to the text as given.
        source: the text as given.
        tokenizer: of the checkpoint.
        config: of the checkpoint.
        num_voice_rows: N, of the voice.
        max_frames: frames of each part at most; None for a budget by its length.
        offset: where the text as given begins in a longer one, of which it is a stretch.
    """

    def __init__(
        self,
        spoken: NormalizedText,
        source: str,
        tokenizer: SpeechTokenizer,
        config: ModelConfig,
        num_voice_rows: int,
        max_frames: int | None,
        *,
        offset: int = 0,
    ) -> None:
        self._spoken = spoken
        self._source = source
        self._tokenizer = tokenizer
        self._config = config
        self._num_voice_rows = num_voice_rows
        self._max_frames = max_frames
        self._offset = offset

    def lay_out(self, start: int, stop: int, *, source_from: int = 0) -> PlannedSegment:
        """Lay out the prompt of a part of the text as spoken, and give it its budget.

        Args:
            start: offset into the text as spoken, inclusive.
            stop: exclusive.
            source_from: what lies before it in the text as given belongs to another part.

        Raises:
            TextError: the part is longer than the model takes.
        """
        text = self._spoken.text[start:stop]
        prompt = build_prompt(self._tokenizer, text, self._num_voice_rows)
        room = self._config.backbone.max_seq_len - len(prompt.token_ids)
        if room < 1:
            raise TextError(
                f"the prompt has {len(prompt.token_ids)} tokens; the model takes {self._config.backbone.max_seq_len}; "
                "use a shorter reference or shorter words"
            )
        place = TextSegment(text, *self.source_span(start, stop, source_from))
        max_frames = min(self._max_frames or self._frame_budget(text), room)
        return PlannedSegment(place, prompt, max_frames, start, script=self, offset=self._offset)

    def source_span(self, start: int, stop: int, source_from: int) -> tuple[int, int]:
        """Say where a part is in the text as given; what `lay_out` does without laying it out."""
        first, last = self._spoken.source_span(start, stop)
        return max(first, source_from), max(last, source_from)

    def words(self, segment: PlannedSegment) -> WordSpans:
        """Find the words of a part among its tokens."""
        from voxtral.align.words import spoken_words

        text, within = segment.text.text, segment.word_range
        return spoken_words(text, self._source, self._sources(segment), self._pieces(segment), within=within)

    def proportional_times(self, segment: PlannedSegment, samples: Samples) -> tuple[WordTime, ...]:
        """Share the sound of a part out among its words; seconds from its start."""
        from voxtral.align.proportional import proportional_times

        return proportional_times(
            segment.text.text,
            self._source,
            self._sources(segment),
            samples,
            self._config.sample_rate,
            within=segment.word_range,
        )

    def rest(self, segment: PlannedSegment, token: int, *, num_skipped: int = 0) -> PlannedSegment | None:
        """Lay out what is left of a part.

        Args:
            segment: the part.
            token: of its text, to which it was spoken. A word of which less than half was said is said again.
            num_skipped: words of what is left that are given up.

        Returns:
            None where nothing is left that can be spoken.
        """
        text = segment.text.text
        said = len(b"".join(self._pieces(segment)[:token]).decode("utf-8", "ignore"))
        left = (
            start
            for start, end in _words(text)
            if is_speakable(text[start:end]) and not _is_said(text, start, end, said)
        )
        first = next(islice(left, num_skipped, None), None)
        if first is None:
            return None
        begin = segment.spoken_start + first
        # What was written as one, such as a number, is begun anew.
        while begin > segment.spoken_start and not self._may_cut(begin):
            begin -= 1
        rest = self._from_whole_word(
            self.lay_out(begin, segment.spoken_start + len(text), source_from=segment.text.start), segment.text.start
        )
        first, last = segment.word_range
        return replace(rest, words_within=(rest.text.start if begin > segment.spoken_start else first, last))

    def halves(self, segment: PlannedSegment) -> list[PlannedSegment]:
        """Cut a part at the clause that is nearest to its middle; one that has no place for that stays whole."""
        text, start = segment.text.text, segment.spoken_start
        parts = list(split_text(text, min_chars=1, max_chars=max(1, len(text) * 2 // 3)))
        cuts = [
            (before.end, after.start)
            for before, after in pairwise(parts)
            if self._may_cut(start + after.start)
            and is_speakable(text[: before.end])
            and is_speakable(text[after.start :])
        ]
        if not cuts:
            return [segment]
        end, begin = min(cuts, key=lambda cut: abs(cut[1] - len(text) / 2))
        first = self.lay_out(start, start + end, source_from=segment.text.start)
        second = self._from_whole_word(
            self.lay_out(start + begin, start + len(text), source_from=first.text.end), first.text.end
        )
        (within, until), middle = segment.word_range, second.text.start
        return [replace(first, words_within=(within, middle)), replace(second, words_within=(middle, until))]

    def _from_whole_word(self, part: PlannedSegment, source_from: int) -> PlannedSegment:
        """Take in what is written before the first word as one with it and not spoken, such as a bracket."""
        said = len(self._spoken.text[: part.spoken_start].rstrip())
        earliest = max(source_from, self._spoken.source_span(said - 1, said)[1] if said else 0)
        start = part.text.start
        while start > earliest and not self._source[start - 1].isspace():
            start -= 1
        return replace(part, text=replace(part.text, start=start))

    def _may_cut(self, place: int) -> bool:
        """Tell whether the text as spoken may be cut before a character."""
        return self._spoken.may_part(len(self._spoken.text[:place].rstrip()), place)

    def _sources(self, segment: PlannedSegment) -> list[tuple[int, int]]:
        start = segment.spoken_start
        places = range(start, start + len(segment.text.text))
        return [self._spoken.source_span(place, place + 1) for place in places]

    def _pieces(self, segment: PlannedSegment) -> tuple[bytes, ...]:
        start, stop = segment.prompt.text_span
        return self._tokenizer.pieces(segment.prompt.token_ids[start:stop])

    def _frame_budget(self, text: str) -> int:
        seconds = _BUDGET_BASE_S + _BUDGET_PER_CHAR_S * sum(map(_spoken_weight, text))
        return math.ceil(seconds * self._config.frame_rate)


def _words(text: str) -> Iterator[tuple[int, int]]:
    """List what may be spoken by itself: runs without white space, and graphemes where a script writes none."""
    for run in _WORD.finditer(text):
        start, end = run.span()
        if has_unspaced_script(run.group()):
            for stop in [*grapheme_ends(text, start, end), end]:
                if stop > start:
                    yield start, stop
                start = stop
        else:
            yield start, end


def _is_said(text: str, start: int, end: int, said: int) -> bool:
    """Tell whether at least half of a word's letters lie before a place."""
    letters = [place for place in range(start, end) if is_speakable(text[place])]
    return sum(place < said for place in letters) * 2 >= len(letters)


def _spoken_weight(character: str) -> float:
    """Weigh a character by how long it may be spoken, a Latin letter being 1."""
    if character.isdigit():
        return 4.0  # "7" is a word, and "2024" three
    # Ideographs and syllables are a syllable or more each.
    return 3.0 if unicodedata.east_asian_width(character) == "W" else 1.0
