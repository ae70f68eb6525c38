"""Roman numerals, where a word beside them tells: "Louis XIV", "siglo XXI", "XVIIe siècle", "Kapitel IV".

The words are in the files of the languages, table `[roman]`. Nothing else is taken for one: "CD", "MIX" and "I" are
letters or words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.written import Written
from voxtral.text.tables.roman import RomanWords

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_NUMERAL = re.compile(
    r"(?<![\w.'’&/-])(?P<numeral>[MDCLXVI]{1,12}|[xvi]{2,12})"
    r"(?P<suffix>º|ª|\.º|\.ª|°|ème|e|ᵉ|er|ᵉʳ|re|ʳᵉ|ste|de|\.|th|st|nd|rd)?(?![\w'’]|[-.][^\W\d_]|&)"
)
_WELL_FORMED = re.compile(r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
# After any name these can be nothing else: "Sam II", "Rocky III". "IV", "VI", "XI" and "XX" can.
_SURE = frozenset(("II", "III", "VII", "VIII", "XII", "XIII", "XVI", "XVII", "XVIII"))
_BEFORE = re.compile(r"([^\W\d_][\w'’]*)\.?[ \u00a0]$")


def roman_value(numeral: str) -> int | None:
    """Read a Roman numeral in capitals; None if it is none.

    >>> roman_value("XIV"), roman_value("IIX")
    (14, None)
    """
    if not numeral or not _WELL_FORMED.fullmatch(numeral):
        return None
    total = 0
    for here, following in zip(numeral, numeral[1:] + "I", strict=True):
        total += -_VALUES[here] if _VALUES[here] < _VALUES[following] and here != numeral[-1:] else _VALUES[here]
    return total


def roman_claims(written: Written) -> Iterator[Claim]:
    """Claim Roman numerals beside words that tell."""
    words = written.data.roman
    if words is None or not written.has_number_words:
        return
    for found in _NUMERAL.finditer(written.text):
        value = roman_value(found.group("numeral").upper())
        if value is None or not _may_be_meant(found.group("numeral")):
            continue
        before = _BEFORE.search(written.text, max(0, found.start() - 40), found.start())
        reading = _read(written, words, found, value, before.group(1) if before else "")
        if reading is not None:
            spoken, end = reading
            yield claim(found.start(), end, spoken, "roman")
        else:
            written.left.append(found.start())


def _read(written: Written, words: RomanWords, found: re.Match[str], value: int, before: str) -> tuple[str, int] | None:
    """Choose the reading of a numeral, and where what is read ends."""
    numeral, suffix = found.group("numeral"), found.group("suffix") or ""
    speller = written.speller
    chained = _CHAINED.match(written.text, found.end())
    after = chained.group(1).casefold() if chained else written.word_after(found.end())
    name = before.lower()
    is_lone = len(numeral) == 1
    is_first = numeral == "I" and name in words.cardinals_after and _is_first(written, before, found.end())
    # "type X 86" has a letter.
    is_letter = numeral not in words.lone or name in _NAMED_BY_LETTERS
    if is_lone and is_letter and not is_first:
        return None
    if is_lone and suffix == "." and written.language != "de" and _ends_sentence(written, found.end()):
        return None  # "George V. Reilly"
    end = found.end("numeral") if suffix == "." else found.end()
    if after in words.ordinals_before and (not is_lone or suffix):
        form = "feminine" if after in words.feminine_before else "masculine"
        if numeral.islower() and not suffix:
            return None
        return _century(written, value, form, name), found.end() if suffix else end
    if suffix in {"er", "re", "ᵉʳ", "ʳᵉ"} and numeral == "I":
        return speller.ordinal(1, "feminine" if suffix in {"re", "ʳᵉ"} else "masculine"), found.end()
    if suffix and suffix != ".":
        form = _form_of_suffix(written, words, numeral, suffix, after)
        return (speller.ordinal(value, form), found.end()) if form else None
    if name in words.ordinals_after and not numeral.islower():
        return speller.ordinal(value, "masculine"), end
    is_point_ordinal = suffix == "." and written.language == "de"
    king, queen = _is_named(name, words.kings, written), _is_named(name, words.queens, written)
    if (king or queen) and value <= 39 and (numeral.isupper() or before.islower()):
        is_end = _ends_sentence(written, found.end())
        spoken = _regnal(written, words, value, name, found.start(), is_feminine=queen and not king)
        return spoken, end if not is_point_ordinal or is_end else found.end()
    if name in words.cardinals_after or name.removesuffix("s") in words.cardinals_after:
        return speller.cardinal(value), end
    if before[:1].isupper() and numeral in _SURE and not before.isupper():
        return speller.cardinal(value), end
    return None


def _form_of_suffix(written: Written, words: RomanWords, numeral: str, suffix: str, after: str) -> str:
    """Choose the form of an ordinal by the letters behind its numeral; "" where they make none."""
    if suffix in {"º", "ª", ".º", ".ª", "°"} and not numeral.islower():
        return "feminine" if "ª" in suffix else "masculine"
    if written.language == "fr" and suffix in {"e", "ème", "ᵉ"} and numeral.isupper() and len(numeral) > 1:
        return "feminine" if after in words.feminine_before else "masculine"
    return ""


# What has letters for names as often as numbers.
_NAMED_BY_LETTERS = frozenset(
    ("type", "typ", "tipo", "model", "modell", "modelo", "modello", "modèle", "version", "versie", "classe", "class")
)


def _is_first(written: Written, before: str, end: int) -> bool:
    """Tell whether a lone I after a capitalised word is a number, where it is a word as well: "World War I"."""
    following = written.text[end : end + 1]
    is_alone = not following.strip() or following in ".,;:)]—"
    is_title = not written.text[end : end + 2].strip() or (following in ".,;:)]—") or written.word_after(end) in _LINKS
    return before[:1].isupper() and (is_title or (before.lower() == "war" and is_alone))


# After "Part I", these go on with the title and not with a sentence about oneself.
_LINKS = frozenset(("of", "and", "to"))
# "XIXe et XXe siècles": the word that tells stands behind the second numeral.
_CHAINED = re.compile(
    r"(?: (?:et|ou|y|o|e|und|oder|and|or|en|of|a|à|-|–) |[-–])"
    r"[IVXLC]{1,8}[^\s\w]?\w{0,3}\.? ([^\W\d_]+)"
)


def _may_be_meant(numeral: str) -> bool:
    """Tell whether letters are likely a numeral: small ones and pairs of I, V and X alone, and no word such as "vi"."""
    is_small = set(numeral.upper()) <= set("IVX")
    if numeral.islower():
        return is_small and numeral != "vi"
    return is_small or len(numeral) != 2 or numeral in {"XL", "LX"}


def _is_named(name: str, names: frozenset[str], written: Written) -> bool:
    if name in names:
        return True
    return written.language in {"de", "nl", "en"} and name.endswith("s") and name[:-1] in names


def _ends_sentence(written: Written, end: int) -> bool:
    following = written.text[end : end + 3].strip()
    return not following or following[:1].isupper()


def _century(written: Written, value: int, form: str, before: str) -> str:
    """Say an ordinal before "century" or the like."""
    words = written.speller.ordinal(value, form)
    if written.language != "de":
        return words
    if before in {"der", "die", "das"}:
        return words
    return words + ("n" if before in {"im", "am", "vom", "zum", "dem", "des", "den", "seit", "ab", "bis"} else "s")


def _regnal(written: Written, words: RomanWords, value: int, name: str, start: int, *, is_feminine: bool) -> str:
    """Say the number of a king, a queen or a pope as the language does: "Louis quatorze", "Felipe segundo"."""
    speller = written.speller
    if value > words.largest_ordinal:
        return speller.cardinal(value)
    ordinal = speller.ordinal(value, "feminine" if is_feminine else "masculine")
    if written.language != "de":
        article = words.articles.get("masculine", "")
        return f"{article} {ordinal}" if article else ordinal
    ordinal = ordinal[:1].upper() + ordinal[1:]
    if name not in words.kings | words.queens:
        return f"{words.articles['genitive']} {ordinal}n"
    if _DATIVE.search(written.text, max(0, start - 60), start):
        return f"{words.articles['dative_feminine' if is_feminine else 'dative']} {ordinal}n"
    return f"{words.articles['feminine' if is_feminine else 'masculine']} {ordinal}"


# At most two words, such as "Kaiser", stand between the preposition and the name.
_DATIVE = re.compile(
    r"\b(?:von|mit|zu|bei|unter|nach|aus|seit|gegenüber)[ \u00a0](?:\w{1,20}[ \u00a0]){1,3}$", re.IGNORECASE
)
