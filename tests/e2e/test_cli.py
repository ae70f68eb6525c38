"""The command line as its users know it, on the tiny model.

Most tests call `run` in this process; a few start the program, where signals, pipes and imports count.
"""

from __future__ import annotations

import importlib
import io
import itertools
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

import voxtral
from checkpoints import BRIEF, strip_encoder
from loopback_hub import LoopbackHub, client_of
from spoken_clips import spoken_file
from voxtral import VoxtralTTS
from voxtral.audio.encode import ContainerEncoder
from voxtral.audio.file import AudioFileWriter
from voxtral.cli.main import run
from voxtral.cli.progress import SpeechProgress, show_progress
from voxtral.cli.terminal import deferred_interrupts, tidy_warnings
from voxtral.engine.options import EngineOptions
from voxtral.errors import CancelledError, EngineStoppedError, VoxtralWarning
from voxtral.loading import hub
from voxtral.speech.utterance import SpeechHandle
from voxtral.switches import SWITCHES, is_switched_off
from voxtral.types import SegmentInfo, SpeechRequest, SpeechStats
from word_times import give_words

COMMANDS = ("speak", "batch", "voices", "clone", "download", "encode", "decode", "bench", "doctor")
TEXT = "Hello there, this is a test."
LONG = "This is a sentence of a longer text, and it has some words. " * 2000
# Checked options of every test: loaded quickly, the same everywhere.
ON_TINY = ("--model", str(BRIEF), "--device", "cpu")


@dataclass(frozen=True)
class Result:
    code: int
    stdout: bytes
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[str]:
        """What a person reads."""
        return self.stderr.splitlines()


Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


class Terminal(io.TextIOWrapper):
    """What somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def cli(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Cli:
    def call(*arguments: str | Path, stdin: bytes = b"", is_terminal: bool = False) -> Result:
        capsysbinary.readouterr()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", (Terminal if is_terminal else io.TextIOWrapper)(io.BytesIO(stdin)))
            if is_terminal:
                patched.setattr(sys.stderr, "isatty", lambda: True)
            code = run([str(argument) for argument in arguments])
        captured = capsysbinary.readouterr()
        return Result(code, captured.out, captured.err.decode())

    return call


@pytest.fixture
def speak(cli: Cli) -> Cli:
    return lambda *arguments, **options: cli("speak", *ON_TINY, *arguments, **options)


@pytest.fixture
def clip(workplace: Path) -> Path:
    """Four seconds of something like a voice."""
    path = workplace / "clip.wav"
    path.write_bytes(spoken_file(4.0))
    return path


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start the program itself."""
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    return subprocess.Popen(
        [sys.executable, "-m", "voxtral", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


# Help and version.


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_examples_that_name_it(cli: Cli, command: str) -> None:
    result = cli(command, "--help")
    assert result.code == 0
    help_text = result.stdout.decode()
    _, examples, lines = re.split(r"(examples:\n)", help_text, maxsplit=1, flags=re.IGNORECASE)
    assert examples
    # On a line of its own: the help formatter may not have joined the examples into one paragraph.
    assert re.search(rf"^ +(\S.* \| )?voxtral {command}\b", lines, re.MULTILINE)


def test_help_lists_every_command_and_exit_code(cli: Cli) -> None:
    result = cli("--help")
    assert result.code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\S", result.stdout.decode(), re.MULTILINE)
    assert re.findall(r"^ +(\d+) +\S", result.stdout.decode(), re.MULTILINE) == [
        *("0", "1", "2", "129", "130", "141", "143")
    ]


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from voxtral.cli.main import run; code = run(['--help']); "
        "print(code, sorted({'torch', 'numpy', 'rich', 'huggingface_hub', 'voxtral.cli.speak'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.stdout.decode()) == (0, f"voxtral {voxtral.__version__}\n")


def test_without_typer_one_line_says_what_to_install_and_the_doctor_works(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    result = cli("speak", "Hello")
    assert (result.code, len(result.stderr.splitlines())) == (1, 1)
    assert "pip install typer" in result.stderr
    assert cli("doctor", "--help").code == 0


def test_the_doctor_gets_all_arguments_and_gives_the_exit_code(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    command = importlib.import_module("voxtral.doctor.command")
    seen: list[list[str]] = []
    monkeypatch.setattr(command, "main", lambda arguments, _: seen.append(arguments) or 7)
    assert cli("doctor", "--vectors", "folder", "--help").code == 7
    assert seen == [["--vectors", "folder", "--help"]]


# Speaking into files.


@pytest.mark.parametrize(
    ("name", "container", "codec"),
    [
        ("out.wav", "WAV", "PCM_16"),
        ("out.flac", "FLAC", "PCM_16"),
        ("out.mp3", "MP3", "MPEG_LAYER_III"),
        ("out.opus", "OGG", "OPUS"),
    ],
)
def test_speak_writes_the_format_of_the_extension(
    speak: Cli, workplace: Path, name: str, container: str, codec: str
) -> None:
    result = speak(TEXT, "-o", name, "--seed", "5", "--json")
    assert result.code == 0
    info = soundfile.info(workplace / name)
    assert (info.format, info.subtype, info.channels, info.samplerate) == (container, codec, 1, 24000)
    # MP3 comes in frames of 24 ms at this rate and has some before and after.
    assert info.duration == pytest.approx(result.json["duration_s"], abs=0.1 if container == "MP3" else 1e-4)
    assert os.listdir(workplace) == [name]


def test_the_format_option_overrides_the_extension(speak: Cli, workplace: Path) -> None:
    assert speak(TEXT, "-o", "out.bin", "--format", "flac").code == 0
    assert soundfile.info(workplace / "out.bin").format == "FLAC"


def test_without_output_a_file_in_the_current_folder_is_written_and_named(speak: Cli, workplace: Path) -> None:
    result = speak(TEXT)
    assert result.code == 0
    assert result.stdout == b""
    assert result.lines[-1].startswith("voxtral.wav: ")
    assert soundfile.info(workplace / "voxtral.wav").format == "WAV"


def test_the_summary_tells_duration_speed_voice_and_seed(speak: Cli) -> None:
    (summary,) = speak(TEXT, "-o", "out.wav", "--seed", "11").lines
    assert re.fullmatch(
        r"out\.wav: \d+\.\d s, RTF \d+\.\d\d, first audio after \d+\.\d\d s, voice neutral_female, seed 11", summary
    )


def test_json_describes_the_audio_and_each_segment(speak: Cli, workplace: Path) -> None:
    text = "The first sentence is here. " * 30
    result = speak(text, "-o", "out.wav", "--seed", "3", "--voice", "casual_male", "--language", "English", "--json")
    report = result.json
    assert result.stdout.count(b"\n") == 1
    assert {key: report[key] for key in ("path", "sample_rate", "seed", "voice", "language", "model")} == {
        "path": "out.wav",
        "sample_rate": 24000,
        "seed": 3,
        "voice": "casual_male",
        "language": "en",
        "model": str(BRIEF),
    }
    segments = report["segments"]
    assert len(segments) > 1
    assert " ".join(text[segment["text_start"] : segment["text_end"]].strip() for segment in segments) == text.strip()
    for before, after in itertools.pairwise(segments):
        assert after["start_s"] == pytest.approx(before["end_s"] + 0.25, abs=1e-3)
    assert segments[-1]["end_s"] == report["duration_s"] == soundfile.info(workplace / "out.wav").duration
    assert {segment["finish_reason"] for segment in segments} <= {"end", "retried"}
    assert report["stats"]["num_frames"] > 0
    assert report["finish_reason"] in ("end", "retried")


def test_the_same_seed_makes_the_same_file(speak: Cli, workplace: Path) -> None:
    for name, seed in (("a.wav", "1"), ("b.wav", "1"), ("c.wav", "2")):
        assert speak(TEXT, "-o", name, "--seed", seed).code == 0
    first, again, other = ((workplace / name).read_bytes() for name in ("a.wav", "b.wav", "c.wav"))
    assert first == again
    assert first != other


@pytest.fixture(scope="session")
def wordy_seed(tts: VoxtralTTS) -> str:
    """A seed with which the tiny model goes on for a while; its lengths are random."""
    return str(next(seed for seed in range(1000) if tts.synthesize(TEXT, seed=seed).duration > 0.5))


def test_options_reach_the_model(speak: Cli, wordy_seed: str) -> None:
    def say(*arguments: str) -> dict[str, Any]:
        return speak(*arguments, "-o", "out.wav", "--seed", wordy_seed, "--json").json

    plain = say(TEXT)
    cut = say(TEXT, "--max-frames", "2")
    assert (cut["finish_reason"], cut["duration_s"]) == ("length", 0.16)
    assert say(TEXT, "--speed", "2")["duration_s"] == pytest.approx(plain["duration_s"] / 2, abs=0.05)
    first, second, *_ = say(f"{TEXT} " * 20, "--pause", "1.5")["segments"]
    assert second["start_s"] - first["end_s"] == pytest.approx(1.5, abs=1e-3)
    bare = say("**Bold** words.", "--normalize", "auto")
    assert bare["duration_s"] == say("Bold words.")["duration_s"]


@pytest.mark.parametrize("option", ["--guidance", "--noise", "--steps", "--pause", "--speed"])
def test_options_out_of_range_are_refused(speak: Cli, option: str) -> None:
    result = speak(TEXT, option, "-1")
    assert result.code == 1
    assert re.fullmatch(r"error: \w+ is -1(\.0)?; it must be a .*number from .*", result.lines[0])


def test_a_cut_is_said(speak: Cli, wordy_seed: str) -> None:
    result = speak(TEXT, "-o", "out.wav", "--seed", wordy_seed, "--max-frames", "2")
    assert result.lines[-1].endswith("cut by --max-frames")


# Captions.


def test_captions_are_written_beside_the_audio(speak: Cli, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_words(monkeypatch, TEXT)
    for name in ("a.srt", "a.vtt", "a.lrc", "a.json"):
        result = speak(TEXT, "-o", "a.wav", "--captions", name, "--seed", "5", "--json")
        assert result.code == 0
        assert result.json["captions"] == name
        assert result.lines[-1].startswith(f"a.wav and {name}: ")
    assert sorted(os.listdir(workplace)) == ["a.json", "a.lrc", "a.srt", "a.vtt", "a.wav"]
    assert "Hello there, this is a test." in Path("a.srt").read_text()
    assert Path("a.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> ")
    words = json.loads(Path("a.json").read_text())["segments"][0]["words"]
    assert [word["text"] for word in words] == TEXT.split()
    assert words[-1]["end"] == result.json["duration_s"]
    (segment,) = result.json["segments"]
    assert (segment["timing"], [word["word"] for word in segment["words"]]) == ("attention", TEXT.split())


def test_captions_also_go_with_audio_that_is_not_stored(
    speak: Cli, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_words(monkeypatch, TEXT)
    piped = speak(TEXT, "-o", "-", "--captions", "a.srt")
    assert (piped.code, piped.stdout[:4]) == (0, b"RIFF")
    assert os.listdir(workplace) == ["a.srt"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.txt", "must be one of srt, vtt, json, lrc"),
        ("a", "must be one of srt, vtt, json, lrc"),
        ("nowhere/a.srt", "its folder must exist"),
        ("folder.srt", "it is a folder"),
        ("same.json", "captions need a name of their own"),
    ],
)
def test_where_no_captions_can_be_is_told_before_anything_is_spoken(
    speak: Cli, workplace: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    (workplace / "folder.srt").mkdir()
    monkeypatch.setattr("voxtral.cli.speak.open_model", None)
    result = speak(TEXT, "-o", "same.json", "--format", "wav", "--captions", name)
    assert result.code == 1
    assert told in result.lines[0]
    assert os.listdir(workplace) == ["folder.srt"]


def test_a_check_is_said_and_told_in_json(speak: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    give_words(monkeypatch, TEXT, "suspect")
    result = speak(TEXT, "-o", "a.wav", "--verify", "report", "--json")
    assert result.json["verdict"] == "suspect"
    assert result.json["segments"][0]["check"]["findings"][0]["kind"] == "skipped"
    assert "words" not in result.json["segments"][0]
    assert "check: suspect" in result.lines[-1]


def test_options_of_times_and_checks_reach_the_request(speak: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[SpeechRequest] = []
    submit = VoxtralTTS.submit

    def look(self: VoxtralTTS, request: SpeechRequest, **options: Any) -> SpeechHandle:
        seen.append(request)
        return submit(self, request, **options)

    monkeypatch.setattr(VoxtralTTS, "submit", look)
    assert speak(TEXT, "-o", "a.wav").code == 0
    arguments = ("--timestamps", "--verify", "report", "--attempts", "5", "--no-keep-to-text")
    assert speak(TEXT, "-o", "a.wav", *arguments).code == 0
    assert [(one.timestamps, one.verify, one.max_attempts, one.keep_to_text) for one in seen] == [
        (False, "off", 3, True),
        (True, "report", 5, False),
    ]
    assert "max_attempts is 11" in speak(TEXT, "--attempts", "11").lines[0]


# Speaking to standard output.


def test_a_pipe_gets_wav_and_the_same_samples_as_a_file(speak: Cli, workplace: Path) -> None:
    speak(TEXT, "-o", "out.wav", "--seed", "5")
    piped = speak(TEXT, "-o", "-", "--seed", "5")
    assert piped.code == 0
    assert piped.stdout[:4] == b"RIFF"
    assert piped.stdout[44:] == (workplace / "out.wav").read_bytes()[44:]
    assert piped.lines[-1].startswith("standard output: ")


def test_a_pipe_gets_raw_samples_where_that_is_asked_for(speak: Cli, workplace: Path) -> None:
    speak(TEXT, "-o", "out.wav", "--seed", "5")
    raw = speak(TEXT, "-o", "-", "--format", "pcm", "--seed", "5").stdout
    assert np.frombuffer(raw, "<i2").tolist() == soundfile.read(workplace / "out.wav", dtype="int16")[0].tolist()


def test_a_terminal_gets_no_audio(speak: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    result = speak(TEXT, "-o", "-")
    assert (result.code, result.stdout) == (2, b"")
    assert "is a terminal" in result.stderr


def test_a_full_disk_behind_standard_output_is_an_error(speak: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.stdout.buffer, "write", refuse)
    result = speak(TEXT, "-o", "-")
    assert result.code == 1
    assert result.lines[-1].startswith("error: standard output cannot be written (No space left on device)")


def test_a_stream_that_fails_is_not_ended_as_if_it_were_whole(speak: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxtral.speech.take.is_silent", lambda samples, rate: True)
    monkeypatch.setattr(ContainerEncoder, "finish", lambda self: pytest.fail("the stream was ended politely"))
    result = speak(TEXT, "-o", "-", "--format", "flac")
    assert result.code == 1
    assert result.lines[-1].startswith("error: the model made only silence")


@pytest.mark.parametrize(("output", "is_held"), [("out.wav", True), ("-", False)])
def test_only_files_wait_for_whole_segments(
    speak: Cli, monkeypatch: pytest.MonkeyPatch, output: str, is_held: bool
) -> None:
    seen: list[bool] = []
    submit = VoxtralTTS.submit

    def watch(self: VoxtralTTS, request: SpeechRequest, *, hold_segments: bool, feed: None) -> SpeechHandle:
        seen.append(hold_segments)
        return submit(self, request, hold_segments=hold_segments, feed=feed)

    monkeypatch.setattr(VoxtralTTS, "submit", watch)
    assert speak(TEXT, "-o", output).code == 0
    assert seen == [is_held]


# Where the text comes from.


def test_text_comes_from_standard_input(speak: Cli) -> None:
    told = speak("-", "-o", "a.wav", "--seed", "1", "--json", stdin=TEXT.encode()).json
    assert told["duration_s"] == speak(TEXT, "-o", "b.wav", "--seed", "1", "--json").json["duration_s"]
    assert told["segments"][-1]["text_end"] == len(TEXT)


def test_standard_input_that_is_heard_at_once_is_spoken_as_it_comes(speak: Cli, tts: VoxtralTTS) -> None:
    text = "Un été. Und dann. Bye"
    data = b"\xef\xbb\xbf" + text.encode()
    options = ("--format", "pcm", "--seed", "9", "--max-frames", "4")
    spoken = speak("-", "-o", "-", *options, stdin=data)
    stream = tts.synthesize_stream([text], seed=9, max_frames=4)
    samples = np.concatenate([chunk.numpy() for chunk in stream])
    assert len(stream.handle.segments) == 3
    assert len(spoken.stdout) == 2 * len(samples)
    broken = speak("-", "-o", "-", *options, stdin=b"It is so. Un \xe9t\xe9")
    assert broken.code == 1
    assert "standard input is not UTF-8 (byte 0xe9 at position 13)" in broken.stderr


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_name_is_replaced_by_what_the_file_holds(speak: Cli, workplace: Path, mark: bytes) -> None:
    text = "Un été à la mer, c'est très agréable."
    (workplace / "book.txt").write_bytes(mark + text.encode())
    report = speak("book.txt", "-o", "out.wav", "--json").json
    assert report["segments"][-1]["text_end"] == len(text)


def test_the_text_option_is_never_a_file_name(speak: Cli, workplace: Path) -> None:
    (workplace / "book.txt").write_text("A much longer text than the name of its file.")
    report = speak("--text", "book.txt", "-o", "out.wav", "--json").json
    assert report["segments"][-1]["text_end"] == len("book.txt")


def test_a_missing_text_file_is_noticed(speak: Cli) -> None:
    result = speak("book.txt", "-o", "out.wav")
    assert result.code == 0
    assert result.lines[0] == "warning: there is no file book.txt, so these letters themselves are spoken"
    assert speak("Read book.txt", "-o", "out.wav").lines[0].startswith("out.wav: ")


def test_text_that_is_not_utf8_is_refused_with_its_place(speak: Cli, workplace: Path) -> None:
    (workplace / "book.txt").write_bytes("Un été".encode("latin-1"))
    for name, stdin in (("book.txt", b""), ("-", b"Un \xe9t\xe9")):
        result = speak(name, stdin=stdin)
        assert result.code == 1
        assert "is not UTF-8 (byte 0xe9 at position 3)" in result.stderr


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            (TEXT, "--voice", "bob"),
            1,
            "error: voice 'bob' is unknown; this checkpoint has: casual_male",
        ),
        (("",), 1, "error: the text is empty"),
        (("...",), 1, "error: the text '...' has no letter"),
        ((TEXT, "--language", "Klingon"), 1, "error: unknown language 'Klingon'"),
        ((TEXT, "--seed", "-1"), 1, "error: seed is -1"),
        ((TEXT, "--device", "cuda:99"), 1, "error: device cuda:99 is not there"),
        ((TEXT, "--reference", "missing.wav"), 1, "error: "),
        ((TEXT, "--voice", "casual_male", "--reference", "clip.wav"), 1, "error: both voice and reference_audio"),
        ((TEXT, "-o", "missing/out.wav"), 1, "error: missing/out.wav cannot be written; its folder must exist"),
        ((TEXT, "-o", "."), 1, "error: . cannot be written; it is a folder"),
        ((TEXT, "-o", "out.xyz"), 1, "error: got the path 'out.xyz'"),
        ((TEXT, "--format", "xyz"), 2, "Error: Invalid value for --format: 'xyz' is none of wav, flac"),
        ((TEXT, "-o", "-", "--json"), 2, "Error: Invalid value for --json"),
        ((TEXT, "--text", TEXT), 2, "Error: Invalid value for TEXT: got two texts"),
        ((), 2, "Error: Invalid value for TEXT: got nothing"),
        (("Hello", "world"), 2, "Error: Got unexpected extra argument"),
        ((TEXT, "--normalize", "maybe"), 2, "Error: Invalid value for"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    speak: Cli, workplace: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = speak(*arguments)
    assert result.code == code
    assert result.stdout == b""
    # A usage error has the usage before it, an error stands alone.
    assert result.lines[-1].startswith(message) if code == 2 else len(result.lines) == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert os.listdir(workplace) == []


@pytest.mark.parametrize(
    ("arguments", "message"), [(("",), "the text is empty"), ((TEXT, "--language", "Klingon"), "unknown language")]
)
def test_what_needs_no_model_is_refused_before_one_is_loaded(
    cli: Cli, arguments: tuple[str, ...], message: str
) -> None:
    (line,) = cli("speak", *arguments, "--model", "./missing").lines
    assert line.startswith(f"error: {message}")


def test_a_model_that_is_nowhere_is_an_error_and_not_replaced(cli: Cli) -> None:
    result = cli("speak", TEXT, "--model", "nothing-of-that-name")
    assert result.code == 1
    assert result.stderr.startswith("error: 'nothing-of-that-name' names no model")


def test_a_failed_segment_leaves_the_old_file(speak: Cli, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "out.wav").write_bytes(b"precious")
    monkeypatch.setattr("voxtral.speech.take.is_silent", lambda samples, rate: True)
    result = speak(TEXT, "-o", "out.wav")
    assert result.code == 1
    assert "error: the model made only silence" in result.stderr
    assert (workplace / "out.wav").read_bytes() == b"precious"
    assert os.listdir(workplace) == ["out.wav"]


def test_the_cause_of_an_engine_error_is_said(speak: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(*_: object, **__: object) -> None:
        raise EngineStoppedError("the engine stopped") from RuntimeError("the GPU\nfell off")

    monkeypatch.setattr(VoxtralTTS, "submit", submit)
    assert speak(TEXT).lines == ["error: the engine stopped", "cause: RuntimeError: the GPU fell off"]


def test_a_traceback_is_shown_only_for_debugging(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in cli("speak", TEXT, "--model", "./missing").stderr
    monkeypatch.setenv("VOXTRAL_LOG", "debug")
    shown = cli("speak", TEXT, "--model", "./missing").stderr
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("error: the folder ./missing does not exist")
    monkeypatch.setenv("VOXTRAL_LOG", "loud")
    assert cli("speak", TEXT, "--model", "./missing").lines == [
        "error: VOXTRAL_LOG is 'loud'; it must be debug, or not set; correct or unset it"
    ]


# What is said of the model.


def test_without_a_model_the_choice_is_said_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # Cut short: whatever nano says, this is about the line before it.
    choice, summary = cli("speak", TEXT, "--max-frames", "2").lines
    assert choice.startswith("model: nano; ")
    assert "small demo voice" in choice
    assert "`voxtral download 4b`" in choice
    assert summary.startswith("voxtral.wav: ")
    monkeypatch.setenv("VOXTRAL_MODEL", str(BRIEF))
    assert cli("speak", TEXT).lines[0] == f"model: {BRIEF}; VOXTRAL_MODEL names it"


def test_a_model_of_the_environment_is_never_downloaded(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "download", lambda *_, **__: pytest.fail("a download was started"))
    monkeypatch.setenv("VOXTRAL_MODEL", "someone/model")
    result = cli("speak", TEXT)
    assert result.code == 1
    assert "run `voxtral download someone/model`" in result.lines[-1]


def test_a_cached_model_is_taken_where_a_gpu_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "find_cached", lambda *_, **__: BRIEF)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    # Nothing is loaded for a list of voices, so that no GPU is needed.
    result = cli("voices", "--json")
    (line,) = result.lines
    assert line.startswith(f"model: {hub.CANONICAL_ID}; it is in the local cache and a GPU is here")
    assert result.json["model"] == hub.CANONICAL_ID


def test_a_cached_model_without_gpu_is_mentioned_and_used_only_if_named(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "find_cached", lambda *_, **__: BRIEF)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen = cli("speak", TEXT, "--max-frames", "2", "--json")
    assert chosen.json["model"] == "nano"
    assert "has no GPU" in chosen.lines[0]
    assert "`--model 4b`" in chosen.lines[0]
    named = cli("speak", TEXT, "--model", "4b", "--json")
    assert (named.json["model"], named.code) == ("4b", 0)
    assert all("model: " not in line for line in named.lines)


def test_a_gpu_counts_only_if_the_speech_is_made_on_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "find_cached", lambda *_, **__: BRIEF)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    assert cli("speak", TEXT, "--max-frames", "2", "--device", "cpu", "--json").json["model"] == "nano"


def test_quiet_drops_the_choice_and_leaves_warnings_alone(cli: Cli, speak: Cli) -> None:
    assert cli("speak", TEXT, "--quiet", "--max-frames", "2").lines == []
    (line,) = speak(TEXT, "--quiet", "--language", "fr").lines
    assert line.startswith("warning: this checkpoint has no fr voice")


def test_a_warning_is_one_line_without_file_names(speak: Cli) -> None:
    first, summary = speak(TEXT, "-o", "out.wav", "--language", "fr").lines
    assert first.startswith("warning: this checkpoint has no fr voice")
    assert ".py" not in first
    assert summary.startswith("out.wav: ")


def test_other_warnings_stay_as_they_are() -> None:
    with warnings.catch_warnings(record=True) as seen, tidy_warnings():
        warnings.warn("one of ours", VoxtralWarning, stacklevel=1)
        warnings.simplefilter("always", RuntimeWarning)
        warnings.warn("not ours", RuntimeWarning, stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["not ours"]


# Signals and pipes, with the program itself.


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize(
    ("name", "number", "code", "word"),
    [
        ("out.wav", signal.SIGINT, 130, "interrupted"),
        pytest.param("out.mp3", signal.SIGINT, 130, "interrupted", marks=pytest.mark.slow),
        # Of SIGTERM test_batch.py and test_processes.py have quick cases.
        pytest.param("out.flac", signal.SIGTERM, 143, "terminated", marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_leaves_neither_the_file_nor_a_part_of_it(
    workplace: Path, name: str, number: signal.Signals, code: int, word: str
) -> None:
    (workplace / "book.txt").write_text(LONG)
    program = start("speak", "book.txt", "-o", name, *ON_TINY)
    try:
        deadline = time.monotonic() + 60
        while not any(part.stat().st_size for part in workplace.glob(".voxtral-*.part")):
            assert program.poll() is None, program.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        program.send_signal(number)
        _, stderr = program.communicate(timeout=60)
    finally:
        program.kill()
    assert program.returncode == code
    # Nothing but the two lines, in particular nothing of an exception that a C library swallowed.
    assert stderr.decode().splitlines() == [word]
    assert os.listdir(workplace) == ["book.txt"]


@pytest.mark.parametrize("speed", ["1", "2"])
@pytest.mark.parametrize("is_last", [False, True])
def test_an_interrupt_that_a_c_library_swallows_is_not_lost(
    speak: Cli, workplace: Path, wordy_seed: str, monkeypatch: pytest.MonkeyPatch, speed: str, is_last: bool
) -> None:
    write = AudioFileWriter.write
    num_writes = 0
    interrupted_write = 0

    def swallow(self: AudioFileWriter, samples: np.ndarray) -> None:
        nonlocal num_writes
        num_writes += 1
        if num_writes == interrupted_write:
            # What becomes of an exception in a callback from C.
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        write(self, samples)

    monkeypatch.setattr(AudioFileWriter, "write", swallow)
    arguments = (TEXT, "-o", "out.mp3", "--seed", wordy_seed, "--speed", speed)
    assert speak(*arguments).code == 0
    (workplace / "out.mp3").unlink()
    interrupted_write, num_writes = num_writes if is_last else 1, 0
    result = speak(*arguments)
    assert (result.code, result.lines) == (130, ["interrupted"])
    assert os.listdir(workplace) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
def test_a_reader_who_goes_away_ends_the_program_quietly(workplace: Path) -> None:
    (workplace / "book.txt").write_text(LONG)
    with start("speak", "book.txt", "-o", "-", "--format", "pcm", *ON_TINY) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert len(program.stdout.read(100)) == 100
        program.stdout.close()
        stderr = program.stderr.read().decode()
        assert program.wait(timeout=60) == 141
    assert stderr == ""


def test_the_first_interrupt_cancels_and_is_raised_where_the_work_asks_for_it() -> None:
    cancelled: list[bool] = []
    with deferred_interrupts(lambda: cancelled.append(True)) as check:
        check()
        signal.raise_signal(signal.SIGINT)
        assert cancelled == [True]
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_interrupt_waits_for_nothing() -> None:
    with deferred_interrupts(lambda: None):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("is_interrupted", "expected"), [(True, KeyboardInterrupt), (False, CancelledError)])
def test_cancelled_work_is_an_interrupt_only_after_one(is_interrupted: bool, expected: type[BaseException]) -> None:
    def work() -> None:
        with deferred_interrupts(lambda: None):
            if is_interrupted:
                signal.raise_signal(signal.SIGINT)
            raise CancelledError("cancelled")

    with pytest.raises(expected):
        work()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_others_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred_interrupts(lambda: pytest.fail("the signal is ignored")) as check:
            signal.raise_signal(signal.SIGINT)
            check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


# Loudspeakers.


class FakeSounddevice(ModuleType):
    """The part of sounddevice that is used, with a list of what was asked of it."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self, fails_at: str = "") -> None:
        super().__init__("sounddevice")
        self.calls: list[str] = []
        self.heard: list[np.ndarray] = []
        self.fails_at = fails_at

    def OutputStream(self, *, samplerate: int, channels: int, dtype: str) -> FakeSounddevice:
        assert (samplerate, channels, dtype) == (24000, 1, "float32")
        return self

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call == self.fails_at:
            raise self.PortAudioError("the device is gone")

    def start(self) -> None:
        self._note("start")

    def write(self, samples: np.ndarray) -> None:
        self._note("write")
        assert samples.ndim == 2
        self.heard.append(samples)

    def stop(self) -> None:
        self._note("stop")

    def abort(self) -> None:
        self._note("abort")

    def close(self) -> None:
        self._note("close")


def test_play_plays_all_of_it_and_writes_no_file(speak: Cli, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeSounddevice()
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    report = speak(TEXT, "--play", "--json").json
    assert report["path"] is None
    assert sum(map(len, device.heard)) / 24000 == pytest.approx(report["duration_s"])
    assert (device.calls[0], device.calls[-2:]) == ("start", ["stop", "close"])
    assert os.listdir(workplace) == []


def test_play_and_a_file_are_possible_together(speak: Cli, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeSounddevice()
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    result = speak(TEXT, "--play", "-o", "out.wav")
    assert result.lines[-1].startswith("out.wav and loudspeakers: ")
    assert sum(map(len, device.heard)) == soundfile.info(workplace / "out.wav").frames


@pytest.mark.parametrize("call", ["start", "write"])
def test_a_device_that_fails_is_an_error_and_no_file(
    speak: Cli, workplace: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    device = FakeSounddevice(fails_at=call)
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    result = speak(TEXT, "--play", "-o", "out.wav")
    assert result.code == 1
    assert result.lines[-1].startswith("error: the audio cannot be played (the device is gone)")
    assert "stop" not in device.calls
    assert os.listdir(workplace) == []


def test_play_without_the_package_says_what_to_install_before_a_model_is_loaded(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    (line,) = cli("speak", TEXT, "--play", "--model", "./missing").lines
    assert line.startswith("error: --play needs the package sounddevice")
    assert "pip install 'voxtral-tts[play]'" in line


def test_the_language_of_a_text_is_told_where_it_was_guessed(speak: Cli) -> None:
    german = "Das ist ein kurzer Satz, und er ist nicht auf Englisch."
    result = speak(german, "-o", "out.wav", "--max-frames", "2", "--json")
    assert "language: German, by the text; --language chooses another" in result.lines
    assert (result.json["language"], result.json["language_source"]) == ("de", "text")
    assert not any("language:" in line for line in speak(german, "-o", "out.wav", "--voice", "casual_male").lines)


# Progress.


def test_progress_is_written_with_time_left() -> None:
    line = str(SpeechProgress(fraction=0.5, made_s=3700.0, compute_s=1850.0, elapsed_s=60.0))
    assert line == "50 % of the text, 1:01:40 of audio, RTF 0.50, 1:00 left"
    assert (
        str(SpeechProgress(fraction=0.0, made_s=0.0, compute_s=0.0, elapsed_s=3.0)) == "0 % of the text, 0:00 of audio"
    )


def test_progress_is_drawn_and_taken_away() -> None:
    class Handle:
        stats = SpeechStats(seed=0, ttfa_s=0, compute_s=4.0, duration_s=0, num_frames=100, num_retries=0)
        segments = (SegmentInfo(0, 25, 0.0, 8.0, 100, "end", 0),)

    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    with show_progress(Handle(), 100, 12.5, screen):  # pyright: ignore[reportArgumentType]
        pass
    drawn = screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "25 % of the text, 0:08 of audio, RTF 0.50, 0:00 left" in drawn
    assert drawn.endswith("\x1b[1A\x1b[2K")


def test_a_terminal_sees_progress_but_not_with_json_or_quiet(speak: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "% of the text" in speak(TEXT, "-o", "out.wav").stderr
    assert "% of the text" not in speak(TEXT, "-o", "out.wav", "--json").stderr
    assert "% of the text" not in speak(TEXT, "-o", "out.wav", "--quiet").stderr
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert "% of the text" not in speak(TEXT, "-o", "out.wav").stderr


# Voices.


def test_voices_are_listed_as_a_table(cli: Cli) -> None:
    result = cli("voices", "--model", BRIEF)
    assert [line.split() for line in result.stdout.decode().splitlines()] == [
        ["VOICE", "LANGUAGE", "DEFAULT"],
        ["casual_male", "en", "(English)"],
        ["neutral_female", "en", "(English)", "yes"],
    ]


def test_voices_can_be_heard(cli: Cli, tts: VoxtralTTS, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "samples"
    result = cli("voices", "--model", BRIEF, "--sample", folder)
    assert result.code == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{voice.name}.wav" for voice in tts.voices)
    again = cli("voices", "--model", BRIEF, "--sample", folder)
    assert again.code == 1
    assert "overwrite nothing" in again.stderr


def test_voices_are_listed_as_json_like_the_python_api_does(cli: Cli, tts: VoxtralTTS) -> None:
    result = cli("voices", "--model", BRIEF, "--json").json
    expected = [
        {"name": voice.name, "language": voice.language, "is_default": voice.is_default, "description": ""}
        for voice in tts.voices
    ]
    assert result == {"model": str(BRIEF), "voices": expected}


def test_a_clone_is_saved_and_spoken_with(cli: Cli, speak: Cli, clip: Path, workplace: Path) -> None:
    made = cli("clone", clip, "-o", "me.safetensors", "--name", "Me", *ON_TINY)
    assert made.code == 0
    assert made.lines == ["me.safetensors: voice Me, from 4.0 s of audio; use it with --voice me.safetensors"]
    assert sorted(os.listdir(workplace)) == ["clip.wav", "me.safetensors"]
    spoken = speak(TEXT, "-o", "a.wav", "--voice", "me.safetensors", "--seed", "1", "--json")
    assert spoken.json["voice"] == "me.safetensors"
    direct = speak(TEXT, "-o", "b.wav", "--reference", clip, "--seed", "1", "--json")
    assert direct.json["voice"] == str(clip)
    assert (workplace / "a.wav").read_bytes() == (workplace / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("command", "target", "message"),
    [
        ("clone", "me.wav", "the name must end in .safetensors"),
        ("clone", "missing/me.safetensors", "its folder must exist"),
        ("encode", "me.codes", "the name must end in .safetensors"),
        ("encode", "folder.safetensors", "it is a folder"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_the_model_is_loaded(
    cli: Cli, clip: Path, workplace: Path, command: str, target: str, message: str
) -> None:
    (workplace / "folder.safetensors").mkdir()
    (line,) = cli(command, clip, "-o", target, "--model", "./missing").lines
    assert line.startswith(f"error: {target} cannot be written; {message}")


def test_a_clip_that_is_too_short_is_refused(cli: Cli, workplace: Path) -> None:
    soundfile.write(workplace / "short.wav", np.zeros(2400, dtype=np.float32), 24000)
    result = cli("clone", "short.wav", "-o", "me.safetensors", *ON_TINY)
    assert result.code == 1
    assert result.lines[0].startswith("error: the reference audio is 0.10 s long")
    assert os.listdir(workplace) == ["short.wav"]


# Codes.


def test_codes_go_to_a_file_and_back_to_audio(cli: Cli, tts: VoxtralTTS, clip: Path, workplace: Path) -> None:
    encoded = cli("encode", clip, "-o", "clip.safetensors", *ON_TINY)
    assert encoded.lines == ["clip.safetensors: 37 codebooks, 50 frames, 4.0 s"]
    codes = load_file(workplace / "clip.safetensors")["codes"]
    assert (codes.dtype, codes.shape) == (torch.int64, (37, 50))
    assert torch.equal(codes, tts.encode(clip))
    decoded = cli("decode", "clip.safetensors", "-o", "back.wav", *ON_TINY)
    assert decoded.lines == ["back.wav: 4.0 s"]
    samples, rate = soundfile.read(workplace / "back.wav", dtype="float32")
    expected = tts.decode(codes).samples
    assert (rate, len(samples)) == (24000, len(expected))
    # One step of 16 bits for the rounding, and less than one for full scale being 32767 or 32768.
    np.testing.assert_allclose(samples, np.clip(expected, -1, 1), atol=2 / 32768)


GOOD = torch.ones(37, 3, dtype=torch.int64)
GOOD_HEADER = {"format": "voxtral-codes-1", "sample_rate": "24000"}


@pytest.mark.parametrize(
    ("tensors", "header", "message"),
    [
        ({"codes": GOOD}, {}, "its format is None"),
        ({"codes": GOOD}, GOOD_HEADER | {"format": "voxtral-codes-2"}, "its format is 'voxtral-codes-2'"),
        ({"rows": GOOD}, GOOD_HEADER, "it holds no tensor `codes`"),
        ({"codes": GOOD.float()}, GOOD_HEADER, "`codes` is torch.float32 of shape [37, 3]"),
        ({"codes": GOOD[0]}, GOOD_HEADER, "`codes` is torch.int64 of shape [3]"),
        ({"codes": GOOD[:, :0]}, GOOD_HEADER, "`codes` is torch.int64 of shape [37, 0]"),
        ({"codes": GOOD}, GOOD_HEADER | {"sample_rate": "²"}, "its sample_rate is '²'"),
        ({"codes": GOOD}, GOOD_HEADER | {"sample_rate": "16000"}, "was made for 16000 Hz"),
        ({"codes": GOOD[:36].clone()}, GOOD_HEADER, "37"),
        ({"codes": GOOD * 9000}, GOOD_HEADER, "9000"),
    ],
)
def test_codes_that_do_not_fit_are_refused(
    cli: Cli, workplace: Path, tensors: dict[str, torch.Tensor], header: dict[str, str], message: str
) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, workplace / "codes.safetensors", header)
    result = cli("decode", "codes.safetensors", "-o", "out.wav", *ON_TINY)
    assert result.code == 1
    assert len(result.lines) == 1
    assert message in result.lines[0]
    assert os.listdir(workplace) == ["codes.safetensors"]


def test_files_that_hold_no_codes_are_refused_and_never_unpickled(cli: Cli, workplace: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (workplace / "exploded",))

    (workplace / "pickle.safetensors").write_bytes(pickle.dumps(Bomb()))
    save_file({"codes": GOOD}, workplace / "whole.safetensors", GOOD_HEADER)
    (workplace / "cut.safetensors").write_bytes((workplace / "whole.safetensors").read_bytes()[:-1])
    for name in ("pickle.safetensors", "cut.safetensors"):
        (line,) = cli("decode", name, "-o", "out.wav", *ON_TINY).lines
        assert line.startswith(f"error: {name} is no file of codes")
    (line,) = cli("decode", "missing.safetensors", "-o", "out.wav", *ON_TINY).lines
    assert line.startswith("error: missing.safetensors cannot be read (No such file or directory)")
    assert not (workplace / "exploded").exists()


# Downloads.


@pytest.fixture
def tiny_hub(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub on 127.0.0.1 that has the tiny checkpoint as someone/model."""
    files = {
        path.relative_to(tiny_folder).as_posix(): path.read_bytes() for path in tiny_folder.rglob("*") if path.is_file()
    }
    loopback = LoopbackHub()
    loopback.add("someone/model", files)
    with loopback.serve(), client_of(loopback, monkeypatch, tmp_path / "hf"):
        yield loopback


def test_a_download_tells_size_and_licence_first_and_the_next_command_last(cli: Cli, tiny_hub: LoopbackHub) -> None:
    result = cli("download", "someone/model")
    assert result.code == 0
    announcement, place, following = result.lines
    assert "MB to download, weights licensed CC BY-NC 4.0" in announcement
    assert place.startswith("someone/model is in ")
    assert following == 'next: voxtral speak "Hello!" --model someone/model -o hello.wav'
    spoken = cli("speak", TEXT, "--model", "someone/model", "--device", "cpu", "--json")
    assert spoken.code == 0
    assert spoken.json["model"] == "someone/model"
    assert "download" not in spoken.stderr


# Every command that takes a model, with what else it needs.
WITH_A_MODEL = {
    "speak": (TEXT, "-o", "a.wav"),
    "batch": ("in.txt", "-o", "book"),
    "voices": (),
    "clone": ("clip.wav", "-o", "me.safetensors"),
    "encode": ("clip.wav", "-o", "codes.safetensors"),
    "decode": ("good.safetensors", "-o", "a.wav"),
    "bench": (),
    "quantize": (),
    "serve": (),
    "doctor": (),
}


def call_with_model(cli: Cli, command: str, answer: bytes | None = None) -> Result:
    """Call a command without a terminal, or with one at which somebody types an answer."""
    Path("in.txt").write_text(TEXT)
    save_file({"codes": GOOD}, "good.safetensors", GOOD_HEADER)
    if command == "quantize":
        arguments = ("quantize", "someone/model", "-o", "small")
    else:
        arguments = (command, *WITH_A_MODEL[command], "--model", "someone/model")
    return cli(*arguments, stdin=answer or b"", is_terminal=answer is not None)


@pytest.mark.parametrize("command", WITH_A_MODEL)
def test_nothing_is_downloaded_where_nobody_can_be_asked(
    cli: Cli, tiny_hub: LoopbackHub, clip: Path, command: str
) -> None:
    result = call_with_model(cli, command)
    assert result.code == 1
    (said,) = (line for line in result.lines if "voxtral download" in line)
    assert said.startswith("error: someone/model is not on this machine")
    assert "run `voxtral download someone/model`" in said
    assert tiny_hub.seen == []


@pytest.mark.parametrize("command", WITH_A_MODEL)
def test_a_person_is_asked_with_size_and_licence_and_no_is_no(
    cli: Cli, tiny_hub: LoopbackHub, clip: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(hub, "download", lambda *_, **__: pytest.fail("a download was started"))
    result = call_with_model(cli, command, answer=b"\n")
    assert result.code == 1
    shown, asked = result.stderr.split("[y/N]")
    assert "MB to download, weights licensed CC BY-NC 4.0" in shown
    assert "error: someone/model is not on this machine" in asked
    assert "run `voxtral download someone/model`" in asked


def test_who_agrees_gets_the_model_and_hears_its_size_once(cli: Cli, tiny_hub: LoopbackHub) -> None:
    result = call_with_model(cli, "speak", answer=b"y\n")
    assert result.code == 0
    assert result.stderr.count("MB to download") == 1
    assert Path("a.wav").exists()
    assert "[y/N]" not in call_with_model(cli, "speak", answer=b"").stderr


@pytest.mark.parametrize("answer", [b"", b"n\n", b"no\n", b"yesterday\n", b" \n"])
def test_whatever_is_no_yes_is_a_no(cli: Cli, tiny_hub: LoopbackHub, answer: bytes) -> None:
    result = call_with_model(cli, "voices", answer=answer)
    assert result.code == 1
    assert not [seen for seen in tiny_hub.seen if "resolve" in seen.path]


def test_a_model_that_no_recipe_brings_below_the_budget_is_not_downloaded_for_it(
    cli: Cli, tiny_hub: LoopbackHub
) -> None:
    arguments = ("speak", TEXT, "--model", "someone/model", "--max-memory", "100KB")
    result = cli(*arguments, stdin=b"y\n", is_terminal=True)
    assert result.code == 1
    assert result.lines[-1].startswith("error: max_memory is 0 MB, and someone/model has ")
    assert not [seen for seen in tiny_hub.seen if "resolve" in seen.path]


def test_a_budget_that_the_process_alone_exceeds_is_not_taken_without_a_word(speak: Cli) -> None:
    warned, _ = speak(TEXT, "-o", "a.wav", "--max-memory", "200MB").lines
    assert warned.startswith("warning: --max-memory 200MB is for weights, cache and activations")
    (_,) = speak(TEXT, "-o", "a.wav", "--max-memory", "400MB").lines


def test_the_problem_of_a_server_is_said_once(cli: Cli) -> None:
    for model in ("someone/model", "./missing", "nothing-of-that-name"):
        (line,) = cli("serve", "--model", model).lines
        assert line.startswith("error: ")


def test_a_download_to_a_folder_is_found_by_its_path(cli: Cli, tiny_hub: LoopbackHub, workplace: Path) -> None:
    result = cli("download", "someone/model", "--to", "my model")
    assert result.lines[-1] == "next: voxtral speak \"Hello!\" --model 'my model' -o hello.wav"
    assert cli("voices", "--model", "my model").code == 0


def test_a_download_that_fails_is_an_error(cli: Cli, tiny_hub: LoopbackHub) -> None:
    result = cli("download", "someone/else")
    assert result.code == 1
    assert result.lines[-1].startswith("error: ")
    assert "Traceback" not in result.stderr


def test_the_built_in_model_needs_no_download(cli: Cli) -> None:
    result = cli("download", "nano")
    assert result.code == 0
    assert "is part of this package" in result.stderr


def test_voices_downloads_nothing(cli: Cli, tiny_hub: LoopbackHub) -> None:
    result = cli("voices", "--model", "someone/model")
    assert result.code == 1
    assert "run `voxtral download someone/model`" in result.stderr
    assert tiny_hub.seen == []


# Switches.


@pytest.mark.parametrize("command", ["speak", "serve", "batch", "clone", "encode", "decode", "bench"])
def test_every_command_that_loads_a_model_has_the_switches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert all(switch.flag in text for switch in SWITCHES.values())


def test_a_switch_is_its_variable_while_the_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bool] = {}

    def load(*_: Any, **__: Any) -> None:
        seen.update({name: is_switched_off(name) for name in SWITCHES})
        raise EngineStoppedError("seen")

    monkeypatch.setattr(VoxtralTTS, "from_pretrained", load)
    monkeypatch.setenv("VOXTRAL_TRITON", "1")
    monkeypatch.delenv("VOXTRAL_CALIBRATION")
    assert run(["speak", "Hello.", "--model", str(BRIEF), "--no-graphs", "--no-triton"]) == 1
    others = {"cpu_kernels": False, "self_check": False, "calibration": False}
    assert seen == {"cuda_graphs": True, "triton": True} | others
    assert os.environ["VOXTRAL_TRITON"] == "1"
    assert "VOXTRAL_CUDA_GRAPHS" not in os.environ


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ("model", "exact")),
        (["--flow-dtype", "float8"], ("float8", "exact")),
        (["--activations", "int8"], ("model", "int8")),
    ],
    ids=["nothing", "float8", "int8"],
)
@pytest.mark.parametrize(
    "command", [["speak", "Hello."], ["batch", "text.txt", "-o", "out"], ["bench"]], ids=lambda words: str(words[0])
)
def test_how_the_flow_computes_reaches_the_engine(
    command: list[str], given: list[str], expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[str, str]] = []

    def load(*_: Any, options: EngineOptions, **__: Any) -> None:
        seen.append((options.flow_dtype, options.activations))
        raise EngineStoppedError("seen")

    monkeypatch.setattr(VoxtralTTS, "from_pretrained", load)
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("Hello.\n", encoding="utf-8")
    assert run([*command, "--model", str(BRIEF), *given]) == 1
    assert seen == [expected]


def test_a_dtype_of_the_flow_that_is_none_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["speak", "Hello.", "--model", str(BRIEF), "--flow-dtype", "float4"]) == 1
    assert "flow_dtype is 'float4'; it must be one of model, float8" in capsys.readouterr().err
    assert run(["speak", "Hello.", "--model", str(BRIEF), "--activations", "int3"]) == 1
    assert "activations is 'int3'; it must be one of exact, int8" in capsys.readouterr().err


def test_a_switch_that_says_neither_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXTRAL_TRITON", "perhaps")
    assert run(["speak", "Hello.", "--model", str(BRIEF)]) == 1
    assert "VOXTRAL_TRITON is 'perhaps'; it must be 1 or 0" in capsys.readouterr().err


def test_a_clip_is_searched_for_where_there_is_no_encoder(cli: Cli, clip: Path, tmp_path: Path) -> None:
    model = strip_encoder(BRIEF, tmp_path / "stripped")
    refused = cli("clone", clip, "-o", "me.safetensors", "--model", model, "--device", "cpu")
    assert refused.code == 1
    assert "--encoder FILE" in refused.lines[0]
    assert "--refine" in refused.lines[0]
    arguments = ("--model", model, "--device", "cpu", "--refine-steps", "2", "--consent", "mine", "--json")
    made = cli("clone", clip, "-o", "me.safetensors", *arguments)
    assert made.code == 0
    assert (made.json["steps"], made.json["encoder"], made.json["seconds"]) == (2, None, 4.0)
    assert "from 4.0 s of audio (2 steps" in made.lines[-1]
    bad = cli("clone", clip, "-o", "me.safetensors", "--refine-steps", "0", "--model", "./missing")
    assert bad.lines == ["error: refine: steps is 0; it must be a whole number from 1 to 10000"]


def test_a_model_that_was_loaded_to_refine_speaks_with_a_clip(clip: Path, tmp_path: Path) -> None:
    model = strip_encoder(BRIEF, tmp_path / "stripped")
    said: list[str] = []
    with VoxtralTTS.from_pretrained(model, device="cpu", refine=4, announce=said.append) as tts:
        assert not tts.has_encoder
        first = tts.synthesize(TEXT, reference_audio=clip, seed=1)
        # The voice is kept, so the second utterance searches for nothing.
        tts.synthesize(TEXT, reference_audio=clip, seed=1)
        assert np.array_equal(first.samples, tts.synthesize(TEXT, reference_audio=clip, seed=1).samples)
    assert len([line for line in said if "4 steps, about" in line]) <= 1
