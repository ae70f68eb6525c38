"""Who says what is to be said: teachers of shards, what they said, and what is left where nobody speaks."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality import takes as takes_module
from benchmarks.quality.__main__ import list_left_out
from benchmarks.quality.cases import GROUP_SIZE, Studio, read_distractors, read_sentences
from benchmarks.quality.judge import Judge, summarise
from benchmarks.quality.options import describe_run, keep_settings, open_teacher, require_sound
from benchmarks.quality.phonemes import pad_candidates
from benchmarks.quality.references import ReferenceSpeaker
from benchmarks.quality.systems import Spoken
from benchmarks.quality.takes import Takes
from benchmarks.quality.teachers import CorpusSpeaker, EspeakSpeaker, TeacherVoice
from stand_in_teacher import STAND_IN, StandInStudio
from train.corpus import CorpusError, Phonemes
from train.sounds import SOUNDS, Sounds
from train.speak import HELD_STYLES
from train.teacher import TeacherError
from train.texts import LANGUAGES

PHONEMES = Sounds(SOUNDS, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What train.packages makes, as far as its names go."""
    styles = tmp_path_factory.mktemp("teachers") / "styles"
    styles.mkdir()
    for name in (*HELD_STYLES, "af_heart", "am_michael", "bf_emma", "bm_george", "ef_dora", "em_alex", "ff_siwis"):
        (styles / f"{name}.bin").touch()
    return styles.parent


@pytest.fixture
def speaker(folder: Path) -> CorpusSpeaker:
    return CorpusSpeaker(folder, StandInStudio())


def names_of(voices: list[TeacherVoice]) -> set[str]:
    return {voice.name for voice in voices}


def test_presets_are_told_from_those_of_another_language_and_strangers_from_strangers(speaker: CorpusSpeaker) -> None:
    studio = Studio(PHONEMES, speaker)
    for language in LANGUAGES:
        assert studio.presets_of(language) == [f"{language}_f1", f"{language}_m1"]
        cases = studio.preset_cases("dev", language, 2)
        assert all(case.voice in case.group and len(case.group) == GROUP_SIZE for case in cases)
        strangers = studio.held_out_cases("dev", language, 3)
        assert all(
            voice in {one.name for one in studio.strangers_of(language)} for case in strangers for voice in case.group
        )
    # Pico has one German voice, which is in training; espeak-ng's variants stand in for Arabic.
    assert studio.held_out_cases("dev", "de", 3) == []
    assert {voice.name for voice in studio.strangers_of("ar")} & {
        voice.name for voice in studio.strangers_of("en")
    } == set()
    assert list_left_out(["teacher"], ["en", "de"], studio) == ["held-out voices in de: none speaks it"]
    # Who does not speak the language is known by another.
    assert len(studio.enrolment("ar", "de_f1")) == 6 * 24000


def test_a_take_has_its_times_where_it_sounds_and_its_words_in_the_text(speaker: CorpusSpeaker) -> None:
    text = "We saw 2 boats."
    late, on_time = speaker.say(text, "en", "en_f1"), speaker.say(text, "de", "de_f1")
    assert late.samples is not None
    assert late.seconds == len(late.samples) / 24000
    # Kokoro reports what it says 60 ms late, Pico does not; the stand-in says both alike.
    shifts = [two[0] - one[0] for one, two in zip(late.phonemes, on_time.phonemes, strict=False)]
    assert shifts[3:6] == pytest.approx([0.06] * 3)
    assert late.phonemes[-1][1] == "_"
    assert [text[first : first + length] for _, first, length in late.words] == ["We", "saw", "2", "boats"]
    assert "".join(speaker.spell("Two 2", "en")) == "aaa" + "aaa"


def test_a_folder_without_styles_and_missing_tools_are_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(TeacherError, match=r"no styles/"):
        CorpusSpeaker(tmp_path)

    class Toolless(StandInStudio):
        def say(self, *_: Any) -> Any:
            raise ImportError("No module named 'onnxruntime'")

    with pytest.raises(TeacherError, match="--takes"):
        CorpusSpeaker(folder, Toolless()).say("Hello", "en", "en_f1")


def test_what_was_said_is_kept_and_not_said_again(tmp_path: Path, folder: Path, speaker: CorpusSpeaker) -> None:
    first = Takes(tmp_path, speaker).say("Good evening.", "en", "en_f1")
    silent = CorpusSpeaker(folder, StandInStudio(fails_after=0))
    for again in (Takes(tmp_path, silent), Takes(tmp_path)):
        found = again.say("Good evening.", "en", "en_f1")
        assert found.samples is not None
        assert np.abs(np.asarray(first.samples) - found.samples).max() <= 1 / 32768
        assert [name for _, name in found.phonemes] == [name for _, name in first.phonemes]
        assert [start for start, _ in found.phonemes] == pytest.approx([start for start, _ in first.phonemes], abs=1e-4)
        assert [word[1:] for word in found.words] == [word[1:] for word in first.words]
        assert again.voices == speaker.voices
    with pytest.raises(TeacherError, match="no take of 4 characters in en by en_m1"):
        Takes(tmp_path).say("Nope", "en", "en_m1")
    # A second process has files of its own, and a line that was cut off counts as not there.
    Takes(tmp_path, speaker).say("Good night.", "en", "en_f1")
    listings = sorted(tmp_path.glob("*.jsonl"))
    assert len(listings) == 2
    with listings[0].open("a", encoding="utf-8") as file:
        file.write('{"language": "en", "voi')
    assert Takes(tmp_path).say("Good night.", "en", "en_f1").words
    with pytest.raises(TeacherError, match=r"voices\.json is missing"):
        Takes(tmp_path / "nothing")


def test_all_that_judges_ask_for_is_said_once(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(takes_module, "CorpusSpeaker", lambda path: CorpusSpeaker(path, StandInStudio()))
    monkeypatch.setattr(takes_module, "LONG_SECONDS", 5.0)
    words = [
        str(tmp_path / "takes"),
        "--teachers",
        str(folder),
        "--limit",
        "1",
        "--for",
        "judge",
        "times",
        "letters",
        "cuts",
    ]
    takes_module.main([*words, "--languages", "es", "de", "--parts", "2", "--part", "1"])
    assert "de:" in capsys.readouterr().out
    takes_module.main([*words, "--languages", "es"])
    studio = Studio(PHONEMES, Takes(tmp_path / "takes"), with_word_lists=False)
    case = studio.preset_cases("test", "es", 1)[0]
    stranger = studio.held_out_cases("test", "es", 1)[0]
    assert len(studio.reference("es", stranger.voice)) == 3 * 24000
    for each in (case, stranger):
        assert all(len(studio.enrolment("es", name)) == 6 * 24000 for name in each.group)
    with pytest.raises(TeacherError, match="no take"):
        studio.preset_cases("test", "it", 1)


def test_without_anybody_s_speech_phonemes_are_judged_and_nothing_else() -> None:
    studio = Studio(PHONEMES, ReferenceSpeaker(), with_word_lists=False)
    case = studio.preset_cases("test", "fr", 1)[0]
    assert (case.samples, case.cepstra) == (None, None)
    assert case.seconds > 1
    assert len(case.phonemes) > 10
    assert case.phonemes != case.wrong_phonemes
    ear = Namespace(transcribe=lambda samples, language: case.phonemes)
    judge = Judge(ear, {"fr": studio.distractors("fr", 20)})
    summary = summarise([judge.judge("nano", case, Spoken(np.ones(24000, np.float32)))])
    assert (summary["error_rate"], summary["retrieved"]) == (0, 1)
    assert not {"length_ratio", "distance"} & summary.keys()
    for fails in (
        lambda: case.sound,
        lambda: studio.reference("fr", case.voice),
        lambda: require_sound(studio, "timing"),
    ):
        with pytest.raises(CorpusError, match="--takes"):
            fails()
    with pytest.raises(CorpusError, match="no reference"):
        studio.take("Quelque chose d'autre.", "fr", "fr_f1")
    left_out = list_left_out(["nano", "codec", "controls"], ["fr"], studio)
    assert [one.split(":")[0] for one in left_out] == [
        "system codec", "control swapped codes", "control reference echoed",
        "length ratios, mel-cepstral distances and speakers",
    ]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_distractors_are_400_different_sentences_and_no_test_sentences(language: str) -> None:
    kept = read_distractors(language)
    assert len(kept) == 400
    studio = Studio(PHONEMES, ReferenceSpeaker(), with_word_lists=False)
    found = studio.distractors(language)
    assert len(found.lengths) == 400
    assert found.lengths.min() >= 10
    sentences = {
        tuple(case.phonemes) for split in ("test", "dev") for case in studio.preset_cases(split, language, None)
    }
    spelled = {tuple(row[row >= 0].tolist()) for row in found.matrix}
    assert len(spelled) > 390
    assert not spelled & sentences
    assert (
        studio.distractors(language, 7).matrix.tolist()
        == pad_candidates([PHONEMES.spell([(0.0, name) for name in one], language) for one in kept[:7]]).matrix.tolist()
    )


def test_the_recogniser_decides_who_the_teacher_is(tmp_path: Path, folder: Path, speaker: CorpusSpeaker) -> None:
    neither = Namespace(teachers=None, takes=None)
    assert not open_teacher(neither, PHONEMES).has_sound
    Takes(tmp_path, speaker)
    assert isinstance(open_teacher(Namespace(teachers=None, takes=tmp_path), PHONEMES), Takes)
    assert isinstance(open_teacher(Namespace(teachers=folder, takes=None), PHONEMES), CorpusSpeaker)
    mnemonics = Phonemes({"a": 1}, {})
    with pytest.raises(CorpusError, match="leave them out"):
        open_teacher(Namespace(teachers=None, takes=tmp_path), mnemonics)
    with pytest.raises(CorpusError, match="both must be the same"):
        Studio(mnemonics, speaker)
    assert Studio(mnemonics, EspeakSpeaker(STAND_IN)).has_sound


def test_a_run_is_not_mixed_with_one_of_other_weights_or_ears(tmp_path: Path, tiny_folder: Path) -> None:
    ears = tmp_path / "ears"
    ears.write_bytes(b"one")
    settings = describe_run(Namespace(model=str(tiny_folder), recogniser=ears))
    keep_settings(tmp_path / "settings.json", settings)
    keep_settings(tmp_path / "settings.json", settings)
    ears.write_bytes(b"other")
    with pytest.raises(ValueError, match="mixed"):
        keep_settings(tmp_path / "settings.json", describe_run(Namespace(model=str(tiny_folder), recogniser=ears)))


def test_sentences_of_a_split_are_as_before() -> None:
    assert ReferenceSpeaker().say(read_sentences("dev", "it")[3], "it", "it_m1").phonemes
