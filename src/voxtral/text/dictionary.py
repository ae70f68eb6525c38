"""Dictionaries: what a user wants said for a word, read from JSON, CSV or W3C PLS, and found in a text.

A dictionary holds for any level of normalising, and what it says is final: "B2B" -> "B two B" is not read again. Texts
are looked through once, letter by letter along a tree of all words, so that time grows with the text and not with the
number of rules.
"""

# pyright: reportUnnecessaryIsInstance=false
# (callers without a type checker pass anything)

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from xml.parsers import expat

from voxtral.disk import ABSENT, UnfitFileError, open_regular
from voxtral.errors import DictionaryError, LanguageError, quoted
from voxtral.text.clean import clean
from voxtral.text.graphemes import has_unspaced_script
from voxtral.text.language import region_of, resolve_language
from voxtral.text.reading.claims import Claim, Strength, claim

if TYPE_CHECKING:
    from voxtral.types import DictionaryLike

MAX_ALIASES = 10_000
MAX_CHARS = 200
MAX_BYTES = 8 * 2**20

_MATCHES, _CASES = ("word", "anywhere"), ("exact", "ignore")
_FORMATS = {".json": "json", ".csv": "csv", ".pls": "pls", ".xml": "pls"}
# "And" and the article are written together with the word that follows.
_ARABIC_PREFIXES = frozenset({"و", "ال", "وال"})
_PLS = "http://www.w3.org/2005/01/pronunciation-lexicon"


@dataclass(frozen=True)
class Alias:
    """What is said for a word.

    Attributes:
        written: as it stands in texts.
        spoken: what is said for it, in words.
        language: where it holds, such as "en" or "en-GB"; None: everywhere.
        match: "word": not inside of a longer word; "anywhere": there too.
        case: "exact", or "ignore" for capitals and small letters alike.
    """

    written: str
    spoken: str
    language: str | None = None
    match: Literal["word", "anywhere"] = "word"
    case: Literal["exact", "ignore"] = "exact"

    def __post_init__(self) -> None:
        """Refuse what breaks a rule.

        Raises:
            DictionaryError: naming the field.
        """
        for name in ("written", "spoken"):
            _check_text(name, getattr(self, name))
        if not isinstance(self.language, str | None):
            raise DictionaryError(f"language is {quoted(self.language)}; it must be a language such as en or en-GB")
        if self.language is not None:
            try:
                resolve_language(self.language)
            except LanguageError as error:
                raise DictionaryError(str(error)) from None
        for name, allowed in (("match", _MATCHES), ("case", _CASES)):
            if getattr(self, name) not in allowed:
                raise DictionaryError(f"{name} is {quoted(getattr(self, name))}; it must be {' or '.join(allowed)}")

    def holds_in(self, language: str, region: str) -> bool:
        """Tell whether it holds in a language of `LANGUAGES`, in a region or ""."""
        if self.language is None:
            return True
        return resolve_language(self.language) == language and region_of(self.language) in ("", region)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise DictionaryError(f"{name} is {quoted(value)}; it must be a text")
    if not value.strip() or len(value) > MAX_CHARS:
        got = f"{len(value)} characters" if value.strip() else "empty"
        raise DictionaryError(f"{name} is {got}; it must be 1 to {MAX_CHARS} characters, not all of them spaces")
    for char in value:
        if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}:
            raise DictionaryError(f"{name} has the character U+{ord(char):04X}; it must be one line of text: remove it")


@dataclass(frozen=True)
class Dictionary:
    """Aliases, in the order in which they were given; of two for the same words the earlier holds.

    Raises:
        DictionaryError: there are more than 10,000.
    """

    aliases: tuple[Alias, ...] = ()

    def __post_init__(self) -> None:
        """Refuse too many."""
        if len(self.aliases) > MAX_ALIASES:
            raise DictionaryError(
                f"the dictionary has {len(self.aliases)} rules; it may have {MAX_ALIASES}; split it by language"
            )

    def __add__(self, other: Dictionary) -> Dictionary:
        """Put another behind this one, which is the stronger."""
        return Dictionary(self.aliases + other.aliases)

    @cached_property
    def digest(self) -> str:
        """What tells it from dictionaries that say something else."""
        return hashlib.sha256(json.dumps([asdict(each) for each in self.aliases]).encode()).hexdigest()

    def claims(self, text: str, language: str, region: str = "") -> Iterator[Claim]:
        """Find its words in a text; the claims may overlap, for `settle` to choose.

        Args:
            text: any text.
            language: a code of `LANGUAGES`.
            region: of the language, or "".
        """
        yield from _tree_of(self, language, region).claims(text)


class _Tree:
    """All words of a dictionary that hold in a language, letter by letter."""

    def __init__(self, aliases: Iterable[Alias]) -> None:
        self._root: dict[str, Any] = {}
        for alias in aliases:
            forms = {unicodedata.normalize(form, alias.written) for form in ("NFC", "NFD")} | {alias.written}
            for form in sorted(forms):
                node = self._root
                for char in form:
                    node = node.setdefault(_fold(char), {})
                # The empty text is no letter, so it can be the place of what ends here.
                node.setdefault("", []).append((form, alias))

    def claims(self, text: str) -> Iterator[Claim]:
        root = self._root
        if not root:
            return
        folded = text if text.isascii() and text.islower() else "".join(map(_fold, text))
        for start, char in enumerate(folded):
            node = root.get(char)
            end = start
            while node is not None:
                end += 1
                for form, alias in node.get("", ()):
                    if alias.case == "exact" and text[start:end] != form:
                        continue
                    if alias.match == "word" and not _is_word(text, start, end):
                        continue
                    yield claim(start, end, alias.spoken, "dictionary", Strength.DICTIONARY)
                    break
                node = node.get(folded[end]) if end < len(folded) else None


@lru_cache(maxsize=64)
def _tree_of(dictionary: Dictionary, language: str, region: str) -> _Tree:
    return _Tree(each for each in dictionary.aliases if each.holds_in(language, region))


def _fold(char: str) -> str:
    """Make a letter small, if that is one letter too, so that offsets stay."""
    small = char.lower()
    return small if len(small) == 1 else char


def _is_word(text: str, start: int, end: int) -> bool:
    """Tell whether a span is no part of a longer word."""
    if end < len(text) and _is_joined(text[end - 1], text[end]):
        return False
    if start == 0 or not _is_joined(text[start - 1], text[start]):
        return True
    begin = start
    while begin > 0 and start - begin <= 3 and _belongs_to_word(text[begin - 1]):
        begin -= 1
    return text[begin:start] in _ARABIC_PREFIXES


def _is_joined(left: str, right: str) -> bool:
    if not (_belongs_to_word(left) and _belongs_to_word(right)):
        return False
    return not (has_unspaced_script(left) and has_unspaced_script(right))


def _belongs_to_word(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN"


# Reading ---------------------------------------------------------------------------------------------


def load_dictionary(given: DictionaryLike) -> Dictionary:
    """Make a dictionary of what a caller passed: one, the path of its file, or its rules as plain data.

    Raises:
        DictionaryError: it cannot be read, or breaks a rule.
    """
    if not isinstance(given, str | os.PathLike):
        return dictionary_of(given)
    try:
        found = os.stat(given)
    except (OSError, ValueError):
        return read_dictionary(os.fspath(given))
    return _read_once(os.fspath(given), found.st_mtime_ns, found.st_size)


def joined(first: Dictionary | None, second: Dictionary | None) -> Dictionary | None:
    """Put one dictionary before another, where there are both."""
    return first or second if first is None or second is None else first + second


def user_dictionary() -> Dictionary | None:
    """Read the files that the variable VOXTRAL_DICTIONARY names, one behind the other; None without it.

    Raises:
        DictionaryError: one cannot be read, or breaks a rule.
    """
    paths = [path for path in os.environ.get("VOXTRAL_DICTIONARY", "").split(os.pathsep) if path]
    if not paths:
        return None
    return Dictionary(tuple(alias for path in paths for alias in load_dictionary(path).aliases))


@lru_cache(maxsize=32)
def _read_once(path: str, modified_ns: int, size: int) -> Dictionary:
    del modified_ns, size  # with another, it is another file
    return read_dictionary(path)


def read_dictionary(path: str | Path) -> Dictionary:
    """Read a file of aliases: `.json`, `.csv`, or PLS as `.pls` or `.xml`.

    Raises:
        DictionaryError: it cannot be read, or breaks a rule; the message names the place.
    """
    name = Path(path)
    format = _FORMATS.get(name.suffix.lower())
    if format is None:
        raise DictionaryError(
            f"{name} is of no known kind; a dictionary is a .json, .csv, .pls or .xml file: rename it"
        )
    try:
        with open_regular(name) as file:
            data = file.read(MAX_BYTES + 1)
    except (*ABSENT, UnfitFileError, ValueError):
        raise DictionaryError(f"{name} is no file; pass the path of a dictionary") from None
    except OSError as error:
        raise DictionaryError(f"{name} cannot be read ({error.strerror or error}); check its permissions") from error
    try:
        return parse_dictionary(data, format)
    except DictionaryError as error:
        raise DictionaryError(f"{name}: {error}") from None


def parse_dictionary(data: bytes, format: str) -> Dictionary:
    """Read aliases from the content of a file.

    Args:
        data: at most 8 MiB.
        format: json, csv or pls.

    Raises:
        DictionaryError: it breaks a rule; the message names the place.
    """
    if len(data) > MAX_BYTES:
        raise DictionaryError(f"the dictionary has more than {MAX_BYTES // 2**20} MiB; split it")
    if format == "pls":
        return Dictionary(tuple(_LexiconReader().read(data)))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DictionaryError(f"byte {error.start} is not UTF-8; save the dictionary as UTF-8") from None
    return Dictionary(tuple(_read_csv(text))) if format == "csv" else dictionary_of(_parse_json(text))


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except RecursionError:
        raise DictionaryError("the dictionary nests too deeply; it must be a list of rules") from None
    except json.JSONDecodeError as error:
        raise DictionaryError(f"line {error.lineno} is no JSON ({error.msg}); mend it") from None


def dictionary_of(value: object) -> Dictionary:
    """Make a dictionary of plain data: a list of tables with the fields of `Alias`, or a table of written and spoken.

    Raises:
        DictionaryError: it is neither, or a rule is broken; the message says by which entry.
    """
    if isinstance(value, Dictionary):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value)
        is_wrapped = set(items) == {"rules"} and isinstance(items["rules"], list)
        entries: list[object] = (
            cast("list[object]", items["rules"])
            if is_wrapped
            else [{"written": written, "spoken": spoken} for written, spoken in items.items()]
        )
    elif isinstance(value, list | tuple):
        entries = list(cast("Iterable[object]", value))
    else:
        raise DictionaryError(
            f"the dictionary is {quoted(value)}; it must be a list of rules with written and spoken, or a table of both"
        )
    return Dictionary(tuple(_alias_of(entry, f"rule {place}") for place, entry in enumerate(entries, 1)))


_KEYS = tuple(each.name for each in fields(Alias))


def _alias_of(entry: object, where: str) -> Alias:
    if isinstance(entry, Alias):
        return entry
    if not isinstance(entry, Mapping):
        raise DictionaryError(f"{where} is {quoted(entry)}; it must be a table with written and spoken")
    table = {str(key): value for key, value in cast("Mapping[object, object]", entry).items()}
    for key in table:
        if key not in _KEYS:
            raise DictionaryError(f"{where} has the unknown key {quoted(key)}; it may have {', '.join(_KEYS)}")
    for key in ("written", "spoken"):
        if key not in table:
            raise DictionaryError(f"{where} lacks {key}; a rule needs written and spoken")
    try:
        return _cleaned(Alias(**cast("dict[str, Any]", table)))
    except DictionaryError as error:
        raise DictionaryError(f"{where}: {error}") from None


def _cleaned(alias: Alias) -> Alias:
    """Make the words that are said plain, as those of a text are."""
    return replace(alias, spoken=clean(alias.spoken).text)


def _read_csv(text: str) -> Iterator[Alias]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        first: list[str] = next(rows, list[str]())
        head = [name.strip().lower() for name in first]
        if not {"written", "spoken"} <= set(head) or len(set(head)) < len(head):
            raise DictionaryError(
                f"line 1 is {quoted(','.join(head))}; it must name the columns: written,spoken, and as you like "
                "language,match,case"
            )
        for row in rows:
            if not any(row):
                continue
            where = f"line {rows.line_num}"
            if len(row) > len(head):
                raise DictionaryError(f"{where} has {len(row)} fields and line 1 {len(head)}; quote what has commas")
            yield _alias_of(
                {key: value for key, value in zip(head, row, strict=False) if value or key in _KEYS[:2]}, where
            )
    except csv.Error as error:
        raise DictionaryError(f"line {rows.line_num} is no CSV ({error}); mend it") from None


class _LexiconReader:
    """Reads a W3C Pronunciation Lexicon 1.0: of each lexeme the preferred alias, or the first."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._data
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._found: list[Alias] = []
        self._path: list[str] = []
        self._text = ""
        self._language: str | None = None
        self._graphemes: list[str] = []
        self._aliases: list[tuple[bool, str]] = []
        self._is_preferred = False
        self._has_phoneme = False

    def read(self, data: bytes) -> list[Alias]:
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            raise DictionaryError(f"line {error.lineno} is no XML ({expat.ErrorString(error.code)}); mend it") from None
        return self._found

    def _where(self) -> str:
        return f"line {self._parser.CurrentLineNumber}"

    def _refuse_doctype(self, *_: object) -> None:
        raise DictionaryError(f"{self._where()} declares a document type; a lexicon needs none: remove it")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if not self._path:
            if local != "lexicon" or name.rpartition(" ")[0] not in ("", _PLS):
                raise DictionaryError(f"{self._where()} begins with <{local}>; a PLS file begins with <lexicon>")
            self._language = self._known(attributes.get("http://www.w3.org/XML/1998/namespace lang"))
        elif local == "lexeme":
            self._graphemes, self._aliases, self._has_phoneme = [], [], False
        elif local == "phoneme":
            self._has_phoneme = True
        self._is_preferred = attributes.get("prefer") == "true"
        self._path.append(local)
        self._text = ""

    def _known(self, language: str | None) -> str | None:
        if not language:
            return None
        try:
            resolve_language(language)
        except LanguageError as error:
            raise DictionaryError(f"{self._where()}: {error}") from None
        return language

    def _data(self, text: str) -> None:
        self._text += text
        if len(self._text) > MAX_BYTES:
            raise DictionaryError(f"{self._where()} has too much text")

    def _end(self, name: str) -> None:
        local = name.rpartition(" ")[2]
        self._path.pop()
        text = " ".join(self._text.split())
        if self._path[-1:] == ["lexeme"] and local == "grapheme":
            self._graphemes.append(text)
        elif self._path[-1:] == ["lexeme"] and local == "alias":
            self._aliases.append((self._is_preferred, text))
        elif local == "lexeme":
            self._take()
        self._text = ""

    def _take(self) -> None:
        if not self._aliases:
            what = "only a phoneme" if self._has_phoneme else "no alias"
            raise DictionaryError(
                f"the lexeme that ends in {self._where()} has {what}; the model reads letters, not phonemes: write an "
                "<alias> with the words as they are said"
            )
        if not self._graphemes:
            raise DictionaryError(f"the lexeme that ends in {self._where()} has no grapheme; write what it is for")
        preferred = [text for is_preferred, text in self._aliases if is_preferred]
        spoken = preferred[0] if preferred else self._aliases[0][1]
        for written in self._graphemes:
            entry = {"written": written, "spoken": spoken, "language": self._language}
            self._found.append(_alias_of(entry, self._where()))
