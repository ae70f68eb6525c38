"""Japanese in kana, for checkpoints that were trained on kana alone.

Kanji, Latin words and the numbers between them are read by SudachiPy and its core dictionary (the extra
`ja`), which are imported when a text has kanji and never download anything. A text without kanji needs
neither, and what is in kana already stays as it is, with the writer's own spaces; none are inserted.

The particles は and へ are the exception, in texts with kanji: they become わ and え. Such a checkpoint
has the ear of its teacher, espeak-ng, which says "ha" and "he" for these letters wherever they stand, so
that the sound of the particles has to be written. In a text of kana alone no dictionary tells a particle
from the rest of a word, and the writer chooses. Long vowels stay as they are spelled (とうきょう), which
is how the teacher reads them. Read next: `kana_numbers.py`.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from voxtral.errors import JapaneseReaderMissingError, TextError
from voxtral.text.edits import Draft, Edit, share_out
from voxtral.text.kana_numbers import MAX_DIGITS, NUMERAL, kana_words, read_digits, read_money, read_number
from voxtral.text.segment import split_text

# A kana takes as long as two Latin letters: 0.11 s and 0.057 s at the same rate of the teacher.
LETTERS_PER_KANA = 2


@dataclass(frozen=True)
class _Word:
    """A piece of a text, and its reading in katakana ("" where none is known)."""

    start: int
    end: int
    surface: str
    reading: str = ""
    is_number: bool = False
    is_particle: bool = False
    is_conjunction: bool = False


_HAN = (
    "\u2e80-\u2fd5\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_KANJI = re.compile(f"[{_HAN}]")
_KANJI_RUN = re.compile(f"[{_HAN}]+")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fc]+")
_LETTER = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_LATIN = re.compile(f"[{_LETTER}]")
_READABLE = re.compile(f"[{_HAN}{_LETTER}\\d]")
_SURROGATE = re.compile("[\ud800-\udfff]")

# Half-width kana, kana with separate voicing marks, full-width letters and digits, and kanji in disguise:
# radicals, compatibility forms, squared and circled ones. Other compatibility characters are left alone,
# because most are punctuation that the segmentation knows.
_LARGE_YEARS = re.compile("[〇一二三四五六七八九十百千万]{2,}年")
_FOLDED = re.compile(
    "[\uff61-\uff9f]+|[\u3041-\u30fe][\u3099\u309a]"
    "|[\uff04\uff05\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uffe1\uffe5]"
    "|(?<=[\\d])[\uff0c\uff0e](?=[\\d])"
    "|[\u2460-\u2473\u2e80-\u2fd5\u3220-\u3247\u3250-\u33ff\uf900-\ufaff\U0001f210-\U0001f251\U0002f800-\U0002fa1f]"
)
# Forms of common surnames that the dictionary has under the usual character only, and no normal form unites.
_VARIANTS = str.maketrans({"髙": "高", "﨑": "崎", "𠮷": "吉"})
_VARIANT = re.compile("[髙﨑𠮷]")

# What may need a reading in a text without kanji.
_PLAIN_WORD = re.compile(rf"(?P<number>\d+(?:,\d{{3}})*(?:\.\d+)?)|[{_LETTER}]+|[¥$€£%℃°〜~−-]|つ")

_PARTICLES = {"は": "わ", "へ": "え"}
_RANGES = frozenset("〜~～")
_ROOTS = frozenset({"√", "ルート"})
_MINUSES = frozenset("-−")
_TIES = re.compile(r"[^\W\u3041-\u3096]|[-−_/.:]")
_AFTER_NANI = frozenset("をがもに")
_HIRAGANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}

# SudachiPy takes 65 535 bytes at once, and one character may become 33 of them on its way.
_MAX_ANALYZED_CHARS = 1500
_MAX_NAMED = 5


def has_kanji(text: str) -> bool:
    """Tell whether a text needs the extra `ja` to be read.

    >>> has_kanji("こんにちは、カナ。"), has_kanji("日本")
    (False, True)
    """
    return _KANJI.search(_fold(Draft.of(text)).text) is not None


def to_kana(draft: Draft) -> Draft:
    """Write Japanese in kana.

    Kanji and kanji numerals become hiragana, Latin words that the dictionary knows and capitals that are
    spelled (USB) katakana, numbers with digits hiragana with what they count. Half-width kana gets its
    full width. Other Latin words, punctuation, spaces and kana stay.

    Args:
        draft: the text, with or without markup.

    Returns:
        A text without kanji and decimal digits.

    Raises:
        JapaneseReaderMissingError: there is kanji, and the extra `ja` is not installed.
        TextError: the dictionary has no reading of some kanji.
    """
    draft = _fold(draft)
    kanji = _KANJI_RUN.search(draft.text)
    if kanji is None:
        return draft.apply(_edits(draft.text, list(_plain_words(draft.text)), []))
    dictionary = _open_dictionary()
    if dictionary is None:
        raise JapaneseReaderMissingError(
            f"the text has the kanji {kanji.group()[:20]!r} at offset {draft.source_span(*kanji.span())[0]}; this "
            "model reads Japanese in kana alone, and the library that turns kanji into kana is not installed; "
            'pip install "voxtral-tts[ja]", or write the text in kana'
        )
    unread: list[tuple[int, str]] = []
    edits = list(_edits(draft.text, _analyze(draft.text, dictionary), unread))
    if unread:
        named = ", ".join(
            f"{kanji!r} at offset {draft.source_span(start, start + 1)[0]}" for start, kanji in unread[:_MAX_NAMED]
        )
        more = f" and {len(unread) - _MAX_NAMED} more" if len(unread) > _MAX_NAMED else ""
        raise TextError(
            f"the dictionary has no reading of {named}{more}; this model reads Japanese in kana alone; "
            "write these in kana"
        )
    return draft.apply(edits)


def _fold(draft: Draft) -> Draft:
    draft = draft.apply(
        Edit(found.start(), found.end(), folded)
        for found in _FOLDED.finditer(draft.text)
        if (folded := _unite(found.group())) != found.group()
    )
    return draft.apply(
        Edit(found.start(), found.end(), found.group().translate(_VARIANTS)) for found in _VARIANT.finditer(draft.text)
    )


def _unite(written: str) -> str:
    # Kana and a mark that unite to nothing stay two characters under NFC, and NFKC would part them further.
    return unicodedata.normalize("NFC" if written[-1] in "\u3099\u309a" else "NFKC", written)


# Words ---------------------------------------------------------------------------------------------


def _plain_words(text: str) -> Iterator[_Word]:
    """List what may need a reading in a text without kanji."""
    for found in _PLAIN_WORD.finditer(text):
        yield _Word(found.start(), found.end(), found.group(), is_number=found.lastgroup == "number")


@cache
def _open_dictionary() -> Any:
    """Map the dictionary into memory, once for all texts; None where the extra is not installed."""
    try:
        library: Any = importlib.import_module("sudachipy")
        importlib.import_module("sudachidict_core")
    except ImportError:
        return None
    return library.Dictionary(dict="core")


def _analyze(text: str, dictionary: Any) -> list[_Word]:
    """Cut a text into the longest words of the dictionary; whitespace at the ends of parts is left out."""
    library: Any = importlib.import_module("sudachipy")
    # One for each call: a tokenizer must not be shared by threads.
    tokenizer = dictionary.tokenizer(mode=library.SplitMode.C)
    words: list[_Word] = []
    # Halves of surrogate pairs, which `check_speakable` refuses later, cannot be handed over.
    safe_text = _SURROGATE.sub("\ufffd", text)
    for part in split_text(safe_text, min_chars=500, max_chars=_MAX_ANALYZED_CHARS):
        for morpheme in tokenizer.tokenize(part.text):
            word = _word(morpheme, part.text, part.start)
            if _LARGE_YEARS.fullmatch(word.surface):
                # "三千年", which the dictionary has as a name.
                words.append(_Word(word.start, word.end - 1, word.surface[:-1], is_number=True))
                words.append(_Word(word.end - 1, word.end, "年", reading="ネン"))
                continue
            if word.reading or word.is_number or not _KANJI.search(word.surface):
                words.append(word)
                continue
            # An unknown name, perhaps of known characters.
            for offset, char in enumerate(word.surface, word.start):
                words += (_word(single, char, offset) for single in tokenizer.tokenize(char))
    return [word for word in words if word.surface]


def _word(morpheme: Any, part: str, part_start: int) -> _Word:
    """Take over one word of a part of the text."""
    begin, end = morpheme.begin(), morpheme.end()
    surface = part[begin:end]
    kind, detail = morpheme.part_of_speech()[:2]
    reading = kana_words().common_readings.get(surface) or str(morpheme.reading_form())
    # Circles alone (〇〇) stand for a name that is left open; the dictionary calls every symbol "kigou".
    is_open = surface != "" and surface.strip("〇") == ""
    is_read = _KANA.fullmatch(reading) is not None and not is_open and not kind.endswith(("記号", "空白"))
    # The dictionary has 三百 as a name too.
    is_number = (
        NUMERAL.fullmatch(surface) is not None
        and not is_open
        and (detail in ("数詞", "固有名詞") or surface[0].isdecimal())
    )
    return _Word(
        start=part_start + begin,
        end=part_start + end,
        surface=surface,
        reading=reading if is_read else "",
        is_number=is_number,
        is_particle=kind == "助詞" and surface in _PARTICLES,
        is_conjunction=kind == "接続詞" or surface in kana_words().greetings,
    )


# Readings ------------------------------------------------------------------------------------------


def _edits(text: str, words: Sequence[_Word], unread: list[tuple[int, str]]) -> Iterator[Edit]:
    """List what to replace, in order; kanji without a reading goes to `unread`, with its offset."""
    index = 0
    last_counter = ""
    while index < len(words):
        word = words[index]
        if word.is_number or _is_sign_of_number(text, words, index):
            edit, num_words, last_counter = _number_edit(words, index, last_counter)
            yield from _in_pieces(text, edit)
            index += num_words
            continue
        last_counter = ""
        following = words[index + 1] if index + 1 < len(words) else None
        reading = _reading(word, words[index - 1] if index else None, following, unread)
        if reading != word.surface:
            yield from _in_pieces(text, Edit(word.start, word.end, reading))
        index += 1


def _in_pieces(text: str, edit: Edit) -> Iterator[Edit]:
    """Make an edit of each character where many are read one by one: the text may be cut between them."""
    places = [place for place in range(edit.start, edit.end) if _read_alone(text[place])]
    if len(places) <= MAX_DIGITS:
        yield edit
        return
    readings = [_read_alone(text[place]) for place in places]
    separator = text.rfind(".", edit.start, edit.end)
    # What is read so is a whole code or word, or the fraction of a number.
    for first in (0, bisect_right(places, separator)):
        before, read, after = edit.replacement.rpartition("".join(readings[first:]))
        if read and len(readings) - first > 1:
            stops = [place + 1 for place in places[first:-1]]
            yield from share_out(edit, stops, readings[first:], before, after, "")
            return
    yield edit


def _read_alone(char: str) -> str:
    """Read a digit or a letter by itself; a point, which codes keep, is itself; "" for anything else."""
    if char == ".":
        return char
    if char.isdecimal() or NUMERAL.fullmatch(char):
        return read_digits(char)
    return kana_words().letter_names.get(char.upper(), "") if char.isascii() else ""


def _is_sign_of_number(text: str, words: Sequence[_Word], index: int) -> bool:
    """Tell whether a word is a currency or minus sign right before a number."""
    if not _is_followed_by_number(words, index):
        return False
    word = words[index]
    # "GPT-4" and "10-5" are names and scores; after hiragana, as in "は-5", a sign stands free.
    is_tied = word.start > 0 and _TIES.match(text, word.start - 1) is not None
    return word.surface in kana_words().currencies or (word.surface in _MINUSES and not is_tied)


def _is_followed_by_number(words: Sequence[_Word], index: int) -> bool:
    return index + 1 < len(words) and words[index + 1].is_number and words[index + 1].start == words[index].end


def _number_edit(words: Sequence[_Word], index: int, last_counter: str) -> tuple[Edit, int, str]:
    """Read the number at `index`, with its sign and what it counts.

    Returns:
        The edit, how many words it takes, and what was counted ("" for nothing).
    """
    first = words[index]
    sign = "" if first.is_number else first.surface
    number = words[index + 1] if sign else first
    num_words = 2 if sign else 1
    following = words[index + num_words] if index + num_words < len(words) else None
    if sign in kana_words().currencies:
        return Edit(first.start, number.end, read_money(number.surface, sign)), num_words, ""
    counter = ""
    if following is not None and following.start == number.end and following.surface in kana_words().counters:
        counter = following.surface
        num_words += 1
    is_fraction = counter == "分" and last_counter != "時" and _is_denominator(words, index + num_words)
    if is_fraction:
        reading = read_number(number.surface) + "ぶん"
    else:
        reading = read_number(number.surface, counter, after_month=last_counter == "月")
    if sign:
        reading = "まいなす" + reading
    end = words[index + num_words - 1].end
    after = words[index + num_words] if index + num_words < len(words) else None
    is_range = after is not None and after.start == end and after.surface in _RANGES
    if after is not None and is_range and _is_followed_by_number(words, index + num_words):
        reading += "から"
        end = after.end
        num_words += 1
    return Edit(first.start, end, reading), num_words, counter


def _is_denominator(words: Sequence[_Word], index: int) -> bool:
    """Tell whether the words from `index` on are "の" and a numerator, as in "3分の1"."""
    if index + 1 >= len(words) or words[index].surface != "の":
        return False
    return words[index + 1].is_number or words[index + 1].surface in _ROOTS


def _reading(word: _Word, before: _Word | None, following: _Word | None, unread: list[tuple[int, str]]) -> str:
    """Read a word that is no number; what needs no reading is returned as it is."""
    surface = word.surface
    if word.is_particle:
        return _PARTICLES[surface]
    if not _READABLE.search(surface):
        return surface[:-1] + "わ" if word.is_conjunction and surface.endswith("は") else surface
    if surface == "何" and following is not None and following.surface in _AFTER_NANI:
        return "なに"
    if surface == "頃" and before is not None and before.end == word.start and before.surface in kana_words().counters:
        return "ごろ"
    is_letter = len(surface) == 1 and _LATIN.match(surface) is not None
    is_unit = is_letter and surface.islower() and before is not None and before.is_number
    if word.reading and (is_unit or not is_letter):
        if not _KANJI.search(surface):
            return word.reading
        reading = word.reading.translate(_HIRAGANA)
        return reading[:-1] + "わ" if word.is_conjunction and reading.endswith("は") else reading
    return _spell(word, unread)


_PART = re.compile(rf"(?P<zeros>〇+)|(?P<kanji>[{_HAN}])|(?P<number>\d+)|(?P<latin>[{_LETTER}]+)")


def _spell(word: _Word, unread: list[tuple[int, str]]) -> str:
    """Read a word that the dictionary does not have, part by part."""

    def spell(part: re.Match[str]) -> str:
        written = part.group()
        reading = written
        if part.lastgroup == "number":
            reading = read_number(written)
        elif part.lastgroup == "latin":
            is_spelled = written.isascii() and (written.isupper() or len(word.surface) == 1)
            if is_spelled:
                reading = "".join(kana_words().letter_names[letter] for letter in written.upper())
        elif part.lastgroup == "zeros":
            reading = "まる" * len(written)
        else:
            unread.append((word.start + part.start(), written))
        return reading

    return _PART.sub(spell, word.surface)
