"""A preview: what would be said for a text, where that is not what is written, and what is left that may go wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from voxtral.text.language import resolve_language
from voxtral.text.normalize import Change, prepare
from voxtral.text.segment import Origin, split_rewritten
from voxtral.text.ssml import is_ssml, read_ssml

if TYPE_CHECKING:
    from voxtral.text.dictionary import Dictionary
    from voxtral.text.edits import NormalizedText
    from voxtral.types import Emoji, Normalize

# Digits, and signs that are words to a reader and nothing to the model.
_LEFT = re.compile(r"(?P<digits>[^\W_]*\d[^\W_]*(?:[.,:/-]\d+)*)|(?P<sign>[%&@#/\\+=<>^~_|*{}°§€$£¥₹→←↑↓×÷±])")

# Segments of a preview are cut as those of a model with the usual limits.
_MIN_CHARS, _MAX_CHARS = 50, 400


@dataclass(frozen=True)
class Left:
    """What stays as it is written and may be said wrong.

    Attributes:
        start: in the text as given.
        end: the character after its last one.
        written: as it stands.
        kind: "digits" or "sign".
    """

    start: int
    end: int
    written: str
    kind: str


@dataclass(frozen=True)
class Preview:
    """What would be said for a text.

    Attributes:
        language: its code.
        normalized: the text for speech.
        edits: every span that is said otherwise than it is written, in order; together with what lies between them they
            make up the text for speech, but for white space.
        segments: spans of the text as given that are spoken at once.
        left: what may go wrong.
    """

    language: str
    normalized: str
    edits: tuple[Change, ...]
    segments: tuple[tuple[int, int], ...]
    left: tuple[Left, ...]

    def to_dict(self, text: str) -> dict[str, object]:
        """Give plain values for JSON, with what is written at each place of the text as given."""
        return {
            "language": self.language,
            "normalized": self.normalized,
            "edits": [{**edit._asdict(), "written": text[edit.start : edit.end]} for edit in self.edits],
            "segments": [{"start": start, "end": end, "text": text[start:end]} for start, end in self.segments],
            "warnings": [asdict(left) for left in self.left],
        }


def normalize_text(
    text: str,
    language: str = "en",
    *,
    normalize: Normalize = "auto",
    dictionary: Dictionary | None = None,
    ssml: bool | None = None,
    in_kana: bool = False,
    max_chars: int = _MAX_CHARS,
    emoji: Emoji = "off",
) -> Preview:
    """Say what would be said for a text, without saying it.

    Args:
        text: any text.
        language: chooses the rules, with its region: "en", "en-GB", "German".
        normalize: off, clean or auto; see docs/TEXT.md.
        dictionary: words that are said otherwise.
        ssml: whether the text is SSML; None: if it begins as that does.
        in_kana: Japanese in kana, for a checkpoint that knows it so.
        max_chars: of a segment, as the checkpoint says.
        emoji: "name" says their names.

    Raises:
        LanguageError: the language is unknown.
        SsmlError: the text is SSML that cannot be read.
        TextError: kana is asked for, and some kanji cannot be read.

    >>> [(edit.kind, edit.spoken) for edit in normalize_text("Room 12", "en").edits]
    [('number', 'twelve')]
    """
    code = resolve_language(language)
    document = read_ssml(text) if ssml or (ssml is None and is_ssml(text)) else None
    reading = prepare(text, language, normalize, in_kana=in_kana, dictionary=dictionary, ssml=document, emoji=emoji)
    spoken, claimed = reading.normalized, reading.claimed
    min_chars = max(1, max_chars // 4)
    origin = Origin(spoken.may_part, spoken.num_written)
    parts = split_rewritten(spoken.text, origin, min_chars=min_chars, max_chars=max_chars)
    return Preview(
        code,
        spoken.text,
        tuple(_changes(text, spoken, claimed)),
        tuple(spoken.source_span(part.start, part.end) for part in parts),
        tuple(_left(spoken)),
    )


def _changes(text: str, spoken: NormalizedText, claimed: tuple[Change, ...]) -> Iterator[Change]:
    """List all spans that are not verbatim: what rules claimed, each claim by itself, and what was done besides."""
    places = [(change.start, change.end, change) for change in claimed]
    for start, end, parts in _spans(text, spoken):
        while places and places[0][1] <= start:
            places.pop(0)
        reached, said = start, list(parts)
        while places and places[0][0] < end:
            first, last, change = places.pop(0)
            yield from _besides(text, reached, first, said)
            _take(said, last)
            yield change._replace(spoken=spoken.text[spoken.place_of(first) : spoken.place_of(last)])
            reached = max(last, reached)
        yield from _besides(text, reached, max(reached, end), said)


def _besides(text: str, start: int, end: int, said: list[tuple[int, str]]) -> Iterator[Change]:
    """List what no rule claimed, up to an offset of the source."""
    words = _take(said, end)
    if text[start:end].split() != words.split():
        yield Change(start, end, words, "letters" if words.strip() else "markup")


def _take(said: list[tuple[int, str]], end: int) -> str:
    """Take the words that came from before an offset of the source."""
    taken: list[str] = []
    while said and said[0][0] < end:
        taken.append(said.pop(0)[1])
    return "".join(taken)


def _spans(text: str, spoken: NormalizedText) -> Iterator[tuple[int, int, list[tuple[int, str]]]]:
    """Give what is not verbatim: spans of the source, and what stands for them, each part with where it came from."""
    begin = 0
    said: list[tuple[int, str]] = []
    for start, end, part in _parts(text, spoken):
        if part != text[start:end]:
            said.append((start, part))
            continue
        if said or start > begin:
            yield begin, start, said
        begin, said = end, []
    if said or begin < len(text):
        yield begin, len(text), said


def _parts(text: str, spoken: NormalizedText) -> Iterator[tuple[int, int, str]]:
    """Give the runs of a text for speech, those that map by characters cut where a character is another one."""
    for index, run in enumerate(spoken.runs):
        stop = spoken.runs[index + 1].start if index + 1 < len(spoken.runs) else len(spoken.text)
        part = spoken.text[run.start : stop]
        if not run.is_verbatim or part == text[run.source_start : run.source_end]:
            yield run.source_start, run.source_end, part
            continue
        for offset, char in enumerate(part, run.source_start):
            yield offset, offset + 1, char


def _left(spoken: NormalizedText) -> Iterator[Left]:
    for found in _LEFT.finditer(spoken.text):
        start, end = spoken.source_span(*found.span())
        yield Left(start, end, found.group(), found.lastgroup or "sign")
