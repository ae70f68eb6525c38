"""Files joined into one: every sample, in order, in constant memory; and what is refused before anything is written."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from voxtral.audio.encode import FORMATS
from voxtral.audio.file import AudioFileWriter
from voxtral.audio.join import join_audio
from voxtral.errors import AudioError

RATE = 24000


def tone(seconds: float, pitch: float = 220.0, rate: int = RATE) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def make(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    with AudioFileWriter(path, rate) as writer:
        writer.write(samples)
    return path


def test_every_sample_is_there_in_order_with_pauses_between(tmp_path: Path) -> None:
    pieces = [tone(0.3, pitch) for pitch in (200, 300, 400)]
    parts = [
        make(tmp_path / f"{index}.{kind}", piece)
        for index, (kind, piece) in enumerate(zip(["wav", "flac", "wav"], pieces, strict=True))
    ]
    joined = join_audio(parts, tmp_path / "all.wav", pause_s=0.1)
    samples, rate = soundfile.read(tmp_path / "all.wav", dtype="float32")
    silence = np.zeros(2400, dtype=np.float32)
    wanted = np.concatenate([pieces[0], silence, pieces[1], silence, pieces[2]])
    assert np.abs(samples - wanted).max() < 2 / 32768
    assert (joined.num_files, joined.sample_rate, joined.num_resampled, rate) == (3, RATE, 0, RATE)
    assert joined.duration_s == pytest.approx(1.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.wav", "1.flac", "2.wav", "all.wav"]


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_goes_in_and_comes_out(tmp_path: Path, kind: str) -> None:
    if kind in ("aac", "m4a"):
        pytest.importorskip("av")
    parts = [make(tmp_path / f"{index}.{kind}", tone(0.5)) for index in range(2)]
    join_audio(parts, tmp_path / f"all.{kind}", raw_rate=RATE)
    joined = join_audio([tmp_path / f"all.{kind}"], tmp_path / "again.wav", raw_rate=RATE)
    samples, rate = soundfile.read(tmp_path / "again.wav")
    assert len(samples) / rate == pytest.approx(1.0, abs=0.25)
    assert np.abs(samples).max() > 0.3
    assert joined.sample_rate == rate


def test_other_rates_are_resampled_to_that_of_the_first(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a.wav", tone(0.5)), make(tmp_path / "b.wav", tone(0.5, rate=48000), 48000)
    joined = join_audio([first, second], tmp_path / "c.flac")
    samples, rate = soundfile.read(tmp_path / "c.flac", dtype="float32")
    assert (rate, joined.num_resampled) == (RATE, 1)
    wanted = soxr.resample(tone(0.5, rate=48000), 48000, RATE, quality="HQ")
    assert len(samples) == 12000 + len(wanted)
    assert np.abs(samples[12000:] - wanted).max() < 2e-4


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    part = make(tmp_path / "a.flac", np.zeros(RATE * 30, dtype=np.float32))
    tracemalloc.start()
    joined = join_audio([part] * 10, tmp_path / "all.flac")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert joined.duration_s == 300
    assert peak < 4 * 2**20


def test_what_cannot_be_joined_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    good = make(tmp_path / "good.wav", tone(0.1))
    soundfile.write(tmp_path / "two.wav", np.zeros((100, 2)), RATE)
    (tmp_path / "text.wav").write_text("no audio at all")
    (tmp_path / "empty.wav").write_bytes(b"")
    raw = make(tmp_path / "raw.pcm", tone(0.1))
    for part, words in (
        (tmp_path / "none.wav", "is no file"),
        (tmp_path, "is no file"),
        (tmp_path / "two.wav", "2 channels"),
        (tmp_path / "text.wav", "cannot be read"),
        (tmp_path / "empty.wav", "it is empty"),
        (raw, "does not say its rate"),
    ):
        with pytest.raises(AudioError, match=words):
            join_audio([good, part], tmp_path / "all.wav")
    with pytest.raises(AudioError, match="both"):
        join_audio([good], good)
    with pytest.raises(AudioError, match="no file is named"):
        join_audio([], tmp_path / "all.wav")
    with pytest.raises(AudioError, match="extension"):
        join_audio([good], tmp_path / "all.xyz")
    assert not (tmp_path / "all.wav").exists()


def test_what_a_check_raises_leaves_what_was_there(tmp_path: Path) -> None:
    good, target = make(tmp_path / "good.wav", tone(0.1)), tmp_path / "all.wav"
    target.write_bytes(b"before")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        join_audio([good], target, check=interrupt)
    assert target.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 2
