"""A second opinion on speech: what a recogniser of the user's own hears. None comes with this package.

The checks here know what the model knows; a recogniser hears what a listener would, mispronounced words too.
docs/ALIGN.md has an example. Read next: `voxtral.align.checks`.
"""

from __future__ import annotations

import difflib
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Transcriber(Protocol):
    """Turns speech into text; any recogniser, wrapped in a few lines."""

    def __call__(self, samples: npt.NDArray[np.float32], sample_rate: int, language: str) -> str:
        """Say what is heard.

        Args:
            samples: [S], mono.
            sample_rate: in Hz.
            language: code, such as "de".
        """
        ...


@dataclass(frozen=True)
class Transcript:
    """What a recogniser heard, against what was to be said.

    Attributes:
        text: as it was heard.
        error_rate: words to be changed, put in or left out, over the words of the text; characters where a script
            writes no spaces.
    """

    text: str
    error_rate: float


def transcribe(
    transcriber: Transcriber, text: str, samples: npt.NDArray[np.float32], sample_rate: int, language: str
) -> Transcript:
    """Let a recogniser hear speech, and compare.

    Case, punctuation and marks on letters count for nothing; numbers must be written as the recogniser writes them.

    >>> transcribe(lambda samples, rate, language: "hello my fiend", "Hello, my friend!", None, 24000, "en").error_rate
    0.3333333333333333
    """
    heard = transcriber(samples, sample_rate, language)
    return Transcript(heard, error_rate(text, heard))


def error_rate(wanted: str, heard: str) -> float:
    """Compare two texts: 0 where they are the same, 1 where nothing fits, more where much was added.

    >>> error_rate("one two three", "One, three."), error_rate("a b", "")
    (0.3333333333333333, 1.0)
    """
    first, second = _words(wanted), _words(heard)
    wrong = 0
    for kind, start, stop, begin, end in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        wrong += 0 if kind == "equal" else max(stop - start, end - begin)
    return wrong / max(1, len(first))


def _words(text: str) -> list[str]:
    letters = "".join(
        char if char.isalnum() else " "
        for char in unicodedata.normalize("NFKD", text).casefold()
        if unicodedata.category(char) != "Mn"
    )
    words = letters.split()
    return words if len(words) > 1 else list("".join(words)) if any(map(_is_unspaced, letters)) else words


def _is_unspaced(char: str) -> bool:
    return unicodedata.east_asian_width(char) == "W"
