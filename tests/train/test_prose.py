"""Texts for the teachers: nothing of the tests is in them, and every kind and every oddity occurs."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from train.prose import KINDS, ODDITIES, Prose, load_prose
from train.texts import LANGUAGES

ROOT = Path(__file__).parents[2]
TEXTS = ROOT / "benchmarks" / "texts"
DRAWS = 150
SLOTS = re.compile(r"\{(\w+)\}")


def draw(language: str, count: int = DRAWS) -> list[tuple[str, str]]:
    prose = load_prose(language, None)
    return [prose.draw(random.Random(f"{language}-{number}")) for number in range(count)]


def plain(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def kept_from_training(language: str) -> set[str]:
    """Sentences of tests, with what is not a letter left out; those of a word or two occur anywhere."""
    found = []
    for split in ("test", "dev"):
        lines = (TEXTS / split / f"{language}.txt").read_text(encoding="utf-8").splitlines()
        found += [line for line in lines if line and not line.startswith("#")]
    for line in (TEXTS / "odd" / f"{language}.jsonl").read_text(encoding="utf-8").splitlines():
        found.append(json.loads(line)["text"])
    return {plain(text) for text in found if len(text.split()) > 3 or len(text) > 20}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_of_the_tests_is_in_the_material(language: str) -> None:
    prose = load_prose(language, None)
    material = [*prose.source.sentences, *(line for lines in prose.parts.values() for line in lines)]
    joined = "|".join(plain(text) for text in material)
    assert not [text for text in kept_from_training(language) if text in joined]
    drawn = "|".join(plain(text) for _, text in draw(language))
    assert not [text for text in kept_from_training(language) if text in drawn]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_slot_of_a_frame_is_filled(language: str) -> None:
    parts = load_prose(language, None).parts
    assert set(parts) == {
        "openers", "clauses", "reasons", "questions", "exclaims", "items", "said", "joins", "lists",
    }  # fmt: skip
    slots = {slot for section in ("said", "joins", "lists") for line in parts[section] for slot in SLOTS.findall(line)}
    assert slots <= {"S", "s", "q", "x", "o", "r", "i", "name"}
    assert not [text for _, text in draw(language, 60) if "{" in text or not text.strip()]


def test_all_kinds_occur_and_words_are_a_fifth() -> None:
    counts = Counter(kind for language in ("en", "es", "de") for kind, _ in draw(language, 400))
    assert set(counts) == set(KINDS)
    assert sum(KINDS.values()) == 100
    assert counts["words"] == pytest.approx(240, abs=50)


def test_lengths_go_from_a_word_to_more_than_110_characters() -> None:
    lengths = [len(text) for _, text in draw("en", 400)]
    assert min(lengths) <= 6
    assert 110 < max(lengths) < 400


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_oddity_leaves_the_letters_in_their_order(language: str) -> None:
    prose = load_prose(language, None)
    for oddity in ODDITIES:
        rng = random.Random(f"{language}-{oddity.__name__}")
        text = prose.source.sentences[40]
        odd = oddity(text, prose, rng)
        letters = iter(plain(odd))
        assert all(letter in letters for letter in plain(text)), (text, odd)
        if oddity.__name__ not in ("_lower", "_commas"):
            assert odd != text


def test_what_nano_swallowed_is_among_the_texts() -> None:
    texts = [text for language in ("en", "fr", "it") for _, text in draw(language, 500)]
    joined = "\n".join(texts)
    for pattern in (
        r"\w ?\.\.\.? ?\w",
        r"\w… ?\w",
        r" - ",
        r"—",
        r"\?!",
        r"\b[A-Z]\. [A-Z]",
        r"[«“„]",
        r"\n| {2}",
        r"[A-ZÀ-Ü]{4}",
    ):
        assert re.search(pattern, joined), pattern
    assert [text for text in texts if text.isupper() and len(text) > 20]
    assert [text for text in texts if text.islower()]


def test_the_same_seed_draws_the_same_text() -> None:
    prose: Prose = load_prose("pt", None)
    assert prose.draw(random.Random("x")) == prose.draw(random.Random("x"))
