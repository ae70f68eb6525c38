"""Pipecat's services for ElevenLabs (web socket and HTTP) and for OpenAI, unmodified, each in a pipeline."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving import serving
from voxtral.tts import VoxtralTTS

pytestmark = pytest.mark.clients

TEXT = "Hello there, how are you? One two three."


def test_each_service_speaks(run: Callable[..., Any], tts: VoxtralTTS) -> None:
    with serving(tts, is_guarded=True) as server:
        heard = run("pipecat_sdk", server.url, "casual_male", TEXT)
        server.wait_until_idle()
    for name in ("socket", "http", "openai"):
        assert heard[name]["errors"] == [], name
        assert heard[name]["rates"] == [24000], name
        samples = np.frombuffer(base64.b64decode(heard[name]["audio"]), "<i2")
        assert np.abs(samples).max() > 0, name
    # ElevenLabs' services say each word as it is heard.
    for name in ("socket", "http"):
        assert heard[name]["words"] == TEXT.split(), name
        seconds = len(base64.b64decode(heard[name]["audio"])) / 48000
        times_s = heard[name]["times_s"]
        assert times_s == sorted(times_s), name
        assert 0 < times_s[-1] < seconds + 0.1, name
    assert heard["openai"]["words"] == [TEXT]
    # What is refused is told in the words of the server.
    assert heard["refused"]["audio"] == ""
    assert any("the model 'nobody' is not here" in error for error in heard["refused"]["errors"])
