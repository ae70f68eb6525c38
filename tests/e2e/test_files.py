"""`synthesize_files` and `voxtral batch` on one folder: either goes on with the other's, also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints import BRIEF
from voxtral import VoxtralTTS
from voxtral.cli.main import run
from voxtral.errors import VoxtralWarning

TEXTS = ["It was a dark night.", "The hero took a step.", "Nobody was there.", "Or so it seemed."]
ITEMS = [{"text": text, "name": f"c_part{part:04d}"} for part, text in enumerate(TEXTS, start=1)]
OPTIONS = {"voice": "casual_male", "speed": 2, "max_frames": 4}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a chapter of four lines."""
    monkeypatch.chdir(tmp_path)
    Path("c.txt").write_text("\n\n".join(TEXTS) + "\n")


def command(tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    with monkeypatch.context() as loaded:
        loaded.setattr(VoxtralTTS, "from_pretrained", lambda *_, **__: tts)
        loaded.setattr(VoxtralTTS, "__exit__", lambda *_: None)
        options = ["--seed", "4", "--voice", "casual_male", "--speed", "2", "--max-frames", "4"]
        assert run(["batch", "c.txt", "-o", folder, *options, "--model", str(BRIEF), "--device", "cpu"]) == 0


def audio_of(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.suffix == ".wav"}


def test_either_goes_on_with_the_folder_of_the_other(tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tts, monkeypatch, "theirs")
    names = tuple(f"c_part{part:04d}.wav" for part in (1, 2, 3, 4))
    for texts in ("c.txt", ITEMS):
        report = tts.synthesize_files(texts, "theirs", seed=4, **OPTIONS)
        assert (report.made, report.skipped, report.failed) == ((), names, ())
    report = tts.synthesize_files(ITEMS, "ours", seed=4, **OPTIONS)
    assert sorted(made.file for made in report.made) == list(names)
    assert audio_of("ours") == audio_of("theirs")
    before = Path("ours/batch.jsonl").read_bytes()
    command(tts, monkeypatch, "ours")
    assert Path("ours/batch.jsonl").read_bytes() == before


def test_a_warning_points_at_the_caller(tts: VoxtralTTS) -> None:
    with pytest.warns(VoxtralWarning, match="item 0: this checkpoint has no fr voice") as warned:
        tts.synthesize_files(TEXTS[:2], "out", language="fr", max_frames=2)
    assert [warning.filename for warning in warned] == [__file__]


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from voxtral import VoxtralTTS
from voxtral.engine.options import EngineOptions

def kill(progress):
    if progress.num_made == 2:
        os.kill(os.getpid(), signal.SIGKILL)

options = EngineOptions(batch_invariant=True, max_batch=4)
model = VoxtralTTS.from_pretrained(sys.argv[1], device="cpu", options=options)
model.synthesize_files("c.txt", "killed", seed=4, max_in_flight=1, on_progress=kill)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.slow  # quickly: the same kill of the command, in test_batch
def test_after_a_kill_the_same_call_makes_the_same_files_to_the_byte(tts: VoxtralTTS) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(BRIEF)],
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = audio_of("killed")
    report = tts.synthesize_files("c.txt", "killed", seed=4)
    assert len(report.skipped) >= len(left) == 2
    assert len(report.made) + len(report.skipped) == 4
    tts.synthesize_files("c.txt", "whole", seed=4)
    assert left.items() < audio_of("whole").items()
    assert audio_of("killed") == audio_of("whole")
    assert sorted(os.listdir("killed")) == sorted(os.listdir("whole"))
