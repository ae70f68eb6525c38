"""Abbreviations: what is written short and said in full, and initials with points.

The words are in the `[shorthand]` tables. A point that ends a sentence as well stays: "etc. The end" is said as "et
cetera. The end". An abbreviation that could be a word ("max.", "col.") is one only in small letters and in the middle
of a sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from voxtral.text.language_data import load_language
from voxtral.text.reading.claims import Claim, Strength, claim
from voxtral.text.reading.numerals import NO_BREAK
from voxtral.text.reading.spelled import is_word, name_letters, say_number
from voxtral.text.reading.written import Written
from voxtral.text.tables.shorthand import Shorthand

_SPACE = f"[ {NO_BREAK}]"
_MARKS = "\u0900-\u0903\u093a-\u094f"
_POINTED = re.compile(rf"(?<![\w@&/\\{_MARKS}])(?<!\w[.-])([^\W\d_][\w{_MARKS}]{{0,9}}+)\.")
_INITIALS = re.compile(
    r"(?<![\w.@/\\'’-])(?:(?:[A-ZÀ-ÖØ-Þ]\.){1,8}[A-ZÀ-ÖØ-Þ](?![\w.'’])|(?:[A-ZÀ-ÖØ-Þ]\.){2,8}(?!\w))"
)
_HINDI_INITIALS = re.compile(rf"(?<![\w.{_MARKS}])(?:[ऄ-हक़-ॡ][{_MARKS}ऄ-हक़-ॡ]{{0,4}}\.){{2,6}}(?![\w])")
_CLOSERS = re.compile(r"[\"'”’»›)\]]*")
_PARAGRAPH = re.compile(r"\s*\n\s*\n")
_FOLLOWING = re.compile(rf"\s{{0,3}}([^\W_][\w{_MARKS}'’]*)?")
_NUMBER_AFTER = re.compile(rf"(?:[ {NO_BREAK}]{{0,2}}|[ {NO_BREAK}]?\n)(?:\d|(?:[IVXLC]{{2,7}}|[IVX])\b(?!\.))")
_NAME_AFTER = re.compile(rf"(?:{_SPACE}{{1,2}}|{_SPACE}?\n{_SPACE}{{0,4}})[\"“„«']?[^\W\d_]")
_NAME_BEFORE = re.compile(rf"(?:[A-ZÀ-ÖØ-Þ][\w'’]+|\d(?:st|nd|rd|th)){_SPACE}$")
_HOUSE_NUMBER = re.compile(rf"\d{_SPACE}(?:[A-ZÀ-ÖØ-Þ][\w'’.]*{_SPACE}){{1,3}}$")
# No word ends so: "mevr".
_UNSAYABLE = re.compile(r"[bcdfgkptv][rl]$")
_YEAR_BEFORE = re.compile(r"[\dIVX]\s?$")
_GLUED_NUMBER = re.compile(r"\d{1,9}+(?![\w%°]|[.,:/'’-]\d)")
_NEVER = frozenset({"A.M.", "P.M."})


@dataclass(frozen=True)
class _Entry:
    """An abbreviation: how it is written, without its last point, what is said, and its table."""

    pattern: re.Pattern[str]
    key: str
    spoken: str
    table: str

    @property
    def is_risky(self) -> bool:
        """Tell whether it could be a word that ends a sentence."""
        if not (self.key.isalpha() and self.key.isascii()):
            return False
        if _UNSAYABLE.search(self.key):
            return False
        return is_word(self.key) or (len(self.key) == 2 and any(char in "aeiou" for char in self.key))

    @property
    def has_inner_point(self) -> bool:
        """Tell whether its point stands inside, and none at the end: "dott.ssa"."""
        return re.search(r"\.\w{2,}$", self.key) is not None

    @property
    def is_era(self) -> bool:
        """Tell whether it counts years, as in "43 a. C."."""
        return self.key.startswith(("a. c", "d. c"))


@dataclass(frozen=True)
class _Index:
    """The abbreviations of a language: those with a point by their first part, and a pattern for those without."""

    pointed: Mapping[str, tuple[_Entry, ...]]
    bare: re.Pattern[str] | None
    by_form: Mapping[str, tuple[_Entry, ...]]
    word_ends: re.Pattern[str] | None
    small_words: frozenset[str]


@cache
def _index_of(language: str) -> _Index:
    data = load_language(language)
    shorthand = data.shorthand or Shorthand()
    pointed: dict[str, list[_Entry]] = {}
    bare: dict[str, list[_Entry]] = {}
    # Tables that ask for more around an abbreviation come first.
    order = ("before_numbers", "after_names", "before_names", "at_end", "anywhere", "without_point")
    for table in order:
        for key, spoken in getattr(shorthand, table).items():
            entry = _Entry(_pattern_of(key), key, spoken, table)
            takes_no_point = table == "without_point" or not _ends_in_letter(key)
            is_title = table == "before_names" and key[0].isupper() and not is_word(key) and len(key) > 1
            if takes_no_point or is_title:
                bare.setdefault(key, []).append(entry)
            if _ends_in_letter(key):
                first = re.split(r"[. ]", key, maxsplit=1)[0].casefold()
                pointed.setdefault(first, []).append(entry)
    ends = "|".join(map(re.escape, shorthand.word_ends))
    words = "|".join(_source_of(key) for key in sorted(bare, key=len, reverse=True) if key[0].isalnum())
    signs = "|".join(_source_of(key) for key in sorted(bare, key=len, reverse=True) if not key[0].isalnum())
    # No letter is joined to what begins and ends with one. A key such as "nº" ends in a sign that re takes for one.
    forms = rf"(?<![\w@/&\\.{_MARKS}-])(?:{words})(?:(?![\w{_MARKS}])|(?<=[ºª]))" if words else ""
    forms = "|".join(filter(None, (forms, signs)))
    small = data.recognition.stop_words if data.recognition else frozenset[str]()
    return _Index(
        {first: tuple(sorted(found, key=lambda each: -len(each.key))) for first, found in pointed.items()},
        re.compile(forms) if bare else None,
        {key: tuple(found) for key, found in bare.items()},
        re.compile(rf"(?<=[^\W\d_])({ends})\.(?!\w)") if ends else None,
        small | {word.casefold() for word in data.sentences.first_words},
    )


def _ends_in_letter(key: str) -> bool:
    """Tell whether a key needs its point: "nº" has a sign for it, and vowel signs of Hindi are parts of letters."""
    return unicodedata.category(key[-1]) in {"Lu", "Ll", "Lt", "Mn", "Mc"} or (key[-1] > "\u05ff" and key[-1].isalpha())


def _source_of(key: str) -> str:
    """Write a key as a pattern: a space may be left out after a point."""
    return re.escape(key).replace(r"\.\ ", rf"\.{_SPACE}?").replace(r"\ ", _SPACE)


def _pattern_of(key: str) -> re.Pattern[str]:
    is_exact = any(char.isupper() for char in key)
    return re.compile(_source_of(key), 0 if is_exact else re.IGNORECASE)


def shorthand_claims(written: Written) -> Iterator[Claim]:
    """Claim abbreviations and initials."""
    reader = _Reader(written)
    yield from reader.pointed()
    yield from reader.bare()
    yield from reader.word_ends()
    yield from reader.initials()


class _Reader:
    """Reads the abbreviations of one text."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._text = written.text
        self._index = _index_of(written.language)

    def pointed(self) -> Iterator[Claim]:
        """Claim what is written with a point."""
        for found in _POINTED.finditer(self._text):
            entries = self._index.pointed.get(found.group(1).casefold())
            if entries is None:
                continue
            for entry in entries:
                match = entry.pattern.match(self._text, found.start())
                if match is None or not (after := self._after(entry, match.end())):
                    continue
                if self._fits(entry, match.start(), match.end(), after):
                    yield self._claim(entry, match.start(), match.end(), after)
                    break
            else:
                self._written.left.append(found.start())

    def _after(self, entry: _Entry, end: int) -> int:
        """Find the offset after the point of an abbreviation; 0 if it lacks one that it needs."""
        if self._text[end : end + 1] == ".":
            return end + 1
        is_free = not (self._text[end : end + 1].isalnum() or self._text[end : end + 1] == "_")
        return end if is_free and entry.has_inner_point else 0

    def bare(self) -> Iterator[Claim]:
        """Claim what is written without a point, or with one that may be left out."""
        for found in self._index.bare.finditer(self._text) if self._index.bare else ():
            start, end = found.span()
            for entry in self._entries_of(found.group()):
                after = end + (self._text[end : end + 1] == "." and self._text[end + 1 : end + 2] != ".")
                if self._fits(entry, start, end, after):
                    yield self._claim(entry, start, end, after)
                    break
            else:
                self._written.left.append(start)

    def _entries_of(self, form: str) -> tuple[_Entry, ...]:
        if entries := self._index.by_form.get(form):
            return entries
        return next(
            (entries for entries in self._index.by_form.values() if entries[0].pattern.fullmatch(form)),
            (),
        )

    def word_ends(self) -> Iterator[Claim]:
        """Claim what is short at its end: "Hauptstr."."""
        shorthand = self._written.data.shorthand
        if self._index.word_ends is None or shorthand is None:
            return
        for found in self._index.word_ends.finditer(self._text):
            spoken = shorthand.word_ends[found.group(1)]
            stop = "." if self._ends_sentence(found.end()) else ""
            yield claim(*found.span(), spoken + stop, "abbreviation", Strength.WORD)

    def initials(self) -> Iterator[Claim]:
        """Claim letters with points: "U.S.A."."""
        for found in _INITIALS.finditer(self._text):
            if found.group() in _NEVER:
                continue
            spoken = name_letters(self._written, found.group().replace(".", ""))
            stop = "." if self._ends_sentence(found.end()) else ""
            yield claim(*found.span(), spoken + stop, "initials", Strength.WORD)
        if self._written.language == "hi":
            for found in _HINDI_INITIALS.finditer(self._text):
                if any(part in self._index.pointed for part in found.group().split(".")[:-1]):
                    continue  # "नं.डॉ." are two abbreviations.
                spoken = found.group().replace(".", " ").rstrip()
                stop = "." if self._ends_sentence(found.end()) else ""
                yield claim(*found.span(), spoken + stop, "initials", Strength.WORD)

    # What stands around ---------------------------------------------------------------------------

    def _fits(self, entry: _Entry, start: int, end: int, after: int) -> bool:
        """Tell whether an abbreviation stands where it is one.

        Args:
            entry: the abbreviation.
            start: where it begins.
            end: where it ends, before its point.
            after: the offset after its point.
        """
        has_point = after > end
        form = self._text[start:end]
        match entry.table:
            case "before_numbers":
                is_glued = has_point and self._text[after : after + 1].isdecimal()
                if is_glued and not _GLUED_NUMBER.match(self._text, after):
                    return False
                if entry.key in self._index.small_words and not form[0].isupper():
                    return False
                return _NUMBER_AFTER.match(self._text, after) is not None
            case "before_names":
                if len(entry.key) == 1 and _NAME_BEFORE.search(self._text[max(0, start - 30) : start]):
                    return False  # "Richard M. Stallman"
                return self._is_before_name(after, has_point=has_point, form=form)
            case "after_names":
                return self._is_after_name(start, after)
            case "without_point":
                return True
            case _:
                return self._fits_anywhere(entry, start, form, after)

    def _fits_anywhere(self, entry: _Entry, start: int, form: str, after: int) -> bool:
        if len(entry.key) == 1 and (
            self._text[max(0, start - 40) : start].rstrip()[-1:].isdecimal() or not self._is_before_name(after)
        ):
            return False  # "2020 م." and "5 د." are a unit of time.
        if entry.is_era and form[0].isupper():
            return _YEAR_BEFORE.search(self._text, max(0, start - 4), start) is not None  # not "Washington D. C."
        if not entry.is_risky or entry.table == "at_end":
            return True
        # What begins the next paragraph tells nothing.
        following = self._text[after : after + 24].partition("\n\n")[0].lstrip()
        is_counted = following[:1].isdecimal() or following[:1] == ":"
        if form[0].isupper() and not entry.key[0].isupper() and len(form) <= 3 and (form == "Max" or not is_counted):
            return False
        if following[:1].isupper() and self._written.language == "de":
            word = re.match(r"\w+", following)
            return word is not None and word.group().casefold() not in self._index.small_words
        return following[:1].islower() or following[:1].isdecimal() or following[:1] in {"(", ":", ","}

    def _is_before_name(self, after: int, *, has_point: bool = True, form: str = "") -> bool:
        found = _NAME_AFTER.match(self._text, after) or (has_point and re.compile(r"[A-ZÀ-Þ]").match(self._text, after))
        if not found:
            return False
        is_name = not self._is_small_word(after)
        if found.group()[-1].islower():
            # "sr. rodriguez", but not "the gen. public".
            return has_point and is_name and not is_word(form)
        return is_name or (has_point and (_UNSAYABLE.search(form) is not None or not is_word(form)))

    def _is_small_word(self, place: int) -> bool:
        following = _FOLLOWING.match(self._text, place)
        return bool(following and following.group(1) and following.group(1).casefold() in self._index.small_words)

    def _is_after_name(self, start: int, after: int) -> bool:
        before = self._text[max(0, start - 60) : start]
        named = _NAME_BEFORE.search(before)
        if named is None:
            return False
        has_number = _HOUSE_NUMBER.search(before) is not None
        following = _FOLLOWING.match(self._text, after)
        word = following.group(1) if following else None
        if word and word[0].isupper() and word.casefold() not in self._index.small_words:
            return has_number  # "Port St. Lucie"
        # "Visit St. Paul": the capital letter is that of the sentence.
        return has_number or before[: named.start()].rstrip()[-1:] not in {"", ".", "!", "?", ":"}

    def _ends_sentence(self, after: int, *, before_capital: bool = False) -> bool:
        """Tell whether a point, which an abbreviation has at its end, ends a sentence too.

        Args:
            after: the offset after the point.
            before_capital: any capital letter begins a sentence; otherwise, that of a small word.
        """
        if self._text[after : after + 1] in {".", ",", ";", ":", "!", "?", "…"}:
            return False
        closed = _CLOSERS.match(self._text, after)
        place = closed.end() if closed else after
        rest = self._text[place : place + 40]
        if not rest.strip() or _PARAGRAPH.match(rest):
            return True
        following = _FOLLOWING.match(self._text, place)
        word = following.group(1) if following else None
        if not word or not word[0].isupper():
            return False
        return before_capital or word.casefold() in self._index.small_words

    def _claim(self, entry: _Entry, start: int, end: int, after: int) -> Claim:
        spoken = entry.spoken
        is_capital = self._text[start].isupper() and not self._text[start + 1 : start + 2].isupper()
        if is_capital and not entry.is_era:
            spoken = spoken[0].upper() + spoken[1:]
        has_point = after > end
        is_title = entry.table in {"before_numbers", "before_names", "without_point"}
        can_end = has_point and not (is_title and self._text[after:].strip())
        if has_point and self._text[after : after + 1] == ".":
            return claim(start, end, spoken, "abbreviation", Strength.WORD)  # "etc..."
        stop = "." if can_end and self._ends_sentence(after, before_capital=entry.table == "at_end") else ""
        if number := _GLUED_NUMBER.match(self._text, after):
            # "No.5" and "p.5" have no space of their own, and no other rule reads digits right behind a point.
            said = f"{spoken} {say_number(self._written, number.group())}"
            return claim(start, number.end(), said, "abbreviation", Strength.NUMBER)
        needs_space = not stop and self._text[after : after + 1].isalnum()
        return claim(start, after, spoken + stop + " " * needs_space, "abbreviation", Strength.WORD)
