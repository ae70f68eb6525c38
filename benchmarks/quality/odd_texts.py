"""Odd texts: what people paste in, each with a plain twin that says what is to be heard of it.

`benchmarks/texts/odd/LANGUAGE.jsonl` has a text a line: `id`, `language`, `class`, `text`, and `plain`, the twin. Where
nano has no sound for a token (digits, emoji, another script) or a reader might say it in more than one way
(abbreviations), the twin has a gap in braces: `{}`, or `{eight forty-five}` with the words of a reader. Letters that
are spelled are gaps too, without braces (`spelled_letters`). What is said in a gap is not judged, the words around it
are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.spelled_letters import find_spelled
from train.corpus import CorpusError
from train.texts import LANGUAGES

ODD_TEXTS = Path(__file__).parents[1] / "texts" / "odd"
CLASSES = (
    "ellipsis", "marks", "initials", "abbreviation", "list", "foreign", "quotes", "dashes", "emoji", "spaces", "lines",
    "capitals", "letters", "digits", "forms", "short", "long",
)  # fmt: skip

_FIELDS = {"id", "language", "class", "text", "plain"}
_GAP = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class OddText:
    """A text and its twin.

    Attributes:
        id: language, class and number, such as en-ellipsis-1.
        language: of the text.
        kind: its class, one of CLASSES.
        text: what is spoken, verbatim.
        plain: what is to be heard, with gaps in braces.
    """

    id: str
    language: str
    kind: str
    text: str
    plain: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Cut the twin at its gaps: what is judged and the words of a gap in turn, the judged ones first and last.

        >>> OddText("en-foreign-9", "en", "foreign", "Hello 你好 there", "Hello {} there").parts
        ('Hello', '', 'there')
        """
        return tuple(part for part, _ in self._cut())

    @property
    def letter_gaps(self) -> frozenset[int]:
        """The numbers of the parts that are spelled letters.

        >>> text = OddText("en-initials-9", "en", "initials", "The U.K. has 4", "The U K has {four}")
        >>> text.parts, sorted(text.letter_gaps)
        (('The', 'U K', 'has', 'four', ''), [1])
        """
        return frozenset(number for number, (_, is_spelled) in enumerate(self._cut()) if is_spelled)

    def _cut(self) -> list[tuple[str, bool]]:
        """Cut the twin into its parts, and say of each whether it is spelled letters."""
        found: list[tuple[str, bool]] = []
        for number, piece in enumerate(_GAP.split(self.plain)):
            if number % 2:
                found.append((piece.strip(), False))
                continue
            at = 0
            for start, stop in find_spelled(piece, self.language):
                found += [(piece[at:start].strip(), False), (piece[start:stop], True)]
                at = stop
            found.append((piece[at:].strip(), False))
        return found


def read_odd_texts(languages: Sequence[str] = LANGUAGES, folder: Path = ODD_TEXTS) -> list[OddText]:
    """Read the odd texts of languages, in order.

    Raises:
        CorpusError: a file is missing, or a line of it is not an odd text.
    """
    return [text for language in languages for text in _read(folder / f"{language}.jsonl")]


def _read(path: Path) -> Iterator[OddText]:
    if not path.is_file():
        raise CorpusError(f"{path} is missing; every language has a file of odd texts; restore it")
    # Not `splitlines`, which would also cut at the odd line ends that texts are made of.
    for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), start=1):
        fields = json.loads(line)
        if set(fields) != _FIELDS or fields["class"] not in CLASSES or fields["language"] != path.stem:
            raise CorpusError(
                f"{path.name}:{number} has the fields {sorted(fields)}, class {fields.get('class')!r} and language "
                f"{fields.get('language')!r}; it needs {sorted(_FIELDS)}, a class of {', '.join(CLASSES)}, and the "
                "language of its file"
            )
        yield OddText(fields["id"], fields["language"], fields["class"], fields["text"], fields["plain"])
