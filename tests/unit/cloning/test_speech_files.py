"""Speech of people in a folder: at the level of the presets, the same for a step, and what is no speech is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from spoken_clips import spoken
from voxtral.audio.condition import active_level
from voxtral.audio.reference import LEVEL_DB
from voxtral.cloning.speech_files import SpeechFiles
from voxtral.errors import TrainingError

RATE = 24000


def fail(message: str) -> None:
    raise AssertionError(message)


def test_crops_are_at_the_level_of_presets_and_the_same_again(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "a.wav", spoken(2.0, peak=0.05), RATE)
    soundfile.write(tmp_path / "deep" / "b.flac", spoken(1.0, 16000, seed=1), 16000)
    (tmp_path / "notes.txt").write_text("no audio")
    files = SpeechFiles([tmp_path], RATE, fail)
    assert len(files) == 2
    first = files.crops(1, 5, 3, RATE)
    after = files.crops(1, 6, 3, RATE)
    files.close()
    assert first.shape == (3, RATE)
    assert first.dtype == np.float32
    assert all(abs(active_level(crop, RATE) - LEVEL_DB) < 2.5 for crop in first)
    again = SpeechFiles([tmp_path], RATE, fail)
    # Read anew and not ahead.
    assert np.array_equal(again.crops(1, 6, 3, RATE), after)
    assert np.array_equal(again.crops(1, 5, 3, RATE), first)
    again.close()


def test_what_cannot_be_read_is_left_out_and_said_once(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", spoken(1.0), RATE)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    said: list[str] = []
    files = SpeechFiles([tmp_path], RATE, said.append)
    for step in range(4):
        assert np.abs(files.crops(0, step, 4, 4800)).max() > 0.05
    files.close()
    assert len(said) == 1
    assert "bad.wav" in said[0]


def test_folders_without_speech_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no audio files"):
        SpeechFiles([tmp_path], RATE, fail)
    with pytest.raises(TrainingError, match="is no folder"):
        SpeechFiles([tmp_path / "none"], RATE, fail)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    files = SpeechFiles([tmp_path], RATE, fail)
    with pytest.raises(TrainingError, match="no sound"):
        files.crops(0, 0, 1, 4800)
    files.close()
