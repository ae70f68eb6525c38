"""Sentences with numbers: what they say is words, what is kept of it is not stale, and the figures are right."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.quality import number_texts, numbers
from benchmarks.quality.number_texts import Sentence, parse_sentence, read_sentences
from benchmarks.quality.numbers import is_read_so, judge, mean_with_interval, summarise, write_markdown
from benchmarks.quality.references import Spelling
from benchmarks.quality.spoken import Utterance
from train.corpus import CorpusError, Phonemes
from train.texts import LANGUAGES

SENTENCES = read_sentences()


def test_every_language_has_100_sentences_and_each_has_something_to_read() -> None:
    assert {language: sum(one.language == language for one in SENTENCES) for language in LANGUAGES} == dict.fromkeys(
        LANGUAGES, 100
    )
    assert len({(one.language, one.written) for one in SENTENCES}) == len(SENTENCES)
    assert all(one.written not in one.readings for one in SENTENCES)


def test_a_line_says_what_is_written_and_how_it_may_be_said() -> None:
    sentence = parse_sentence("en-numbers-1", "en", "At {2:30|half past two|two thirty} in {5|five}.")
    assert sentence.written == "At 2:30 in 5."
    assert sentence.readings == ("At half past two in five.", "At two thirty in five.")
    assert sentence.text_for("words").text == sentence.readings[0]
    assert sentence.text_for("auto").text == sentence.text_for("off").text == sentence.written


def test_a_reading_that_keeps_a_digit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_texts, "NUMBER_TEXTS", tmp_path)
    (tmp_path / "en.txt").write_text("Only {3|three} of 27.\n")
    with pytest.raises(CorpusError, match="keeps a digit"):
        read_sentences(["en"])
    with pytest.raises(CorpusError, match="is missing"):
        read_sentences(["de"])


def test_the_rules_are_held_against_any_reading() -> None:
    assert is_read_so(parse_sentence("", "en", "At {14:30|half past two|fourteen thirty}."))
    assert not is_read_so(parse_sentence("", "en", "At {14:30|half past two}."))


def test_the_nearest_reading_counts_and_what_was_not_heard_does_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phonemes = Phonemes({"a": 1, "b": 2, "c": 3}, {})
    sentences = [Sentence("en-numbers-1", "en", "1", ("a", "b")), Sentence("en-numbers-2", "en", "2", ("c",))]
    parts = {"en-numbers-1/0": ("a", "c"), "en-numbers-1/1": ("b", "a"), "en-numbers-2/0": ("c", "a")}
    spellings = {id: Spelling(id, "", (names,), 1.0) for id, names in parts.items()}

    def heard(number: int, *found: int) -> dict[str, Utterance]:
        return {f"en-numbers-{number}": Utterance(f"en-numbers-{number}", 0, "v", 1.0, found)}

    rates = {
        "auto": judge(sentences, heard(1, 2, 1) | heard(2, 3, 2), spellings, phonemes),
        "off": judge(sentences, heard(1, 9, 9) | heard(2, 3, 1), spellings, phonemes),
        "words": judge(sentences, heard(1, 2, 1), spellings, phonemes),
    }
    assert rates["auto"] == {"en-numbers-1": 0.0, "en-numbers-2": 0.5}
    table = summarise(sentences, rates)
    assert table["en"]["sentences"] == 1
    assert table["en"]["off - auto"] == (1.0, 1.0, 1.0)
    assert write_markdown(table).splitlines()[-1] == (
        "| en | 0.0 (0.0 to 0.0) | 100.0 (100.0 to 100.0) | 0.0 (0.0 to 0.0) | 100.0 (100.0 to 100.0) |"
    )
    # The report names what the rules make worse.
    monkeypatch.setattr(numbers, "read_sentences", lambda _: sentences)
    monkeypatch.setattr(numbers, "read_spellings", lambda *_: spellings)
    monkeypatch.setattr(numbers.Recogniser, "load", lambda _: Namespace(phonemes=phonemes))
    (tmp_path / "settings.json").write_text("{}")
    for way, found in (("auto", heard(1, 2, 1) | heard(2, 3, 2)), ("off", heard(1, 9, 9) | heard(2, 3, 1))):
        (tmp_path / way).mkdir()
        lines = (json.dumps(asdict(one)) + "\n" for one in found.values())
        (tmp_path / way / "en.jsonl").write_text("".join(lines))
    numbers.main(["report", str(tmp_path), "--ways", "auto", "off", "--json", str(tmp_path / "out.json")])
    assert "en-numbers-2 worse with rules, 0.50 against 0.00" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["error_rates"]["en"]["auto"] == [0.25, 0.0, 0.5]


def test_an_interval_holds_its_mean() -> None:
    mean, low, high = mean_with_interval([0.0, 0.1, 0.5, 0.2] * 10)
    assert low < mean == 0.2 < high
