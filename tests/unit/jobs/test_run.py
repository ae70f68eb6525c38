"""A run over a folder, as data: what it finds, what becomes of each file, and how it ends before its end."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakers import RATE, SAMPLES_PER_LETTER, FakeSpeaker
from voxtral.audio.file import AudioFileWriter
from voxtral.errors import AudioError, CancelledError, EngineStoppedError, RequestError
from voxtral.jobs.inputs import list_entries, plan_files
from voxtral.jobs.manifest import Manifest, open_folder
from voxtral.jobs.run import BatchProgress, BatchRun, FailedFile, MadeFile
from voxtral.jobs.synthesize import synthesize_files


@pytest.fixture
def speaker(tmp_path: Path) -> FakeSpeaker:
    return FakeSpeaker(tmp_path / "model")


@contextmanager
def a_run(
    speaker: FakeSpeaker, folder: Path, texts: list[Any], captions: Sequence[str] = (), **options: Any
) -> Iterator[BatchRun]:
    files, problems = plan_files(list_entries(texts)[0], {}, 0, "wav", captions)
    assert not problems
    with open_folder(folder) as manifest:
        yield BatchRun(speaker, manifest, files, "wav", **options)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_all_that_is_wrong_comes_back_and_each_warning_once(speaker: FakeSpeaker, tmp_path: Path) -> None:
    clip = {"reference_audio": b"clip"}
    texts = ["a", "refused", "warns", "refused too", "warns again", {"text": "b", **clip}, {"text": "c", **clip}]
    with a_run(speaker, tmp_path / "out", texts) as run:
        problems, warnings = run.check()
    assert [(problem.where, problem.message) for problem in problems] == [
        ("item 1", "the voice is unknown"),
        ("item 3", "the voice is unknown"),
    ]
    assert [(warned.where, warned.message) for warned in warnings] == [
        ("item 2", "the voice has an accent"),
        ("item 5", "the clip is short"),
    ]
    assert speaker.cloned == [b"clip"]
    assert speaker.spoken == []
    assert not (tmp_path / "out").exists()


def test_each_file_is_reported_when_it_is_done(speaker: FakeSpeaker, tmp_path: Path) -> None:
    with a_run(speaker, tmp_path / "out", ["hello", "it fails", "you"]) as run:
        events = {event.file: event for event in run.make()}
        report = run.report()
    assert sorted(events) == ["part0001.wav", "part0002.wav", "part0003.wav"]
    assert isinstance(events["part0001.wav"], MadeFile)
    failed = events["part0002.wav"]
    assert isinstance(failed, FailedFile)
    assert (failed.where, failed.error.code) == ("item 1", "generation_failed")
    assert {made.file for made in report.made} == {"part0001.wav", "part0003.wav"}
    assert report.failed == (failed,)
    assert report.duration_s == pytest.approx(8 * SAMPLES_PER_LETTER / RATE)
    assert report.elapsed_s > 0
    assert sorted(os.listdir(report.folder)) == ["batch.jsonl", "part0001.wav", "part0003.wav"]


def test_the_next_run_makes_what_failed_or_changed_and_nothing_else(speaker: FakeSpeaker, tmp_path: Path) -> None:
    with a_run(speaker, tmp_path / "out", ["one", "it fails", "three", "four"]) as run:
        list(run.make())
    speaker.spoken.clear()
    with a_run(speaker, tmp_path / "out", ["one", "two", "another"]) as run:
        assert (run.num_files, run.num_changed) == (3, 1)
        list(run.make())
        report = run.report()
    assert [request.text for request in speaker.spoken] == ["two", "another"]
    assert (report.skipped, report.left) == (("part0001.wav",), ("part0004.wav",))
    with a_run(speaker, tmp_path / "out", ["one", "two", "another"], overwrite=True) as run:
        assert run.num_changed == 3
        assert len(list(run.make())) == 3


def test_progress_counts_what_this_run_has_to_make(speaker: FakeSpeaker, tmp_path: Path) -> None:
    with a_run(speaker, tmp_path / "out", ["aaaa"]) as run:
        assert run.progress.elapsed_s == 0
        list(run.make())
    with a_run(speaker, tmp_path / "out", ["aaaa", "bb", "fails!", "cc"], max_in_flight=1) as run:
        moments = [run.progress for _ in run.make()]
    assert [moment.num_files for moment in moments] == [3, 3, 3]
    assert [(moment.num_made, moment.num_failed) for moment in moments] == [(1, 0), (1, 1), (2, 1)]
    assert [moment.fraction for moment in moments] == [0.2, 0.8, 1.0]
    assert moments[-1].made_s == pytest.approx(4 * SAMPLES_PER_LETTER / RATE)


def test_cancelling_keeps_what_is_finished(speaker: FakeSpeaker, tmp_path: Path) -> None:
    with a_run(speaker, tmp_path / "out", ["one", "two", "it waits", "three"]) as run:

        def cancel() -> None:
            until(lambda: run.progress.num_made >= 2)
            run.cancel()

        threading.Thread(target=cancel).start()
        with pytest.raises(CancelledError):
            list(run.make())
        assert {made.file for made in run.report().made} >= {"part0001.wav", "part0002.wav"}
    assert not (tmp_path / "out" / "part0003.wav").exists()
    assert not any(thread.name.startswith("voxtral-batch") for thread in threading.enumerate())


def test_leaving_the_loop_cancels_the_rest(speaker: FakeSpeaker, tmp_path: Path) -> None:
    with a_run(speaker, tmp_path / "out", ["one", "it waits", "it waits too"]) as run:
        events = run.make()
        assert next(events).file == "part0001.wav"
        events.close()
        assert run.report().failed == ()
    assert sorted(os.listdir(tmp_path / "out")) == ["batch.jsonl", "part0001.wav"]


def test_a_disk_that_refuses_ends_the_run(
    speaker: FakeSpeaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = AudioFileWriter.write

    def write_until_full(self: AudioFileWriter, samples: np.ndarray) -> None:
        if "part0002" in self._target:
            error = OSError(errno.ENOSPC, "No space left on device")
            raise self._disk_error(error) from error
        write(self, samples)

    monkeypatch.setattr(AudioFileWriter, "write", write_until_full)
    with a_run(speaker, tmp_path / "out", ["one", "two", "three"], max_in_flight=1) as run:
        with pytest.raises(AudioError, match="No space left"):
            list(run.make())
        assert ([made.file for made in run.report().made], run.report().failed) == (["part0001.wav"], ())


def test_an_engine_that_is_gone_ends_the_run(speaker: FakeSpeaker, tmp_path: Path) -> None:
    with a_run(speaker, tmp_path / "out", ["one", "it stops", "three"], max_in_flight=1) as run:
        with pytest.raises(EngineStoppedError):
            list(run.make())
        assert [made.file for made in run.report().made] == ["part0001.wav"]
    assert "three" not in [request.text for request in speaker.spoken]


def test_a_clip_that_is_bad_when_its_turn_comes_fails_alone(
    speaker: FakeSpeaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(clip: Any, **_: Any) -> None:
        raise RequestError("the clip is empty now")

    monkeypatch.setattr(speaker, "create_voice", refuse)
    texts = ["one", {"text": "two", "reference_audio": b"clip"}, "three", {"text": "four", "reference_audio": b"x"}]
    with a_run(speaker, tmp_path / "out", texts) as run:
        events = list(run.make())
    assert {event.file: type(event) for event in events} == {
        "part0001.wav": MadeFile,
        "part0002.wav": FailedFile,
        "part0003.wav": MadeFile,
        "part0004.wav": FailedFile,
    }


def test_a_text_in_flight_is_claimed_before_it_is_spoken(speaker: FakeSpeaker, tmp_path: Path) -> None:
    with a_run(speaker, tmp_path / "out", ["one"]) as run:
        list(run.make())
    with a_run(speaker, tmp_path / "out", ["it stops"]) as run, pytest.raises(EngineStoppedError):
        list(run.make())
    with Manifest(tmp_path / "out") as manifest:  # what was known of the old file is true no more
        assert manifest.state("part0001.wav", "anything") == "changed"


def test_the_time_that_is_left_is_told_after_a_few_files_by_characters(speaker: FakeSpeaker, tmp_path: Path) -> None:
    texts = ["aaaa", "bb", "cc", "dddddddd", "e"]
    with a_run(speaker, tmp_path / "out", texts, max_in_flight=1) as run:
        assert run.progress.left_s is None
        moments = [run.progress for _ in run.make()]
    assert [moment.left_s is None for moment in moments] == [True, True, False, False, False]
    third = moments[2]
    assert third.left_s == pytest.approx(third.elapsed_s * (1 - third.fraction) / third.fraction)
    assert moments[-1].left_s == 0
    # With fewer files than that, when they are done.
    assert BatchProgress(1, 0, 2, 0.5, 1.0, 10.0).left_s is None
    assert BatchProgress(1, 1, 2, 1.0, 1.0, 10.0).left_s == 0


# As a run wrote it before texts were cleaned, when "off" was the default.
OLD_TEXTS: list[Any] = [
    "Plain text.",
    "Two lines\nand a third.",
    "No\u00a0break.",
    {"text": "Nine \uff19.", "normalize": "auto"},
    {"text": "Nine 9.\r\n", "normalize": "auto"},
    {"text": "As\u00a0is.", "normalize": "off"},
]
OLD_JOURNAL = """\
{"format": "voxtral-batch-1"}
{"run": ["part0001.wav", "part0002.wav", "part0003.wav", "part0004.wav", "part0005.wav", "part0006.wav"], "split": null}
{"file": "part0003.wav", "digest": "15807430782b2f714073385fa8fd754f4dfb1f90a27125dd84b7e8bee7a18f67", "bytes": 1484}
{"file": "part0001.wav", "digest": "ee6e7cc8ba7110b52ada513e6ea0cfb4e2f42cb7083a3d8619e36b3e6863b382", "bytes": 1804}
{"file": "part0002.wav", "digest": "b404599e79a22c2412652ff68a38757888514824daba9a12852fcd4658baee0d", "bytes": 3564}
{"file": "part0004.wav", "digest": "dcb95a6f68bca9a078b3981f77a68aa2922469ad9582e8598245aa8873a545fd", "bytes": 1164}
{"file": "part0005.wav", "digest": "614158ba396a68db23a71cc3e8ac499cfd80c3d5bc2d4f6c1fc0dd0d0ac0cc94", "bytes": 1484}
{"file": "part0006.wav", "digest": "1f8abb918b0b595edb4046a31be60414d738ace9f2dcb947b75ba469dd03a50c", "bytes": 1004}
"""


def an_old_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "batch.jsonl").write_text(OLD_JOURNAL)
    for line in OLD_JOURNAL.splitlines()[2:]:
        record = json.loads(line)
        (folder / record["file"]).write_bytes(bytes(record["bytes"]))
    return folder


def test_a_folder_of_before_texts_were_cleaned_goes_on(speaker: FakeSpeaker, tmp_path: Path) -> None:
    folder = an_old_folder(tmp_path / "out")
    with a_run(speaker, folder, OLD_TEXTS) as run:
        assert (run.num_changed, run.num_cleaned) == (2, 2)
        list(run.make())
        report = run.report()
    # What cleaning changes is made again, and nothing else.
    assert sorted(request.text for request in speaker.spoken) == ["Nine \uff19.", "No\u00a0break."]
    assert report.skipped == ("part0001.wav", "part0002.wav", "part0005.wav", "part0006.wav")
    with a_run(speaker, folder, OLD_TEXTS) as run:
        assert (run.num_changed, run.num_cleaned) == (0, 0)
    # A text that was tidied by hand is the same as one that is tidied here.
    with a_run(speaker, folder, ["Plain\ttext. ", "Two lines\r\n and a third.", "No break."]) as run:
        assert run.num_changed == 0
    # What has another text is no matter of cleaning.
    with a_run(speaker, folder, ["Another\u00a0text."]) as run:
        assert (run.num_changed, run.num_cleaned) == (1, 0)


def test_an_old_folder_says_why_it_makes_files_again(speaker: FakeSpeaker, tmp_path: Path) -> None:
    told: list[str] = []
    an_old_folder(tmp_path / "out")
    report = synthesize_files(speaker, OLD_TEXTS, tmp_path / "out", warn=told.append, common={})
    assert len(report.made) == 2
    (line,) = told
    assert "2 are made again, 2 of them because" in line
    assert 'normalize="off" keeps them' in line


def journal_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The last line of each file."""
    lines = [json.loads(line) for line in (folder / "batch.jsonl").read_text().splitlines()]
    return {line["file"]: line for line in lines if "file" in line}


def test_captions_lie_beside_the_audio_and_the_journal_knows_them(speaker: FakeSpeaker, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with a_run(speaker, out, ["hello you", {"text": "and me", "timestamps": True}], ["srt"]) as run:
        list(run.make())
    assert [request.timestamps for request in speaker.spoken] == [True, True]
    assert sorted(os.listdir(out)) == [
        "batch.jsonl",
        "part0001.srt",
        "part0001.wav",
        "part0002.json",
        "part0002.srt",
        "part0002.wav",
    ]
    assert (out / "part0001.srt").read_text() == "1\n00:00:00,000 --> 00:00:01,000\nhello you\n\n"
    words = json.loads((out / "part0002.json").read_text())["segments"][0]["words"]
    assert [word["text"] for word in words] == ["and", "me"]
    sizes = {name: (out / name).stat().st_size for name in ("part0002.srt", "part0002.json")}
    assert journal_of(out)["part0002.wav"]["captions"] == {
        "srt": sizes["part0002.srt"],
        "json": sizes["part0002.json"],
    }


def test_what_has_all_its_captions_is_skipped_and_what_lacks_some_is_made(speaker: FakeSpeaker, tmp_path: Path) -> None:
    texts, out = ["one", "two"], tmp_path / "out"
    with a_run(speaker, out, texts, ["srt", "vtt"]) as run:
        list(run.make())
    digests = {file: line["digest"] for file, line in journal_of(out).items()}
    for captions in (["vtt"], ["srt", "vtt"], []):
        with a_run(speaker, out, texts, captions) as run:
            assert list(run.make()) == []
    (out / "part0002.vtt").unlink()
    with a_run(speaker, out, texts, ["srt", "vtt"]) as run:
        assert [event.file for event in run.make()] == ["part0002.wav"]
    assert {file: line["digest"] for file, line in journal_of(out).items()} == digests
    # Of another text are other captions, and those that nobody asks for are no longer true.
    with a_run(speaker, out, ["one", "another"], ["srt"]) as run:
        assert [event.file for event in run.make()] == ["part0002.wav"]
    assert "another" in (out / "part0002.srt").read_text()
    assert not (out / "part0002.vtt").exists()
    assert (out / "part0001.vtt").exists()


def test_captions_of_somebody_else_are_in_the_way(speaker: FakeSpeaker, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "part0001.srt").write_text("mine")
    with a_run(speaker, out, ["one"], ["srt", "vtt"]) as run:
        manifest = run._manifest
        assert manifest.foreign({"part0001.wav": ("srt", "vtt")}) == ["part0001.srt"]
        assert manifest.foreign({"part0001.wav": ("vtt",)}) == []
        (out / "part0001.vtt").mkdir()
        with pytest.raises(AudioError, match=r"part0001\.vtt is a folder"):
            manifest.foreign({"part0001.wav": ("vtt",)})
        (out / "part0001.vtt").rmdir()
        list(run.make())
    with a_run(speaker, out, ["one"], ["srt", "vtt"]) as run:
        assert run._manifest.foreign({"part0001.wav": ("srt", "vtt")}) == []
        (out / "part0001.srt").write_text("mine again")
        assert run._manifest.foreign({"part0001.wav": ("srt", "vtt")}) == ["part0001.srt"]


def test_a_text_that_fails_leaves_the_pair_of_before(speaker: FakeSpeaker, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with a_run(speaker, out, ["one"], ["srt"]) as run:
        list(run.make())
    with a_run(speaker, out, ["it fails"], ["srt"]) as run:
        assert [type(event) for event in run.make()] == [FailedFile]
        assert run._manifest.foreign({"part0001.wav": ("srt",)}) == []
    assert "one" in (out / "part0001.srt").read_text()


def test_captions_that_the_disk_refuses_end_the_run(
    speaker: FakeSpeaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("voxtral.jobs.manifest.write_flushed", refuse)
    with (
        a_run(speaker, tmp_path / "out", ["one"], ["srt"]) as run,
        pytest.raises(AudioError, match=r"part0001\.srt cannot be written \(No space left"),
    ):
        list(run.make())
    assert sorted(os.listdir(tmp_path / "out")) == ["batch.jsonl"]


def test_checks_are_in_the_journal_and_in_what_is_reported(speaker: FakeSpeaker, tmp_path: Path) -> None:
    out = tmp_path / "out"
    texts = ["it is fine", "it mumbles"]
    with a_run(speaker, out, texts) as run:
        assert [event.verdict for event in run.make() if isinstance(event, MadeFile)] == [None, None]
    asked = [{"text": text, "verify": "report"} for text in texts]
    # The same audio, and a verdict that nobody has asked for until now.
    with a_run(speaker, out, asked) as run:
        verdicts = {event.file: event.verdict for event in run.make() if isinstance(event, MadeFile)}
    assert verdicts == {"part0001.wav": "ok", "part0002.wav": "bad"}
    lines = journal_of(out)
    assert (lines["part0001.wav"]["verdict"], lines["part0001.wav"]["findings"]) == ("ok", [])
    assert [found["kind"] for found in lines["part0002.wav"]["findings"]] == ["skipped"]
    assert "mumbles" not in (out / "batch.jsonl").read_text()
    for again in (asked, texts):
        with a_run(speaker, out, again) as run:
            assert list(run.make()) == []
