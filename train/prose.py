"""Texts with prosody for the teachers: sentences, questions, lists, dialogue, odd punctuation, capitals, words.

Sentences are put together from the parts in `prose/CODE.txt`, and taken from `voxtral.cloning.texts`; both are this
project's own. A fifth are lists of words, everyday ones and those of the system's list, for spelling. Every kind of
odd punctuation is made on purpose, since a model swallows words around marks that it never saw. Read next:
`train.speak`.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from train.texts import TextSource, load_texts

_FOLDER = Path(__file__).parent / "prose"

# Kinds of text and how many in a hundred.
KINDS = {
    "sentence": 18, "question": 9, "list": 6, "dialogue": 8, "long": 12, "short": 6, "odd": 12, "capitals": 4,
    "letters": 2, "numbers": 3, "words": 20,
}  # fmt: skip

_QUESTION = {"es": ("¿", "?"), "fr": ("", " ?"), "ar": ("", "؟"), "ja": ("", "？")}
_EXCLAIM = {"es": ("¡", "!"), "fr": ("", " !"), "ja": ("", "！")}
_STOP = {"hi": "।", "ja": "。"}
_COMMA = {"ar": "،", "ja": "、"}
_QUOTES = (('"', '"'), ("“", "”"), ("'", "'"), ("‘", "’"), ("«", "»"), ("„", "“"), ("(", ")"), ("[", "]"), ("*", "*"))
_JAPANESE_QUOTES = (("「", "」"), ("『", "』"), ("（", "）"))
_LATIN = ("en", "fr", "de", "es", "it", "pt", "nl")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ACRONYMS = ("USB", "BBC", "IBM", "FBI", "DVD", "GPS", "HTML", "PDF", "UN", "EU", "CD", "TV", "XML", "DNA", "VIP")


@dataclass(frozen=True)
class Prose:
    """What a language's texts are made of.

    Attributes:
        language: its code.
        parts: by section of its file.
        source: names, sentences, frames and words.
    """

    language: str
    parts: dict[str, tuple[str, ...]]
    source: TextSource

    def draw(self, rng: random.Random, *, words: float | None = None) -> tuple[str, str]:
        """Draw a text: its kind, and the text as written.

        Args:
            rng: draws it.
            words: share of word lists; None is that of `KINDS`.
        """
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        if words is not None and rng.random() < words:
            kind = "words"
        text = self._makers[kind](rng)
        if kind in ("sentence", "long", "dialogue") and rng.random() < 0.06:
            text = text.rstrip(".。।")
        return kind, unicodedata.normalize("NFC", text)

    @property
    def _makers(self) -> dict[str, Callable[[random.Random], str]]:
        return {
            "sentence": self._sentence,
            "question": self._question,
            "list": lambda rng: self._fill(self._part("lists", rng), rng),
            "dialogue": lambda rng: self._fill(self._part("said", rng), rng),
            "long": self._long,
            "short": self._short,
            "odd": self._odd,
            "capitals": self._capitals,
            "letters": self._spelled,
            "numbers": self._numbers,
            "words": self._words,
        }

    def _part(self, section: str, rng: random.Random) -> str:
        return rng.choice(self.parts[section])

    def _fill(self, frame: str, rng: random.Random) -> str:
        def replace(match: re.Match[str]) -> str:
            slot = match.group(1)
            if slot == "name":
                return rng.choice(self.source.names)
            if slot == "S":
                return capitalise(take("clauses"))
            if slot == "x":
                return self._part("exclaims", rng)
            section = {"s": "clauses", "q": "questions", "o": "openers", "r": "reasons", "i": "items"}[slot]
            return take(section)

        def take(section: str) -> str:
            part = rng.choice([each for each in self.parts[section] if each not in used])
            used.add(part)
            return part

        used: set[str] = set()
        text = re.sub(r"\{(\w+)\}", replace, frame)
        return capitalise(text)

    def _sentence(self, rng: random.Random) -> str:
        if rng.random() < 0.45:
            return rng.choice(self.source.sentences)
        return self._fill(rng.choice(self.parts["joins"][:4]), rng)

    def _question(self, rng: random.Random) -> str:
        before, after = _QUESTION.get(self.language, ("", "?"))
        asked = self._part("questions", rng)
        if rng.random() < 0.2:
            opener = self._part("openers", rng)
            comma = _COMMA.get(self.language, ",") + ("" if self.language == "ja" else " ")
            return capitalise(opener) + comma + before + uncapitalise(asked, self.language) + after
        return before + asked + after

    def _exclaim(self, rng: random.Random) -> str:
        before, after = _EXCLAIM.get(self.language, ("", "!"))
        return before + self._part("exclaims", rng) + after

    def _long(self, rng: random.Random) -> str:
        text = self._fill(rng.choice(self.parts["joins"][3:]), rng)
        wanted = rng.choice((60, 80, 110, 150))
        while len(text) < wanted:
            more = rng.choice((self._question, self._exclaim, self._sentence))(rng)
            text += ("" if self.language == "ja" and rng.random() < 0.5 else " ") + more
        return text

    def _short(self, rng: random.Random) -> str:
        kind = rng.random()
        if kind < 0.35:
            return self._exclaim(rng)
        if kind < 0.6:
            return capitalise(self._part("items", rng)) + rng.choice((".", "!", "?", "...", "", ","))
        if kind < 0.8:
            short = [sentence for sentence in self.source.sentences if len(sentence) <= 22]
            return rng.choice(short or self.source.sentences)
        return capitalise(self.source.draw_word(rng)) + rng.choice((".", "!", "?", "", "…"))

    def _words(self, rng: random.Random) -> str:
        comma, stop = _COMMA.get(self.language, ","), _STOP.get(self.language, ".")
        words = [self.source.draw_word(rng) for _ in range(rng.randint(2, 9))]
        joint = rng.choice((" ", comma + " ", comma + " ", ". "))
        return capitalise(joint.join(words)) + rng.choice((stop, stop, "", "!"))

    def _plain(self, rng: random.Random) -> str:
        return rng.choice((self._sentence, self._sentence, self._question, self._long))(rng)

    def _odd(self, rng: random.Random) -> str:
        text = self._plain(rng)
        for _ in range(rng.choice((1, 1, 2))):
            text = rng.choice(ODDITIES)(text, self, rng)
        return text

    def _capitals(self, rng: random.Random) -> str:
        text = self._plain(rng) if self.language in _LATIN else self._sentence(rng)
        words = text.split(" ")
        kind = rng.random()
        if self.language not in _LATIN:  # no capitals of its own: a short one of another script
            words.insert(rng.randint(0, len(words)), rng.choice(_ACRONYMS)) if self.language == "hi" else None
            return " ".join(words)
        if kind < 0.35:
            return text.upper()
        if kind < 0.7:
            index = rng.randrange(len(words))
            words[index] = words[index].upper()
        elif kind < 0.85:
            words = [capitalise(word) for word in words]
        else:
            start = rng.randrange(len(words))
            words[start : start + 3] = [word.upper() for word in words[start : start + 3]]
        return " ".join(words)

    def _spelled(self, rng: random.Random) -> str:
        if self.language not in _LATIN:
            return self._words(rng)
        letters = [rng.choice(_LETTERS) for _ in range(rng.randint(2, 6))]
        joint = rng.choice((" ", ". ", ", ", "-", "."))
        spelled = joint.join(letters)
        if joint == ".":
            spelled += "."
        return rng.choice(
            (f"{capitalise(self.source.draw_word(rng))}: {spelled}", spelled, rng.choice(_ACRONYMS) + ".")
        )

    def _numbers(self, rng: random.Random) -> str:
        if self.language == "ja":
            return self._words(rng)
        frames = [frame for frame in self.source.frames if "{n}" in frame]
        frame = rng.choice(frames)

        def replace(match: re.Match[str]) -> str:
            slot = match.group(1)
            if slot == "n":
                return str(rng.choice((rng.randint(0, 20), rng.randint(20, 100), rng.randint(100, 2100))))
            return rng.choice(self.source.names) if slot == "name" else rng.choice(self.source.common[:400])

        return capitalise(re.sub(r"\{(\w+)\}", replace, frame))


def capitalise(text: str) -> str:
    """Write the first letter large, past opening marks.

    >>> capitalise("«el perro»")
    '«El perro»'
    """
    found = re.search(r"[^\W\d_]", text)
    if found is None or found.start() > 3:
        return text
    return text[: found.start()] + found.group().upper() + text[found.end() :]


def uncapitalise(text: str, language: str) -> str:
    """Write the first letter small, if the language begins common words so."""
    return text if language in ("hi", "ar", "ja") else text[:1].lower() + text[1:]


def _between(text: str, mark: str, rng: random.Random) -> str:
    spaces = [found.start() for found in re.finditer(" ", text)]
    if not spaces:
        return text + mark.rstrip()
    at = rng.choice(spaces)
    return text[:at].rstrip(",;:.、，") + mark + text[at + 1 :]


def _ellipsis(text: str, prose: Prose, rng: random.Random) -> str:
    return _between(text, rng.choice((" ... ", "... ", "… ", " … ", " .. ", " . . . ", "...", "….. ")), rng)


def _dash(text: str, prose: Prose, rng: random.Random) -> str:
    return _between(text, rng.choice((" - ", " – ", "—", " — ", " -- ", "--", " -", " ― ")), rng)


def _mark(text: str, prose: Prose, rng: random.Random) -> str:
    return _between(
        text, rng.choice((",, ", " , ", "; ", " ; ", ": ", " : ", " | ", " / ", "! ", "? ", "?! ", ".. ")), rng
    )


def _ending(text: str, prose: Prose, rng: random.Random) -> str:
    ends = ("?!", "!!!", "?!?!", "...", "…", "..", "??", "!?", " !", " ?", ",", ";", ":", " -", '."', "!!1", "~")
    return text.rstrip(".。।!?？！؟ ") + rng.choice(ends)


def _quote(text: str, prose: Prose, rng: random.Random) -> str:
    before, after = rng.choice(_JAPANESE_QUOTES if prose.language == "ja" else _QUOTES)
    words = text.split(" ")
    start = rng.randrange(len(words))
    stop = min(len(words), start + rng.randint(1, 3))
    core = words[stop - 1].rstrip(".,;:!?。、।")
    words[stop - 1] = core + after + words[stop - 1][len(core) :]
    words[start] = before + words[start]
    return " ".join(words)


def _spaces(text: str, prose: Prose, rng: random.Random) -> str:
    blank = rng.choice(("  ", "   ", "\n", " \n", "\u00a0", "\t", "\u202f"))
    return rng.choice(("", " ", "  ")) + _between(text, blank, rng) + rng.choice(("", " ", "\n"))


def _lower(text: str, prose: Prose, rng: random.Random) -> str:
    return text.lower().rstrip(".!?")


def _initials(text: str, prose: Prose, rng: random.Random) -> str:
    if prose.language not in _LATIN:
        return _quote(text, prose, rng)
    name = rng.choice(prose.source.names)
    initials = " ".join(f"{rng.choice(_LETTERS)}." for _ in range(rng.randint(1, 2)))
    return rng.choice((f"{initials} {name}: {text}", f"{name} {initials}: {text}", f"{text} ({initials})"))


def _foreign(text: str, prose: Prose, rng: random.Random) -> str:
    if prose.language not in _LATIN:
        return _dash(text, prose, rng)
    other = load_prose(rng.choice([code for code in _LATIN if code != prose.language]), None)
    return _between(text, f" {rng.choice(other.source.names)} ", rng)


def _commas(text: str, prose: Prose, rng: random.Random) -> str:
    comma = _COMMA.get(prose.language, ",")
    words = text.split(" ")
    return " ".join(
        word + comma if rng.random() < 0.3 and word[-1:].isalpha() and index + 1 < len(words) else word
        for index, word in enumerate(words)
    )


ODDITIES = (_ellipsis, _ellipsis, _dash, _dash, _mark, _mark, _ending, _ending, _quote, _quote, _spaces, _lower,
            _initials, _foreign, _commas)  # fmt: skip


@cache
def load_prose(language: str, word_lists: Path | None = Path("/")) -> Prose:
    """Read the material of a language.

    Args:
        language: its code.
        word_lists: the root below which the system's word lists lie; None does without.

    Raises:
        TextSourceError: a file is missing, or a word list.
    """
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (_FOLDER / f"{language}.txt").read_text(encoding="utf-8").splitlines():
        if re.fullmatch(r"\[\w+\]", line):
            current = sections.setdefault(line[1:-1], [])
        elif line.strip() and not line.startswith("#"):
            current.append(line)
    source = load_texts(language, with_word_list=word_lists is not None, root=word_lists or Path("/"))
    return Prose(language, {name: tuple(lines) for name, lines in sections.items()}, source)
