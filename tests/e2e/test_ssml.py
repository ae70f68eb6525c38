"""SSML spoken: silence stands where it is asked for, and the stream is the whole."""

from __future__ import annotations

import numpy as np
import pytest

from checkpoints import TINY
from voxtral import EngineOptions, VoxtralTTS

DOCUMENT = "<speak><break time='300ms'/>One.<break time='1s'/>Two.<break time='500ms'/></speak>"


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_silence_is_as_long_as_asked_at_any_speed(speed: float) -> None:
    options = EngineOptions(batch_invariant=True)
    with VoxtralTTS.from_pretrained(TINY, device="cpu", options=options) as model:
        audio = model.synthesize(DOCUMENT, seed=1, max_frames=4, speed=speed)
        chunks = model.synthesize_stream(DOCUMENT, seed=1, max_frames=4, speed=speed)
        stream = np.concatenate([chunk.samples for chunk in chunks])
    assert np.array_equal(stream, audio.samples)
    first, second = audio.segments
    rate = audio.sample_rate
    assert first.start_s == pytest.approx(0.3, abs=0.001)
    assert second.start_s - first.end_s == pytest.approx(1.0, abs=0.001)
    assert len(audio.samples) / rate - second.end_s == pytest.approx(0.5, abs=0.02 if speed == 1 else 0.06)
    silent = audio.samples[: round(0.25 * rate)]
    assert np.abs(silent).max() < 1e-3
