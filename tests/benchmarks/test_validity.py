"""The recogniser's own figures: an ear that hears is good, one that does not is not, and both by what was held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality import validity
from tone_shards import LETTERS, write_tone_corpus
from train.hearing import Held
from train.recogniser import Recogniser, RecogniserNetwork
from train.sounds import SOUNDS, Sounds

PARTS = ["00000-en", "00001-es", "00002-en", "50000-en"]


class Ear:
    """Reads the pitch of each 100 ms; answers the same always, if it is deaf."""

    phonemes = Sounds(SOUNDS, {})
    held = Held(("00000-en", "00001-es"), ("pico_05",))

    def __init__(self, *, is_deaf: bool = False) -> None:
        self._is_deaf = is_deaf

    def transcribe(self, samples: np.ndarray, language: str) -> list[int]:
        if self._is_deaf:
            return [SOUNDS["a"]] * 7
        heard: list[int] = []
        for start in range(0, len(samples) - 2399, 2400):
            spectrum = np.abs(np.fft.rfft(samples[start : start + 2400]))
            letter = LETTERS[round(float(spectrum.argmax()) * 10 / 150) - 1]
            if heard[-1:] != [SOUNDS[letter]]:
                heard.append(SOUNDS[letter])
        return heard


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    write_tone_corpus(folder, PARTS, num_items=32)
    return folder


def figures(ear: Any, tones: Path, limit: int = 5) -> dict[str, Any]:
    return validity.report(ear, tones, limit)


def test_an_ear_that_hears_meets_every_bar_and_a_deaf_one_none_but_the_mismatch(tones: Path) -> None:
    found = figures(Ear(), tones)
    assert {name: system["all"]["error_rate"] for name, system in found["systems"].items()} == {
        "teacher": 0,
        "teacher, 20 dB noise": 0,
        "teacher, mismatched": pytest.approx(0.9, abs=0.15),
        "teacher, held out": 0,
    }
    assert [bar["passes"] for bar in found["bars"]] == [True] * 4
    deaf = figures(Ear(is_deaf=True), tones)
    assert [bar["passes"] for bar in deaf["bars"]] == [False, True, False, False]


def test_presets_of_held_parts_are_heard_and_strangers_wherever_they_speak(tones: Path) -> None:
    found = figures(Ear(), tones, limit=3)
    teacher, strangers = (found["systems"][name] for name in ("teacher", "teacher, held out"))
    assert set(teacher["by_voice"]) == {"en_f1", "en_m1", "es_f1", "es_m1"}
    assert {name: one["num_utterances"] for name, one in teacher["by_language"].items()} == {"en": 3, "es": 3}
    assert set(strangers["by_voice"]) == {"pico_05"}
    assert "de" in found["no_stranger_speaks"]
    assert "en" not in found["no_stranger_speaks"]


def test_the_command_writes_a_report_and_knows_who_heard_everything(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventories = {language: frozenset(range(9)) for language in ("en", "es")}
    every = dict.fromkeys(validity.LANGUAGES, frozenset({0})) | inventories
    network = RecogniserNetwork(Ear.phonemes.count)
    Recogniser(network, Sounds(SOUNDS, every), Ear.held).save(tmp_path / "r.safetensors")
    words = ["--data", str(tones), "--limit", "1", "--json", str(tmp_path / "out.json")]
    validity.main([str(tmp_path / "r.safetensors"), *words])
    assert json.loads((tmp_path / "out.json").read_text())["held"]["parts"] == list(Ear.held.parts)
    assert "recogniser: teacher, PER" in capsys.readouterr().out
    Recogniser(network, Sounds(SOUNDS, every)).save(tmp_path / "all.safetensors")
    with pytest.raises(SystemExit) as ended:
        validity.main([str(tmp_path / "all.safetensors"), *words])
    assert ended.value.code == 0
    assert "trained on all there was" in capsys.readouterr().err
