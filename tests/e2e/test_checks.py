"""The shipped thresholds tell what nano says well from what is not its text.

The quick twin of `benchmarks.quality.checks`, and the command that shows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from voxtral.align.alignment import Alignment, read_alignment
from voxtral.align.calibrate import Sentence, Speaking, say_sentences
from voxtral.align.checks import check_speech
from voxtral.align.codes import hear_codes
from voxtral.cli.main import run
from voxtral.config import NUM_SPECIAL_CODES
from voxtral.engine.options import EngineOptions
from voxtral.loading.files import ALIGNMENT_FILE
from voxtral.loading.load import open_tokenizer
from voxtral.tts import VoxtralTTS
from voxtral.types import SegmentCheck
from voxtral.voices.library import VoiceLibrary

TEXT = "The plumber forgot his torch in the cellar."


class _Judge:
    """Speech of one sentence by nano, to be judged by any text."""

    def __init__(self, speaking: Speaking, alignment: Alignment) -> None:
        self._speaking = speaking
        self._alignment = alignment
        (said,) = say_sentences(speaking, [Sentence(TEXT, "en", "en_f1", 7)])
        self.codes = (said.audio_tokens - NUM_SPECIAL_CODES).T.contiguous()

    def __call__(self, text: str, codes: Tensor | None = None) -> SegmentCheck:
        voice = self._speaking.voices.load("en_f1")
        codes = self.codes if codes is None else codes
        heard = hear_codes(self._speaking, self._alignment, text, voice, codes, language="en")
        assert heard.segment is not None
        return check_speech(heard.segment, self._alignment)


@pytest.fixture(scope="module")
def judge() -> Iterator[_Judge]:
    """Let nano say the sentence once."""
    with VoxtralTTS.from_pretrained("nano", device="cpu", options=EngineOptions(prefix_folder=None)) as tts:
        checkpoint = tts.checkpoint
        voices = VoiceLibrary(checkpoint.folder, checkpoint.config)
        speaking = Speaking(checkpoint, open_tokenizer(checkpoint), voices, tts.engine)
        yield _Judge(speaking, read_alignment(checkpoint.folder / ALIGNMENT_FILE))


def test_what_nano_says_well_is_not_bad(judge: _Judge) -> None:
    assert judge(TEXT).verdict in ("ok", "suspect")  # 1 in 40 of good segments is suspect


@pytest.mark.parametrize(
    "text",
    [
        "The plumber forgot his torch and two wrenches in the cellar.",
        "Eleven geese walked slowly past the town hall.",
        f"{TEXT} He went back for it after lunch.",
    ],
    ids=["words-missing", "other-text", "end-missing"],
)
def test_a_text_that_was_not_said_is_bad(judge: _Judge, text: str) -> None:
    check, good = judge(text), judge(TEXT)
    # Of a text as long as what was said, only that something is wrong may be sure.
    assert check.verdict == "bad" or (check.verdict == "suspect" and "geese" in text)
    assert check.score > good.score


def test_speech_that_is_cut_off_or_comes_again_is_told(judge: _Judge) -> None:
    middle = judge.codes.shape[1] // 2
    cut = judge(TEXT, judge.codes[:, : middle + 4])
    assert "cut_off" in {finding.kind for finding in cut.findings}
    again = torch.cat([judge.codes[:, :middle], judge.codes[:, middle - 8 :]], dim=1)
    assert judge(TEXT, again).verdict != "ok"


def test_the_command_judges_a_file_of_codes(judge: _Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "speech.safetensors"
    save_file({"codes": judge.codes}, file, {"format": "voxtral-codes-1", "sample_rate": "24000"})
    longer = f"{TEXT} He went back for it after lunch."
    arguments = ["align", "check", longer, "--codes", str(file), "--voice", "en_f1", "--model", "nano"]
    assert run([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "bad"
    (segment,) = report["segments"]
    assert any("back for it after lunch." in finding["phrase"] for finding in segment["findings"])
    assert len(report["words"]) == len(longer.split())
