"""Spelling out: digits one by one, letters by their names, and the pieces of an address or a code.

Knows nothing of where such things stand in a text; the rules that find them ask here. What is said for a sign is in
the `[spelled]` table of the language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from voxtral.text.edits import Edit
from voxtral.text.language_data import load_language
from voxtral.text.reading.claims import Claim, Strength
from voxtral.text.reading.numerals import to_ascii
from voxtral.text.reading.written import Written
from voxtral.text.tables.spelled import SpelledWords

# A capital begins a new word after a small letter ("openFile"), and before one in capitals ("HTMLFile").
_RUN = re.compile(r"(?P<digits>\d+)|(?P<word>[^\W\d_]+)|(?P<sign>[^\s])")
_HUMP = re.compile(r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|(?<=[A-ZÀ-ÖØ-Þ])(?=[A-ZÀ-ÖØ-Þ][a-zß-öø-ÿ])")
_LATIN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ]+")
_VOWELS = "aeiouyàâäáãåæèéêëìíîïòóôöõøœùúûüýÿ"
_VOWEL = re.compile(f"[{_VOWELS}]", re.IGNORECASE)
_CONSONANTS = re.compile(f"[^{_VOWELS}]{{6}}", re.IGNORECASE)
# Three letters that are said as a word: a consonant, a vowel, a consonant; or an end that many words have.
_SYLLABLE = re.compile(
    f"[^{_VOWELS}][{_VOWELS}][{_VOWELS}bcdfgklmnprstvxz]|[{_VOWELS}](?:nd|rt|pp|ll|ld|dd|st|ck|nt|rm|rk|ct|ng|sk|rg|pt)"
    f"|(?:bl|br|cl|cr|dr|fl|fr|gl|gr|pl|pr|tr|st|sp|sk|sh|ch|th)[{_VOWELS}]"
)
# What could be said as a word, and is not.
_NEVER_WORDS = frozenset(
    "api usa uae url ios ide iso faq cia fbi ceo uid cid cpu gpu cad seo ip id".split()  # noqa: SIM905
)
_ALWAYS_WORDS = frozenset("com org net edu gov info biz app web dev shop mail blog".split())  # noqa: SIM905


class Piece(NamedTuple):
    """A part of something that is spelled, and what is said for it."""

    start: int
    end: int
    spoken: str


def words_of(written: Written) -> SpelledWords | None:
    """Look up what a language says where something is spelled."""
    return written.data.spelled


def say_digits(written: Written, digits: str) -> str:
    """Say digits of any script one by one; without words for numbers they stay digits, apart from each other."""
    plain = to_ascii(digits)
    return written.speller.digits(plain) if written.has_number_words else " ".join(plain)


def say_number(written: Written, digits: str) -> str:
    """Say digits as one number, or one by one if that is how they ask to be read."""
    plain = to_ascii(digits)
    if len(plain) > 1 and plain[0] == "0":
        return say_digits(written, plain)
    return written.speller.number(plain) if written.has_number_words else plain


def say_serial(written: Written, digits: str) -> str:
    """Say digits as in an address or a serial number: one by one, but round thousands as a number."""
    plain = to_ascii(digits)
    if len(plain) == 1 or (len(plain) <= 6 and plain[0] != "0" and plain.endswith("000")):
        return say_number(written, plain)
    return say_digits(written, plain)


def name_letters(written: Written, letters: str) -> str:
    """Name letters one by one: by the names that the language writes, else as capitals, which models name."""
    spelled = written.data.spelled
    return " ".join(letters.upper()) if spelled is None else _named_letters(spelled, letters)


def _named_letters(spelled: SpelledWords, letters: str) -> str:
    return " ".join([spelled.letters.get(letter.lower(), letter.upper()) for letter in letters])


def is_word(letters: str, stop_words: Iterable[str] = ()) -> bool:
    """Tell whether a run of letters can be said as a word, and is not an abbreviation that is spelled.

    >>> is_word("nvidia"), is_word("html"), is_word("abc"), is_word("bob")
    (True, False, False, True)
    """
    folded = letters.casefold()
    if folded in _ALWAYS_WORDS or _LATIN.fullmatch(letters) is None:
        return True
    if folded in _NEVER_WORDS:
        return False
    if len(letters) <= 2:
        return folded in stop_words
    if len(letters) == 3:
        return _SYLLABLE.fullmatch(folded) is not None or folded in stop_words
    return _VOWEL.search(letters) is not None and _CONSONANTS.search(letters) is None


def say_word(written: Written, letters: str, *, in_own_letters: bool = True) -> str:
    """Say a run of letters: as the language writes a known one, as a word, or letter by letter.

    Args:
        written: the text.
        letters: the run.
        in_own_letters: also name the letters of unknown words, where the language has names for them, as nobody
            can tell how the word is said in another script.
    """
    return _said_word(written.language, letters, in_own_letters)


@lru_cache(maxsize=4096)
def _said_word(language: str, letters: str, in_own_letters: bool) -> str:
    data = load_language(language)
    if data.spelled is None:
        return letters
    if known := data.spelled.words.get(letters.casefold()):
        return known
    stop_words = data.recognition.stop_words if data.recognition else ()
    is_foreign = in_own_letters and language == "hi" and _LATIN.fullmatch(letters) is not None
    if not is_foreign and is_word(letters, stop_words):
        return letters
    return _named_letters(data.spelled, letters)


def spell_pieces(written: Written, start: int, end: int) -> Iterator[Piece]:
    """Say a span piece by piece: runs of letters, runs of digits, and signs by name."""
    spelled = written.data.spelled
    for run in _RUN.finditer(written.text, start, end):
        if run.lastgroup == "digits":
            yield Piece(run.start(), run.end(), say_serial(written, run.group()))
        elif run.lastgroup == "word":
            start = run.start()
            for first, last, spoken in _said_humps(written.language, run.group()):
                yield Piece(start + first, start + last, spoken)
        else:
            name = spelled.signs.get(run.group(), "") if spelled else ""
            yield Piece(run.start(), run.end(), name or run.group())


@lru_cache(maxsize=4096)
def _said_humps(language: str, word: str) -> tuple[tuple[int, int, str], ...]:
    """Say the words that a capital parts inside of a word, each with where it starts and ends."""
    spelled = load_language(language).spelled
    is_known = spelled is not None and word.casefold() in spelled.words
    bounds = [0, *([] if is_known else [found.start() for found in _HUMP.finditer(word)]), len(word)]
    return tuple(
        (start, stop, _said_word(language, word[start:stop], True)) for start, stop in pairwise(bounds) if stop > start
    )


def claim_pieces(
    pieces: Iterable[Piece], kind: str, strength: Strength = Strength.WHOLE, *, end: int | None = None
) -> Claim:
    """Claim what the pieces cover, each as an edit of its own, so that a long text may be cut between them.

    Args:
        pieces: at least one, in order and without overlap; what lies between two goes with the later one.
        kind: such as "url".
        strength: against other claims.
        end: where the claim ends, if that is after the last piece; what is between is left out.
    """
    edits: list[Edit] = []
    is_first = True
    for piece in pieces:
        begin = edits[-1].end if edits else piece.start
        lead = "" if is_first or not piece.spoken or edits[-1].replacement.endswith("、") else " "
        edits.append(Edit(begin, piece.end, lead + piece.spoken))
        is_first = is_first and not edits[-1].replacement
    if end is not None and end > edits[-1].end:
        edits[-1] = Edit(edits[-1].start, end, edits[-1].replacement)
    return Claim(edits[0].start, edits[-1].end, tuple(edits), kind, strength)
