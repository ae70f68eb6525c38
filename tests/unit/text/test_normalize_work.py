"""The work that a text makes grows with its length: counted in calls, which no other program on the machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from benchmarks.dense_texts import text_of
from voxtral.text.normalize import normalize

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "ar", "hi", "ja")
# Calls for each character, of Python and of what is built in: about 20 in a list of fractions, 60 in signs at random.
_MOST_CALLS = 120


def _calls(work: Callable[[], object]) -> int:
    """Count the calls that some work makes, of functions and of what is built in."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(
    ("language", "kind"),
    [
        *((language, "dense") for language in LANGUAGES),
        *(
            (language, kind)
            for language in ("en", "ja")
            for kind in ("fractions", "telephone numbers", "signs at random")
        ),
    ],
)
def test_twice_the_text_makes_twice_the_work(language: str, kind: str) -> None:
    short = text_of(kind, language, 700)
    # Filters judge what they have not seen.
    normalize(short, language)
    once = _calls(lambda: normalize(short, language))
    twice = _calls(lambda: normalize(f"{short} {short}", language))
    assert twice < 2.5 * once
    assert once < _MOST_CALLS * len(short)


@pytest.mark.parametrize(
    "unit",
    [
        "1(",
        "1) ",
        '5" ',
        "z. B. ",
        "a.",
        "§5/",
        "$ ",
        "1/2/",
        "+1-",
        "1:1:",
        "м5",
        "Nr. ",
        "https://a.b/1-",
        "@a.b",
        "#a1",
        "V. ",
        "U.S.",
        "1 ",
        "12 34 ",
        "1.",
        "1,",
        "½",
        "Mai 1 ",
        "5 Mio. ",
        "... 5 ",
        "- 1\n\n",
    ],
)
def test_no_text_makes_more_than_linear_work(unit: str) -> None:
    short, long = (unit * (size // len(unit)) for size in (300, 1200))
    normalize(long, "de")
    once = max(_calls(lambda: normalize(short, "de")), 3_000)
    # Four times the text: 4 times the work if linear, 16 times if quadratic.
    assert _calls(lambda: normalize(long, "de")) < 7 * once
