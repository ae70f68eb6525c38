"""The cheap bound on speech that ended far too early: nobody says more letters a second than people can.

It needs no attention, so it works for any checkpoint. Where earlier speech of the same voice is known, its own pace
says more. Read next: `voxtral.align.checks`, which judges by it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

# Letters a second, silence left out: of 240 good sentences of nano in ten languages none has more than 19.2
# (docs/ALIGN.md); quick speakers come to about 20.
MAX_PACE = 25.0
# Of the time that a voice is expected to need; nano says sentences in 0.82 to 1.23 of it.
_LEAST_SHARE = 0.6
_MOST_SHARE = 3.0
# Before so much is known of a voice, in letters, its pace is not.
_MIN_KNOWN = 60.0
# Speech may be shorter by so much without a letter missing: its first and last sounds are quiet.
_EDGES_S = 0.1

_KANA = ("HIRAGANA", "KATAKANA")


@dataclass(frozen=True)
class KnownPace:
    """How fast a voice speaks, as far as it has been heard. A value: `with_speech` gives another.

    Attributes:
        letters: that were said, as `count_letters` counts.
        seconds: that they took, silence left out.
    """

    letters: float = 0.0
    seconds: float = 0.0

    def with_speech(self, letters: float, seconds: float) -> KnownPace:
        """Add speech that says its text."""
        return KnownPace(self.letters + letters, self.seconds + seconds)

    @property
    def letters_a_second(self) -> float | None:
        """Its pace; None while too little is known."""
        return self.letters / self.seconds if self.letters >= _MIN_KNOWN and self.seconds > 0 else None

    def expected_s(self, letters: float) -> float | None:
        """Seconds that the voice will need for a text; None while too little is known."""
        pace = self.letters_a_second
        return None if pace is None else letters / pace


def count_letters(text: str) -> float:
    """Weigh a text by the least that it takes to say, a Latin letter being 1.

    >>> count_letters("Yes, 7."), count_letters("你好")
    (5.5, 5.0)
    """
    return sum(map(_weight, text))


def _weight(char: str) -> float:
    category = unicodedata.category(char)
    if category[0] == "N":
        return 2.5  # "7" is a word, "70" hardly a longer one
    if category[0] == "M":
        return 0.5  # a vowel, or a mark that changes nothing
    if category[0] != "L":
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        name = unicodedata.name(char, "")
        return 1.5 if name.startswith(_KANA) else 2.5  # a short syllable, and a whole one
    return 1.0


def least_seconds(letters: float, known: KnownPace | None = None) -> float:
    """Give the least time in which a text can have been said.

    Args:
        letters: of the text, as `count_letters` counts.
        known: of the voice.
    """
    expected = None if known is None else known.expected_s(letters)
    by_voice = 0.0 if expected is None else _LEAST_SHARE * expected
    return max(0.0, letters / MAX_PACE, by_voice) - _EDGES_S


def most_seconds(letters: float, known: KnownPace | None = None) -> float | None:
    """Give the most that a text takes in a voice; None while too little is known of it.

    Args:
        letters: of the text.
        known: of the voice.
    """
    expected = None if known is None else known.expected_s(letters)
    return None if expected is None else 1.0 + _MOST_SHARE * expected
