"""Texts that speech is made of to learn from: this project's own words, names, sentence frames and sentences.

What a language has is in the sections of `texts/CODE.txt`; texts are composed of it. No torch.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from voxtral.errors import VoxtralError
from voxtral.text.normalize import normalize

LANGUAGES = ("en", "fr", "de", "es", "it", "pt", "nl", "ar", "hi", "ja")

# What Arabic writes together with a word: articles, prepositions and conjunctions before it, pronouns and endings
# behind it. The word list has stems.
_PREFIXES = {"ar": ("ال", "و", "وال", "ب", "بال", "لل", "ل", "ف", "ك")}
_SUFFIXES = {"ar": ("ه", "ها", "هم", "نا", "ي", "ك", "ة", "ات", "ون", "ين", "ا")}
_PREFIX_SHARE, _SUFFIX_SHARE = 0.35, 0.15

# Everyday words instead of the list's; of Arabic words most have to be learned one by one.
_COMMON_SHARE, _COMMON_SHARES = 0.55, {"ar": 0.35}

_ENDS = {"hi": ("।", "।", "?", "!"), "ar": (".", ".", "؟", "!"), "ja": ("。", "。", "？", "！")}
_COMMAS = {"ar": "،", "ja": "、"}
_KANA = [chr(code) for code in range(0x3042, 0x3094) if chr(code) not in "ぃぅぇぉっゃゅょゎゐゑをぢづん"]


class TextSourceError(VoxtralError):
    """A text file or a word list is missing or malformed."""

    code = "text_source_failed"


@dataclass(frozen=True)
class TextSource:
    """All the text material of one language.

    `words` is the system's list, rare words mostly; `common` the everyday words.
    """

    language: str
    common: tuple[str, ...]
    names: tuple[str, ...]
    frames: tuple[str, ...]
    sentences: tuple[str, ...]
    words: tuple[str, ...]

    def draw(self, rng: random.Random) -> str:
        """Compose one text: a sentence, a filled frame, loose words, or a fragment of these."""
        kind = rng.random()
        if kind < 0.15:
            text = rng.choice(self.sentences)
        elif kind < 0.50:
            text = self._fill(rng.choice(self.frames), rng)
        elif kind < 0.88:
            text = self._loose_words(rng)
        elif kind < 0.95:
            text = self._fragment(self._fill(rng.choice(self.frames), rng), rng)
        else:
            text = self._fill(rng.choice(self.frames), rng) + " " + rng.choice(self.sentences)
        return self._finish(text, rng)

    def _finish(self, text: str, rng: random.Random) -> str:
        if self.language == "ja" and rng.random() < 0.5:
            text = text.replace(" ", "")
        # Digits reach the model when it is called directly, words when the text layer is used.
        if self.language != "ja" and re.search(r"\d", text) and rng.random() < 0.6:
            text = normalize(text, self.language).text
        return text.lower() if rng.random() < 0.1 else text

    def draw_word(self, rng: random.Random) -> str:
        """Draw an everyday word, one of the list, or, in Japanese, made-up kana."""
        if self.language == "ja" and rng.random() < 0.4:
            return "".join(rng.choice(_KANA) for _ in range(rng.randint(2, 4)))
        if rng.random() < _COMMON_SHARES.get(self.language, _COMMON_SHARE) or not self.words:
            return self._common(rng)
        return self._inflect(rng.choice(self.words), rng)

    def _inflect(self, word: str, rng: random.Random) -> str:
        if self.language in _PREFIXES and not word.startswith(_PREFIXES[self.language][0]):
            if rng.random() < _PREFIX_SHARE:
                word = rng.choice(_PREFIXES[self.language]) + word
            if rng.random() < _SUFFIX_SHARE:
                word += rng.choice(_SUFFIXES[self.language])
        return word

    def _common(self, rng: random.Random) -> str:
        # Frequent words first in the list, so squaring favours them.
        return self.common[int(len(self.common) * rng.random() ** 2)]

    def _fill(self, frame: str, rng: random.Random) -> str:
        def replace(match: re.Match[str]) -> str:
            slot = match.group(1)
            if slot == "w":
                return self.draw_word(rng)
            if slot == "c":
                return self._common(rng)
            if slot == "name":
                return rng.choice(self.names)
            return str(rng.choice((rng.randint(0, 20), rng.randint(0, 100), rng.randint(100, 2100))))

        return re.sub(r"\{(\w+)\}", replace, frame)

    def _loose_words(self, rng: random.Random) -> str:
        count = min(rng.randint(1, 14), rng.randint(1, 14))
        words = [self.draw_word(rng) for _ in range(count)]
        comma = _COMMAS.get(self.language, ",")
        for index in range(count - 1):
            if rng.random() < 0.08:
                words[index] += comma
        text = " ".join(words)
        if rng.random() < 0.7:
            text = text[0].upper() + text[1:]
        return text + rng.choice(_ENDS.get(self.language, (".", ".", "?", "!"))) if rng.random() < 0.85 else text

    def _fragment(self, text: str, rng: random.Random) -> str:
        words = text.split()
        count = rng.randint(1, 3)
        start = rng.randint(0, max(0, len(words) - count))
        return " ".join(words[start : start + count]).strip(" ,;:") or text


def load_texts(language: str, words: Sequence[str] = ()) -> TextSource:
    """Read the material of a language.

    Args:
        language: its code.
        words: rare words besides.

    Raises:
        TextSourceError: a file is missing, or lacks a section.
    """
    path = files("voxtral.cloning").joinpath("texts", f"{language}.txt")
    if language not in LANGUAGES or not path.is_file():
        raise TextSourceError(f"{path} is missing; every language needs its own texts; restore it")
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if re.fullmatch(r"\[\w+\]", line):
            current = sections.setdefault(line[1:-1], [])
        else:
            current.append(line)
    missing = {"common", "names", "frames", "sentences"} - set(sections)
    if missing:
        raise TextSourceError(f"{path} lacks {sorted(missing)}; it needs four sections; restore it")
    return TextSource(
        language=language,
        common=tuple(" ".join(sections["common"]).split()),
        names=tuple(name.replace("_", " ") for name in _split_names(sections["names"])),
        frames=tuple(sections["frames"]),
        sentences=tuple(sections["sentences"]),
        words=tuple(words),
    )


def _split_names(lines: list[str]) -> list[str]:
    # One name to a line may hold spaces; several to a line are separated by them.
    return [name for line in lines for name in (line.split() if len(line.split()) > 3 else [line])]
