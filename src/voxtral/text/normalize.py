"""Normalisation: a written text to one that can be read aloud, with a map back to its source.

Removes markup, emoji and invisible characters, makes letters plain as `clean.py` does, and writes numbers in
words; what it does not understand stays unchanged. Knows nothing of tokens or of limits on length. `markup.py`
and `reading/` are its two large parts; `segment.py` cuts what comes out. The passes are one idea and one file: each
hands on the same draft, and what is read again depends on what all of them changed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from voxtral.text.clean import DRAWN_BLANKS, JOINERS, LINE_ENDS, UNSEEN, clean_unless_off, kept_joiner, unify
from voxtral.text.dictionary import Dictionary
from voxtral.text.edits import Draft, Edit, NormalizedText, rewrite
from voxtral.text.emoji import has_emoji, naming_edits, unspoken_edits
from voxtral.text.language import region_of, resolve_language
from voxtral.text.markup import strip_markup
from voxtral.text.reading.claims import Claim, Strength, claim, edits_of, keep, settle
from voxtral.text.reading.measures import after_scales
from voxtral.text.reading.reader import find_claims, find_word_claims
from voxtral.text.reading.say_as import say_as
from voxtral.text.reading.written import Written
from voxtral.text.ssml import SsmlText

if TYPE_CHECKING:
    from voxtral.types import Emoji, Normalize

# White space of all kinds becomes line ends and spaces, which are reduced last; the rest vanishes.
_INVISIBLE = re.compile(
    rf"(?P<paragraph>\u2029)|(?P<line>\r\n|[{LINE_ENDS}])|(?P<space>[\x1c-\x1f{DRAWN_BLANKS}])"
    rf"|[\x00-\x08\x0e-\x1b\x7f-\x9f{UNSEEN}{JOINERS}]+"
)
_VISIBLE_FORMS = {"paragraph": "\n\n", "line": "\n", "space": " "}

# A single space between words is left, unless it begins or ends the text.
_SPACE = re.compile(r"\s{2,}|[^\S ]|\A | \Z")
# What rules may still read in a text that was read: digits, signs, and points inside of words.
_MAY_BE_LEFT = re.compile(r"[\d²³½⅓⅔¼¾&@#%/*+=<>°§$€£¥₹|_~^№×÷±≥≤™®.:]")
# Japanese keeps its digits, but not beside letters and signs.
_LEFT_IN_JAPANESE = re.compile(
    r"[²³½⅓⅔¼¾&@#/*+=<>°§$€£₹|_~^№×÷±≥≤™®]|(?<=[A-Za-z])[.:](?=\w)|(?<=\d):(?=\d)"
    r"|\d(?=[ ]?[A-Za-z$€£/:~+=°-])|(?<=[A-Za-z$€£/:~+=-])\d|(?<=[A-Za-z$€£/:~+=-] )\d"
)
_INCHES = re.compile(r'\d"')
_GLUED = re.compile(r"(?<=[\d.])[^\W\d_]|[^\W\d_](?=\d)")
_GLUED_IN_JAPANESE = re.compile(r"(?<=[\d.])[A-Za-z]|[A-Za-z](?=\d)")
_LEFT = re.compile(r"[\d²³½⅓⅔¼¾&@#%/*+=<>°§$€£¥₹|_~^№×÷±≥≤™®]|(?<=\w)[.:](?=\w)")
# How far from what is left something may be claimed with it, and how far rules look around what they claim.
_NEAR, _FARTHEST = 20, 30
# How far from where something was said it may set free what stands there.
_BESIDE = 12
_NUMBERS = re.compile(r"[\d.,\s]*")
# Each reading leaves less than the one before; two are enough for all but made-up texts.
_MOST_READINGS = 4
_PARAGRAPHS = "\n\n"
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


class Change(NamedTuple):
    """What is said for a span of a text.

    Attributes:
        start: of the span, in the text as given.
        end: the character after its last one.
        spoken: what is said for it; "" for what is left out.
        kind: such as "date"; "markup" and "letters" for what no rule claimed.
    """

    start: int
    end: int
    spoken: str
    kind: str


class _Stage(NamedTuple):
    """A text at one point of its rewriting, and what was then claimed of it."""

    text: NormalizedText
    claims: Sequence[Claim]


@dataclass(frozen=True)
class Reading:
    """A text as it is said.

    Attributes:
        normalized: the text for speech.
        stages: what was claimed of it, reading by reading.
        named: what was said for emoji before.
    """

    normalized: NormalizedText
    stages: tuple[_Stage, ...]
    named: tuple[Change, ...] = ()

    @cached_property
    def claimed(self) -> tuple[Change, ...]:
        """What rules and dictionaries say for spans of the text as given, in order."""
        claimed: list[Change] = []
        for stage in self.stages:
            changes = _changes_of(stage.text, stage.claims)
            claimed = _merged(claimed, changes) if claimed else changes
        return _with_names(tuple(claimed), self.named)


def normalize(text: str, language: str, *, in_kana: bool = False) -> NormalizedText:
    r"""Write a text out for speech.

    Removes Markdown, HTML tags, emoji and invisible characters, makes full-width and other dressed letters plain,
    writes numbers, dates, prices and whatever else `reading` knows in the words of the language (Japanese keeps its
    digits), and reduces whitespace to single spaces and blank lines. Takes time in proportion to the length, and never
    fails on a text unless kana is asked for.

    Args:
        text: any string. Lone surrogates stay, for `check_speakable` to refuse.
        language: any spelling that `resolve_language` takes; a region ("en-GB") chooses the rules of that region.
        in_kana: write kanji and digits in kana as well, for a checkpoint that knows Japanese in kana.

    Raises:
        LanguageError: the language is unknown.
        TextError: kana is asked for, and some kanji cannot be read; see `to_kana`.

    >>> normalize("It costs $3.50 :-) \U0001f600", "en").text
    'It costs three dollars and fifty cents :-)'
    """
    return read(text, language, in_kana=in_kana).normalized


def read(
    text: str,
    language: str,
    *,
    in_kana: bool = False,
    dictionary: Dictionary | None = None,
    ssml: SsmlText | None = None,
    emoji: Emoji = "off",
) -> Reading:
    """Write a text out for speech, and say by which rules.

    Args:
        text: as `normalize` takes it, and so are `language` and `in_kana`.
        language: see there.
        in_kana: see there.
        dictionary: words that are said otherwise.
        ssml: the text as `read_ssml` understood it, whose marks are then not those of Markdown and HTML.
        emoji: "name" says their names; "off" leaves them out.

    Raises:
        LanguageError: the language is unknown.
        TextError: kana is asked for, and some kanji cannot be read; see `to_kana`.
    """
    code = resolve_language(language)
    draft = Draft.of(text) if ssml is None else ssml.words
    draft, named = _say_emoji(draft, language, dictionary, emoji)
    if ssml is None:
        draft = strip_markup(_remove_unspoken(draft), code)
        # Entities such as "&#8203;" can hide what the first pass removes.
        draft = unify(_remove_unspoken(draft) if "&" in text else draft)
    else:
        draft = unify(_remove_unspoken(draft))
    left: list[int] = []
    claims = _claims(draft.text, draft.place_of, language, dictionary, ssml, named, left)
    stages = [_Stage(draft, claims)]
    edits = [*edits_of(claims)]
    draft = draft.apply(edits)
    spaces = [*_space_edits(draft.text)]
    has_asked = dictionary is not None and any(each.strength <= Strength.DICTIONARY for each in claims)
    if ssml is None and not named and not has_asked:
        said = _moved(_moved(_ends_of(claims), edits), spaces)
        spaced = _moved([edit.start for edit in spaces], spaces)
        left = _moved(_moved(sorted(left), edits), spaces)
        draft, again = _read_again(draft.apply(spaces), said, spaced, left, code, region_of(language))
        stages += again
    else:
        draft = draft.apply(spaces)
    if in_kana:
        draft = _to_kana(draft)
        draft = draft.apply(_space_edits(draft.text))
    return Reading(as_normalized(draft), tuple(stages), tuple(named))


def _changes_of(text: NormalizedText, claims: Iterable[Claim]) -> list[Change]:
    """Say what claims say in places of the text as given."""
    return [
        Change(*text.source_span(each.start, each.end), each.spoken(text.text), each.kind)
        for each in claims
        if each.edits
    ]


def _ends_of(claims: Iterable[Claim]) -> list[int]:
    """Say where what is said otherwise begins and ends."""
    return [place for each in claims if each.edits for place in (each.start, each.end)]


def _moved(places: list[int], edits: list[Edit]) -> list[int]:
    """Say where places of a text are after its edits; both are in order, and what is replaced begins where it began."""
    moved: list[int] = []
    shift, index = 0, 0
    for place in places:
        while index < len(edits) and edits[index].start < place and edits[index].end <= place:
            start, end, replacement = edits[index]
            shift += len(replacement) - (end - start)
            index += 1
        is_inside = index < len(edits) and edits[index].start < place
        moved.append((edits[index].start if is_inside else place) + shift)
    return moved


def _read_again(
    draft: Draft, said: list[int], spaced: list[int], left: list[int], language: str, region: str
) -> tuple[Draft, list[_Stage]]:
    """Read again what is left, until nothing changes.

    What is said for one thing sets its neighbours free, as in "No.5:30", and lines that were joined are read otherwise
    than lines alone. A text for speech that is read once more must stay as it is.

    Args:
        draft: the text, read once.
        said: where what was claimed begins and ends.
        spaced: where white space was reduced.
        left: where words stand that may be read if something else is said beside them.
        language: of the text.
        region: of the language.

    Returns:
        The text, and what was claimed.
    """
    stages: list[_Stage] = []
    changed = sorted([*said, *spaced])
    # The first reading saw all paragraphs together, and these are now read alone.
    is_known = _PARAGRAPHS not in draft.text
    for _ in range(_MOST_READINGS):
        new: list[Claim] = []
        words = sorted([*left, *after_scales(draft.text, language)])
        for start, end in _paragraphs(draft.text):
            near = changed[bisect_left(changed, start) : bisect_right(changed, end)]
            if not is_known and not _NUMBERS.fullmatch(draft.text, start, end):
                # Rules saw what stands beyond a blank line; on numbers alone that changes nothing.
                near = sorted([*near, *_edges(start, end)])
            if not near:
                continue
            places = [place - start for place in near]
            words_left = words[bisect_left(words, start) : bisect_left(words, end)]
            written = Written(draft.text[start:end], language, region)
            signs = [place for place in _signs_left(written, places) if bisect_right(said, place + start) % 2 == 0]
            claims = _claims_left(written, signs, places, [place - start for place in words_left])
            if any(draft.text[start + edit.start : start + edit.end] != edit.replacement for edit in edits_of(claims)):
                new += (each.moved(start) for each in claims)
        if not new:
            break
        stages.append(_Stage(draft, new))
        edits = [*edits_of(new)]
        # What was not changed now was read beside all that was changed before.
        changed = _moved(_ends_of(new), edits)
        said = _joined(_moved(said, edits), changed)
        draft = draft.apply(edits)
        spaces = [*_space_edits(draft.text)]
        said, changed, left = _moved(said, spaces), _moved(changed, spaces), _moved(_moved(left, edits), spaces)
        changed = sorted({*changed, *_moved([edit.start for edit in spaces], spaces)})
        draft = draft.apply(spaces)
        is_known = True
    return draft, stages


def _joined(first: list[int], second: list[int]) -> list[int]:
    """Join spans, each given by its start and its end; those that overlap become one."""
    joined: list[int] = []
    spans = zip([*first[::2], *second[::2]], [*first[1::2], *second[1::2]], strict=True)
    for start, end in sorted(spans):
        if joined and start < joined[-1]:
            joined[-1] = max(joined[-1], end)
        else:
            joined += (start, end)
    return joined


def _edges(start: int, end: int) -> Iterator[int]:
    """Give places beside which all lies that is so near to the edges of a paragraph that rules look beyond."""
    reach = min(_FARTHEST, end - start)
    yield from range(start, start + reach, _BESIDE)
    yield from range(end - reach, end, _BESIDE)


def _signs_left(written: Written, places: list[int]) -> list[int]:
    """Give where digits and signs stand beside places."""
    found = [found.start() for found in _MAY_BE_LEFT.finditer(written.text)]
    left = _LEFT if written.has_number_words else _LEFT_IN_JAPANESE
    return [place for place in _close_to(found, places, _BESIDE) if left.match(written.text, place)]


def _claims_left(written: Written, signs: list[int], places: list[int], words: list[int]) -> list[Claim]:
    """Claim what is still left in a paragraph.

    Args:
        written: the paragraph.
        signs: where digits and signs are left, in order.
        places: where it was changed since it was read, in order.
        words: where there are words that may be read now, in order.
    """
    text, words = written.text, _close_to(words, places, _BESIDE)
    # The sign for inches is one by the quotes in the whole paragraph.
    windows = _windows(written, signs) if _INCHES.search(text) is None else [(0, len(text))] * bool(signs)
    if len(windows) == 1 and windows[0][0] == 0 and windows[0][1] == len(text):
        return find_claims(written)
    claims: list[Claim] = []
    if windows:
        claims = _back_in_place(find_claims(_cut_out(written, windows)), windows)
        # What stands at the edge of a window was read without its neighbours.
        claims = [each for each in claims if _is_close(each, signs)]
    if words:
        taken = bytearray(len(text))
        for each in claims:
            taken[each.start : each.end] = b"\1" * (each.end - each.start)
        windows = _windows(written, words)
        claims += (
            each
            for each in _back_in_place(find_word_claims(_cut_out(written, windows)), windows)
            if taken.find(1, each.start, each.end) < 0 and _is_close(each, places)
        )
        claims.sort(key=lambda each: each.start)
    return claims


def _cut_out(written: Written, windows: list[tuple[int, int]]) -> Written:
    """Put windows together as paragraphs of one text, because each text that is read costs something for itself."""
    if windows == [(0, len(written.text))]:
        return written
    text = _PARAGRAPHS.join(written.text[start:end] for start, end in windows)
    return Written(text, written.language, written.region)


def _back_in_place(claims: list[Claim], windows: list[tuple[int, int]]) -> list[Claim]:
    """Move claims from the text of some windows to where these were cut out."""
    moved: list[Claim] = []
    index = offset = 0
    for each in claims:
        while each.start >= offset + windows[index][1] - windows[index][0] + len(_PARAGRAPHS):
            offset += windows[index][1] - windows[index][0] + len(_PARAGRAPHS)
            index += 1
        start, end = windows[index]
        if each.end <= offset + end - start:
            moved.append(each.moved(start - offset))
    return moved


def _is_close(found: Claim, places: list[int]) -> bool:
    """Tell whether one of some places, which are in order, is in a claim or beside it."""
    index = bisect_left(places, found.start - _NEAR)
    return index < len(places) and places[index] <= found.end + _NEAR


def _close_to(places: list[int], others: list[int], distance: int) -> list[int]:
    """Keep the places that have another at most so far away; both lists are in order."""
    close: list[int] = []
    index = 0
    for place in places:
        while index < len(others) and others[index] < place - distance:
            index += 1
        if index < len(others) and others[index] <= place + distance:
            close.append(place)
    return close


def _windows(written: Written, places: list[int]) -> list[tuple[int, int]]:
    """Cut out what stands around places, at spaces; windows that meet are one, and one of most of the text is all."""
    text, windows = written.text, list[tuple[int, int]]()
    # In Japanese words stand without spaces.
    has_spaces = written.language != "ja"
    for place in places:
        start, end = place - _NEAR - _FARTHEST, place + _NEAR + _FARTHEST
        if windows and end <= windows[-1][1]:
            continue
        start = max(0, text.rfind(" ", 0, start) + 1 if has_spaces and start > 0 else start)
        end = text.find(" ", end) if has_spaces and end < len(text) else min(end, len(text))
        end = len(text) if end < 0 else end
        if windows and start <= windows[-1][1]:
            start = windows.pop()[0]
        windows.append((start, end))
    return [(0, len(text))] if sum(end - start for start, end in windows) > 0.8 * len(text) else windows


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Cut a text at its blank lines, which go with the paragraph before them."""
    start = 0
    while start < len(text):
        found = text.find("\n\n", start)
        end = len(text) if found < 0 else found + 2
        yield start, end
        start = end


def _merged(first: list[Change], later: list[Change]) -> list[Change]:
    """Put later changes in place of the earlier ones that they cover or touch."""
    merged: list[Change] = []
    left = list(reversed(first))
    for change in later:
        start, end = change.start, change.end
        while left and left[-1].end <= start:
            merged.append(left.pop())
        while left and left[-1].start < end:
            start, end = min(start, left[-1].start), max(end, left.pop().end)
        merged.append(Change(start, end, change.spoken, change.kind))
    return [*merged, *reversed(left)]


def prepare(
    text: str,
    language: str,
    level: Normalize,
    *,
    in_kana: bool = False,
    dictionary: Dictionary | None = None,
    ssml: SsmlText | None = None,
    emoji: Emoji = "off",
) -> Reading:
    """Make of a text what is spoken, at any level.

    Args:
        text: as `read` takes it, and so are `language`, `in_kana`, `dictionary`, `ssml` and `emoji`.
        language: see there.
        level: auto, or clean or off, where only dictionary, SSML and the names of emoji change words.
        in_kana: see there.
        dictionary: see there.
        ssml: see there.
        emoji: "name" says their names; "off" does with them as the level does.

    Raises:
        LanguageError: the language is unknown.
        TextError: kana is asked for, and some kanji cannot be read; see `to_kana`.
    """
    if level == "auto":
        return read(text, language, in_kana=in_kana, dictionary=dictionary, ssml=ssml, emoji=emoji)
    words = None if ssml is None else as_normalized(ssml.words)
    named: list[Change] = []
    if (dictionary or emoji == "name") and has_emoji(text if ssml is None else ssml.words.text):
        draft, named = _say_emoji(Draft.of(text) if ssml is None else ssml.words, language, dictionary, emoji)
        words = as_normalized(draft)
    spoken = clean_unless_off(text, level) if words is None else clean_unless_off(words.text, level).through(words)
    stages: tuple[_Stage, ...] = ()
    if dictionary or ssml:
        claims = _claims(spoken.text, spoken.place_of, language, dictionary, ssml, named, with_rules=False)
        stages = (_Stage(spoken, claims),)
        spoken = rewrite(spoken.text, edits_of(claims)).through(spoken)
    if in_kana:
        spoken = write_in_kana(spoken.text).through(spoken)
    return Reading(spoken, stages, tuple(named))


def _say_emoji(draft: Draft, language: str, dictionary: Dictionary | None, emoji: Emoji) -> tuple[Draft, list[Change]]:
    """Write what a dictionary says for emoji, and their names if they are wanted, before any of them goes."""
    if not has_emoji(draft.text):
        return draft, []
    code = resolve_language(language)
    said: list[Change] = []
    if dictionary is not None:
        found = dictionary.claims(draft.text, code, region_of(language))
        words = settle((each for each in found if has_emoji(draft.text[each.start : each.end])), len(draft.text))
        edits = [*edits_of(words)]
        said += _edited(draft, edits, "dictionary")
        draft = draft.apply(edits)
    if emoji == "name":
        edits = [*naming_edits(draft.text, code)]
        said += _edited(draft, edits, "emoji")
        draft = draft.apply(edits)
    return draft, sorted(said, key=lambda each: each.start)


def _edited(draft: Draft, edits: Iterable[Edit], kind: str) -> Iterator[Change]:
    """Say what edits write, and for what part of the text as given."""
    for edit in edits:
        yield Change(*draft.source_span(edit.start, edit.end), edit.replacement, kind)


def _with_names(claimed: tuple[Change, ...], named: Sequence[Change]) -> tuple[Change, ...]:
    """Put what is said for emoji among what rules claimed; a name of which a rule read a part is told of once."""
    if not named:
        return claimed
    ends = [name.end for name in named]

    def is_named(each: Change) -> bool:
        place = bisect_right(ends, each.start)
        return place < len(named) and named[place].start < each.end

    return tuple(sorted([*(each for each in claimed if not is_named(each)), *named], key=lambda each: each.start))


PlaceOf = Callable[[int], int]


def _claims(
    text: str,
    place_of: PlaceOf,
    language: str,
    dictionary: Dictionary | None,
    ssml: SsmlText | None,
    named: Sequence[Change],
    left: list[int] | None = None,
    *,
    with_rules: bool = True,
) -> list[Claim]:
    """Settle what is said otherwise, each stretch in its language; `place_of` finds offsets of the source in it.

    To `left` the places are added of words that may be read if something else stands beside them.
    """
    final = [(place_of(each.start), place_of(each.end)) for each in named if each.kind == "dictionary"]
    claims: list[Claim] = []
    for start, end, tag in _stretches(len(text), place_of, language, ssml):
        written = Written(text[start:end], resolve_language(tag), region_of(tag))
        given = [*dictionary.claims(written.text, written.language, written.region)] if dictionary else []
        given += (
            keep(first - start, last - start, "dictionary", Strength.DICTIONARY)
            for first, last in final
            if start <= first < last <= end
        )
        for asked in ssml.asked if ssml else ():
            first, last = place_of(asked.start), place_of(asked.end)
            if start <= first < last <= end:
                spoken = asked.value if asked.kind == "sub" else say_as(text[first:last], asked, written)
                given.append(claim(first - start, last - start, spoken, asked.kind, Strength.ASKED))
        settled = find_claims(written, given) if with_rules else settle(given, end - start)
        claims += (each.moved(start) for each in settled) if start else settled
        if left is not None:
            # Words may also be stuck to numbers and points: "art.IV".
            glued = _GLUED if written.has_number_words else _GLUED_IN_JAPANESE
            places = (*written.left, *(found.start() for found in glued.finditer(written.text)))
            left += (place + start for place in places if not written.taken[place])
    return claims


def _stretches(length: int, place_of: PlaceOf, language: str, ssml: SsmlText | None) -> Iterator[tuple[int, int, str]]:
    """Cut a text where its language changes: start, end, and the tag of the language."""
    tags = {0: language, length: language}
    for found in ssml.languages if ssml else ():
        start, end = place_of(found.start), place_of(found.end)
        after = tags[max(place for place in tags if place <= end)]
        tags = {place: tag for place, tag in tags.items() if not start < place < end}
        tags |= {start: found.language, end: after}
    for start, end in pairwise(sorted(tags)):
        yield start, end, tags[start]


def write_in_kana(text: str) -> NormalizedText:
    """Write Japanese in kana and change nothing else.

    Raises:
        TextError: some kanji cannot be read; see `to_kana`.

    >>> write_in_kana("りんごを 3つ ください。").text
    'りんごを みっつ ください。'
    """
    return as_normalized(_to_kana(Draft.of(text)))


def as_normalized(draft: Draft) -> NormalizedText:
    """Take a draft as it is for the text that is spoken."""
    return NormalizedText(draft.text, draft.runs)


def _to_kana(draft: Draft) -> Draft:
    # Imported here, because its tables take 7 ms and no published weights speak Japanese.
    from voxtral.text.kana import to_kana

    return to_kana(draft)


def _remove_unspoken(draft: Draft) -> Draft:
    # Emoji first: their variation selectors and joiners tell them from text.
    draft = draft.apply(unspoken_edits(draft.text))
    return draft.apply(_invisible_edits(draft.text))


def _invisible_edits(text: str) -> Iterator[Edit]:
    for found in _INVISIBLE.finditer(text):
        start, end = found.span()
        wanted = _VISIBLE_FORMS[found.lastgroup] if found.lastgroup else kept_joiner(text, start, end)
        if wanted != found.group():
            yield Edit(start, end, wanted)


def _space_edits(text: str) -> Iterator[Edit]:
    for space in _SPACE.finditer(text):
        start, end = space.span()
        wanted = " "
        if start == 0 or end == len(text):
            wanted = ""
        elif _BLANK_LINE.search(space.group()):
            wanted = "\n\n"
        if wanted != space.group():
            yield Edit(start, end, wanted)
