"""The corpus: voices that are held out, parts that survive a kill, labels and spellings."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stand_in_teacher import STAND_IN, StandInTeacher
from train import data
from train.corpus import SILENCE, CorpusError, Phonemes, collapse, load_phonemes, open_corpus
from train.data import HELD_OUT, PRESETS, SAMPLE_RATE, list_voices, make_part, trim, write_index
from train.teacher import SilentTextError, Speaker, TeacherSource, Utterance
from train.texts import LANGUAGES, TextSourceError, load_texts

PHONEMES = Phonemes({"a": 1, "b": 2, "c": 3}, {language: frozenset({0, 1, 2, 3}) for language in LANGUAGES})
HOURS = 80 / 3600
timed = st.lists(st.tuples(st.floats(0.02, 0.4), st.sampled_from(["a", "b", "c", "_", "?"])), min_size=1, max_size=12)


def with_starts(durations: list[tuple[float, str]]) -> tuple[list[tuple[float, str]], int]:
    """Turn durations into (start, name) and the number of samples."""
    phonemes, now = [], 0.0
    for seconds, name in durations:
        phonemes.append((now, name))
        now += seconds
    return phonemes, round(now * SAMPLE_RATE)


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 4))
def test_collapse_drops_silence_short_runs_and_repeats(labels: list[int], min_run: int) -> None:
    merged = collapse(labels, min_run=min_run)
    assert SILENCE not in merged
    assert all(left != right for left, right in pairwise(merged))
    longest = "".join(map(str, labels))
    assert all(str(label) * min_run in longest for label in merged)
    # What was merged once stays.
    assert collapse(merged, min_run=1) == merged
    # Every frame four times as long changes nothing, as long as every run counts.
    assert collapse([label for label in labels for _ in range(4)], min_run=1) == collapse(labels, min_run=1)


@given(timed)
def test_labels_follow_the_times_and_spell_the_names(durations: list[tuple[float, str]]) -> None:
    phonemes, num_samples = with_starts(durations)
    labels = PHONEMES.labels(phonemes, num_samples, "en")
    assert len(labels) == -(-num_samples // 480)
    ends = [start for start, _ in phonemes[1:]] + [num_samples / SAMPLE_RATE]
    for (start, name), end in zip(phonemes, ends, strict=True):
        if end - start > 0.04:
            middle = int((start + end) / 2 * 50)
            assert labels[middle] == PHONEMES.ids.get(name, SILENCE)
    assert set(labels.tolist()) <= {0, *PHONEMES.spell(phonemes, "en")}


@given(timed)
def test_a_spelling_has_no_silence_and_no_repeats(durations: list[tuple[float, str]]) -> None:
    phonemes, _ = with_starts(durations)
    spelled = PHONEMES.spell(phonemes, "en")
    assert spelled == PHONEMES.spell([(0.0, name) for _, name in phonemes], "en")
    assert SILENCE not in spelled
    assert all(left != right for left, right in pairwise(spelled))


def test_held_out_variants_are_in_no_voice_for_training() -> None:
    # Every variant that the recipe names, beside some more.
    presets = {variant for pair in PRESETS.values() for variant, _ in pair}
    source = TeacherSource(StandInTeacher, lambda: sorted({*HELD_OUT, *presets, "one", "two"}))
    voices = list_voices(source=source)
    by_split = {
        split: {voice.speaker.variant for voice in voices if voice.split == split}
        for split in ("train", "preset", "held")
    }
    assert by_split["held"] == set(HELD_OUT)
    assert by_split["train"] == presets | {"one", "two"}
    assert by_split["preset"] == presets
    assert not presets & set(HELD_OUT)
    assert len({voice.name for voice in voices}) == len(voices)
    assert voices == list_voices(source=source)


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    make_part(folder, 0, HOURS, 1, source=STAND_IN, with_word_lists=False)
    write_index(folder, 1, source=STAND_IN)
    return folder


def test_no_item_of_the_corpus_is_in_a_held_out_voice(corpus_folder: Path) -> None:
    corpus = open_corpus(corpus_folder)
    items = corpus.read_items(0)
    assert {voice.split for voice in corpus.voices} == {"preset", "train", "held"}
    assert {corpus.voices[item.voice].split for item in items} == {"preset", "train"}
    for item in items:
        assert corpus.voices[item.voice].language in (None, item.language)


def test_items_lie_end_to_end_and_their_labels_are_those_of_the_part(corpus_folder: Path) -> None:
    corpus = open_corpus(corpus_folder)
    part = corpus.read_part(0)
    position = 0
    for item in part.items:
        assert item.start == position
        position += item.num_samples
        own = corpus.phonemes.labels(item.phonemes, item.num_samples, item.language)
        first = -(-item.start // 480)
        there = part.labels[first : first + len(own) - 1]
        # The two grids differ by less than one label, so that only borders may.
        assert np.mean(there == own[: len(there)]) > 0.6
    assert position == len(part.samples)
    assert np.abs(part.samples).max() < 32767


def test_a_part_that_was_killed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class DyingTeacher(StandInTeacher):
        def __init__(self) -> None:
            self.num_left = 9

        def say(self, text: str, language: str, speaker: Speaker) -> Utterance:
            self.num_left -= 1
            if not self.num_left:
                raise KeyboardInterrupt
            return super().say(text, language, speaker)

    arguments = [str(tmp_path), "--hours", str(HOURS), "--parts", "1", "--seed", "1", "--no-word-lists"]
    with pytest.raises(KeyboardInterrupt):
        data.main(arguments, source=TeacherSource(DyingTeacher, STAND_IN.list_variants))
    assert (tmp_path / "audio-0.i16").is_file()
    assert not (tmp_path / "items-0.jsonl").exists()
    assert not (tmp_path / "corpus.json").exists()
    with pytest.raises(CorpusError, match=r"train\.data"):
        open_corpus(tmp_path)

    data.main(arguments, source=STAND_IN)
    whole = open_corpus(tmp_path).read_part(0)
    assert whole.items[-1].start + whole.items[-1].num_samples == len(whole.samples) >= HOURS * 3600 * SAMPLE_RATE
    monkeypatch.setattr(data, "make_part", None)  # a complete part is not made again
    data.main(arguments, source=STAND_IN)


def test_the_same_seed_makes_the_same_corpus(corpus_folder: Path, tmp_path: Path) -> None:
    make_part(tmp_path, 0, HOURS, 1, source=STAND_IN, with_word_lists=False)
    for name in ("audio-0.i16", "items-0.jsonl"):
        assert (tmp_path / name).read_bytes() == (corpus_folder / name).read_bytes()
    make_part(tmp_path, 0, HOURS, 2, source=STAND_IN, with_word_lists=False)
    assert (tmp_path / "items-0.jsonl").read_bytes() != (corpus_folder / "items-0.jsonl").read_bytes()


def test_phonemes_are_numbered_from_one_and_silent_names_have_no_number(corpus_folder: Path) -> None:
    phonemes = load_phonemes(corpus_folder / "corpus.json")
    assert sorted(phonemes.ids.values()) == list(range(1, phonemes.count))
    assert "_" not in phonemes.ids
    assert set(phonemes.inventories) == set(LANGUAGES)
    assert all(SILENCE in inventory for inventory in phonemes.inventories.values())
    named = json.loads((corpus_folder / "corpus.json").read_text())["phonemes"]
    assert any("_" in names for names in named.values())


def test_trimming_keeps_a_little_silence_and_says_what_it_cut() -> None:
    samples = np.zeros(16000, np.int16)
    samples[8000:12000] = 10000
    kept, cut = trim(Utterance(samples, 16000, (), ()))
    assert cut == pytest.approx(0.45)
    assert len(kept) / SAMPLE_RATE == pytest.approx(0.05 + 0.25 + 0.1, abs=0.001)
    assert 0.2 < np.abs(kept).max() < 0.4
    nothing, _ = trim(Utterance(np.zeros(100, np.int16), 16000, (), ()))
    assert len(nothing) == 0


def test_texts_need_no_word_list_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = {language: str(tmp_path / language) for language in LANGUAGES if language != "ja"}
    monkeypatch.setattr("train.texts._WORD_LISTS", missing)
    assert load_texts("en").words == ()
    with pytest.raises(TextSourceError, match="word list"):
        load_texts("en", with_word_list=True)
    with pytest.raises(SystemExit, match="word lists"):
        data.main(["unused", "--check"], source=_complete_source())


def test_arabic_words_take_articles_and_pronouns_and_no_other_language_does() -> None:
    rng = random.Random(0)
    source = replace(load_texts("ar"), common=("\u0643",), words=("\u0643\u062a\u0627\u0628",))
    drawn = [source.draw_word(rng) for _ in range(400)]
    listed = [word for word in drawn if len(word) > 1]
    assert 220 < len(listed) < 300
    assert all(source.words[0] in word for word in listed)
    with_prefix = [word for word in listed if not word.startswith(source.words[0])]
    assert 0.25 < len(with_prefix) / len(listed) < 0.45
    english = replace(source, language="en")
    assert {english.draw_word(rng) for _ in range(100)} == {*source.common, *source.words}


def test_the_check_names_variants_that_are_not_installed() -> None:
    with pytest.raises(SystemExit, match="Alicia"):
        data.main(["unused", "--check"], source=TeacherSource(StandInTeacher, list))


def test_a_silent_text_is_an_error_of_the_teacher() -> None:
    with pytest.raises(SilentTextError):
        StandInTeacher().say("?! ...", "en", Speaker("low", 50, 165))


def _complete_source() -> TeacherSource:
    presets = [variant for pair in PRESETS.values() for variant, _ in pair]
    return TeacherSource(StandInTeacher, lambda: [*HELD_OUT, *presets])
