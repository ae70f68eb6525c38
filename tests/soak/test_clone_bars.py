"""What copies and clones of nano must be worth, and what must fail; on nano without its encoder, which is in a file.

tests/unit/cloning/test_evaluate.py guards the same machinery on tiny. The bars are those of docs/CLONING.md.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from checkpoints import strip_encoder
from voxtral.cli.main import run
from voxtral.cloning.report import (
    ANOTHER,
    CONTROLS,
    ENCODER,
    INVERSION,
    NEAREST,
    ONE_FRAME,
    RANDOM,
    REFINED,
    TRUE,
)
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.encoder_file import EncoderFacts, own_encoder, write_encoder
from voxtral.loading.locate import locate_model

pytestmark = pytest.mark.slow

# Of a copy beside that of nano's own encoder: spectral distance above, and likeness below.
MOST_ABOVE, MOST_BELOW = 0.30, 0.04
MEASURE = "timbre_and_pitch"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bars")
    delivered = locate_model("nano", allow_download=False)
    model = strip_encoder(delivered, folder / "nano")
    encoder, out = folder / "encoder.safetensors", folder / "out.json"
    write_encoder(encoder, own_encoder(open_checkpoint(delivered)), open_checkpoint(model), EncoderFacts("official"))
    asked = ["evaluate-encoder", "--model", str(model), "--encoder", str(encoder), "--device", "cpu", "--fast"]
    assert run([*asked, "--json", str(out)]) == 0
    return json.loads(out.read_text(encoding="utf-8"))["rows"]


def passes(row: dict[str, Any], bar: dict[str, Any]) -> bool:
    """Whether copies of a row are near enough to those of another."""
    is_near = row["copy"]["distance"] <= bar["copy"]["distance"] + MOST_ABOVE
    return is_near and row["copy"]["likeness"][MEASURE] >= bar["copy"]["likeness"][MEASURE] - MOST_BELOW


@pytest.mark.timeout(900)
def test_copies_pass_and_controls_fail(rows: dict[str, Any]) -> None:
    assert set(rows) >= {ENCODER, REFINED, INVERSION} | (CONTROLS - {"the model's own encoder"})
    bar = rows[ENCODER]
    for row in (ENCODER, REFINED, TRUE):
        assert passes(rows[row], bar), row
    for row in (NEAREST, ANOTHER, ONE_FRAME, RANDOM):
        assert not passes(rows[row], bar), row
    assert rows[REFINED]["copy"]["distance"] < bar["copy"]["distance"]
    assert rows[INVERSION]["copy"]["distance"] < bar["copy"]["distance"] + 0.1


@pytest.mark.timeout(900)
def test_codes_are_those_of_speech(rows: dict[str, Any]) -> None:
    for row in (ENCODER, REFINED, INVERSION):
        assert 0.6 <= rows[row]["agreement"]["mahalanobis"] <= 1.3, row
        assert 0.9 <= rows[row]["agreement"]["row_norm"] <= 1.1, row
    assert rows[RANDOM]["agreement"]["mahalanobis"] > 1.3
    assert rows[ENCODER]["agreement"]["semantic"] > 0.4
    assert rows[RANDOM]["agreement"]["semantic"] < 0.05
    assert rows[RANDOM]["agreement"]["levels"] > rows[ENCODER]["agreement"]["levels"] + 0.4


@pytest.mark.timeout(900)
def test_clones_are_like_their_voice(rows: dict[str, Any]) -> None:
    same = {row: part["clone"]["same_minus_other"][MEASURE] for row, part in rows.items() if part["clone"]}
    for row in (ENCODER, REFINED, INVERSION, TRUE):
        assert same[row] > same[ONE_FRAME] + 0.03, row
        assert rows[row]["clone"]["ended"] >= 0.9
    assert same[ANOTHER] < 0.0 < same[NEAREST]
