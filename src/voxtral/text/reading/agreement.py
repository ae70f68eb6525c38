"""The form of a number before the noun that it counts: "una casa", "un reloj", "mit einem Apfel", but "capítulo uno".

The gender of a noun is told by its ending or by lists in the file of the language, table `[nouns]`. A number that is
the name of something, as a page or a room has, keeps the form in which one counts.
"""

from __future__ import annotations

import re

from voxtral.text.reading.ordinals import words_before
from voxtral.text.reading.written import Written

# What is said with its noun: the noun itself, or the adjective before it.
_NOUN_AFTER = re.compile(r"[ \u00a0]([^\W\d_]{2,40})")
_GERMAN_NOUN = re.compile(
    r"[ \u00a0](?:([a-zäöüß]{3,30}(?:er|es|em|en|e))[ \u00a0])?([A-ZÄÖÜ][a-zäöüß]{1,40})(?![\w-]|[.]\w)"
)
_GERMAN_DATIVE = frozenset(("mit", "von", "bei", "aus", "nach", "seit", "zu", "vor", "in", "innerhalb", "ab", "außer"))
_ENDS = re.compile(r"[.!?:;,(\[„“\"«–—-]\s*$")
# Masculine nouns with "uno" before them: "zaino", "studente".
_ITALIAN_UNO = re.compile(r"s[^aeiouàèéìòù]|z|gn|ps|pn|x|y")
# Languages whose nouns end in "s" wherever more than one is counted.
_COUNTS_WITH_S = frozenset(("es", "pt"))


def noun_after(written: Written, end: int) -> str:
    """Give the word that stands right behind a number, as it is written; "" if there is none."""
    found = _NOUN_AFTER.match(written.text, end)
    return found.group(1) if found else ""


def names(written: Written, start: int) -> bool:
    """Tell whether a number is the name of what stands before it: "capítulo 1", "el 1", "la fase 1".

    Args:
        written: the text.
        start: of the number.
    """
    nouns, roman = written.data.nouns, written.data.roman
    near = written.word_before(start)
    if nouns is None or not near:
        return False
    return near in nouns.names_numbers or near in nouns.labels or (roman is not None and near in roman.cardinals_after)


def before_noun(written: Written, words: str, start: int, end: int, *, is_one: bool) -> str:
    """Make number words agree with the noun behind them, if one is counted there.

    Args:
        written: the text.
        words: for an integer.
        start: of the number.
        end: of it.
        is_one: it is the number one.
    """
    if written.language == "de":
        return (is_one and german_one(written, start, end)) or words
    nouns, known = written.data.nouns, written.data.recognition
    noun = noun_after(written, end)
    if nouns is None or not noun:
        return words
    is_small = known is not None and noun.lower() in known.stop_words
    if (is_small or names(written, start)) and not re.fullmatch(nouns.counted or "$^", noun.lower()):
        return words
    # Many are counted by a plural: "Apache 2 habilita" has a verb behind it.
    if written.language in _COUNTS_WITH_S and not is_one and not noun.endswith("s"):
        return words
    speller = written.speller
    for pattern, is_feminine in ((nouns.feminine, True), (nouns.masculine, False)):
        if pattern and re.search(pattern, noun.lower()):
            return _elided(written, speller.before_noun(words, is_feminine=is_feminine), noun)
    if is_one and _may_be_name(written, start):
        return words
    # Most nouns whose ending does not tell are masculine.
    return _elided(written, speller.before_noun(words), noun)


def _elided(written: Written, words: str, noun: str) -> str:
    """Write "un'amica" and "uno zaino" for the Italian one; the apostrophe stands for the space behind it, too."""
    if written.language == "it" and words == "una" and noun[0].lower() in "aeiouàèéìòù":
        return "un'"
    return "uno" if written.language == "it" and words == "un" and _ITALIAN_UNO.match(noun.lower()) else words


def _may_be_name(written: Written, start: int) -> bool:
    """Tell whether the word before a number may be what it numbers: "el grupo 1 gana", "Apache 1 permite"."""
    nouns, known = written.data.nouns, written.data.recognition
    before = written.text[max(0, start - 40) : start]
    far, near = words_before(written.text, start)
    if nouns is None or not near or _ENDS.search(before):
        return False
    if known is not None and near in known.stop_words:
        return False
    if far in nouns.names_numbers:
        return True
    # A capital inside of a sentence: a name.
    return bool(far) and before.rstrip().rpartition(" ")[2][:1].isupper()


def german_one(written: Written, start: int, end: int) -> str | None:
    """Say the 1 before a noun: "eine Birne", "mit einem Apfel"; None where it is the number of something.

    Args:
        written: the text, in German.
        start: of the number.
        end: of it.
    """
    nouns, known = written.data.nouns, written.data.recognition
    found = _GERMAN_NOUN.match(written.text, end)
    if nouns is None or found is None:
        return None
    adjective, noun = found.groups()
    if adjective and known is not None and adjective in known.stop_words:
        return None
    before = written.text[max(0, start - 40) : start]
    near = re.search(r"([^\W\d_]+)[ \u00a0]$", before)
    word = near.group(1) if near else ""
    if names(written, start) and word:
        return None
    is_small_word = known is not None and word.lower() in known.stop_words
    # "Formel 1 Rennen", but "Täglich 1 Tablette".
    if word[:1].isupper() and not is_small_word and word.lower() not in nouns.before_counts:
        return None
    is_feminine = re.search(nouns.feminine, noun.lower()) is not None
    if adjective and not (word.lower() in _GERMAN_DATIVE and adjective.endswith("en")):
        return {"er": "ein", "es": "ein", "em": "einem", "en": "einen"}.get(adjective[-2:], "eine")
    return german_article(written, word, noun, is_feminine=is_feminine)


def german_article(written: Written, before: str, noun: str, *, is_feminine: bool) -> str:
    """Say the 1 before a German noun in the case that the word before it asks for.

    Args:
        written: the text, in German.
        before: the word before the number.
        noun: what is counted.
        is_feminine: of the noun.
    """
    nouns = written.data.nouns
    if before.lower() in _GERMAN_DATIVE:
        return "einer" if is_feminine else "einem"
    if nouns is not None and before.lower() in nouns.before_objects and re.search(nouns.masculine, noun.lower()):
        return "einen"
    return "eine" if is_feminine else "ein"
