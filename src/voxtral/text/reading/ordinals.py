"""Ordinals: "3rd", "2.ª", "21e", "५वां", German "am 3. Mai", Arabic "القرن 21".

The suffixes and cues are in the files of the languages, table `[ordinals]`; `spelling.py` has the words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from voxtral.text.language_data import PointOrdinals, load_language
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.numerals import NO_BREAK, Numeral, numerals_of
from voxtral.text.reading.patterns import any_of
from voxtral.text.reading.places import HERE, Filter, filter_by
from voxtral.text.reading.written import Written
from voxtral.text.tables.ordinals import OrdinalWords

_AFTER_POINT = re.compile(r"\.\s(?:([^\W\d_]+)|(\d))")
_LAST_WORDS = re.compile(r"(?:(\w+)[ \u00a0])?(\w+)[ \u00a0]$")
# Nobody says larger ones.
_MOST = 10**15


def ordinal_claims(written: Written) -> Iterator[Claim]:
    """Claim ordinals."""
    if not written.has_number_words:
        return
    words = written.data.ordinals or OrdinalWords()
    points = written.grammar.ordinals_with_point
    pattern = _pattern(written.language, written.region)
    # Elsewhere a number alone is no ordinal.
    starts = written.starts if points or words.after else written.joined_starts
    for start in starts(_told(written.language)):
        found = pattern.match(written.text, start)
        if found is None or not _begins(written, start):
            continue
        number = written.read_numeral(found.group("number"))
        if number is None or number.fraction is not None or number.is_code or int(number.whole) >= _MOST:
            continue
        if found.group("suffix"):
            suffix = found.group("suffix")
            spoken = _with_suffix(written, words, int(number.whole), suffix)
            if suffix == "^" and spoken:
                spoken = _with_noun(written, int(number.whole), found.end())
            if spoken and written.ends_apart(found.end()):
                yield claim(start, found.end(), spoken, "ordinal")
        elif points and written.text[found.end() : found.end() + 1] == ".":
            yield from german_before_point(written, start, found.end(), number, points)
        elif words.after or words.degree_after:
            yield from _after_cue(written, words, start, found.end(), number)


@cache
def _told(language: str) -> Filter:
    """Let numbers through that have a suffix, or may have a word before or a point behind that makes ordinals."""
    data = load_language(language)
    words = data.ordinals or OrdinalWords()
    gap = " ?" if language == "hi" else ""
    pattern = rf"\d{gap}{any_of(words.suffixes)}(?![\w\u0900-\u0903\u093a-\u094f])"
    if words.degree_after:
        pattern += r"|\d°"
    if data.numbers is not None and data.numbers.ordinals_with_point is not None:
        pattern += r"|\d\."
    if words.after:
        # The last sign before is none of another number, or too far away to be seen.
        pattern += rf"|[^\d\s][\s(\[\"'“„«:]*{HERE}|\A\s+{HERE}"
    return filter_by(pattern)


@cache
def _pattern(language: str, region: str) -> re.Pattern[str]:
    words = load_language(language).ordinals or OrdinalWords()
    number = numerals_of(language, region).pattern
    # A space may stand before a letter of another script alone: "5 वां".
    gap = " ?" if language == "hi" else ""
    return re.compile(
        rf"(?P<number>{number})(?:{gap}(?P<suffix>{any_of(words.suffixes)})(?![\w\u0900-\u0903\u093a-\u094f]))?"
    )


def _begins(written: Written, start: int) -> bool:
    before = written.text[start - 1 : start] if start else ""
    return written.begins_apart(start) and before not in {"/", ".", "-", "$", "€", "£", "+", "="}


def _with_suffix(written: Written, words: OrdinalWords, value: int, suffix: str) -> str | None:
    """Say a number with its suffix; None where the suffix is that of another number."""
    form, speller = words.suffixes[suffix], written.speller
    if value == 0:
        return words.fixed.get("0")
    language = written.language
    if form == "english":
        return words.fixed.get(str(value))
    if form in {"second", "seconde", "seconds", "secondes"}:
        return form if value == 2 else None
    if language == "de":
        spoken = speller.ordinal(value)
        # "3ter", "20sten": the letters before the ending must be those of the word.
        return spoken + form if spoken.endswith(suffix[: len(suffix) - len(form)]) else None
    spoken = speller.ordinal(value, form)
    if language == "fr":
        is_first = suffix in {"er", "re", "ère", "ers", "res", "ères", "ᵉʳ", "ʳᵉ"}
        return spoken if is_first == (value == 1) else None
    if language == "es" and suffix.isascii() and suffix.isalpha() and suffix != "er" and len(suffix) > 1:
        return spoken if spoken.endswith(suffix) else None
    if language == "hi" and suffix[0] in "लरथठ":
        return spoken if spoken[-len(suffix) :][0] == suffix[0] and value <= 6 else None
    return spoken


def _with_noun(written: Written, value: int, end: int) -> str | None:
    """Say "la 261^ puntata" as the noun behind it asks for; None without one."""
    noun, nouns = written.word_after(end), written.data.nouns
    if not noun or noun[0].isdigit() or nouns is None or not written.text[end : end + 1].isspace():
        return None
    return written.speller.ordinal(value, "feminine" if re.search(nouns.feminine, noun) else "masculine")


def _after_cue(written: Written, words: OrdinalWords, start: int, end: int, number: Numeral) -> Iterator[Claim]:
    """Read "il 2° posto" by the article before it, and Arabic "القرن 21" by the noun."""
    before = written.word_before(start)
    text = written.text
    value = int(number.whole)
    if words.degree_after and text[end : end + 1] == "°" and 0 < value <= 1000:
        word = re.compile(rf"°[ {NO_BREAK}]([^\W\d_]{{3,}})").match(text, end)
        if word and word.group(1).lower() in words.degree_before:
            noun, nouns = word.group(1).lower(), written.data.nouns
            form = "feminine" if nouns and re.search(nouns.feminine, noun) else "masculine"
            yield claim(start, end + 1, written.speller.ordinal(value, form), "ordinal")
        elif before in words.degree_after and word:
            form = (
                "feminine"
                if before in {"la", "della", "alla", "dalla", "nella", "a", "da", "na", "une"}
                else "masculine"
            )
            yield claim(start, end + 1, written.speller.ordinal(value, form), "ordinal")
        return
    is_feminine = before in words.after_feminine
    if (is_feminine or before in words.after) and 0 < value <= 100 and written.ends_apart(end):
        form = "feminine definite" if is_feminine else "definite"
        yield claim(start, end, written.speller.ordinal(value, form), "ordinal")


# At the end of a text these alone tell: "ab 3." may be a time.
_DATIVES = frozenset(("dem", "den", "des", "am", "im", "vom"))


# German -------------------------------------------------------------------------------------------


def german_before_point(
    written: Written, start: int, end: int, number: Numeral, ordinals: PointOrdinals
) -> Iterator[Claim]:
    """Claim a German number whose point makes it an ordinal: "am 3. Mai"; "um 3. Dann" has an end.

    Args:
        written: the text.
        start: of the number.
        end: of the number, where its point stands.
        number: what it is.
        ordinals: the words that tell.
    """
    following = _AFTER_POINT.match(written.text, end)
    far, near = words_before(written.text, start)
    if following is None:
        is_end = not written.text[end + 1 : end + 2].strip() and number.is_plain and not number.is_code
        ending = "n" if is_end and near in _DATIVES and number.whole != "0" else None
    elif following.group(2) or not is_small(number):
        return
    else:
        ending = german_ending(far, near, following.group(1), ordinals)
    if ending is not None:
        yield claim(start, end + 1, written.speller.ordinal(int(number.whole)) + ending, "ordinal")


def is_small(number: Numeral) -> bool:
    """Tell whether a number may be a German ordinal with its point."""
    return number.is_plain and len(number.whole) <= 3 and not number.is_code and number.whole != "0"


def words_before(text: str, start: int) -> tuple[str, str]:
    """Give the last two words before an offset, in lower case; "" where there are none."""
    found = _LAST_WORDS.search(text[max(0, start - 40) : start])
    far, near = (word.lower() if word else "" for word in (found.groups() if found else ("", "")))
    return far, near


def german_ending(far: str, near: str, following: str, ordinals: PointOrdinals) -> str | None:
    """Choose the ending of a German ordinal by the words around it; None if it is none.

    Args:
        far: the word before `near`, in lower case.
        near: the word before the number, in lower case.
        following: the word after the number.
        ordinals: the words that tell.
    """
    # "in der zweiten Klasse" is where, "in die zweite Klasse" is where to.
    if near in ordinals.n_after or (near == "der" and far in ordinals.prepositions):
        return "n"
    if near in ordinals.articles:
        return ""
    noun = following.lower()
    if noun in ordinals.months:
        return "r"
    # Nothing before it: "1. Kapitel" is "erstes Kapitel", "in 2. Auflage" "in zweiter Auflage".
    if near and near not in ordinals.prepositions:
        return None
    if noun in ordinals.feminine:
        return "r" if near else ""
    if near:
        return "m" if noun in ordinals.masculine | ordinals.neuter else None
    return "r" if noun in ordinals.masculine else "s" if noun in ordinals.neuter else None
