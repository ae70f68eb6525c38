"""Sentences with numbers, dates and money, as they are written and as a careful speaker says them.

`benchmarks/texts/numbers/LANGUAGE.txt` has 100, one a line, with what is said in braces behind what is written:
`{14:30|fourteen thirty|two thirty PM}`. The words are those of whoever wrote the sentence, not of the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from benchmarks.quality.odd_texts import ODD_TEXTS, OddText
from train.corpus import CorpusError
from train.texts import LANGUAGES

NUMBER_TEXTS = ODD_TEXTS.parent / "numbers"

_MARKED = re.compile(r"\{([^{}|]+)((?:\|[^{}|]+)+)\}")


@dataclass(frozen=True)
class Sentence:
    """A sentence as it is written, and how it is said.

    Attributes:
        id: language and line, such as en-numbers-7.
        language: of it.
        written: with digits and signs.
        readings: in words; the first is the usual one.
    """

    id: str
    language: str
    written: str
    readings: tuple[str, ...]

    def as_texts(self) -> Iterator[OddText]:
        """Give each reading as a text of its own, for the teacher to say."""
        for number, reading in enumerate(self.readings):
            yield OddText(f"{self.id}/{number}", self.language, "numbers", reading, reading)

    def text_for(self, way: str) -> OddText:
        """Give what is spoken: the words, or what is written."""
        text = self.readings[0] if way == "words" else self.written
        return OddText(self.id, self.language, "numbers", text, self.readings[0])


def parse_sentence(id: str, language: str, line: str) -> Sentence:
    """Read a line.

    >>> parse_sentence("en-numbers-1", "en", "At {2:30|half past two|two thirty}.").readings
    ('At half past two.', 'At two thirty.')
    """
    choices = [found[1:].split("|") for _, found in _MARKED.findall(line)]
    readings: list[str] = []
    for chosen in product(*choices):
        rest = iter(chosen)
        readings.append(_MARKED.sub(lambda _, rest=rest: next(rest), line))
    return Sentence(id, language, _MARKED.sub(r"\1", line), tuple(readings))


def read_sentences(languages: Sequence[str] = LANGUAGES) -> list[Sentence]:
    """Read the sentences of languages.

    Raises:
        CorpusError: a file is missing, or a line keeps a digit or a brace in its readings.
    """
    found: list[Sentence] = []
    for language in languages:
        path = NUMBER_TEXTS / f"{language}.txt"
        if not path.is_file():
            raise CorpusError(f"{path} is missing; every language has sentences with numbers; restore it")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            sentence = parse_sentence(f"{language}-numbers-{number}", language, line)
            if re.search(r"[\d{}|]", " ".join(sentence.readings)):
                raise CorpusError(
                    f"{path.name}:{number} keeps a digit or a brace in what is said; write {{14:30|half past two}}"
                )
            found.append(sentence)
    return found
