"""Commands as processes: how signals end them at any moment, and what they do without their standard streams."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from checkpoints import BRIEF
from spoken_clips import spoken_file
from voxtral.cli.main import run
from voxtral.cli.process import ENDING, end_at_once, end_on_signals, is_default
from voxtral.cli.terminal import deferred_interrupts, say, show
from voxtral.errors import AudioError

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(os.name == "nt", reason="signals and file descriptors are those of POSIX"),
]

ON_TINY = ("--model", str(BRIEF), "--device", "cpu")

# Says when it has begun: nobody can do anything about what comes before the first line of a program.
PROGRAM = "import os; os.write(1, b'.'); from voxtral.__main__ import main; "

# A model that takes for ever to load, in a thread that computes; it says when it has begun.
SLOW_LOAD = """
import os, torch
import voxtral.loading.load as loading
from voxtral.__main__ import main

def load_model(*_, **__):
    os.write(1, b".")
    while True:
        torch.randn(64, 64) @ torch.randn(64, 64)

loading.load_model = load_model
main()
"""


def begin(program: str, *arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    """Start a command, and return when it has said that it has begun."""
    started = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert started.stdout is not None
    assert started.stdout.read(1) == b"."
    return started


def end(started: subprocess.Popen[bytes], number: signal.Signals) -> tuple[int, list[str]]:
    started.send_signal(number)
    try:
        _, stderr = started.communicate(timeout=60)
    finally:
        started.kill()
    return started.returncode, stderr.decode().splitlines()


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "terminated"),
        pytest.param(signal.SIGHUP, "hung up", marks=pytest.mark.slow),  # tests/e2e/test_batch.py has a quick case
    ],
)
def test_a_signal_while_a_model_loads_ends_the_process_with_its_code(
    tmp_path: Path, number: signal.Signals, word: str
) -> None:
    started = begin(SLOW_LOAD, "speak", "Hello.", "-o", "a.wav", *ON_TINY, cwd=tmp_path)
    assert end(started, number) == (128 + number, [word])
    assert os.listdir(tmp_path) == []


COMMANDS = {
    "speak": ("speak", "in.txt", "-o", "a.wav", "--model", "nano"),
    "speak to a pipe": ("speak", "in.txt", "-o", "-", "--format", "pcm", "--model", "nano"),
    "batch": ("batch", "in.txt", "-o", "book", "--model", "nano"),
    "quantize": ("quantize", "nano", "-o", "small"),
    "clone": ("clone", "clip.wav", "-o", "me.safetensors", *ON_TINY),
    "encode": ("encode", "clip.wav", "-o", "codes.safetensors", *ON_TINY),
    "bench": ("bench", "--model", "nano"),
    "voices": ("voices",),
    "doctor": ("doctor",),
}


@pytest.mark.slow  # above is the moment that used to abort
@pytest.mark.parametrize(
    ("command", "number"),
    [
        *((command, signal.SIGINT) for command in COMMANDS),
        *((command, number) for command in ("speak", "batch") for number in (signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_a_signal_at_any_moment_ends_any_command(tmp_path: Path, command: str, number: signal.Signals) -> None:
    (tmp_path / "clip.wav").write_bytes(spoken_file(4.0))
    (tmp_path / "in.txt").write_text("This is a line of a longer text.\n" * 100)
    for moment in np.linspace(0.06, 2.5, 8):
        started = begin(f"{PROGRAM}main()", *COMMANDS[command], cwd=tmp_path)
        time.sleep(moment)
        code, lines = end(started, number)
        if code == 0:  # it was faster
            break
        assert code == 128 + number, (moment, lines)
        assert ENDING[number] in lines[-1]
        assert not any("Traceback" in line or "terminate called" in line for line in lines)
        left = {path.name for path in tmp_path.iterdir()} - {"clip.wav", "in.txt", "book"}
        assert not left, (moment, left)
        assert not list(tmp_path.rglob("*.part"))


def test_a_third_signal_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        end_on_signals()
        with deferred_interrupts(lambda: None):
            signal.raise_signal(signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            assert {signal.getsignal(number) for number in ENDING} == {end_at_once}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_signals_that_the_caller_has_ignored_stay_so() -> None:
    """As nohup does with SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    kept = {number: signal.getsignal(number) for number in ENDING}
    try:
        end_on_signals()
        with deferred_interrupts(lambda: pytest.fail("the signal is ignored")):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert not is_default(signal.SIGHUP, signal.SIG_IGN)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGHUP, before)


# Standard streams.


def in_shell(tmp_path: Path, arguments: Sequence[str], redirection: str) -> tuple[int, bytes, list[str]]:
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "-", sys.executable, "-m", "voxtral", *arguments],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode().splitlines()


def test_without_any_standard_stream_a_file_is_spoken_and_no_message_gets_into_it(tmp_path: Path) -> None:
    arguments = ("speak", "Hello there.", "-o", "a.wav", "--seed", "1", *ON_TINY)
    assert in_shell(tmp_path, arguments, "<&- >&- 2>&-") == (0, b"", [])
    closed = (tmp_path / "a.wav").read_bytes()
    code = run([*arguments[:2], "-o", str(tmp_path / "b.wav"), *arguments[4:]])
    assert (code, (tmp_path / "b.wav").read_bytes()) == (0, closed)


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_what_standard_output_does_not_take_is_a_line(tmp_path: Path, redirection: str) -> None:
    code, _, lines = in_shell(tmp_path, ("--version",), redirection)
    assert code == 1
    (line,) = lines
    assert line.startswith("error: standard input or output cannot be used (")


ALL_COMMANDS = {
    **{name: arguments for name, arguments in COMMANDS.items() if name != "speak to a pipe"},
    "help": ("--help",),
    "download": ("download", "nano"),
    "decode": ("decode", "missing.safetensors", "-o", "a.wav"),
    "serve": ("serve", "--model", "./missing"),
}


@pytest.mark.slow  # above are a command that works and one that does not
@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"])
@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_every_command_works_or_says_in_a_line_why_not(tmp_path: Path, command: str, redirection: str) -> None:
    (tmp_path / "clip.wav").write_bytes(spoken_file(4.0))
    (tmp_path / "in.txt").write_text("This is a line.\n")
    extra = ("--seconds", "0.2", "--streams", "1", "--rounds", "1") if command == "bench" else ()
    code, _, lines = in_shell(tmp_path, (*ALL_COMMANDS[command], *extra), redirection)
    assert code in (0, 1)
    assert not any("Traceback" in line for line in lines)
    assert sum(line.startswith("error: ") for line in lines) <= 1
    if not re.search(r"(^| )>", redirection) and command not in ("decode", "serve"):
        assert code == 0


def test_results_that_nobody_can_read_are_told_and_messages_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", Full())
        say("nobody reads this")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Full())
        with pytest.raises(AudioError, match=r"standard output cannot be written \(No space left on device\)"):
            show(json.dumps({}))


# Memory.


@pytest.mark.slow  # tests/unit/test_device.py has what is told apart
@pytest.mark.parametrize("megabytes", [60, 100, 200, 400, 600, 700, 750, 800, 850, 900, 950, 1000])
def test_whatever_memory_a_command_may_take_it_works_or_says_in_a_line_that_it_is_not_enough(
    tmp_path: Path, megabytes: int
) -> None:
    command = f'ulimit -v {megabytes * 1000}; exec timeout 60 "$@"'
    done = subprocess.run(
        [
            "bash",
            "-c",
            command,
            "-",
            sys.executable,
            "-m",
            "voxtral",
            "speak",
            "Hello.",
            "-o",
            "a.wav",
            "--model",
            "nano",
        ],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    lines = done.stderr.decode().splitlines()
    if lines[-1:] == ["cannot allocate memory for thread-local data: ABORT"]:
        return  # by the C library, which lets nobody else say it
    assert done.returncode in (0, 1), lines
    if done.returncode == 1:
        (line,) = (line for line in lines if not line.startswith("model: "))
        assert line.startswith(
            ("error: out of memory", "error: a package cannot be loaded", "error: cpu has no room left to speak")
        )
        assert os.listdir(tmp_path) == []


def test_a_process_without_room_for_its_libraries_says_so_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 150000; exec "$@"', "-", sys.executable, "-m", "voxtral", "doctor"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("error: out of memory (this process may take 154 MB of address space")
