"""Many texts at once, in Python and as `voxtral batch`: the same audio as alone, and no file lost."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import voxtral
from checkpoints import BRIEF
from voxtral import VoxtralTTS
from voxtral.audio.file import AudioFileWriter
from voxtral.cli.main import run
from voxtral.engine.options import EngineOptions
from voxtral.errors import BatchError, EngineStoppedError, RequestError, TextError
from voxtral.jobs.manifest import Manifest
from voxtral.speech.batch import item_seed
from voxtral.speech.utterance import SpeechHandle
from voxtral.types import SpeechRequest
from word_times import give_words

ON_TINY = ("--model", str(BRIEF), "--device", "cpu")
TEXTS = ["It was a dark night.", "The hero took a step.", "Nobody was there.", "Or so it seemed."]


@dataclass(frozen=True)
class Result:
    code: int
    stdout: str
    lines: list[str]

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.stdout)


Command = Callable[..., Result]


@pytest.fixture(scope="module")
def tts() -> Iterator[VoxtralTTS]:
    """The tiny model, whose samples do not depend on what else is spoken: files are compared byte by byte."""
    options = EngineOptions(batch_invariant=True)
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu", options=options) as model:
        yield model


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a chapter of four lines."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chapter1.txt").write_text("\n\n".join(TEXTS) + "\n")
    return tmp_path


@pytest.fixture
def batch(capsys: pytest.CaptureFixture[str], tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`voxtral batch` in this process; the tiny model is loaded once for all."""
    monkeypatch.setattr(VoxtralTTS, "from_pretrained", lambda *_, **__: tts)
    monkeypatch.setattr(VoxtralTTS, "__exit__", lambda *_: None)

    def call(*arguments: str) -> Result:
        capsys.readouterr()
        code = run(["batch", *arguments, *ON_TINY])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err.splitlines())

    return call


def audio_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix == ".wav"}


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "batch.jsonl").read_text().splitlines()[1:]]


# Python.


def test_a_batch_gives_what_each_text_gives_alone_in_their_order(tts: VoxtralTTS) -> None:
    given = [TEXTS[0], {"text": TEXTS[1], "voice": "casual_male", "seed": 5, "name": "b"}, SpeechRequest(TEXTS[2])]
    together = tts.synthesize_batch(given, seed=3, voice="neutral_female")
    alone = [
        tts.synthesize(TEXTS[0], voice="neutral_female", seed=item_seed(3, "0")),
        tts.synthesize(TEXTS[1], voice="casual_male", seed=5),
        tts.synthesize(TEXTS[2], seed=item_seed(3, "2")),
    ]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())
        assert one.seed == other.seed
    again = tts.synthesize_batch(given, seed=3, voice="neutral_female", max_in_flight=1)
    assert all(np.array_equal(one.numpy(), other.numpy()) for one, other in zip(together, again, strict=True))


def test_results_come_as_they_finish_with_their_names(tts: VoxtralTTS) -> None:
    results = list(tts.synthesize_batch_iter(iter([*TEXTS, "...", {"text": "Hello.", "name": "n"}]), max_frames=3))
    assert sorted(result.index for result in results) == list(range(6))
    by_name = {result.name: result for result in results}
    assert by_name["4"].audio is None
    assert isinstance(by_name["4"].error, TextError)
    assert by_name["n"].audio is not None


def test_leaving_the_results_frees_the_engine(tts: VoxtralTTS) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in tts.synthesize_batch_iter(
            itertools.repeat("A text that is said again and again, without end."), seed=1
        ):
            break
    deadline = time.monotonic() + 10
    while tts.engine.num_unfinished:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nothing_is_spoken_if_an_item_is_wrong(tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tts, "submit", lambda *_, **__: pytest.fail("something was spoken"))
    with pytest.raises(RequestError, match=r"2 of 3 items are refused: item 1: the text is empty.*item 2: voice 'bob'"):
        tts.synthesize_batch(["Hello.", "", {"text": "Hello.", "voice": "bob"}])
    with pytest.raises(RequestError, match=r"missing\.wav"):
        tts.synthesize_batch(["Hello."], reference_audio="missing.wav")
    for texts in ("Hello.", b"Hello.", {"text": "Hello."}, SpeechRequest("Hello."), 5):
        with pytest.raises(TextError, match="put it in a list"):
            tts.synthesize_batch(texts)  # type: ignore[arg-type]
    with pytest.raises(TextError, match="synthesize_batch_iter"):
        tts.synthesize_batch(["word " * 30_000] * 2)
    with pytest.raises(RequestError, match="max_in_flight"):
        tts.synthesize_batch_iter(["Hello."], max_in_flight=0)


def test_what_fails_while_it_is_spoken_leaves_the_others(tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_for(monkeypatch, tts, TEXTS[1])
    with pytest.raises(BatchError, match="1 of 4 items failed: item 1: the model made only silence") as caught:
        tts.synthesize_batch(TEXTS)
    assert [isinstance(result, voxtral.Audio) for result in caught.value.results] == [True, False, True, True]


def fail_for(monkeypatch: pytest.MonkeyPatch, tts: VoxtralTTS, text: str) -> None:
    """Make one text come out silent, whatever else is spoken."""
    submit = tts.submit

    def submit_or_spoil(request: SpeechRequest, **options: Any) -> SpeechHandle:
        handle = submit(request, **options)
        if request.text == text:
            chunks = handle.chunks

            def failing(chunk_size: int | None = None) -> Any:
                yield from chunks(chunk_size)
                raise voxtral.errors.GenerationError(
                    "the model made only silence", finish_reason="silent", seeds=(handle.seed,)
                )

            monkeypatch.setattr(handle, "chunks", failing)
        return handle

    monkeypatch.setattr(tts, "submit", submit_or_spoil)


# The command: what goes in.


def test_lines_become_numbered_files_that_sound_like_each_text_alone(
    batch: Command, workplace: Path, tts: VoxtralTTS
) -> None:
    result = batch("chapter1.txt", "-o", "book", "--seed", "4", "--json")
    assert result.code == 0
    names = [f"chapter1_part{part:04d}.wav" for part in (1, 2, 3, 4)]
    assert sorted(os.listdir("book")) == ["batch.jsonl", *names]
    for name, text in zip(names, TEXTS, strict=True):
        tts.synthesize(text, seed=item_seed(4, Path(name).stem)).save("alone.wav")
        assert (workplace / "book" / name).read_bytes() == Path("alone.wav").read_bytes()
    report = result.json
    assert (report["num_files"], report["num_made"], report["num_skipped"], report["failures"]) == (4, 4, 0, [])
    assert report["duration_s"] == pytest.approx(
        sum(soundfile.info(f"book/{name}").duration for name in names), abs=1e-3
    )
    assert re.fullmatch(r"book: 4 made, \d+:\d\d of audio in 0:\d\d, RTF \d+\.\d\d", result.lines[-1])
    kept = Path("book/batch.jsonl").read_text()
    assert not any(word in kept for text in TEXTS for word in text.split() if len(word) > 3)


def test_json_lines_say_what_the_options_do_not(batch: Command, tts: VoxtralTTS) -> None:
    lines = [
        {"text": TEXTS[0], "name": "one", "voice": "casual_male", "seed": 5},
        {"text": TEXTS[1], "speed": 2, "max_frames": 3, "language": None},
    ]
    Path("in.jsonl").write_text("".join(f"{json.dumps(line)}\n\n" for line in lines))
    assert batch("in.jsonl", "-o", "out", "--format", "flac", "--max-frames", "2").code == 0
    assert sorted(os.listdir("out")) == ["batch.jsonl", "in_part0002.flac", "one.flac"]
    tts.synthesize(TEXTS[0], voice="casual_male", seed=5, max_frames=2).save("alone.flac")
    assert Path("out/one.flac").read_bytes() == Path("alone.flac").read_bytes()
    assert soundfile.info("out/in_part0002.flac").duration <= 0.13


def test_a_folder_gives_a_file_for_each_text_or_for_each_of_its_paragraphs(batch: Command) -> None:
    Path("chapters").mkdir()
    Path("chapters/b.txt").write_text("A line\nand another.\n\n\nA second paragraph.\n")
    Path("chapters/a.TXT").write_text("\ufeffHello.\r\n")
    Path("chapters/.hidden.txt").write_text("Hidden.")
    Path("chapters/notes.md").write_text("Notes.")
    assert batch("chapters", "-o", "whole", "--max-frames", "2").code == 0
    assert sorted(audio_of(Path("whole"))) == ["a.wav", "b.wav"]
    assert batch("chapters", "-o", "parts", "--max-frames", "2", "--split", "paragraphs").code == 0
    assert sorted(audio_of(Path("parts"))) == ["a_part0001.wav", "b_part0001.wav", "b_part0002.wav"]


def test_all_that_is_wrong_is_told_at_once_before_a_model_is_loaded(
    batch: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VoxtralTTS, "from_pretrained", lambda *_, **__: pytest.fail("a model was loaded"))
    wrong = [
        '{"text": "a", "name": "../up"}',
        '{"text": "a", "name": "Same"}',
        '{"text": "a", "name": "same"}',
        '{"text": "a", "vioce": "x"}',
        '{"text": 5}',
        "{",
        '{"text": "..."}',
        '{"text": "a", "language": "Klingon"}',
        '{"text": "a", "reference_audio": "missing.wav"}',
        '{"text": "a", "speed": true}',
    ]
    Path("in.jsonl").write_text("\n".join(wrong))
    result = batch("in.jsonl", "-o", "out")
    assert result.code == 1
    told = {int(line.split(":")[1]): line for line in result.lines[:-1]}
    assert sorted(told) == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert "taken by in.jsonl:2" in told[3]
    assert "'vioce' is unknown" in told[4]
    assert result.lines[-1].startswith("error: of the texts 9 cannot be taken")
    assert not (workplace / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.txt",), "missing.txt does not exist"),
        (("chapter1.txt", "--speed", "9"), "speed is 9.0"),
        (("empty.txt",), "empty.txt holds no text"),
        (("chapter1.pdf",), "chapter1.pdf is a .pdf"),
        (("chapter1.txt", "-o", "chapter1.txt"), "chapter1.txt cannot be made"),
        (("chapter1.txt", "--voice", "bob"), "chapter1.txt:1 and 3 more: voice 'bob' is unknown"),
        (("chapter1.txt", "--language", "Klingon"), "chapter1.txt:1 and 3 more: unknown language 'Klingon'"),
        (("nothing",), "the folder nothing holds no .txt file"),
    ],
)
def test_what_cannot_be_done_is_told_and_leaves_nothing(
    batch: Command, workplace: Path, arguments: tuple[str, ...], message: str
) -> None:
    Path("empty.txt").write_text("\n \n")
    Path("chapter1.pdf").write_text("%PDF")
    Path("nothing").mkdir()
    before = sorted(os.listdir())
    result = batch("-o", "out", *arguments)
    assert result.code == 1
    assert message in "\n".join(result.lines)
    assert sorted(os.listdir()) == before


def test_a_warning_is_told_once_with_the_first_line_that_causes_it(batch: Command) -> None:
    result = batch("chapter1.txt", "-o", "book", "--language", "fr", "--max-frames", "2")
    (warned,) = (line for line in result.lines if line.startswith("warning: "))
    assert warned.startswith("warning: chapter1.txt:1: this checkpoint has no fr voice")


# The command: going on.


def test_what_is_finished_is_skipped_and_what_changed_is_made_again(batch: Command) -> None:
    assert batch("chapter1.txt", "-o", "book").code == 0
    first = audio_of(Path("book"))
    assert batch("chapter1.txt", "-o", "book").lines[-1] == "book: all 4 files are there already"
    Path("book/chapter1_part0002.wav").unlink()
    Path("chapter1.txt").write_text("\n".join([*TEXTS[:2], "Somebody was there."]))
    result = batch("chapter1.txt", "-o", "book", "--json")
    assert (result.json["num_made"], result.json["num_skipped"]) == (2, 1)
    assert (
        result.lines[-1] == "book: left as they are, their texts are no longer in chapter1.txt: chapter1_part0004.wav"
    )
    second = audio_of(Path("book"))
    assert {name for name in first if first[name] != second[name]} == {"chapter1_part0003.wav"}
    other_voice = batch("chapter1.txt", "-o", "book", "--voice", "casual_male", "--json")
    assert other_voice.json["num_made"] == 3
    assert any("3 will be made again" in line for line in other_voice.lines)


def test_files_of_others_are_left_alone_until_that_is_asked_for(batch: Command) -> None:
    Path("book").mkdir()
    Path("book/chapter1_part0002.wav").write_bytes(b"precious")
    result = batch("chapter1.txt", "-o", "book")
    assert result.code == 1
    assert "not made by this command" in result.lines[-1]
    assert os.listdir("book") == ["chapter1_part0002.wav"]
    assert batch("chapter1.txt", "-o", "book", "--overwrite").code == 0
    Path("book/chapter1_part0001.wav").write_bytes(b"edited by hand")
    assert "chapter1_part0001.wav" in batch("chapter1.txt", "-o", "book").lines[-1]
    assert Path("book/chapter1_part0001.wav").read_bytes() == b"edited by hand"


def test_a_journal_that_is_none_and_a_folder_in_use_are_refused(batch: Command) -> None:
    Path("book").mkdir()
    Path("book/batch.jsonl").write_text('{"text": "my own list"}\n')
    assert "is no journal of a batch" in batch("chapter1.txt", "-o", "book").lines[-1]
    assert Path("book/batch.jsonl").read_text() == '{"text": "my own list"}\n'
    Path("other").mkdir()
    with Manifest(Path("other")):
        assert "in use by another batch" in batch("chapter1.txt", "-o", "other").lines[-1]


KILLED_BETWEEN_LINE_AND_MOVE = """
import os, signal, sys
from voxtral.cli.main import main
from voxtral.jobs.manifest import Manifest
append, count = Manifest._append, 0

def append_and_die(self, records):
    global count
    append(self, records)
    count += sum(record.digest is not None for record in records)
    if count == 5:
        os.kill(os.getpid(), signal.SIGKILL)

Manifest._append = append_and_die
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_after_a_kill_the_same_command_makes_the_same_files_to_the_byte(batch: Command, workplace: Path) -> None:
    Path("book.txt").write_text("\n".join(f"{text} Part {part}." for part in range(3) for text in TEXTS))
    command = ("batch", "book.txt", "-o", "killed", "--in-flight", "4", "--batch-invariant", *ON_TINY)
    done = subprocess.run(
        [sys.executable, "-c", KILLED_BETWEEN_LINE_AND_MOVE, *command],
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = audio_of(Path("killed"))
    # The fifth is made and written down, and not in its place.
    assert len(left) == 4
    assert batch("book.txt", "-o", "whole").code == 0
    whole = audio_of(Path("whole"))
    assert left.items() < whole.items()
    result = batch("book.txt", "-o", "killed", "--json")
    assert (result.json["num_made"], result.json["num_skipped"]) == (7, 5)
    assert audio_of(Path("killed")) == whole
    assert sorted(os.listdir("killed")) == sorted(os.listdir("whole"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_kills_at_any_moment_change_no_byte(batch: Command) -> None:
    Path("book.txt").write_text("\n".join(f"{text} Part {part}." for part in range(40) for text in TEXTS))
    batch("book.txt", "-o", "whole")
    moments = np.random.default_rng(0).uniform(0.0, 1.0, 6)
    for moment in moments:
        before = len(audio_of(Path("killed"))) if Path("killed").exists() else 0
        program = subprocess.Popen(
            [sys.executable, "-m", "voxtral", "batch", "book.txt", "-o", "killed", "-q", "--batch-invariant", *ON_TINY],
        )
        deadline = time.monotonic() + 60
        while program.poll() is None and (not Path("killed").exists() or len(audio_of(Path("killed"))) == before):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(moment)
        program.kill()
        program.wait()
        assert audio_of(Path("killed")).items() <= audio_of(Path("whole")).items()
    assert batch("book.txt", "-o", "killed").code == 0
    assert audio_of(Path("killed")) == audio_of(Path("whole"))
    assert sorted(os.listdir("killed")) == sorted(os.listdir("whole"))


@pytest.mark.parametrize("part", [1, 3])
def test_a_kill_in_the_middle_of_a_file_costs_that_file_alone(
    batch: Command, tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """What a kill leaves: the folder as it is at a write of the file that is under way, without any tidying up."""
    write, left, writes = AudioFileWriter.write, Path("left"), 0

    def write_and_copy(self: AudioFileWriter, samples: np.ndarray) -> None:
        nonlocal writes
        write(self, samples)
        writes += len(list(Path("book").glob("*.wav"))) == part and not left.exists()
        if writes == 1 and not left.exists():
            shutil.copytree("book", left)

    monkeypatch.setattr(AudioFileWriter, "write", write_and_copy)
    assert batch("chapter1.txt", "-o", "book", "--in-flight", "1").code == 0
    monkeypatch.setattr(AudioFileWriter, "write", write)
    assert any(path.name.endswith(".part") for path in left.rglob("*"))
    whole = audio_of(Path("book"))
    assert len(audio_of(left)) == part
    assert audio_of(left).items() < whole.items()
    spoken: list[str] = []
    submit = tts.submit

    def watch(request: SpeechRequest, **options: Any) -> SpeechHandle:
        spoken.append(request.text)
        return submit(request, **options)

    monkeypatch.setattr(tts, "submit", watch)
    assert batch("chapter1.txt", "-o", "left").code == 0
    assert sorted(spoken) == sorted(TEXTS[part:])
    assert audio_of(left) == whole
    assert sorted(os.listdir(left)) == sorted(os.listdir("book"))


def test_a_folder_that_is_taken_away_ends_the_run_in_a_line(
    batch: Command, tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, spoken, submit = Manifest.commit, [], tts.submit

    def commit_and_lose(self: Manifest, *arguments: Any, **options: Any) -> None:
        commit(self, *arguments, **options)
        shutil.rmtree("book", ignore_errors=True)

    def watch(request: SpeechRequest, **options: Any) -> SpeechHandle:
        spoken.append(request.text)
        return submit(request, **options)

    Path("long.txt").write_text("\n".join(f"{text} Part {part}." for part in range(20) for text in TEXTS))
    monkeypatch.setattr(Manifest, "commit", commit_and_lose)
    monkeypatch.setattr(tts, "submit", watch)
    result = batch("long.txt", "-o", "book", "--in-flight", "2")
    assert result.code == 1
    assert result.lines[-1].startswith("error: ")
    assert "book" in result.lines[-1]
    # Not for all 80 of them, which would have no place.
    assert len(spoken) < 10
    assert not Path("book").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupt_keeps_what_is_finished_and_says_how_to_go_on(
    batch: Command, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    commit, num_commits = Manifest.commit, 0

    def commit_and_interrupt(self: Manifest, *arguments: Any, **options: Any) -> None:
        nonlocal num_commits
        commit(self, *arguments, **options)
        num_commits += 1
        if num_commits == 2:
            os.kill(os.getpid(), number)
            time.sleep(0.2)

    monkeypatch.setattr(Manifest, "commit", commit_and_interrupt)
    result = batch("chapter1.txt", "-o", "book", "--in-flight", "1")
    assert result.code == code
    assert result.lines[-2] == "2 of 4 files are finished; the same command goes on from there"
    assert sorted(os.listdir("book")) == ["batch.jsonl", "chapter1_part0001.wav", "chapter1_part0002.wav"]
    monkeypatch.setattr(Manifest, "commit", commit)
    assert batch("chapter1.txt", "-o", "book", "--json").json["num_skipped"] == 2


# The command: what fails.


def test_a_text_that_fails_is_named_at_the_end_and_tried_again(
    batch: Command, tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as spoiled:
        fail_for(spoiled, tts, TEXTS[1])
        result = batch("chapter1.txt", "-o", "book", "--json")
    assert result.code == 1
    assert result.lines[-2].startswith("failed: chapter1_part0002.wav (chapter1.txt:3): the model made only silence")
    assert result.lines[-1].startswith("error: 1 of 4 files were not made")
    assert [failure["code"] for failure in result.json["failures"]] == ["generation_failed"]
    assert len(audio_of(Path("book"))) == 3
    (failed,) = (line for line in journal(Path("book")) if "error" in line)
    assert (failed["file"], failed["error"]) == ("chapter1_part0002.wav", "generation_failed")
    assert batch("chapter1.txt", "-o", "book", "--json").json["num_made"] == 1


def test_a_full_disk_stops_the_batch_and_the_same_command_goes_on(
    batch: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = AudioFileWriter.write

    def write_until_full(self: AudioFileWriter, samples: np.ndarray) -> None:
        if "part0003" in self._target:
            error = OSError(errno.ENOSPC, "No space left on device")
            raise self._disk_error(error) from error
        write(self, samples)

    with monkeypatch.context() as full:
        full.setattr(AudioFileWriter, "write", write_until_full)
        result = batch("chapter1.txt", "-o", "book", "--in-flight", "1")
    assert result.code == 1
    assert result.lines[-2] == "2 of 4 files are finished; the same command goes on from there"
    assert "No space left on device" in result.lines[-1]
    assert sorted(audio_of(Path("book"))) == ["chapter1_part0001.wav", "chapter1_part0002.wav"]
    assert batch("chapter1.txt", "-o", "book").code == 0
    assert len(audio_of(Path("book"))) == 4


def test_a_dead_engine_stops_the_batch(batch: Command, tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch) -> None:
    num_asked = 0

    def submit(*_: object, **__: object) -> None:
        nonlocal num_asked
        num_asked += 1
        raise EngineStoppedError("the engine stopped")

    monkeypatch.setattr(tts, "submit", submit)
    assert batch("chapter1.txt", "-o", "book").lines[-1] == "error: the engine stopped"
    assert num_asked == 1


def test_a_terminal_sees_progress_of_all(batch: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert any("of 4 files" in line for line in batch("chapter1.txt", "-o", "book").lines)
    assert not any("of 4 files" in line for line in batch("chapter1.txt", "-o", "quiet", "-q").lines)


# Joined.


def test_parts_are_joined_in_the_order_of_the_texts(
    batch: Command, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"text": text, "name": name} for text, name in zip(TEXTS[:3], "zax", strict=True)]
    Path("l.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    result = batch("l.jsonl", "-o", "book", "--max-frames", "3", "--pause", "0.5", "--join", "book/all.wav", "--json")
    assert (result.code, result.json["joined"]) == (0, "book/all.wav")
    samples, rate = soundfile.read("book/all.wav")
    parts = [soundfile.read(f"book/{name}.wav")[0] for name in "zax"]
    silence = np.zeros(rate // 2)
    wanted = np.concatenate([parts[0], silence, parts[1], silence, parts[2]])
    assert np.abs(samples - wanted).max() < 2 / 32768

    def join(*arguments: str) -> Result:
        capsys.readouterr()
        code = run(["join", *arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err.splitlines())

    again = join("book", "-o", "book/again.wav", "--pause", "0.5", "--json")
    assert (again.code, again.json["num_files"]) == (0, 3)
    assert again.lines == ["book/again.wav: 0:01 of audio from 3 files"]
    assert Path("book/again.wav").read_bytes() == Path("book/all.wav").read_bytes()
    assert join("book/z.wav", "book", "-o", "four.flac", "-q").lines == []
    Path("book/a.wav").unlink()
    lacking = join("book", "-o", "book.mp3")
    assert lacking.code == 1
    assert "book lacks 1 of 3 files (a.wav)" in lacking.lines[0]
    assert "has no batch.jsonl" in join(".", "-o", "book.mp3").lines[0]
    assert not Path("book.mp3").exists()


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ("all.xyz", "extension"),
        ("none/all.mp3", "its folder must exist"),
        ("book/chapter1_part0002.wav", "one of the files to be made"),
    ],
)
def test_where_nothing_can_be_joined_is_told_before_anything_is_spoken(batch: Command, join: str, message: str) -> None:
    result = batch("chapter1.txt", "-o", "book", "--join", join)
    assert result.code == 1
    assert message in result.lines[-1]
    assert not Path("book").exists()


def test_another_split_replaces_nothing_unasked(batch: Command) -> None:
    Path("book.txt").write_text(
        "It was a dark night, and\nthe hero took a step.\n\nNobody was there, or so it\nseemed."
    )
    first = batch("book.txt", "-o", "book", "--max-frames", "2")
    assert first.lines[0] == "book.txt is wrapped text, 4 lines in 2 paragraphs: each paragraph is a file; see --split"
    before = audio_of(Path("book"))
    assert len(before) == 2
    other = batch("book.txt", "-o", "book", "--max-frames", "2", "--split", "lines")
    assert other.code == 1
    assert "book has 2 finished files of texts that were cut another way" in other.lines[-1]
    assert audio_of(Path("book")) == before
    assert batch("book.txt", "-o", "book", "--max-frames", "2", "--split", "lines", "--overwrite").code == 0
    assert len(audio_of(Path("book"))) == 4


def test_the_languages_of_the_texts_are_told(batch: Command) -> None:
    Path("de.txt").write_text("Das ist ein kurzer Satz, und er ist nicht auf Englisch.\nHamburg\n")
    result = batch("de.txt", "-o", "book", "--max-frames", "2")
    assert "book: languages by the texts: German 1; --language chooses another" in result.lines


def test_a_folder_that_was_begun_verbatim_says_why_it_is_made_again(batch: Command) -> None:
    Path("chapter1.txt").write_text("\n\n".join([*TEXTS[:2], "Nobody\u00a0was there.", TEXTS[3]]) + "\n")
    assert batch("chapter1.txt", "-o", "book", "--normalize", "off").code == 0
    result = batch("chapter1.txt", "-o", "book", "--json")
    assert (result.json["num_made"], result.json["num_skipped"]) == (1, 3)
    (line,) = (line for line in result.lines if "made plain now" in line)
    assert line.startswith("book: 1 of them because")
    assert line.endswith("--normalize off keeps them")
    assert batch("chapter1.txt", "-o", "book").lines[-1] == "book: all 4 files are there already"


def test_captions_are_made_beside_each_file_and_gone_on_with(
    batch: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "one.txt").write_text("It was a dark night.\n")
    give_words(monkeypatch, "It was a dark night.", "bad")
    first = batch("one.txt", "-o", "out", "--captions", "srt,json", "--verify", "report", "--json")
    assert first.code == 0
    assert first.json["verdicts"] == {"one_part0001.wav": "bad"}
    assert any("checks found something in 1 of 1 files: one_part0001.wav (bad)" in line for line in first.lines)
    names = ["batch.jsonl", "one_part0001.json", "one_part0001.srt", "one_part0001.wav"]
    assert sorted(os.listdir("out")) == names
    assert "It was a dark night." in Path("out/one_part0001.srt").read_text()
    assert batch("one.txt", "-o", "out", "--captions", "srt", "--json").json["num_skipped"] == 1
    os.unlink("out/one_part0001.srt")
    assert batch("one.txt", "-o", "out", "--captions", "srt", "--json").json["num_made"] == 1
    # The json was of the file that has been made again.
    assert sorted(os.listdir("out")) == [name for name in names if not name.endswith(".json")]


@pytest.mark.parametrize("given", ["ass", "srt,", "srt,srt", ""])
def test_captions_of_no_format_are_refused_before_anything_is_read(batch: Command, given: str) -> None:
    result = batch("missing.txt", "-o", "out", "--captions", given)
    assert result.code == 1
    assert "captions is" in result.lines[0]
    assert not Path("out").exists()
