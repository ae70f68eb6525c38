"""Shards: balanced, the same again, whole or absent, and read as they were written."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stand_in_teacher import StandInStudio
from train import speak
from train.phonemes import SYMBOLS
from train.shards import ITEM_ALIGNMENT, SAMPLES_PER_PITCH, ShardError, open_shards
from train.speak import (
    COVERAGE,
    HELD_STYLES,
    SHARES,
    ShardMaker,
    list_voices,
    melody,
    plan,
    timbre,
    write_corpus,
    write_out,
)
from train.spoken import Spoken
from train.teacher import SilentTextError
from train.texts import LANGUAGES

STYLES = [
    *HELD_STYLES, "af_heart", "af_nicole", "am_michael", "am_santa", "em_santa", "bf_emma", "bm_george", "ef_dora",
    "em_alex", "ff_siwis", "if_sara", "im_nicola",
]  # fmt: skip
VOICES = list_voices(STYLES)


def make(folder: Path, number: int, language: str, *, studio: Any = None, seed: int = 5) -> float:
    teacher = next(name for code, name in SHARES if code == language)
    maker = ShardMaker(folder, studio or StandInStudio(), VOICES, Path("/"), seed)
    return maker.make(number, language, teacher)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a few seconds, and no word lists of the system."""
    monkeypatch.setattr(speak, "SHARD_SECONDS", 6.0)
    prose = speak.load_prose
    monkeypatch.setattr(speak, "load_prose", lambda language, _: prose(language, None))


def content(folder: Path, name: str) -> list[bytes]:
    return [(folder / "shards" / name / file).read_bytes() for file in ("audio.i16", "pitch.f32", "items.jsonl")]


def test_any_first_shards_are_balanced() -> None:
    total = sum(SHARES.values())
    for count in (12, 40, 97):
        given = Counter(plan(count))
        assert all(abs(given[each] - count * share / total) < 1.5 for each, share in SHARES.items())
    assert plan(40)[:12] == plan(12)
    assert {language for language, _ in plan(12)} == set(LANGUAGES)


def test_presets_have_the_names_of_the_product_and_one_teacher_each() -> None:
    presets = [voice for voice in VOICES if voice.split == "preset"]
    assert sorted(voice.name for voice in presets) == sorted(f"{code}_{sex}1" for code in LANGUAGES for sex in "fm")
    for language in LANGUAGES:
        assert len({voice.teacher for voice in presets if voice.language == language}) == 1


def test_voices_are_the_same_again_and_weights_sum_to_one() -> None:
    assert list_voices(STYLES) == VOICES
    assert len({voice.name for voice in VOICES}) == len(VOICES)
    blends = [voice for voice in VOICES if voice.name.startswith("blend")]
    assert len(blends) == 140
    for voice in blends:
        assert sum(voice.timbre.values()) == pytest.approx(1, abs=0.01)
        assert sum(melody(voice, "fr").values()) == pytest.approx(1, abs=0.01)
        assert timbre(voice, "es") == voice.timbre
        assert timbre(voice, "fr")["ff_siwis"] >= 0.35 * 0.4
        assert sum(timbre(voice, "fr").values()) == pytest.approx(1, abs=0.01)
    for preset in (voice for voice in VOICES if voice.split == "preset"):
        assert timbre(preset, str(preset.language)) == preset.timbre


def test_what_is_held_out_is_in_no_voice_of_training() -> None:
    training = [voice for voice in VOICES if voice.split != "held"]
    assert not {style for voice in training for style in (*voice.timbre, *voice.prosody)} & set(HELD_STYLES)
    assert {voice.split for voice in VOICES if voice.name.startswith("held")} == {"held"}
    maker = ShardMaker(Path(), StandInStudio(), VOICES, Path("/"), 5)  # type: ignore[arg-type]
    drawn = [
        maker._choose(random.Random(number), language, teacher) for number in range(40) for language, teacher in SHARES
    ]
    assert {VOICES[index].split for index in drawn} == {"preset", "train"}
    assert Counter(VOICES[index].split for index in drawn)["preset"] / len(drawn) == pytest.approx(0.45, abs=0.1)


def test_quick_teachers_cover_every_language_in_no_voice_of_anothers_preset() -> None:
    assert {language for language, _ in plan(40, COVERAGE)} == set(LANGUAGES)
    maker = ShardMaker(Path(), StandInStudio(), VOICES, Path("/"), 5)  # type: ignore[arg-type]
    for language, teacher in COVERAGE:
        drawn = [VOICES[maker._choose(random.Random(number), language, teacher)] for number in range(40)]
        assert {voice.teacher for voice in drawn} == {teacher}
        assert {voice.language for voice in drawn} <= {language, None}
        taught = {voice.teacher for voice in VOICES if voice.split == "preset" and voice.language == language}
        assert (Counter(voice.split for voice in drawn)["preset"] > 0) is (taught == {teacher})


def test_half_of_what_covers_is_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speak, "SHARD_SECONDS", 60.0)
    write_corpus(tmp_path, VOICES, 5)
    for number in (3, 50_003):
        make(tmp_path, number, "es")
    ordinary, covering = (open_shards(tmp_path).read(f"{number:05d}-es").items for number in (3, 50_003))
    shares = [Counter(item.kind for item in items)["words"] / len(items) for items in (ordinary, covering)]
    assert shares[1] > max(shares[0] + 0.1, 0.35)


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_corpus(tmp_path, VOICES, 5)
    assert make(tmp_path, 3, "de") >= 6
    corpus = open_shards(tmp_path)
    assert (corpus.names, corpus.seed, corpus.voices, corpus.phonemes) == (("00003-de",), 5, VOICES, SYMBOLS)
    shard = corpus.read("00003-de")
    assert len(shard.pitch) * SAMPLES_PER_PITCH == len(shard.samples)
    end = 0
    for item in shard.items:
        assert item.start % ITEM_ALIGNMENT == 0
        assert not shard.samples[end : item.start].any()
        end = item.start + item.num_samples
        assert np.abs(shard.samples[item.start : end]).max() > 3000
        assert all(0 <= start <= item.phoneme_end <= item.num_samples for start in item.phoneme_starts)
        assert corpus.voices[item.voice].teacher == item.teacher == "pico"
        for _, _, first, length, text_first, text_length in item.words:
            assert item.spoken[first : first + length].strip()
            if item.kind != "numbers":
                assert item.text[text_first : text_first + text_length] == item.spoken[first : first + length]
    assert len({item.text for item in shard.items}) > 1


def test_the_same_number_gives_the_same_shard_and_another_one_another(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make(tmp_path / name, 3, "es")
    make(tmp_path / "one", 4, "es")
    assert content(tmp_path / "one", "00003-es") == content(tmp_path / "two", "00003-es")
    assert content(tmp_path / "one", "00003-es")[2] != content(tmp_path / "one", "00004-es")[2]


def test_a_shard_that_was_broken_off_is_absent_and_made_anew(tmp_path: Path) -> None:
    write_corpus(tmp_path, VOICES, 5)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, 3, "es", studio=StandInStudio(fails_after=1))
    assert open_shards(tmp_path).names == ()
    assert len(list((tmp_path / "shards").iterdir())) == 1
    make(tmp_path, 3, "es")
    make(tmp_path / "whole", 3, "es")
    assert content(tmp_path, "00003-es") == content(tmp_path / "whole", "00003-es")
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["00003-es"]


def test_a_shard_that_is_there_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path, 3, "es")
    assert make(tmp_path, 3, "es", studio=StandInStudio(fails_after=0)) == 0


def test_a_corpus_goes_on_with_its_own_voices_only(tmp_path: Path) -> None:
    write_corpus(tmp_path, VOICES, 5)
    before = (tmp_path / "corpus.json").read_bytes()
    write_corpus(tmp_path, VOICES, 5)
    assert (tmp_path / "corpus.json").read_bytes() == before
    for voices, seed in ((VOICES[:-1], 5), (VOICES[1:], 5), (VOICES, 6)):
        with pytest.raises(ValueError, match="use another folder"):
            write_corpus(tmp_path, voices, seed)
    # A later version may have more of them, at the end.
    more = [*VOICES, replace(VOICES[0], name="en_f9")]
    write_corpus(tmp_path, more, 5)
    assert open_shards(tmp_path).voices == more


def test_a_folder_that_is_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="is missing"):
        open_shards(tmp_path)
    (tmp_path / "corpus.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(ShardError, match="format 1"):
        open_shards(tmp_path)


def test_japanese_without_spaces_keeps_its_words() -> None:
    text = "ねこが へやに います。"
    written, read = next(
        each for seed in range(20) if " " not in (each := write_out(text, "ja", random.Random(seed)))[0]
    )
    said = Spoken(
        np.zeros(9, np.float32), np.zeros(1, np.float32), [], [], 9,
        [(number, number + 1, first, length) for number, (first, length) in enumerate(((0, 3), (4, 3), (8, 3)))],
        "teacher", "source",
    )  # fmt: skip
    placed = speak.place_words(said, read, written)
    assert [written[first : first + length] for *_, first, length in placed] == ["ねこが", "へやに", "います"]


def test_numbers_point_to_what_is_written(tmp_path: Path) -> None:
    written, read = write_out("We saw 21 birds.", "en", random.Random(1))
    first = read.text.index("twenty")
    said = Spoken(np.zeros(9, np.float32), np.zeros(1, np.float32), [], [], 9, [(0, 9, first, 6)], "teacher", "source")
    assert speak.place_words(said, read, written) == [[0, 9, first, 6, 7, 2]]


def test_texts_that_make_no_sound_are_passed_over(tmp_path: Path) -> None:
    class Silent(StandInStudio):
        def say(self, *arguments: Any) -> Spoken:
            raise SilentTextError("no sound")

    maker = ShardMaker(tmp_path, Silent(), VOICES, Path("/"), 5)  # type: ignore[arg-type]
    assert maker.make_item(1, 1, "es", "kokoro") is None
