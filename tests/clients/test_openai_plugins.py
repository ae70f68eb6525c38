"""LiveKit's plug-in for OpenAI, unmodified: at its defaults, with the older models, and with samples."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving import serving
from voxtral.tts import VoxtralTTS

pytestmark = pytest.mark.clients

TEXT = "Hello there, how are you?"


def test_livekit_hears_what_it_asks_for(run: Callable[..., Any], tts: VoxtralTTS) -> None:
    with serving(tts, is_guarded=True) as server:
        heard = run("openai_plugins", server.url, TEXT)
    for name in ("default", "older", "pcm"):
        assert heard[name]["rate"] == 24000
        # No seed can be given there, so only that there is a whole utterance.
        samples = np.frombuffer(base64.b64decode(heard[name]["audio"]), "<i2")
        assert len(samples) > 1920
        assert np.abs(samples).max() > 0
    # Events bring the tokens that it counts; a frame is one.
    ((spoken, made),) = heard["default"]["tokens"]
    assert spoken > 0
    assert made > 0
    assert heard["refused"] == 404
