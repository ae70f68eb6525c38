r"""Cleaning: the same words in the characters that a model has learnt, and nothing that nobody sees.

Weights are trained on texts that people typed: single spaces, composed letters, no invisible characters. A no-break
space, an invisible mark or a full-width letter looks the same to a reader and is another token to the model, which may
lose the rest of the sentence over it. So each becomes its plain twin:

* white space of every kind a single space; with a line end in it a line feed, with two a blank line, which is what
  `segment.py` takes for a paragraph; none at the edges;
* characters without width or ink nothing, but for joiners where they shape letters;
* full-width, mathematical and presentation forms of letters and digits the letters and digits, by NFKC. What NFKC would
  give another meaning stays: superscripts, fractions, circled numbers, units and signs;
* combining sequences their composed form (NFC), as in the texts that models are trained on (`voxtral/cloning/texts`).

Punctuation and words are not touched; that is for `normalize.py`, which makes these changes as well.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from voxtral.text.edits import Draft, Edit, NormalizedText, rewrite
from voxtral.text.language import check_speakable

if TYPE_CHECKING:
    from voxtral.types import Normalize

# White space by Unicode, and a symbol and letters that are drawn as a blank: of Braille, and Hangul fillers.
LINE_ENDS = "\n\x0b\x0c\r\x85\u2028\u2029"
DRAWN_BLANKS = "\u2800\u3164\uffa0"
_BLANKS = f" \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000{DRAWN_BLANKS}"
JOINERS = "\u200c\u200d"
# Soft hyphens, zero-width spaces, marks and overrides of direction, variation selectors, tags, anchors.
UNSEEN = (
    "\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff9-\ufffc\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)

# Letters and digits in another dress: digraphs and ligatures, symbols of mathematics, Roman numerals, radicals of
# ideographs, half-width kana, forms of Arabic letters in a word, and the punctuation of vertical lines.
_DRESSED = (
    "\u0132\u0133\u013f\u0140\u0149\u017f\u01c4-\u01cc\u01f1-\u01f3\u03d0-\u03d6\u03f0-\u03f2\u03f4\u03f5\u03f9"
    "\u1e9a\u1e9b\u2102-\u214f\u2160-\u217f\u2e9f\u2ef3\u2f00-\u2fd5\ufb00-\ufb06\ufb13-\ufb17\ufb20-\ufb29\ufb4f"
    "\ufb50-\ufdfb\ufe10-\ufe19\ufe30-\ufe44\ufe47\ufe48\ufe70-\ufefc\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
    "\uff61-\uff9f\uffa1-\uffdc\U0001d400-\U0001d7ff\U0001ee00-\U0001eebb\U0001fbf0-\U0001fbf9"
)
# Full-width and small forms of marks, which are at home where ideographs, kana or Hangul are written.
_WIDE_MARKS = "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff60\uffe0-\uffe6\ufe50-\ufe52\ufe54-\ufe66\ufe68-\ufe6b"
_KANA = "\u3041-\u3096\u309d\u30a1-\u30fa\u30fc-\u30fe\uff66-\uff9d"

_EAST_ASIAN = (
    "\u1100-\u11ff\u2e80-\u2fd5\u3005-\u3007\u3021-\u3029\u3038-\u303c\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u3105-\u3163\u3165-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c"
    "\uac00-\ud7fb\uf900-\ufaff\uff66-\uff9d\uffa1-\uffdc\U00020000-\U0003ffff"
)

_GAP = f"{LINE_ENDS}{_BLANKS}{UNSEEN}{JOINERS}"
_ODD_GAP = _GAP.replace("\n", "").replace(" ", "")
# All that may have to be changed, but for spaces and line feeds: one search tells that a text is clean.
_ODD = re.compile(f"[{_ODD_GAP}{_DRESSED}{_WIDE_MARKS}]")
_DOUBLED = ("  ", " \n", "\n ", "\n\n\n")
_CHANGES = re.compile(
    rf"(?P<gap>\A[ \n][{_GAP}]*|[ \n][{_GAP}]+|[{_ODD_GAP}][{_GAP}]*|[ \n]\Z)"
    rf"|(?P<voiced>[{_KANA}][\uff9e\uff9f])|(?P<letter>[{_DRESSED}])"
    rf"|(?P<mark>[{_WIDE_MARKS}])"
)
_WHITE = re.compile(f"[{LINE_ENDS}{_BLANKS}]")
_LINE_END = re.compile(f"\r\n|[{LINE_ENDS}]")
_JOINER = re.compile(f"[{JOINERS}]")
_INKLESS = re.compile(f"[{UNSEEN}{JOINERS}]")
_ONE_LINE_END = re.compile(f"[{LINE_ENDS}]")
_AT_HOME = re.compile(f"[{_EAST_ASIAN}]")
_BEYOND_LATIN = re.compile("[^\n]?[\u0300-\U0010ffff]+")

# Scripts whose letters take their shape from joiners: from Arabic to Myanmar, Khmer and Mongolian, and their kin.
_JOINING = re.compile(
    "[\u0600-\u109f\u1780-\u18af\u1900-\u1cff\ua800-\uab2f\uabc0-\uabff\ufb50-\ufdff\ufe70-\ufefc"
    "\U00010a00-\U00010fff\U00011000-\U00011fff\U0001e900-\U0001e95f]"
)
_VIRAMA = 9  # the combining class of the signs that join consonants
_VOICED_SIGNS = {"\uff9e": "\u309b", "\uff9f": "\u309c"}
_VOICED_MARKS = {"\uff9e": "\u3099", "\uff9f": "\u309a"}
# One step of these is the plain form; NFKC would go on and take apart what is plain.
_WIDTHS = {"<wide>", "<narrow>", "<small>", "<vertical>"}
# More marks on one letter are no writing, and to order them would take quadratic time.
_MAX_SEQUENCE = 64


def clean(text: str) -> NormalizedText:
    r"""Write a text in plain characters.

    Takes time in proportion to the length; where there is nothing to do, one search. Cleaning twice is cleaning once.

    Args:
        text: any string. Controls and lone surrogates stay, for `check_speakable` to refuse.

    Returns:
        The text, the same object where it was clean, and its map to the text as given.

    >>> clean(" The \ufb01rst\u00a0caf\u0065\u0301,\r\n\uff28\uff29\u200b! ").text
    'The first café,\nHI!'
    """
    cleaned = rewrite(text, _edits(text, with_gaps=True) if _has_oddities(text) else ())
    if unicodedata.is_normalized("NFC", cleaned.text):
        return cleaned
    return rewrite(cleaned.text, _compositions(cleaned.text)).through(cleaned)


def clean_unless_off(text: str, level: Normalize) -> NormalizedText:
    """Give a text in plain characters, or as it stands where its caller wants it verbatim."""
    return rewrite(text, ()) if level == "off" else clean(text)


def check_early(text: str, level: Normalize) -> None:
    """Refuse what can be refused of a text before its language is known; see `check_speakable`.

    Raises:
        TextError: it cannot be spoken.
    """
    # What "auto" makes of a text depends on the language.
    if level != "auto":
        check_rewritten(clean_unless_off(text, level), text)


def check_rewritten(spoken: NormalizedText, text: str, offset: int = 0) -> None:
    """Refuse what the model cannot speak, and name its place in the text as given; see `check_speakable`.

    Args:
        spoken: what is about to be spoken.
        text: as given.
        offset: where that begins in a longer one.

    Raises:
        TextError: it cannot be spoken.
    """
    is_rewritten = spoken.text != text or offset > 0
    check_speakable(
        spoken.text, (lambda place: offset + spoken.source_span(place, place + 1)[0]) if is_rewritten else None
    )


def unify(draft: Draft) -> Draft:
    """Make of a draft what `clean` makes of a text, but leave white space and what is not seen."""
    draft = draft.apply(_edits(draft.text, with_gaps=False))
    return draft if unicodedata.is_normalized("NFC", draft.text) else draft.apply(_compositions(draft.text))


def is_dressed(text: str) -> bool:
    """Tell whether `unify` changes a text."""
    is_composed = unicodedata.is_normalized("NFC", text)
    return not is_composed or next(_edits(text, with_gaps=False), None) is not None


def kept_joiner(text: str, start: int, end: int) -> str:
    r"""Give the joiner that is to stay of a stretch without ink: one that shapes a letter.

    Args:
        text: the text.
        start: where the stretch begins.
        end: where it ends.

    Returns:
        U+200C or U+200D, or nothing.

    >>> kept_joiner("\u0645\u06cc\u200c\u062e", 2, 3), kept_joiner("of\u200cfice", 2, 3)
    ('\u200c', '')
    """
    found = _JOINER.search(text, start, end)
    if found is None or start == 0:
        return ""
    if found.group() == "\u200d" and _ends_in_virama(text, start):
        return "\u200d"  # The half form of a consonant, also at the end of a word.
    before, after = text[start - 1], text[end : end + 1]
    shapes = _is_of_word(before) and _is_of_word(after)
    return found.group() if shapes and (_JOINING.match(before) or _JOINING.match(after)) else ""


def _has_oddities(text: str) -> bool:
    if _ODD.search(text) or any(pair in text for pair in _DOUBLED):
        return True
    return text[:1].isspace() or text[-1:].isspace()


def _edits(text: str, *, with_gaps: bool) -> Iterator[Edit]:
    lines = _Lines(text)
    for found in _CHANGES.finditer(text):
        start, end = found.span()
        match found.lastgroup:
            case "gap":
                if not with_gaps:
                    continue
                wanted = _plain_gap(text, start, end)
            case "voiced":
                kana, mark = found.group()
                wanted = unicodedata.normalize("NFC", _plain(kana) + _VOICED_MARKS[mark])
            case "mark":
                wanted = found.group() if lines.has_wide_marks(start) else _plain(found.group())
            case _:
                wanted = _plain(found.group())
        if wanted != found.group():
            yield Edit(start, end, wanted)


class _Lines:
    """The lines of a text, read once from front to back."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0
        self._is_east_asian = False

    def has_wide_marks(self, place: int) -> bool:
        """Tell whether a wide mark is at home: in an East Asian line, and not inside of a number or a Latin word.

        It is the line that decides, and not what stands beside a mark, because brackets come in pairs.

        Args:
            place: of the mark, after all that were asked for before.
        """
        while place >= self._end:
            start = self._end
            line_end = _ONE_LINE_END.search(self._text, start)
            self._end = line_end.end() if line_end else len(self._text)
            self._is_east_asian = _AT_HOME.search(self._text, start, self._end) is not None
        return self._is_east_asian and not self._is_inside(place)

    def _is_inside(self, place: int) -> bool:
        """Tell whether Latin letters or digits stand on both sides: "３．１４"."""
        before, after = place - 1, place + 1
        while before >= 0 and _INKLESS.match(self._text, before):
            before -= 1
        while after < len(self._text) and _INKLESS.match(self._text, after):
            after += 1
        sides = self._text[max(before, 0) : before + 1], self._text[after : after + 1]
        return all(_is_of_word(side) and not _AT_HOME.match(side) for side in sides)


def _plain_gap(text: str, start: int, end: int) -> str:
    white = _WHITE.search(text, start, end)
    joiner = kept_joiner(text, start, white.start() if white else end)
    if white is None or start == 0 or end == len(text):
        return joiner
    lines = _LINE_END.findall(text, white.start(), end)
    if len(lines) > 1 or "\u2029" in lines:
        return f"{joiner}\n\n"
    return joiner + ("\n" if lines else " ")


def _is_of_word(char: str) -> bool:
    return char != "" and unicodedata.category(char)[0] in "LMN"


def _ends_in_virama(text: str, end: int) -> bool:
    """Tell whether a virama is among the marks before a place, in whatever order they were typed."""
    for place in range(end - 1, max(-1, end - 1 - _MAX_SEQUENCE), -1):
        combining = unicodedata.combining(text[place])
        if combining in (0, _VIRAMA):
            return combining == _VIRAMA
    return False


@cache
def _plain(char: str) -> str:
    """Give the plain form of a letter, digit or wide mark; itself where it has none."""
    if char in _VOICED_SIGNS:
        return _VOICED_SIGNS[char]
    form, *codes = unicodedata.decomposition(char).split() or [""]
    if form in _WIDTHS:
        return "".join(chr(int(code, 16)) for code in codes)
    # Signs and units are symbols, but so are the radicals, which are ideographs to a reader.
    if unicodedata.category(char) in {"Lu", "Ll", "Lt", "Lm", "Lo", "Nl", "Nd"} or "\u2e80" <= char <= "\u2fd5":
        plain = unicodedata.normalize("NFKC", char)
        return char if plain[0].isspace() else plain
    return char


def _compositions(text: str) -> Iterator[Edit]:
    """Compose what can be, sequence by sequence, so that each keeps its place."""
    for run in _BEYOND_LATIN.finditer(text):
        start = run.start()
        for place in range(start + 1, run.end() + 1):
            if place < run.end() and _continues(text[place]):
                continue
            sequence = text[start:place]
            if len(sequence) <= _MAX_SEQUENCE:
                composed = unicodedata.normalize("NFC", sequence)
                if composed != sequence:
                    yield Edit(start, place, composed)
            start = place


def _continues(char: str) -> bool:
    """Tell whether a character may become one with what is before it: a mark, or a vowel or final of Hangul."""
    return unicodedata.category(char)[0] == "M" or "\u1160" <= char <= "\u11ff" or "\U00016d63" <= char <= "\U00016d6a"
