"""ElevenLabs' own SDK, unmodified, over HTTP and its web socket, and LiveKit's plug-in at its defaults."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile

from serving import serving
from voxtral.audio.pcm import to_int16
from voxtral.tts import VoxtralTTS

pytestmark = pytest.mark.clients

TEXT = "Hello there, how are you?"
VOICE = "casual_male"


def integers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<i2")


def test_every_call_of_the_sdk_gets_what_it_asks_for(run: Callable[..., Any], tts: VoxtralTTS) -> None:
    with serving(tts, is_guarded=True) as server:
        heard = run("elevenlabs_sdk", server.url, VOICE, TEXT)
    samples = to_int16(tts.synthesize(TEXT, voice=VOICE, seed=6).samples)
    for name in ("whole", "stream", "timed"):
        assert np.array_equal(integers(heard[name]), samples), name
    assert np.array_equal(np.concatenate([integers(line) for line in heard["lines"] if line]), samples)
    assert "".join(heard["characters"]) == TEXT
    # The SDK's own default is mp3 at 44.1 kHz.
    assert soundfile.info(io.BytesIO(base64.b64decode(heard["default"]))).samplerate == 44100
    # No seed can be given there, so only that there is a whole utterance.
    assert len(integers(heard["realtime"])) % 1920 == 0
    assert len(integers(heard["realtime"])) > 0
    assert VOICE in heard["voices"]
    assert heard["found"] == [VOICE]
    assert heard["voice"] == VOICE
    assert len(heard["models"]) == 1
    assert heard["refused"] == [400, "invalid_voice"]
    assert heard["livekit"]["rate"] == 22050
    assert heard["livekit"]["seconds"] > 0.05
