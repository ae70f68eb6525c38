"""Graphemes by Unicode's rules, found in time that grows with the length."""

from __future__ import annotations

import time

import pytest

from voxtral.text.graphemes import grapheme_ends, starts_grapheme


@pytest.mark.parametrize(
    "grapheme",
    [
        "a",
        "e\u0301",
        "\r\n",
        "👨‍👩‍👧",
        "👍🏽",
        "❤️",
        "1️⃣",
        "🇩🇪",
        "🇩🇪\u0301",
        "🏴\U000e0067\U000e0062\U000e007f",
        "क्ष",  # GB9c: a conjunct is one
        "स्त्री",
        "క్ష",
        "น้ำ",
        "\u1112\u1161\u11ab",
        "ｶﾞ",
    ],
)
def test_a_grapheme_is_one_and_two_are_two(grapheme: str) -> None:
    size = len(grapheme)
    assert grapheme_ends(grapheme * 2, 0, 2 * size) == [size, 2 * size]
    assert grapheme_ends(f"x{grapheme}x", 0, size + 2) == [1, size + 1, size + 2]


def test_what_the_rules_part_is_parted() -> None:
    assert grapheme_ends("க்ஷ", 0, 3) == [2, 3]  # no conjunct in Tamil
    assert grapheme_ends("a\u200db", 0, 3) == [2, 3]
    assert grapheme_ends("\n\u0301", 0, 2) == [1, 2]


def test_the_character_at_the_stop_decides_whether_one_ends_there() -> None:
    assert grapheme_ends("ae\u0301", 0, 2) == [1]
    assert grapheme_ends("aeu", 0, 2) == [1, 2]
    assert grapheme_ends("🇩🇪🇫🇷", 0, 3) == [2]
    assert grapheme_ends("🇩🇪🇫🇷", 1, 4) == [3, 4]


@pytest.mark.parametrize(
    ("pair", "is_start"),
    [(" a", True), (" \u0301", False), (" \u200d", False), ("\n\u0301", True), (" 日", True), ("。ﾞ", False)],
)
def test_the_start_of_a_grapheme(pair: str, is_start: bool) -> None:
    assert starts_grapheme(pair, 1) is is_start


@pytest.mark.parametrize("unit", ["a", "🇩🇪", "👨‍👩‍👧", "\u0301", "क्ष"])
def test_time_grows_with_the_length_and_not_with_its_square(unit: str) -> None:
    def cpu_seconds(size: int) -> float:
        text = unit * (size // len(unit))
        start = time.process_time()
        grapheme_ends(text, 0, len(text))
        return time.process_time() - start

    base = max(min(cpu_seconds(2_000) for _ in range(2)), 0.001)
    assert any(cpu_seconds(32_000) < 64 * base for _ in range(2))
