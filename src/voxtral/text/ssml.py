"""SSML, the part of it that this model can do: words with their places in the document, and what is asked for them.

Understood are speak, p, s, break, sub, say-as and lang; docs/TEXT.md says what each does. What the model has no way to
do, such as phoneme, prosody or emphasis, is refused by its name and place, never ignored. No document type is read, so
that no entity can grow. Knows nothing of the words of a language: `normalize.py` reads what is asked for here.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from xml.parsers import expat

from voxtral.errors import LanguageError, SsmlError, quoted
from voxtral.text.edits import Draft
from voxtral.text.language import resolve_language

MAX_BREAK_S = 10.0
_MAX_DEPTH = 50
# Pauses of the strengths, in seconds.
_STRENGTHS = {"none": 0.0, "x-weak": 0.1, "weak": 0.2, "medium": 0.4, "strong": 0.75, "x-strong": 1.25}
_TIME = re.compile(r"\+?(\d{1,6}(?:\.\d{1,6})?|\.\d{1,6})(ms|s)")
_BEGINS = re.compile(r"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<speak[\s/>]", re.DOTALL)
# What ends a sentence, by the script before it.
_STOPS = {"DEVANAGARI": "।", "CJK": "。", "HIRAGANA": "。", "KATAKANA": "。"}

_LANG = "http://www.w3.org/XML/1998/namespace lang"
_NAMESPACES = ("", "http://www.w3.org/2001/10/synthesis")

# Values of interpret-as, and the kind of reading that each asks for.
KINDS = {
    "cardinal": "cardinal",
    "number": "cardinal",
    "ordinal": "ordinal",
    "digits": "digits",
    "telephone": "digits",
    "characters": "characters",
    "spell-out": "characters",
    "verbatim": "characters",
    "date": "date",
    "time": "time",
    "duration": "time",
    "fraction": "fraction",
    "unit": "unit",
    "currency": "currency",
}
_REFUSED = {
    "phoneme": "the model reads letters, not phonemes: write <sub alias=...> with the words as they are said",
    "prosody": "the model has no pitch, rate or volume inside of a text: use the option speed for all of it",
    "emphasis": "the model stresses words by itself: write them as a person would",
    "voice": "one voice speaks a text: send a request for each voice",
    "audio": "no other sound can be put in: join the files afterwards",
    "mark": "there are word times instead: ask for timestamps",
}


@dataclass(frozen=True)
class Break:
    """A silence asked for.

    Attributes:
        at: where, in the document.
        seconds: of silence.
    """

    at: int
    seconds: float


@dataclass(frozen=True)
class Asked:
    """What is asked for a span.

    Attributes:
        start: of the span in the document.
        end: the character after its last one.
        kind: "sub", or what `KINDS` has for a say-as.
        value: the alias of a sub, or the format of a say-as.
    """

    start: int
    end: int
    kind: str
    value: str = ""


@dataclass(frozen=True)
class Spoken:
    """A span in another language.

    Attributes:
        start: of the span in the document.
        end: the character after its last one.
        language: a tag that `resolve_language` knows.
    """

    start: int
    end: int
    language: str


@dataclass(frozen=True)
class SsmlText:
    """A document, read.

    Attributes:
        words: the text in it, with its places in the document.
        breaks: in the order of the document.
        asked: in order; they do not overlap.
        languages: in order; inner ones stand behind those around them.
        language: of the whole, if it says so.
    """

    words: Draft
    breaks: tuple[Break, ...]
    asked: tuple[Asked, ...]
    languages: tuple[Spoken, ...]
    language: str | None


def is_ssml(text: str) -> bool:
    """Tell whether a text begins as an SSML document does.

    >>> is_ssml("<speak>Hello</speak>"), is_ssml("<speaker> says hello")
    (True, False)
    """
    return _BEGINS.match(text, 0, 2000) is not None


def read_ssml(text: str) -> SsmlText:
    """Read a document, or a part of one without its `speak`.

    Raises:
        SsmlError: it is no XML, or asks for what cannot be done; the message names the place.
    """
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._source = text
        # A part of a document gets a root, and nothing may stand before the declaration of XML.
        document = text.lstrip() if is_ssml(text) else f"<speak>{text}</speak>"
        self._shift = len(text) - len(document) if is_ssml(text) else -len("<speak>")
        self._data = document.encode("utf-8", "surrogatepass")
        self._parser = expat.ParserCreate("utf-8", namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartCdataSectionHandler = self._finish
        self._parser.EndCdataSectionHandler = self._finish
        self._parser.CommentHandler = self._skip
        self._parser.ProcessingInstructionHandler = self._skip
        self._byte = self._char = 0
        self._pending: tuple[str, int, int] | None = None
        self._words: list[str] = []
        self._last, self._last_char = -1, ""
        self._starts, self._ends = array("I"), array("I")
        self._open: list[tuple[str, Callable[[], None]]] = []
        self._breaks: list[Break] = []
        self._asked: list[Asked] = []
        self._languages: list[Spoken] = []
        self._language: str | None = None

    def read(self) -> SsmlText:
        try:
            self._parser.Parse(self._data, True)
        except expat.ExpatError as error:
            raise SsmlError(f"{self._here()} is no XML ({expat.ErrorString(error.code)}); mend it") from None
        words = Draft.from_sources("".join(self._words), self._starts, self._ends)
        self._languages.sort(key=lambda found: (found.start, -found.end))
        return SsmlText(words, tuple(self._breaks), tuple(self._asked), tuple(self._languages), self._language)

    # Places ---------------------------------------------------------------------------------------

    def _offset(self) -> int:
        """Say where the parser is, in characters of the text as given."""
        byte = self._parser.CurrentByteIndex
        self._char += len(self._data[self._byte : byte].decode("utf-8", "surrogatepass"))
        self._byte = byte
        return min(max(0, self._char + self._shift), len(self._source))

    def _here(self) -> str:
        before = self._source[: self._offset()]
        return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"

    # Words ----------------------------------------------------------------------------------------

    def _text(self, text: str) -> None:
        at = self._offset()
        self._finish()
        self._pending = text, at, self._byte

    def _finish(self) -> None:
        """Place the words that came last, now that it is known where they end."""
        if self._pending is None:
            self._offset()
            return
        text, start, first = self._pending
        self._pending = None
        end = self._offset()
        raw = self._data[first : self._byte].decode("utf-8", "surrogatepass")
        self._note(text)
        if text == raw:
            self._starts.extend(range(start, start + len(text)))
            self._ends.extend(range(start + 1, start + len(text) + 1))
        else:
            # An entity, or a line end: all of it stands for each of its characters.
            self._starts.extend([start] * len(text))
            self._ends.extend([end] * len(text))

    def _skip(self, *_: object) -> None:
        self._finish()

    def _note(self, text: str) -> None:
        """Take words, before their places; remember the last that is no space."""
        self._words.append(text)
        if said := text.rstrip():
            self._last, self._last_char = len(self._starts) + len(said) - 1, said[-1]

    def _add(self, text: str, at: int) -> None:
        """Put in what is in no document: it comes from an empty place."""
        self._note(text)
        at = max(at, self._ends[-1] if self._ends else 0)
        self._starts.extend([at] * len(text))
        self._ends.extend([at] * len(text))

    # Elements -------------------------------------------------------------------------------------

    def _doctype(self, *_: object) -> None:
        raise SsmlError(f"{self._here()} declares a document type; SSML needs none here: remove it")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._finish()
        space, _, local = name.rpartition(" ")
        at = self._offset()
        if len(self._open) >= _MAX_DEPTH:
            raise SsmlError(f"{self._here()} is the {_MAX_DEPTH + 1}th element inside of others; nest less deeply")
        if space not in _NAMESPACES:
            raise SsmlError(f"{self._here()} has <{local}> of the namespace {quoted(space)}; remove it")
        is_inside = bool(self._open)
        if (local == "speak") == is_inside:
            raise SsmlError(f"{self._here()} has <{local}>; a document is one <speak> with all others inside of it")
        if self._is_inside_of("break", "sub", "say-as"):
            raise SsmlError(f"{self._here()} has <{local}> inside of <{self._open[-1][0]}>, which takes only text")
        self._open.append((local, self._element(local, attributes, at)))

    def _is_inside_of(self, *names: str) -> bool:
        return bool(self._open) and self._open[-1][0] in names

    def _end(self, name: str) -> None:
        self._finish()
        _, finish = self._open.pop()
        finish()

    def _element(self, name: str, attributes: dict[str, str], at: int) -> Callable[[], None]:
        """Do what an element asks for where it begins; returns what is to be done where it ends."""
        if name in ("speak", "lang", "p", "s"):
            return self._container(name, attributes)
        if name == "break":
            self._breaks.append(Break(at, self._break_s(attributes)))
            return self._nothing
        if name in ("sub", "say-as"):
            kind, value = self._asked_for(name, attributes)
            return self._span(lambda start, end: self._asked.append(Asked(start, end, kind, value)), name)
        why = _REFUSED.get(name, "known are speak, p, s, break, sub, say-as and lang: remove it")
        raise SsmlError(f"{self._here()} has <{name}>, which cannot be done: {why}")

    def _nothing(self) -> None:
        pass

    def _container(self, name: str, attributes: dict[str, str]) -> Callable[[], None]:
        language = attributes.get(_LANG)
        if language is None and name == "lang":
            raise SsmlError(f"{self._here()} has <lang> without xml:lang; say which language")
        if language is not None:
            try:
                resolve_language(language)
            except LanguageError as error:
                raise SsmlError(f"{self._here()}: {error}") from None
            if name == "speak":
                self._language, language = language, None
        if name == "p":
            self._add("\n\n", self._offset())
        first = len(self._starts)

        def finish() -> None:
            if language is not None and len(self._starts) > first:
                self._languages.append(Spoken(self._starts[first], self._ends[-1], language))
            if name == "s":
                self._end_sentence(first)
            if name == "p":
                self._add("\n\n", self._offset())

        return finish

    def _end_sentence(self, first: int) -> None:
        """Close a sentence that has no mark of its own, and part it from the next."""
        if self._last >= first and unicodedata.category(self._last_char)[0] in "LMN":
            script = unicodedata.name(self._last_char, "").partition(" ")[0]
            self._add(_STOPS.get(script, "."), self._offset())
        self._add(" ", self._offset())

    def _span(self, take: Callable[[int, int], None], name: str) -> Callable[[], None]:
        first, here = len(self._starts), self._here()

        def finish() -> None:
            if self._last < first:
                raise SsmlError(f"{here} has <{name}> without text; put what it is for inside of it")
            take(self._starts[first], self._ends[-1])

        return finish

    def _break_s(self, attributes: dict[str, str]) -> float:
        time, strength = attributes.get("time"), attributes.get("strength", "medium")
        if strength not in _STRENGTHS:
            raise SsmlError(
                f"{self._here()} has a break of the strength {quoted(strength)}; it is one of {', '.join(_STRENGTHS)}"
            )
        if time is None:
            return _STRENGTHS[strength]
        found = _TIME.fullmatch(time.strip())
        seconds = float(found.group(1)) / (1000 if found.group(2) == "ms" else 1) if found else -1.0
        if not 0 <= seconds <= MAX_BREAK_S:
            raise SsmlError(
                f"{self._here()} has a break of {quoted(time)}; a time is such as 500ms or 1.5s, and at most "
                f"{MAX_BREAK_S:g}s"
            )
        return seconds

    def _asked_for(self, name: str, attributes: dict[str, str]) -> tuple[str, str]:
        if name == "sub":
            alias = " ".join(attributes.get("alias", "").split())
            if not alias:
                raise SsmlError(f"{self._here()} has <sub> without alias; say what is to be spoken")
            return "sub", alias
        wanted = attributes.get("interpret-as", "")
        if wanted not in KINDS:
            raise SsmlError(
                f"{self._here()} has <say-as> with interpret-as {quoted(wanted)}; known are {', '.join(KINDS)}"
            )
        return KINDS[wanted], attributes.get("format", "")
