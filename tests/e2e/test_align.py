"""`voxtral align`, as its users know it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voxtral import VoxtralTTS
from voxtral.align import calibrate as calibration
from voxtral.align.alignment import read_alignment
from voxtral.align.calibrate import Sentence
from voxtral.cli.main import run
from voxtral.loading.locate import locate_model
from voxtral.types import SegmentInfo, SpeechRequest, WordTime

ON_NANO = ("--model", "nano", "--device", "cpu")
TEXT = "Table, garden, window."
VOICES = ("en_f1", "en_m1")
WORDS = (WordTime(0, 2, 0.1, 0.4, 0.9), WordTime(3, 8, 0.5, 0.9, 0.8))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    # Said with a pause before each word, by which heads are told from such as only move on.
    texts = ("Table! Garden! Window! Picture!", "Bread! Water! Sugar! Lemon!")
    sentences = [Sentence(text, "en", voice, 1, is_list=True) for text, voice in zip(texts, VOICES, strict=True)]
    monkeypatch.setattr(calibration, "sentences_for", lambda *_: iter(sentences))


@pytest.mark.usefixtures("few")
def test_a_model_is_calibrated_into_a_file_or_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOXTRAL_CACHE", str(tmp_path / "cache"))
    assert run(["align", "calibrate", *ON_NANO, "-o", str(tmp_path / "a.json")]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0].split() == ["LAYER", "HEAD", "SCORE", "POSITION", "CHOSEN"]
    found = read_alignment(tmp_path / "a.json").heads
    # Few sentences may not tell all of them.
    delivered = read_alignment(locate_model("nano", allow_download=False) / "alignment.json").heads
    assert found
    assert set(found) <= set(delivered)
    assert shown.out.count("yes") == len(found)
    assert all(f"layer {layer} head {head}" in shown.err for layer, head in found)
    assert run(["align", "calibrate", *ON_NANO, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["heads"] == [list(head) for head in found]
    (kept,) = (tmp_path / "cache" / "alignment").iterdir()
    assert read_alignment(kept).heads == found


def test_what_is_found_must_go_somewhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VOXTRAL_CACHE", "")
    assert run(["align", "calibrate", *ON_NANO]) == 1
    assert "name a file with --output" in capsys.readouterr().err
    assert run(["align", "calibrate", *ON_NANO, "-o", "/nowhere/a.json"]) == 1


def test_the_words_of_codes_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with VoxtralTTS.from_pretrained("nano", device="cpu") as model:
        samples = model.synthesize(TEXT, "en", seed=1).numpy()
    soundfile.write(tmp_path / "clip.wav", samples, 24000)
    codes = str(tmp_path / "clip.safetensors")
    assert run(["encode", str(tmp_path / "clip.wav"), "-o", codes, *ON_NANO]) == 0
    assert run(["align", "words", TEXT, "--codes", codes, *ON_NANO]) == 0
    shown = capsys.readouterr()
    heading, *rows = shown.out.splitlines()
    assert heading.split() == ["START", "END", "SURE", "WORD"]
    assert [row.split()[-1] for row in rows] == TEXT.split()
    starts = [float(row.split()[0]) for row in rows]
    assert starts == sorted(starts)
    assert "3 words, times from attention" in shown.err
    assert run(["align", "words", TEXT, "--codes", codes, *ON_NANO, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["timing"] == "attention"
    assert [word["word"] for word in answer["words"]] == TEXT.split()
    assert np.allclose([word["start_s"] for word in answer["words"]], starts, atol=0.006)
    assert all(0 <= word["start_s"] <= word["end_s"] <= len(samples) / 24000 + 0.1 for word in answer["words"])


def test_words_of_speech_come_with_its_segments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[SpeechRequest] = []

    class Handle:
        segments = (
            SegmentInfo(
                0,
                8,
                0.0,
                1.0,
                12,
                "end",
                1,
                (WordTime(0, 2, 0.1, 0.4, 0.9), WordTime(3, 8, 0.5, 0.9, 0.8)),
                "attention",
            ),
        )

        def chunks(self) -> tuple[()]:
            return ()

    def submit(_: VoxtralTTS, request: SpeechRequest, **options: bool) -> Handle:
        asked.append(request)
        assert options == {"hold_segments": True}
        return Handle()

    monkeypatch.setattr(VoxtralTTS, "submit", submit)
    assert run(["align", "words", "Hi there", *ON_NANO, "--seed", "7", "--voice", "en_m1"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1:] == ["0.10   0.40  0.90  Hi", "0.50   0.90  0.80  there"]
    (request,) = asked
    assert (request.text, request.voice, request.seed, request.timestamps) == ("Hi there", "en_m1", 7, True)
    assert "2 words, times from attention" in shown.err


@pytest.mark.parametrize(
    "arguments", [["align"], ["align", "nothing"], ["align", "words"]], ids=["none", "unknown", "no text"]
)
def test_wrong_usage_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "Usage: voxtral align" in "".join(capsys.readouterr())
