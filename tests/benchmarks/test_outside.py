"""The judge from outside, without his instruments: rates, controls, clips and tables."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality import cases, clips, heard, outside, pictures
from benchmarks.quality.clips import CONTROLS, LANGUAGES, Clip, make_noise, read_clips, shuffle_frames, write_clips
from benchmarks.quality.heard import Heard, compare, plain, summarise
from benchmarks.quality.instruments import melody_of
from benchmarks.quality.outside import control_rates, judge, tables, take_earlier
from train.texts import LANGUAGES as TRAINED
from voxtral.errors import TextError
from voxtral.text.normalize import normalize

WORDS = st.lists(st.sampled_from(("boat", "sun", "tea", "the", "rain")), max_size=8).map(" ".join)


@given(WORDS, WORDS)
def test_no_more_is_lost_than_was_said_and_nothing_from_itself(said: str, written: str) -> None:
    lost = compare(said, written, "en")
    assert 0 <= lost.word_edits <= lost.words == len(said.split())
    assert 0 <= lost.character_edits <= lost.characters
    assert (lost.word_edits == 0) == (said == written or not said)


def test_what_is_written_otherwise_and_heard_the_same_is_no_error() -> None:
    pairs = (
        ("The girl sold fifty bonds.", "the girl sold 50 bonds", "en"),
        ("L'été, déjà !", "l’été déjà", "fr"),
        ("Großvater schnitzt.", "großvater schnitzt", "de"),
        ("أحدكم هناك", "احدكم هناك.", "ar"),
        ("コーヒーを のむ。", "こーひーを のむ", "ja"),
    )
    for said, written, language in pairs:
        assert plain(said, language) == plain(written, language)


def test_a_word_in_kanji_that_has_no_reading_is_an_error_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(text: str, language: str, *, in_kana: bool = False) -> Any:
        if in_kana and "悩" in text:
            raise TextError("no reading")
        return normalize(text, language)

    monkeypatch.setattr(heard, "normalize", read)
    assert compare("ねこが いる", "悩が いる", "ja") == Heard(1, 2, 2, 5)


def test_an_error_in_each_sentence_is_pooled_with_a_spread() -> None:
    sentences = [Heard(1, 4, 2, 16), Heard(0, 6, 0, 24)] * 10
    rates = summarise(sentences)
    assert (rates.words, rates.characters) == (pytest.approx(0.1), pytest.approx(0.05))
    assert 0.02 < rates.words_spread < 0.1
    assert summarise([Heard(1, 4, 2, 16)] * 20).words_spread == 0
    assert summarise(sentences) == rates


def test_the_sentences_are_those_of_the_tests() -> None:
    assert set(LANGUAGES) == set(TRAINED)
    for language in LANGUAGES:
        for split in ("test", "dev"):
            assert clips.read_sentences(split, language) == cases.read_sentences(split, language)


def say(text: str, language: str, voice: str, seed: int) -> np.ndarray:
    size = 20000 + 500 * (len(text) % 7)
    return (0.3 * np.sin(np.arange(size) * (0.02 + len(text) / 2000))).astype(np.float32)


def test_clips_are_written_once_and_voices_take_turns(tmp_path: Path) -> None:
    made = write_clips(tmp_path, "nano", say, split="dev", languages=["en", "ja"], limit=3)
    assert [(clip.language, clip.voice) for clip in made] == [
        (code, f"{code}_{voice}") for code in ("en", "ja") for voice in ("f1", "m1", "f1")
    ]
    assert read_clips(tmp_path / "nano.jsonl") == made

    def fail(*arguments: Any) -> np.ndarray:
        raise AssertionError("spoken again")

    assert write_clips(tmp_path, "nano", fail, split="dev", languages=["en", "ja"], limit=3) == made


def test_clips_are_taken_from_what_teachers_said_before(tmp_path: Path) -> None:
    takes = tmp_path / "takes"
    takes.mkdir()
    (takes / "voices.json").write_text("[]")
    samples = np.rint(say("", "en", "en_f1", 0) * 32768).astype("<i2")
    samples.tofile(takes / "1.i16")
    line = {"language": "en", "voice": "en_f1", "text": clips.read_sentences("dev", "en")[0], "start": 100}
    line |= {"num_samples": 5000, "phonemes": [], "words": []}
    (takes / "1.jsonl").write_text(json.dumps(line) + "\n")
    words = ["--takes", str(takes), "--system", "teacher", "--split", "dev", "--languages", "en", "--limit", "1"]
    clips.main([str(tmp_path / "clips"), *words])
    [clip] = read_clips(tmp_path / "clips" / "teacher.jsonl")
    found = clips.read_samples(tmp_path / "clips", clip)
    assert np.abs(found - samples[100:5100] / 32768).max() < 2e-4


def test_sentences_that_all_have_said_are_drawn_on_a_page(tmp_path: Path) -> None:
    for system, languages, limit in (("teacher", ["en", "it"], 3), ("nano", ["en"], 1)):
        write_clips(tmp_path, system, say, split="dev", languages=languages, limit=limit)
    words = ["--systems", "teacher", "nano"]
    pictures.main([str(tmp_path), str(tmp_path / "page"), *words])
    page = (tmp_path / "page" / pictures.PAGE).read_text(encoding="utf-8")
    assert "From top to bottom: teacher, nano." in page
    assert clips.read_sentences("dev", "en")[0] in page
    assert [path.name for path in sorted((tmp_path / "page").iterdir())] == ["spectrograms-en.png", "spectrograms.md"]
    height = int.from_bytes((tmp_path / "page" / "spectrograms-en.png").read_bytes()[20:24], "big")
    assert height == 160 + 4 + 160
    with pytest.raises(SystemExit, match="no clips of nobody"):
        pictures.main([str(tmp_path), str(tmp_path / "page"), *words, "nobody"])


def test_controls_say_something_else_as_long_and_as_loud(tmp_path: Path) -> None:
    made = write_clips(tmp_path, "nano", say, split="test", languages=["en"], limit=5)
    clips.write_controls(tmp_path, made, say)
    originals = {clip.number: clips.read_samples(tmp_path, clip) for clip in made}
    for name in CONTROLS:
        found = read_clips(tmp_path / f"control {name}.jsonl")
        assert [clip.text for clip in found] == [clip.text for clip in made]
        assert not any(np.array_equal(clips.read_samples(tmp_path, clip), originals[clip.number]) for clip in found)


@given(st.integers(0, 6000), st.integers(0, 99))
def test_frames_in_another_order_are_the_same_frames(size: int, seed: int) -> None:
    samples = np.arange(size, dtype=np.float32)
    assert sorted(shuffle_frames(samples, random.Random(seed))) == list(samples)


def test_noise_is_loud_where_speech_is() -> None:
    samples = np.concatenate([np.zeros(4800), 0.5 * np.ones(4810)]).astype(np.float32)
    noise = make_noise(samples, 1)
    assert len(noise) == len(samples)
    assert not noise[:4800].any()
    assert noise[4800:].std() == pytest.approx(0.5, abs=0.03)


def test_a_melody_leaves_leaps_out() -> None:
    pitch = np.concatenate([np.zeros(20), np.full(30, 200.0), np.full(30, 200 * 2 ** (2 / 12)), [60.0, 450.0]])
    melody = melody_of(pitch)
    assert melody is not None
    assert melody.deviation == pytest.approx(1.0, abs=0.05)
    assert melody_of(np.zeros(50)) is None


class Ear:
    """Hears every clip as one sentence, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    def hear(self, samples: np.ndarray, rate: int, language: str) -> str:
        self.asked += 1
        return "Four hours of steady work faced us."

    def rate(self, samples: list[np.ndarray], rate: int) -> Any:
        from benchmarks.quality.instruments import Sound

        return Sound(3.0, 3.3, 4.0, 3.5)


def test_a_report_goes_on_and_shows_which_controls_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "measure_melody", lambda samples, rate: None)
    made = write_clips(tmp_path, "nano", say, split="test", languages=["en"], limit=9)
    control = Clip(**{**asdict(made[8]), "system": "control constant text"})
    (tmp_path / "control constant text.jsonl").write_text(json.dumps(asdict(control)) + "\n")
    ear: Any = Ear()
    report = judge(tmp_path, ear, ear, tmp_path / "report.json")
    assert ear.asked == 10
    assert judge(tmp_path, ear, ear, tmp_path / "report.json") == report
    assert ear.asked == 10
    assert report["systems"]["nano"]["en"]["heard"][8]["word_edits"] == 0
    # The ninth sentence is what the ear always hears, so this control is understood, and must be shown to be.
    assert control_rates(report["systems"]) == {"constant text": 0.0}
    assert "| constant text | 0.00 | NO |" in tables(report)


def test_others_of_an_earlier_report_are_shown_and_its_controls_are_not() -> None:
    earlier = {
        "systems": {"nano-3": {"en": 1}, "nano": {"en": 2}, "control noise": {"en": 3}},
        "phonemes": {"nano-3": {"en": 0.2}, "nano": {"en": 0.3}},
    }
    report: dict[str, Any] = {"systems": {"nano": {"en": 4}, "control noise": {"en": 5}}}
    take_earlier(report, earlier, ["nano", "control noise"])
    assert report["systems"] == {"nano": {"en": 4}, "control noise": {"en": 5}, "nano-3": {"en": 1}}
    assert report["phonemes"] == {"nano-3": {"en": 0.2}}


def test_the_page_shows_the_report_that_is_kept() -> None:
    reports = sorted((Path(outside.__file__).parents[1] / "results").glob("outside-*.json"))
    report = json.loads(reports[-1].read_text(encoding="utf-8"))
    page = outside.PAGE.read_text(encoding="utf-8")
    assert outside.fill_page(page, report) == page, "run python -m benchmarks.quality.outside --page --json REPORT"
    assert tables(report) in page
    assert set(control_rates(report["systems"])) == set(CONTROLS)
    assert min(control_rates(report["systems"]).values()) >= outside.CONTROL_BAR
