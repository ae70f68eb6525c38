"""The measures of benchmarks.quality: right ones are good, and wrong speech cannot pass.

Speech here is tones, one pitch for each phoneme, and the recogniser reads the pitch: no teacher, no training.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.__main__ import make_table, parse_options, read_training_texts, read_used_codes
from benchmarks.quality.acoustics import (
    SAMPLE_RATE,
    cepstral_distance,
    log_mel,
    log_pitch,
    longest_silence,
    mel_cepstra,
    warped_distance,
)
from benchmarks.quality.bars import fails_as_it_must, judge_all
from benchmarks.quality.cases import TEXTS, Case, Studio, collect_sentences, group_voices, read_sentences
from benchmarks.quality.judge import Judge, summarise, summarise_system
from benchmarks.quality.long_text import Stops, count_stops, draw_texts, speak_long_text
from benchmarks.quality.page import NOT_MEASURED, PAGE, PageError, fill, make_parts
from benchmarks.quality.page import main as fill_page
from benchmarks.quality.phonemes import (
    MAX_ERROR_RATE,
    cut_by_alignment,
    edit_distance,
    edit_distances,
    error_rate,
    is_retrieved,
    overlap,
    pad_candidates,
    words,
)
from benchmarks.quality.pictures import encode_png, spectrogram, stack, write_picture
from benchmarks.quality.speakers import Lineup, TimbreAndPitch
from benchmarks.quality.systems import Narrator, Spoken, control_systems, shuffle_words, write_random_copy
from benchmarks.quality.teachers import NOT_CLEAN, EspeakSpeaker
from train.corpus import CorpusError, Phonemes
from train.data import HELD_OUT
from train.teacher import Speaker, TeacherSource, Utterance
from train.texts import LANGUAGES, TextSource
from voxtral.errors import GenerationError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.speech.result import Audio
from voxtral.tts import VoxtralTTS
from voxtral.types import SegmentInfo, SpeechStats

SYMBOLS = st.lists(st.integers(1, 5), max_size=12)
_TONE = 1920  # samples of one phoneme


def say(numbers: Sequence[int]) -> np.ndarray:
    """Speak phonemes as tones: [S] float32."""
    time = np.arange(_TONE) / SAMPLE_RATE
    tones = [0.3 * np.sin(2 * np.pi * (200 + 150 * number) * time) * np.hanning(_TONE) for number in numbers]
    return np.concatenate([*tones, np.zeros(0)]).astype(np.float32)


class ToneRecogniser:
    """Reads the phonemes of `say`."""

    def transcribe(self, samples: np.ndarray, language: str) -> list[int]:
        heard: list[int] = []
        for start in range(0, len(samples) - _TONE + 1, _TONE):
            spectrum = np.abs(np.fft.rfft(samples[start : start + _TONE]))
            number = round((float(spectrum.argmax()) * SAMPLE_RATE / _TONE - 200) / 150)
            if spectrum.max() > 1 and number > 0 and heard[-1:] != [number]:
                heard.append(number)
        return heard


def random_sentence(rng: np.random.Generator, length: int = 14) -> list[int]:
    numbers = [int(rng.integers(1, 25))]
    while len(numbers) < length:
        number = int(rng.integers(1, 25))
        if number != numbers[-1]:
            numbers.append(number)
    return numbers


def make_cases(count: int = 8) -> list[Case]:
    rng = np.random.default_rng(0)
    sentences = [random_sentence(rng) for _ in range(count + 1)]
    return [
        Case(
            language="en",
            voice=f"en_{'fm'[number % 2]}1",
            number=number,
            text=f"sentence {number} of eight",
            samples=say(sentences[number]),
            phonemes=sentences[number],
            wrong_text=f"sentence {number + 1} of eight",
            wrong_samples=say(sentences[number + 1]),
            wrong_phonemes=sentences[number + 1],
            group=("en_f1", "en_m1"),
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return make_cases()


@pytest.fixture(scope="module")
def judge() -> Judge:
    rng = np.random.default_rng(1)
    return Judge(ToneRecogniser(), {"en": pad_candidates([random_sentence(rng) for _ in range(400)])})


# Phonemes --------------------------------------------------------------------------------------------


def slow_edit_distance(first: Sequence[int], second: Sequence[int]) -> int:
    row = list(range(len(second) + 1))
    for count, symbol in enumerate(first, start=1):
        new = [count]
        for column, other in enumerate(second):
            new.append(min(row[column] + (symbol != other), row[column + 1] + 1, new[column] + 1))
        row = new
    return row[-1]


@given(SYMBOLS, st.lists(SYMBOLS, min_size=1, max_size=5))
def test_edit_distances_to_many_are_those_to_each(hypothesis: list[int], references: list[list[int]]) -> None:
    expected = [slow_edit_distance(hypothesis, reference) for reference in references]
    assert edit_distances(hypothesis, pad_candidates(references)).tolist() == expected


@given(SYMBOLS, SYMBOLS, SYMBOLS)
def test_edit_distance_is_a_distance(first: list[int], second: list[int], third: list[int]) -> None:
    assert edit_distance(first, first) == 0
    assert edit_distance(first, second) == edit_distance(second, first)
    assert edit_distance(first, third) <= edit_distance(first, second) + edit_distance(second, third)
    assert (edit_distance(first, second) == 0) == (first == second)


def test_error_rate_counts_against_the_reference_and_has_a_cap() -> None:
    assert error_rate([1, 2, 3, 4], [1, 2, 9, 4]) == 0.25
    assert error_rate([], [1, 2]) == 1.0
    assert error_rate([1, 2, 3, 4, 5, 6, 7], [8, 9]) == MAX_ERROR_RATE


def test_a_tie_is_no_retrieval() -> None:
    assert is_retrieved([1, 2, 3], [1, 2, 3], pad_candidates([[1, 2, 4], [7]]))
    assert not is_retrieved([1, 2, 5], [1, 2, 3], pad_candidates([[1, 2, 4]]))
    assert not is_retrieved([1, 2, 4], [1, 2, 3], pad_candidates([[1, 2, 4]]))


@given(SYMBOLS, st.lists(SYMBOLS, min_size=1, max_size=5))
def test_cutting_loses_nothing(hypothesis: list[int], references: list[list[int]]) -> None:
    pieces = cut_by_alignment(hypothesis, references)
    assert len(pieces) == len(references)
    assert [symbol for piece in pieces for symbol in piece] == hypothesis
    total = sum(edit_distance(piece, right) for piece, right in zip(pieces, references, strict=True))
    assert total == edit_distance(hypothesis, [symbol for piece in references for symbol in piece])


def test_a_sentence_that_was_left_out_gets_nothing() -> None:
    assert cut_by_alignment([1, 2, 3, 7, 8, 9], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]) == [[1, 2, 3], [], [7, 8, 9]]


def test_words_keep_vowel_signs_and_lose_punctuation() -> None:
    assert words("किसी ने मेरा चश्मा देखा?") == ("किसी", "ने", "मेरा", "चश्मा", "देखा")
    assert words("¿Qué hora es?") == ("qué", "hora", "es")


def test_overlap_counts_ngrams_and_sentences() -> None:
    found = overlap(["The cat sat down.", "A new thing."], ["the cat sat up", "anewthing"], sizes=(2, 3, 4))
    assert found.shares == {2: 2 / 5, 3: 1 / 3, 4: 0.0}
    assert (found.num_sentences_seen, found.num_sentences) == (1, 2)
    assert overlap(["One."], ["one"], sizes=(3,)).shares == {3: None}


# Acoustics -------------------------------------------------------------------------------------------


def slow_warped_total(distances: np.ndarray) -> float:
    total = np.full(distances.shape, np.inf)
    for row, column in np.ndindex(distances.shape):
        before = [
            total[above, left]
            for above, left in ((row - 1, column - 1), (row - 1, column), (row, column - 1))
            if above >= 0 and left >= 0
        ]
        total[row, column] = distances[row, column] + min(before, default=0.0)
    return total[-1, -1]


@pytest.mark.parametrize("lengths", [(1, 1), (1, 6), (7, 2), (9, 12)])
def test_warping_finds_the_cheapest_path(lengths: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(length, 3)) for length in lengths)
    distances = np.linalg.norm(first[:, None] - second[None], axis=2)
    mean = warped_distance(first, second)
    num_steps = slow_warped_total(distances) / mean
    assert abs(num_steps - round(num_steps)) < 1e-6
    assert max(lengths) <= round(num_steps) <= sum(lengths) - 1


def test_warping_ignores_speed_and_nothing_else() -> None:
    series = np.random.default_rng(0).normal(size=(20, 24))
    assert warped_distance(series, series) == pytest.approx(0, abs=1e-6)
    assert warped_distance(series, series.repeat(3, axis=0)) == pytest.approx(0, abs=1e-6)
    assert warped_distance(series, series[::-1]) > 1


def test_cepstra_ignore_the_level_and_hear_the_timbre(cases: list[Case]) -> None:
    samples = cases[0].samples + np.random.default_rng(0).normal(0, 0.05, len(cases[0].samples)).astype(np.float32)
    plain, louder = (mel_cepstra(log_mel(gain * samples)) for gain in (1.0, 2.0))
    assert plain.shape == (1 + -(-len(samples) * 2 // 3) // 160, 24)
    assert cepstral_distance(plain, louder) < 0.1
    assert cepstral_distance(plain, cases[0].wrong_cepstra) > 1


@pytest.mark.parametrize("frequency", [80, 120, 210, 330])
def test_pitch_of_a_voice_is_its_frequency(frequency: float) -> None:
    phase = np.arange(SAMPLE_RATE) * frequency / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * harmonic * phase) / harmonic for harmonic in range(1, 9))
    pitch = log_pitch(np.asarray(voice, np.float32))
    assert pitch is not None
    assert np.exp(pitch) == pytest.approx(frequency, rel=0.02)


def test_noise_and_silence_have_no_pitch() -> None:
    assert log_pitch(np.zeros(SAMPLE_RATE, np.float32)) is None
    assert log_pitch(np.random.default_rng(0).normal(size=SAMPLE_RATE).astype(np.float32)) is None
    assert log_pitch(np.zeros(100, np.float32)) is None


def test_the_longest_silence_is_found_anywhere() -> None:
    speech = say([3, 4, 5, 6] * 5)
    pause = np.zeros(2 * SAMPLE_RATE, np.float32)
    assert longest_silence(speech) < 0.1
    assert longest_silence(np.concatenate((speech, pause, speech))) == pytest.approx(2, abs=0.1)
    assert longest_silence(np.concatenate((speech, pause))) == pytest.approx(2, abs=0.1)
    assert longest_silence(np.zeros(0, np.float32)) == 0


# Speakers --------------------------------------------------------------------------------------------


def hum(frequency: float, seed: int) -> np.ndarray:
    phase = np.arange(2 * SAMPLE_RATE) * frequency / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * harmonic * phase) / harmonic for harmonic in range(1, 20))
    noise = np.random.default_rng(seed).normal(0, 0.02, len(phase))
    return (0.1 * np.asarray(voice) + noise).astype(np.float32)


def test_a_voice_is_known_by_pitch_and_timbre() -> None:
    pitches = {"low": 90.0, "middle": 140.0, "high": 220.0, "higher": 300.0}
    lineup = Lineup(TimbreAndPitch(), lambda _, voice: hum(pitches[voice], 0))
    for voice, pitch in pitches.items():
        found = lineup.identify(hum(pitch * 1.02, 1), "en", voice, list(pitches))
        assert found.is_right
        assert found.similarity > found.other_similarity
    assert not lineup.identify(hum(300, 1), "en", "low", list(pitches)).is_right


def test_voices_are_grouped_by_four() -> None:
    groups = group_voices([f"v{number}" for number in range(6)])
    assert groups["v0"] == groups["v3"] == ("v0", "v1", "v2", "v3")
    assert groups["v5"] == ("v2", "v3", "v4", "v5")
    assert all(name in group for name, group in groups.items())


# Cases -----------------------------------------------------------------------------------------------


class ToneTeacher:
    """Says each letter as a tone, in the pitch of nobody."""

    def say(self, text: str, language: str, speaker: Speaker) -> Utterance:
        numbers = [1 + ord(letter) % 24 for letter in text if letter.isalpha()]
        samples = np.rint(32767 * say(numbers)).astype(np.int16)
        times = tuple((place * _TONE / SAMPLE_RATE, f"p{number}") for place, number in enumerate(numbers))
        return Utterance(samples, SAMPLE_RATE, times, ())


@pytest.fixture(scope="module")
def studio() -> Studio:
    source = TeacherSource(ToneTeacher, lambda: [*HELD_OUT, "m1"])
    phonemes = Phonemes({f"p{number}": number for number in range(1, 25)}, {})
    return Studio(phonemes, EspeakSpeaker(source), with_word_lists=False)


def test_sentences_are_spoken_in_turn_and_know_a_wrong_one(studio: Studio) -> None:
    made = studio.preset_cases("test", "fr", limit=3)
    sentences = read_sentences("test", "fr")
    assert [case.voice for case in made] == ["fr_f1", "fr_m1", "fr_f1"]
    assert [case.text for case in made] == sentences[:3]
    assert made[2].wrong_text == sentences[3]
    assert made[0].wrong_phonemes == made[1].phonemes
    assert made[0].phonemes != made[1].phonemes
    assert len(made[0].group) == 4
    held = studio.held_out_cases("dev", "de", limit=None)
    assert {case.voice for case in held} == {f"held_{variant}" for variant in HELD_OUT} - set(NOT_CLEAN)
    # The wrong text of the last sentence is the first.
    assert held[-1].wrong_text == held[0].text


def test_a_reference_is_three_seconds_and_no_enrolment(studio: Studio) -> None:
    reference, enrolment = (clip("it", "held_m8") for clip in (studio.reference, studio.enrolment))
    assert len(reference) == 3 * SAMPLE_RATE
    assert len(enrolment) == 6 * SAMPLE_RATE
    assert not np.array_equal(reference, enrolment[: len(reference)])


def test_distractors_are_sentences_and_repeatable(studio: Studio) -> None:
    found = studio.distractors("es", 30, seed=1, avoid=[])
    assert len(found.lengths) == 30
    assert found.lengths.min() >= 10
    assert np.array_equal(found.matrix, studio.distractors("es", 30, seed=1, avoid=[]).matrix)
    assert not np.array_equal(found.matrix, studio.distractors("es", 30, seed=2, avoid=[]).matrix)


# Judging ---------------------------------------------------------------------------------------------


def test_the_teacher_itself_is_perfect(cases: list[Case], judge: Judge) -> None:
    found = [judge.judge("teacher", case, Spoken(case.samples)) for case in cases]
    summary = summarise(found)
    assert summary["error_rate"] == 0
    assert summary["retrieved"] == 1
    assert summary["length_ratio_min"] == summary["length_ratio_max"] == 1
    assert summary["distance"] == pytest.approx(0, abs=1e-4)
    assert summary["right_is_nearer"] == 1
    assert not fails_as_it_must(summary)


def test_the_recogniser_is_judged_by_a_wrong_sentence(cases: list[Case], judge: Judge) -> None:
    rates = {one.system: one.error_rate for case in cases for one in judge.validate(case)}
    assert rates["teacher, mismatched"] > 0.8
    assert rates["teacher, 20 dB noise"] == 0


def test_nothing_said_is_all_wrong(cases: list[Case], judge: Judge) -> None:
    found = judge.judge("nano", cases[0], Spoken(np.zeros(0, np.float32), has_failed=True))
    assert (found.error_rate, found.is_retrieved, found.length_ratio) == (1.0, False, 0.0)
    assert found.distance is not None
    assert np.isfinite(found.distance)


class FakeTTS:
    """Speaks the sentences of the cases as tones, and nothing else."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self._samples = {case.text: case.samples for case in cases}
        self._other = {case.wrong_text: case.wrong_samples for case in cases}
        books = SimpleNamespace(acoustic_size=21, semantic_size=1024)
        self.config = SimpleNamespace(frame_rate=12.5, codebooks=books)

    def synthesize(self, text: str, language: str, **_: Any) -> Audio:
        known = self._samples | self._other
        # What is no sentence of the cases comes out as tones that its words decide.
        samples = known.get(text)
        if samples is None:
            samples = say([1 + zlib.crc32(f"{text}{place}".encode()) % 24 for place in range(14)])
        return Audio(samples, SAMPLE_RATE)

    def encode(self, audio: tuple[np.ndarray, int]) -> torch.Tensor:
        # A frame is its own code: a pointer into the samples.
        self._encoded = audio[0].reshape(-1, _TONE)
        return torch.arange(len(self._encoded))[None].repeat(37, 1)

    def decode(self, codes: torch.Tensor) -> Audio:
        return Audio(self._encoded[codes[0].numpy()].reshape(-1), SAMPLE_RATE)


def test_every_control_fails_where_the_real_thing_passes(cases: list[Case], judge: Judge) -> None:
    texts = ["the boat sails out", "a fox runs home", "seven cooks bake bread", "rain falls on roofs"]
    named = [Case(**{**vars_of(case), "text": text}) for case, text in zip(cases, texts, strict=False)]
    narrator: Any = Narrator(FakeTTS(named))  # type: ignore[arg-type]
    noise_tts = FakeTTS([])
    noise: Any = Narrator(noise_tts)  # type: ignore[arg-type]
    controls = control_systems(narrator, noise, named, lambda *_: say([9, 8] * 20))
    real = summarise([judge.judge("nano", case, narrator.speak(case)) for case in named])
    assert real["error_rate"] == 0
    assert not fails_as_it_must(real)
    assert len(controls) == 5
    for name, system in controls.items():
        summary = summarise([judge.judge(name, case, system(case)) for case in named])
        assert fails_as_it_must(summary), name
    copies = summarise([judge.judge("codec", case, narrator.codec_copy(case)) for case in named])
    assert copies["error_rate"] == 0
    assert narrator.used_codes


def vars_of(case: Case) -> dict[str, Any]:
    return {name: getattr(case, name) for name in Case.__dataclass_fields__}


def test_shuffling_deals_the_same_words() -> None:
    sentences = ["one two three", "four", "five six"]
    dealt = shuffle_words(sentences, seed=3)
    assert [len(text.split()) for text in dealt] == [3, 1, 2]
    assert sorted(" ".join(dealt).split()) == sorted(" ".join(sentences).split())
    assert dealt != sentences
    assert dealt == shuffle_words(sentences, seed=3)


def test_japanese_counts_for_no_mean(cases: list[Case], judge: Judge) -> None:
    good = judge.judge("nano", cases[0], Spoken(cases[0].samples))
    bad = judge.judge("nano", cases[1], Spoken(np.zeros(0, np.float32)))
    japanese = type(bad)(**{**vars(bad), "language": "ja"})
    summary = summarise_system([good, japanese])
    assert summary["all"]["error_rate"] == 0
    assert summary["by_language"]["ja"]["error_rate"] == 1
    assert set(summary["by_voice"]) == {"en_f1", "en_m1"}


# Model -----------------------------------------------------------------------------------------------


def test_the_real_model_goes_through_the_systems(tts: VoxtralTTS) -> None:
    (case,) = (Case(**{**vars_of(one), "voice": "casual_male"}) for one in make_cases(1))
    narrator = Narrator(tts, seed=5)
    copied, semantic = narrator.codec_copy(case), narrator.semantic_copy(case)
    assert len(copied.samples) == len(semantic.samples) == len(case.samples)
    assert not np.array_equal(copied.samples, semantic.samples)
    assert not np.array_equal(copied.samples, narrator.swapped_copy(case).samples)
    spoken = narrator.speak(case, max_frames=3)
    assert 0 < len(spoken.samples) <= 3 * 1920
    assert np.array_equal(spoken.samples, narrator.speak(case, max_frames=3).samples)


def test_random_weights_have_the_shapes_of_the_real_ones(tiny_folder: Path, tmp_path: Path) -> None:
    write_random_copy(tiny_folder, tmp_path, seed=3)
    real, drawn = open_checkpoint(tiny_folder), open_checkpoint(tmp_path)
    assert {name: entry.shape for name, entry in real.tensors.items()} == {
        name: entry.shape for name, entry in drawn.tensors.items()
    }
    with VoxtralTTS.from_pretrained(tmp_path, device="cpu") as other:
        assert len(other.synthesize("Hi there.", "en", seed=1, max_frames=2).samples) == 2 * 1920


# Long text -------------------------------------------------------------------------------------------


class LongTTS:
    """Gives prepared samples as two segments with a pause between."""

    def __init__(self, parts: Sequence[np.ndarray], pause_s: float = 0.25) -> None:
        pause = np.zeros(round(pause_s * SAMPLE_RATE), np.float32)
        self._samples = np.concatenate((parts[0], pause, parts[1]))
        first = len(parts[0]) / SAMPLE_RATE
        bounds = ((0.0, first), (first + pause_s, len(self._samples) / SAMPLE_RATE))
        self._segments = tuple(SegmentInfo(0, 1, start, end, 1, "end", 0) for start, end in bounds)

    def synthesize(self, text: str, language: str, **_: Any) -> Audio:
        return Audio(self._samples, SAMPLE_RATE, self._segments)


def test_a_long_text_that_is_whole_passes_and_one_with_a_gap_does_not(cases: list[Case], judge: Judge) -> None:
    by_text = {case.text: (case.sound, case.phonemes) for case in cases}

    def say(text: str) -> tuple[int, list[int]]:
        return len(by_text[text][0]), by_text[text][1]

    taken = collect_sentences(list(by_text), say, seconds=6.0)
    assert sum(sentence.num_samples for sentence in taken) >= 6 * SAMPLE_RATE
    spoken = [by_text[sentence.text][0] for sentence in taken]
    half = len(spoken) // 2
    whole: Any = LongTTS([np.concatenate(spoken[:half]), np.concatenate(spoken[half:])])
    result = speak_long_text(Narrator(whole), judge, "en", "en_f1", taken)
    assert result.num_retrieved == result.num_sentences == len(taken)
    assert result.error_rate == 0
    assert result.length_ratio == pytest.approx(1, abs=1e-3)
    assert result.longest_silence_s < 0.5

    gap: Any = LongTTS([np.concatenate(spoken[:half]), np.concatenate(spoken[half + 1 :])], pause_s=2.0)
    result = speak_long_text(Narrator(gap), judge, "en", "en_f1", taken)
    assert result.num_retrieved == len(taken) - 1
    assert result.longest_silence_s > 1.5


def test_sentences_come_again_when_they_run_out() -> None:
    taken = collect_sentences(["a", "b"], lambda _: (SAMPLE_RATE, [1]), seconds=5.0)
    assert [sentence.text for sentence in taken] == ["a", "b", "a", "b", "a"]


class StoppingTTS:
    """Ends, ends at the second attempt, or never."""

    def synthesize(self, text: str, language: str, **_: Any) -> Audio:
        if text == "never":
            raise GenerationError("no end", finish_reason="runaway", seeds=(1,), audio=None)
        stats = SpeechStats(1, 0.1, 0.1, 1.0, 10, num_retries=int(text == "late"))
        return Audio(np.zeros(10, np.float32), SAMPLE_RATE, stats=stats)


def test_only_the_first_attempt_counts_as_stopping() -> None:
    narrator: Any = Narrator(StoppingTTS())  # type: ignore[arg-type]
    stops = count_stops(narrator, [("en", text, "en_f1") for text in ("ends", "late", "never", "ends")])
    assert (stops.num_texts, stops.num_ended, stops.num_retried) == (4, 2, 1)
    assert stops.to_dict()["share"] == 0.5
    assert stops.failed == [("en", "never")]
    assert Stops().to_dict()["share"] is None
    many = count_stops(narrator, [("en", "never", "en_f1")] * 100)
    assert many.num_texts == 20


def test_texts_are_drawn_from_all_languages_in_turn() -> None:
    sources = [
        TextSource(language, ("word",), ("Name",), ("The {w} of {name}.",), ("A sentence.",), ("list",))
        for language in ("en", "fr")
    ]
    texts = draw_texts(sources, 5, seed=1)
    assert [language for language, _ in texts] == ["en", "fr", "en", "fr", "en"]
    assert texts == draw_texts(sources, 5, seed=1)


# Reports ---------------------------------------------------------------------------------------------


def test_what_was_not_measured_is_not_judged() -> None:
    verdicts = judge_all({})
    assert verdicts
    assert all(verdict.passes is None and verdict.value is None for verdict in verdicts)
    assert make_table(verdicts).row_count == len(verdicts)


def test_bars_are_held_against_the_figures(cases: list[Case], judge: Judge) -> None:
    good = summarise_system([judge.judge("nano", case, Spoken(case.samples)) for case in cases])
    long_text = {"language": "en", "longest_silence_s": 2.0, "num_sentences": 4, "num_retrieved": 4}
    report = {
        "systems": {"nano": good, "semantic": {"all": {"error_rate": 0.4}}},
        "codebook": {"size": 1024, "copies_use": 0.5, "training_use": 0.9},
        "long_text": [long_text | {"length_ratio": 1.0, "has_failed": False}],
        "stops": {"num_texts": 500, "share": 0.998},
        "controls": {"echo": good},
    }
    passes = {verdict.what: verdict.passes for verdict in judge_all(report)}
    assert passes["nano en, PER"] is True
    assert passes["nano, retrieved of 401"] is True
    assert passes["semantic-only copy, PER"] is False
    assert passes["semantic codes in use"] is True
    assert passes["60 s of text, longest silence in s"] is False
    assert passes["stops by itself, of 500"] is False
    assert passes["control: echo"] is False
    assert passes["codec copy, PER"] is None


def test_training_texts_and_codes_are_read(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    lines = '{"language": "en", "text": "One."}\n{"language": "xx", "text": "No."}\n'
    (tmp_path / "items-0.jsonl").write_text(lines, encoding="utf-8")
    texts, source = read_training_texts(tmp_path, ["en"])
    assert texts == {"en": ["One."]}
    assert "1 items" in source
    # Of shards those that are whole, and what was spoken of their texts.
    for name, spoken in (("00000-en", "Two."), ("00001-en.partial.7", "No.")):
        shard = tmp_path / "corpus" / "shards" / name
        shard.mkdir(parents=True)
        line = json.dumps({"language": "en", "text": "2.", "spoken": spoken})
        (shard / "items.jsonl").write_text(f"{line}\n", encoding="utf-8")
    assert read_training_texts(tmp_path / "corpus", ["en"])[0] == {"en": ["Two."]}
    assert read_used_codes(tmp_path) is None
    (tmp_path / "codes").mkdir()
    save_file({"semantic": np.array([3, 3, 5], np.int16)}, tmp_path / "codes" / "0.safetensors")
    assert read_used_codes(tmp_path) == 2


def test_the_command_knows_its_options() -> None:
    options = parse_options(["--model", "a", "--recogniser", "out/b", "--split", "dev", "--guidance", "1.2"])
    assert (options.split, options.guidance, options.noise, options.stops) == ("dev", 1.2, None, 500)
    assert (options.corpus, options.codes) == (Path("out/data"), Path("out"))
    with pytest.raises(SystemExit):
        parse_options(["--model", "a"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sentences_to_test_with_are_new(language: str) -> None:
    tested, chosen_on = read_sentences("test", language), read_sentences("dev", language)
    assert len(tested) == (40 if language == "en" else 20)
    assert len(chosen_on) == 12
    assert not set(tested) & set(chosen_on)
    learnt = TEXTS.parents[1] / "src" / "voxtral" / "cloning" / "texts"
    trained = (learnt / f"{language}.txt").read_text(encoding="utf-8")
    plain = {"".join(words(line)) for line in trained.splitlines()}
    assert not [text for text in (*tested, *chosen_on) if "".join(words(text)) in plain]


def test_a_language_without_sentences_is_refused() -> None:
    with pytest.raises(CorpusError, match="missing"):
        read_sentences("test", "xx")


# The page --------------------------------------------------------------------------------------------


def make_report() -> dict[str, Any]:
    """A report with figures of each kind, of English and Japanese alone."""
    nano = {"error_rate": 0.3, "retrieved": 0.975, "length_ratio_min": 0.9, "length_ratio_max": 1.2}
    english = nano | {"error_rate": 0.125, "timbre_and_pitch": {"right_of_4": 0.85}}
    failing = {"all": {"error_rate": 0.9, "retrieved": 0.0}}
    return {
        "benchmark": "quality",
        "split": "test",
        "limit": None,
        "seed": 1,
        "machine": {"system": "Linux", "cpu": "3 cores", "torch": "2.9"},
        "sampling": {"guidance_scale": 1.6, "noise_scale": 0.3, "num_euler_steps": 7},
        "systems": {
            "nano": {"all": english, "by_language": {"en": english, "ja": nano}},
            "teacher": {"all": {"error_rate": 0.09, "wrong_distance": 6.125}, "by_language": {}},
        },
        "overlap": {
            "source": "the 3 items of the corpus",
            "en": {"1-grams": 0.5, "2-grams": 0.25, "3-grams": 0.0, "4-grams": None, "sentences": 0, "of": 40},
        },
        "controls": {"shuffled text": failing, "reference echoed": {"all": {"error_rate": 0.7, "retrieved": 0.6}}},
    }


def row(table: str, first: str) -> list[str]:
    """Read the cells of the row that begins with a name."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    (found,) = [cells for cells in rows if cells[0] == first]
    return found[1:]


def test_figures_of_a_report_come_onto_the_page() -> None:
    parts = make_parts(make_report(), "quality-2030-01-02.json")
    assert row(parts["results"], "nano en, PER")[:4] == ["0.125", "<= 0.25", "0.12", "met"]
    assert row(parts["results"], "nano ja, PER")[0] == "0.300"
    assert row(parts["results"], "nano, longest utterance of all")[0] == "1.200"
    assert row(parts["validity"], "teacher, PER") == ["0.090", "<= 0.08", "missed"]
    assert row(parts["languages"], "nano")[:3] == ["0.125", "0.125", NOT_MEASURED]
    assert row(parts["languages"], "nano")[-1] == "0.300"
    assert row(parts["overlap"], "2-grams")[:2] == ["0.250", NOT_MEASURED]
    assert row(parts["overlap"], "4-grams")[0] == "none"
    assert row(parts["overlap"], "sentences")[0] == "0 of 40"
    assert row(parts["speakers"], "nano") == [NOT_MEASURED, "0.850"]
    assert "6.125" in parts["distance"]
    for fact in (
        "date: 2030-01-02",
        "3 cores",
        "torch: 2.9",
        "seed: 1",
        "guidance scale: 1.6",
        "split: test",
        "language: all",
    ):
        assert fact in parts["conditions"]


def test_a_control_that_passes_is_marked() -> None:
    parts = make_parts(make_report(), "report.json")
    assert row(parts["controls"], "words shuffled between sentences") == ["0.900", "0.000", "yes"]
    assert row(parts["controls"], "the reference clip echoed back") == ["0.700", "0.600", "no"]
    assert row(parts["controls"], "always the same sentence") == [NOT_MEASURED, NOT_MEASURED, "not judged"]
    assert row(parts["results"], "negative controls that fail")[:4] == ["1 of 2", "all 5", "", "missed"]
    assert "date: not recorded" in parts["conditions"]


def test_controls_that_were_left_out_are_not_met() -> None:
    report = make_report()
    report["controls"].pop("reference echoed")
    row_of_controls = row(make_parts(report, "report.json")["results"], "negative controls that fail")
    assert row_of_controls[:4] == ["1 of 1", "all 5", "", "missed"]


def test_languages_that_were_left_out_are_named() -> None:
    results = make_parts(make_report(), "report.json")["results"]
    left_out = [language for language in LANGUAGES if language not in ("en", "ja")]
    assert row(results, f"nano, PER of {', '.join(left_out)}")[0] == NOT_MEASURED


def test_an_empty_report_gives_a_page_without_figures() -> None:
    parts = make_parts({"benchmark": "quality"}, "report.json")
    marks = [cells[4] for cells in (line.strip("|").split("|") for line in parts["results"].splitlines()[2:])]
    assert {mark.strip() for mark in marks} == {"not judged"}
    for name in ("languages", "overlap", "speakers"):
        for line in parts[name].split("\n\n")[0].splitlines()[2:]:
            assert {cell.strip() for cell in line.strip("|").split("|")[1:]} == {NOT_MEASURED}
    assert NOT_MEASURED in parts["distance"]
    assert not re.search(r"language: all", parts["conditions"])


def test_the_page_keeps_its_markers_and_its_prose(tmp_path: Path) -> None:
    page, report = tmp_path / "page.md", tmp_path / "quality-2030-01-02.json"
    before = PAGE.read_text(encoding="utf-8")
    page.write_text(before, encoding="utf-8")
    report.write_text(json.dumps(make_report()), encoding="utf-8")
    fill_page([str(report), "--page", str(page)])
    once = page.read_text(encoding="utf-8")
    assert "2030-01-02" in once
    fill_page([str(report), "--page", str(page)])
    assert page.read_text(encoding="utf-8") == once

    def outside(text: str) -> list[str]:
        return re.sub(r"(?s)(<!-- figures:.*? -->).*?(<!-- /figures -->)", r"\1\2", text).splitlines()

    assert outside(once) == outside(before)


def test_a_page_that_does_not_fit_is_refused() -> None:
    good = "<!-- figures:a -->\nold\n<!-- /figures -->\nprose\n<!-- figures:b -->\n<!-- /figures -->\n"
    parts = {"a": r"new \1", "b": "more"}
    filled = fill(good, parts)
    assert filled.splitlines()[1] == r"new \1"
    assert "old" not in filled
    assert "prose\n" in filled
    with pytest.raises(PageError, match="closing"):
        fill(good.replace("<!-- /figures -->", "", 1), parts)
    with pytest.raises(PageError, match="alone on its line"):
        fill(good.replace("\n<!-- /figures -->", " <!-- /figures -->", 1), parts)
    with pytest.raises(PageError, match="parts"):
        fill(good, {"a": "new"})
    with pytest.raises(PageError, match="parts"):
        fill(good.replace("figures:b", "figures:a"), parts)
    with pytest.raises(PageError, match="quality"):
        make_parts({"benchmark": "latency"}, "report.json")


# Pictures --------------------------------------------------------------------------------------------


def read_png(data: bytes) -> np.ndarray:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, kinds = 8, {}
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert checksum == zlib.crc32(kind + body)
        kinds[kind] = body
        position += 12 + length
    width, height, depth, colours = struct.unpack(">IIBB", kinds[b"IHDR"][:10])
    assert (depth, colours) == (8, 0)
    rows = np.frombuffer(zlib.decompress(kinds[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]


def test_png_holds_the_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)
    assert np.array_equal(read_png(encode_png(pixels)), pixels)


def test_a_high_tone_is_drawn_above_a_low_one() -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    low, high = (spectrogram(np.sin(2 * np.pi * frequency * time)) for frequency in (500, 6000))
    assert low[:, 50].argmax() > high[:, 50].argmax()


def test_pictures_of_different_lengths_are_stacked(tmp_path: Path, cases: list[Case]) -> None:
    first, second = spectrogram(cases[0].samples), spectrogram(cases[0].samples[:_TONE])
    together = stack([first, second])
    assert together.shape == (first.shape[0] * 2 + 4, first.shape[1])
    write_picture(tmp_path / "new" / "en.png", [cases[0].samples, cases[0].samples[:_TONE]])
    assert np.array_equal(read_png((tmp_path / "new" / "en.png").read_bytes()), together)
