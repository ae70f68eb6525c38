"""The odd texts are as many as promised, of every class and language, and their twins say nothing odd."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.quality.odd_texts import CLASSES, OddText, read_odd_texts
from train.corpus import CorpusError
from train.texts import LANGUAGES

TEXTS = read_odd_texts()

# Texts that were found to lose words, as they were found.
_GIVEN = (
    "Hello there, my ... friend, the train leaves at noon today.",
    "The U.S. economy grew. The U.K. did not follow it.",
    "A. B. C. D. E. F. G. H.",
    "Hello 你好 there, my friend.",
)


def test_there_are_300_and_15_of_each_class_and_language() -> None:
    assert len(TEXTS) >= 300
    by_class, by_language = Counter(text.kind for text in TEXTS), Counter(text.language for text in TEXTS)
    assert set(by_class) == set(CLASSES)
    assert min(by_class.values()) >= 15
    assert set(by_language) == set(LANGUAGES)
    assert min(by_language.values()) >= 15


def test_ids_are_unique_and_say_language_and_class() -> None:
    assert len({text.id for text in TEXTS}) == len(TEXTS)
    assert all(text.id.rsplit("-", 1)[0] == f"{text.language}-{text.kind}" for text in TEXTS)


def test_no_text_is_there_twice() -> None:
    assert len({(text.language, text.text) for text in TEXTS}) == len(TEXTS)


def test_lengths_go_from_1_to_400() -> None:
    lengths = [len(text.text) for text in TEXTS]
    assert (min(lengths), max(lengths)) == (1, 400)


def test_what_was_found_is_among_them() -> None:
    english = {text.text for text in TEXTS if text.language == "en"}
    assert english >= set(_GIVEN)


def test_every_kind_of_space_and_line_end_occurs() -> None:
    written = "".join(text.text for text in TEXTS)
    assert all(space in written for space in ("\u00a0", "\u2009", "\u202f", "\u3000", "\u200b", "\t", "\r\n", "\n\n"))
    assert any(text.text != text.text.lstrip() for text in TEXTS)
    assert any(text.text != text.text.rstrip() for text in TEXTS)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.id)
def test_a_twin_is_plain(text: OddText) -> None:
    judged = "".join(text.parts[::2])
    assert any(char.isalpha() for char in judged) or set(range(1, len(text.parts), 2)) == text.letter_gaps
    assert not any(char.isdigit() for char in judged + "".join(text.parts[1::2]))
    assert text.plain == " ".join(text.plain.split())
    # Joiners are letters to Devanagari, but no twin needs one.
    assert not any(unicodedata.category(char) in ("Cf", "Cc", "So") for char in judged)
    assert "..." not in judged
    assert "…" not in judged


def test_a_gap_without_words_is_an_empty_part() -> None:
    assert OddText("en-digits-9", "en", "digits", "9 of 10", "{nine} of {}").parts == ("", "nine", "of", "", "")


@pytest.mark.parametrize(
    "change", [{"class": "odd"}, {"language": "fr"}, {"more": 1}], ids=["class", "language", "field"]
)
def test_a_wrong_line_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    line = {"id": "en-short-1", "language": "en", "class": "short", "text": "I", "plain": "I"}
    (tmp_path / "en.jsonl").write_text(json.dumps(line | change) + "\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"en\.jsonl:1"):
        read_odd_texts(["en"], tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nl\.jsonl is missing"):
        read_odd_texts(["nl"], tmp_path)
