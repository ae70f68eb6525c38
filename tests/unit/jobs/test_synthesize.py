"""`synthesize_files` on a stand-in: what it takes, what it refuses and what it reports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import soundfile

from speakers import SAMPLES_PER_LETTER, FakeSpeaker
from voxtral.errors import AudioError, OptionError, RequestError, TextError
from voxtral.jobs.run import BatchProgress, BatchReport
from voxtral.jobs.synthesize import synthesize_files
from voxtral.types import SpeechRequest


@pytest.fixture
def speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSpeaker:
    monkeypatch.chdir(tmp_path)
    return FakeSpeaker(tmp_path / "model")


def call(speaker: FakeSpeaker, texts: Any, warned: list[str] | None = None, **options: Any) -> BatchReport:
    own = {
        key: options.pop(key) for key in list(options) if key in ("voice", "speed", "sped", "reference_audio", "pause")
    }
    warn = (lambda _: None) if warned is None else warned.append
    return synthesize_files(speaker, texts, "out", warn=warn, common=own, **options)


def test_items_become_files_with_their_names(speaker: FakeSpeaker) -> None:
    moments: list[BatchProgress] = []
    report = call(
        speaker, iter(["one", {"text": "two", "name": "b"}, SpeechRequest("it fails")]), on_progress=moments.append
    )
    assert {made.file for made in report.made} == {"part0001.wav", "b.wav"}
    assert [(failed.file, failed.error.code) for failed in report.failed] == [("part0003.wav", "generation_failed")]
    assert sorted(os.listdir("out")) == ["b.wav", "batch.jsonl", "part0001.wav"]
    assert [moment.num_made + moment.num_failed for moment in moments] == [1, 2, 3]


@pytest.mark.parametrize(
    ("split", "files"),
    [
        (None, ["c_part0001.flac", "c_part0002.flac", "c_part0003.flac"]),
        ("paragraphs", ["c_part0001.flac", "c_part0002.flac"]),
        ("none", ["c.flac"]),
    ],
)
def test_a_path_is_read_as_the_command_reads_it(speaker: FakeSpeaker, split: str | None, files: list[str]) -> None:
    Path("c.txt").write_text("One.\nTwo.\n\nThree.\n")
    report = call(speaker, Path("c.txt"), format="flac", split=split)
    assert sorted(made.file for made in report.made) == files
    assert call(speaker, "c.txt", format="flac", split=split).skipped == tuple(files)


def test_all_that_is_wrong_is_in_one_error_and_nothing_is_spoken(speaker: FakeSpeaker) -> None:
    given = ["good", 5, {"text": "x", "name": "../up"}, {"text": "y", "sped": 2}, {"text": "z", "name": "Part0001"}]
    with pytest.raises(RequestError, match="of the texts 4 cannot be taken") as caught:
        call(speaker, given)
    for told in ("item 1: the text is a int", "item 2: the name '../up'", "item 3: option 'sped'", "item 4: the name"):
        assert told in str(caught.value)
    with pytest.raises(RequestError, match=r"2 cannot be taken: item 1 and 1 more: the voice is unknown; nothing was"):
        call(speaker, ["good", "refused", "refused too"])
    assert speaker.spoken == []
    assert os.listdir() == ["model"]


@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        (["a"], {"format": "wma"}, OptionError, "format is 'wma'; it must be one of wav, flac"),
        (["a"], {"speed": 9}, OptionError, "^speed is 9"),
        (["a"], {"sped": 2}, OptionError, "'sped' is unknown"),
        (["a"], {"seed": -1}, OptionError, "^seed is -1"),
        (["a"], {"captions": ["srt", "ass"]}, OptionError, r"captions is .*'ass'.*some of srt, vtt, json, lrc"),
        (["a"], {"captions": ["srt", "srt"]}, OptionError, "each once"),
        (["a"], {"captions": "srt"}, OptionError, "captions is 'srt'"),
        (["a"], {"captions": [5]}, OptionError, "^captions is "),
        ([{"text": "a", "name": "n" * 251}], {"captions": ["json"]}, RequestError, "more than 255 bytes"),
        (["a"], {"max_in_flight": 0}, OptionError, "max_in_flight is 0"),
        (["a"], {"split": "words"}, OptionError, "split is 'words'; it must be one of lines, paragraphs, none"),
        (["a"], {"split": "lines"}, OptionError, "the texts are no path"),
        (["a"], {"reference_audio": "no.wav"}, RequestError, "item 0: the clip 'no.wav' does not exist"),
        ([], {}, RequestError, "there is no text"),
        ("Hello.", {}, TextError, "'Hello.' does not exist; .*put a single text in a list"),
        ("word " * 5000, {}, TextError, r"word \.\.\.' does not exist"),
        ("model", {}, TextError, "the folder model holds no .txt file"),
        ({"text": "a"}, {}, TextError, "put it in a list"),
        (5, {}, TextError, "put it in a list"),
    ],
)
def test_what_cannot_be_taken_is_refused(
    speaker: FakeSpeaker, texts: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(speaker, texts, **options)
    assert os.listdir() == ["model"]


def test_captions_are_made_beside_each_file(speaker: FakeSpeaker) -> None:
    Path("out").mkdir()
    Path("out/part0001.vtt").write_text("mine")
    with pytest.raises(AudioError, match=r"part0001\.vtt"):
        call(speaker, ["one"], captions=("srt", "vtt"))
    assert speaker.spoken == []
    report = call(speaker, ["one"], captions=("srt", "vtt"), overwrite=True)
    assert [made.file for made in report.made] == ["part0001.wav"]
    assert sorted(os.listdir("out")) == ["batch.jsonl", "part0001.srt", "part0001.vtt", "part0001.wav"]
    assert Path("out/part0001.vtt").read_text().startswith("WEBVTT\n")
    assert call(speaker, ["one"], captions=("srt", "vtt")).skipped == ("part0001.wav",)


def test_files_of_others_stay_until_that_is_asked_for(speaker: FakeSpeaker) -> None:
    Path("out").mkdir()
    Path("out/part0001.wav").write_bytes(b"precious")
    with pytest.raises(AudioError, match=r"that no batch has made .*\(part0001.wav\).*overwrite=True"):
        call(speaker, ["a"])
    assert Path("out/part0001.wav").read_bytes() == b"precious"
    assert len(call(speaker, ["a"], overwrite=True).made) == 1


def test_each_warning_is_told_once_with_its_place(speaker: FakeSpeaker) -> None:
    warned: list[str] = []
    call(speaker, ["a", "it warns", "it warns again"], warned)
    assert warned == ["item 1: the voice has an accent"]


def test_whole_numbers_of_real_options_are_the_commands_reals(speaker: FakeSpeaker) -> None:
    call(speaker, ["a"], speed=2)
    assert call(speaker, ["a"], speed=2.0).skipped == ("part0001.wav",)


def test_what_the_progress_raises_ends_the_call_and_keeps_what_is_finished(speaker: FakeSpeaker) -> None:
    def stop(progress: BatchProgress) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        call(speaker, ["a", "it waits", "it waits too"], on_progress=stop)
    assert sorted(os.listdir("out")) == ["batch.jsonl", "part0001.wav"]


def test_finished_files_of_texts_cut_another_way_stay(speaker: FakeSpeaker) -> None:
    Path("c.txt").write_text("One here.\nTwo there.\n\nThree of them.\n")
    call(speaker, Path("c.txt"), split="lines")
    before = Path("out/c_part0001.wav").read_bytes()
    for split in ("paragraphs", "none"):
        if split == "paragraphs":
            with pytest.raises(
                AudioError, match=r"2 finished files of texts that were cut another way.*overwrite=True"
            ):
                call(speaker, Path("c.txt"), split=split)
        else:
            assert call(speaker, Path("c.txt"), split=split).left == (
                "c_part0001.wav",
                "c_part0002.wav",
                "c_part0003.wav",
            )
        assert Path("out/c_part0001.wav").read_bytes() == before
    call(speaker, Path("c.txt"), split="lines")
    report = call(speaker, Path("c.txt"), split="paragraphs", overwrite=True)
    assert sorted(made.file for made in report.made) == ["c_part0001.wav", "c_part0002.wav"]
    # Another text that is cut the same way is made again, as ever.
    Path("c.txt").write_text("One more.\nTwo there.\n\nThree of us.\n")
    assert len(call(speaker, Path("c.txt"), split="paragraphs").made) == 2


def test_a_journal_of_before_had_lines(speaker: FakeSpeaker) -> None:
    Path("c.txt").write_text("One here.\nTwo there.\n\nThree of them.\n")
    call(speaker, Path("c.txt"), split="lines")
    journal = Path("out/batch.jsonl")
    journal.write_text("".join(line for line in journal.read_text().splitlines(True) if '"run"' not in line))
    with pytest.raises(AudioError, match="cut another way"):
        call(speaker, Path("c.txt"), split="paragraphs")
    assert len(call(speaker, Path("c.txt"), split="lines").skipped) == 3


def test_all_is_joined_when_all_is_made(speaker: FakeSpeaker) -> None:
    texts = ["aa", {"text": "bbbb", "name": "z"}, {"text": "cc", "name": "a"}]
    call(speaker, texts, join="all.flac", pause=0.5)
    samples, rate = soundfile.read("all.flac")
    assert len(samples) == 8 * SAMPLES_PER_LETTER + 2 * rate // 2
    Path("all.flac").unlink()
    call(speaker, texts, join="all.flac")
    assert Path("all.flac").exists()
    call(speaker, [*texts, "fails"], join="none.flac")
    assert not Path("none.flac").exists()
    with pytest.raises(AudioError, match="extension"):
        call(speaker, texts, join="all.xyz")
