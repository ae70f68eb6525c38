"""The whole calibration of nano; tests/unit/align/test_calibrate.py guards the same on two sentences."""

from __future__ import annotations

import pytest

from benchmarks.quality.times import calibrate_all
from voxtral.align.alignment import read_alignment
from voxtral.loading.locate import locate_model

pytestmark = pytest.mark.slow


@pytest.mark.timeout(600)
def test_heads_are_found_and_none_where_none_follows_the_text() -> None:
    kept = read_alignment(locate_model("nano", allow_download=False) / "alignment.json")
    found = calibrate_all("nano", kept.heads)
    assert found["as it is"]["heads"] == kept.heads != ()
    assert not set(found["best heads masked"]["heads"]) & set(kept.heads)
    assert found["shuffled text embeddings"]["heads"] == ()
    assert found["random heads"]["heads"] == ()
    assert found["as it is"]["codec_lag_s"] == pytest.approx(kept.codec_lag_s, abs=0.002)
