"""Measures of voices: like voices are near, and what cannot be a measure is refused in a line."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from spoken_clips import RATE, spoken
from voxtral.cloning.judge import Alike
from voxtral.cloning.speakers import Ecapa, TimbreAndPitch, open_measures, tells_speaker
from voxtral.errors import OptionError

WEIGHTS = "embedding_model.ckpt"


class Network(torch.nn.Module):
    """Stands for ECAPA: as many numbers as there are bands, and weights of its own."""

    def __init__(self, num_bands: int, channels: list[int]) -> None:
        super().__init__()
        assert channels == [1024, 1024, 1024, 1024, 3072]
        self.scale = torch.nn.Parameter(torch.ones(num_bands))

    def forward(self, bands: torch.Tensor) -> torch.Tensor:
        # The mean was taken away, as the published weights want it.
        assert float(bands.mean(1).abs().max()) < 1e-3
        return bands.std(1, keepdim=True) * self.scale


class Bands:
    def __init__(self, n_mels: int) -> None:
        self.size = 2 * n_mels - 2

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(samples, self.size, window=torch.hann_window(self.size), return_complex=True)
        return spectrum.abs().clamp(min=1e-5).log().transpose(1, 2)


@pytest.fixture
def speechbrain(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: dict[str, Any] = {
        "speechbrain": {},
        "speechbrain.lobes": {},
        "speechbrain.lobes.features": {"Fbank": Bands},
        "speechbrain.lobes.models": {},
        "speechbrain.lobes.models.ECAPA_TDNN": {"ECAPA_TDNN": Network},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)


def test_timbre_and_pitch_tells_voices_apart() -> None:
    measure = TimbreAndPitch(RATE)
    low, again, high = (
        measure.embed(spoken(1.5, hz=hz, seed=seed)) for hz, seed in ((110.0, 1), (110.0, 2), (230.0, 1))
    )
    assert measure.likeness(low, low) == 1.0
    assert measure.likeness(low, again) > 1.5 * measure.likeness(low, high)


def test_voices_are_ordered_by_likeness_and_one_is_never_its_own_match() -> None:
    sounds = {f"{hz}": spoken(1.0, hz=float(hz)) for hz in (100, 130, 250)}
    alike = Alike({**sounds, "silent": np.zeros(RATE, np.float32)}, TimbreAndPitch(RATE), RATE)
    assert alike.nearest_first(sounds["100"], without="100") == ["130", "250"]


def test_too_little_sound_tells_nothing() -> None:
    assert tells_speaker(spoken(0.5), RATE)
    assert not tells_speaker(spoken(0.5)[: RATE // 5], RATE)
    assert not tells_speaker(np.zeros(RATE, np.float32), RATE)
    assert not tells_speaker(np.zeros(0, np.float32), RATE)


def test_ecapa_comes_first_where_its_weights_are(tmp_path: Path, speechbrain: None) -> None:
    torch.save({"scale": torch.full((80,), 2.0)}, tmp_path / WEIGHTS)
    measures = open_measures(RATE, tmp_path)
    assert (measures[0].name, measures[-1].name) == ("ecapa", "timbre_and_pitch")
    first = measures[0].embed(spoken(1.0))
    assert first.shape == (80,)
    assert first.dtype == np.float64
    assert measures[0].likeness(first, 3 * first) == pytest.approx(1.0)


def test_a_folder_without_the_weights_is_refused(tmp_path: Path, speechbrain: None) -> None:
    for folder in (tmp_path, tmp_path / "none", Path("a\0b")):
        with pytest.raises(OptionError, match=r"embedding_model\.ckpt is missing"):
            Ecapa(RATE, folder)


def test_without_speechbrain_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"")
    monkeypatch.setitem(sys.modules, "speechbrain.lobes.models.ECAPA_TDNN", None)
    with pytest.raises(OptionError, match="pip install speechbrain"):
        Ecapa(RATE, tmp_path)


class Bomb:
    """Runs a program where it is unpickled without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize("kind", ["empty", "text", "pickle", "list", "sizes"])
def test_weights_that_are_none_are_refused_and_never_run(kind: str, tmp_path: Path, speechbrain: None) -> None:
    path = tmp_path / WEIGHTS
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("version https://git-lfs.github.com/spec/v1\n")
        case "pickle":
            path.write_bytes(pickle.dumps(Bomb()))
        case "list":
            torch.save([1, 2], path)
        case _:
            torch.save({"scale": torch.ones(3)}, path)
    with pytest.raises(OptionError, match="does not hold the weights"):
        Ecapa(RATE, tmp_path)
