"""Which language a text is in, where that is sure: by its script, and by the small words that no sentence lacks.

Nobody is asked twice: a text that is short, mixed, or in a language that is not known here gets no guess, and what is
not said stays at its default. The small words and letters of each language are in its file in `data/`, those of their
neighbours, which must not be taken for them, in `data/neighbours.toml`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from voxtral.text.language import LANGUAGES, count_scripts
from voxtral.text.language_data import Recognition, load_language, load_neighbours

# A long text is looked at in places, which takes a few milliseconds whatever its length.
_PLACES, _PLACE_CHARS = 8, 1500

_MARKS = "\u0300-\u036f\u064b-\u0652\u0670\u0900-\u0903\u093a-\u094f"
_LETTER = rf"[^\W\d_](?:[^\W\d_]|[{_MARKS}\u200c\u200d])*"
_WORD = re.compile(rf"(?<![\w%]){_LETTER}(?:['’]{_LETTER})*|[¿¡]")
_SENTENCE_END = re.compile(r"[.!?…;:।؟\n]+(?:\s|$)")
_APOSTROPHE = re.compile("['’]")

# A text of a language has this share of its letters in one script, and of its words among the small ones.
_MIN_SCRIPT = 0.9
_MIN_SMALL: Mapping[str, float] = {"LATIN": 0.2, "ARABIC": 0.06, "DEVANAGARI": 0.15}
# So many different ones: where a script has no other language of ours, fewer tell.
_MIN_KINDS: Mapping[str, int] = {"LATIN": 3, "ARABIC": 1, "DEVANAGARI": 1}
# Kana among kana and kanji: Chinese has none, but for a の in a name.
_MIN_NUM_KANA, _MIN_KANA = 2, 0.2
_MAX_STRANGE = 0.05
# Sentences of two words and more without a small word of the language; of fewer than four sentences, none.
_MAX_SILENT = 0.3
# Small words of another language that are none of the text's own: of ours, which it may be mixed with; of a neighbour,
# some of whose are words like any other.
_MAX_FOREIGN, _MAX_LIKE_NEIGHBOUR = 0.1, 0.34


@dataclass(frozen=True)
class _Index:
    """The small words of all languages.

    Attributes:
        languages: by small word, those that have it.
        letters: by code, what its words are written with; only for ours.
    """

    languages: Mapping[str, frozenset[str]]
    letters: Mapping[str, frozenset[str]]


def guess_language(text: str) -> str | None:
    """Tell the language of a text, or None where that is not sure.

    Args:
        text: any text.

    Returns:
        A key of `LANGUAGES`.

    >>> guess_language("Das ist ein Satz, und hier kommt noch einer."), guess_language("Hamburg")
    ('de', None)
    """
    sample = unicodedata.normalize("NFC", _sample(text))
    scripts = count_scripts(sample)
    if not scripts:
        return None
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    japanese = kana + scripts["CJK"]
    if kana >= _MIN_NUM_KANA and japanese >= _MIN_SCRIPT * scripts.total():
        return "ja" if kana >= _MIN_KANA * japanese else None
    script, count = scripts.most_common(1)[0]
    if script not in _MIN_SMALL or count < _MIN_SCRIPT * scripts.total():
        return None
    sentences = [_words(sentence) for sentence in _SENTENCE_END.split(sample)]
    best = _by_words(Counter(word for words in sentences for word in words), script)
    return best if best is None or script != "LATIN" or _is_all_through(best, sentences) else None


def _sample(text: str) -> str:
    """Take a long text in places that are spread over it."""
    if len(text) <= _PLACES * _PLACE_CHARS:
        return text
    step = (len(text) - _PLACE_CHARS) // (_PLACES - 1)
    return " ".join(text[place * step : place * step + _PLACE_CHARS] for place in range(_PLACES))


def _words(sample: str) -> list[str]:
    known = _index().languages
    words: list[str] = []
    for word in _WORD.findall(sample.lower().replace("’", "'")):
        if "'" in word and word not in known:
            words += _APOSTROPHE.split(word)  # "l'homme", "dell'anno"
        else:
            words.append(word)
    return words


def _by_words(words: Counter[str], script: str) -> str | None:
    """Choose by the small words; whatever speaks for another language as well leaves it open."""
    index = _index()
    hits: Counter[str] = Counter()
    for word, count in words.items():
        for language in index.languages.get(word, ()):
            hits[language] += count
    ours = [code for code in index.letters if hits[code]]
    best = max(ours, key=lambda code: hits[code], default=None)
    if best is None:
        return None
    num_words = words.total()
    num_kinds = sum(best in index.languages.get(word, ()) for word in words if word not in "¿¡")
    if num_kinds < _MIN_KINDS[script] or hits[best] < _MIN_SMALL[script] * num_words:
        return None
    if _num_strange(words, index.letters[best]) > _MAX_STRANGE * num_words:
        return None
    return best if all(_is_clear(words, best, other, hits) for other in hits if other != best) else None


def _is_clear(words: Counter[str], best: str, other: str, hits: Counter[str]) -> bool:
    """Tell whether a text is in one language and not in another, nor in both."""
    index = _index()
    is_ours = other in index.letters
    if hits[best] - hits[other] < (max(2, 0.34 * hits[best]) if is_ours else max(1, 0.15 * hits[best])):
        return False
    foreign = sum(
        count
        for word, count in words.items()
        if other in (having := index.languages.get(word, ())) and best not in having
    )
    return foreign <= (_MAX_FOREIGN if is_ours else _MAX_LIKE_NEIGHBOUR) * hits[best]


def _is_all_through(best: str, sentences: list[list[str]]) -> bool:
    """Tell whether each sentence of a short text has a small word of the language; of a long text, most."""
    known = _index().languages
    told = [any(best in known.get(word, ()) for word in words) for words in sentences if len(words) > 1]
    return told.count(False) <= _MAX_SILENT * len(told)


def _num_strange(words: Counter[str], letters: frozenset[str]) -> int:
    """Count the words with a letter that a language does not have."""
    return sum(count for word, count in words.items() if not letters.issuperset(word))


@cache
def _index() -> _Index:
    latin = frozenset("abcdefghijklmnopqrstuvwxyz'¿¡")
    languages: dict[str, set[str]] = {}
    letters: dict[str, frozenset[str]] = {}
    known: dict[str, Recognition] = dict(load_neighbours())
    for code in LANGUAGES:
        recognition = load_language(code).recognition
        if recognition is not None:
            known[code] = recognition
            letters[code] = latin.union(recognition.letters, "\u200c\u200d", map(chr, range(0x64B, 0x653)))
    for name, recognition in known.items():
        for word in recognition.stop_words:
            languages.setdefault(unicodedata.normalize("NFC", word), set()).add(name)
    return _Index({word: frozenset(names) for word, names in languages.items()}, letters)
