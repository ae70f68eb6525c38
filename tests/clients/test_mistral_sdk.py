"""Mistral's own SDK, unmodified, and LiveKit's plug-in at its defaults."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from serving import serving
from spoken_clips import spoken_file
from voxtral.tts import VoxtralTTS

pytestmark = pytest.mark.clients

TEXT = "Hello there, how are you?"


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_every_call_of_the_sdk_gets_what_it_asks_for(run: Callable[..., Any], tts: VoxtralTTS) -> None:
    clip = spoken_file(3.2)
    with serving(tts, model_alias=("voxtral-mini-tts-latest",)) as server:
        heard = run("mistral_sdk", server.url, TEXT, base64.b64encode(clip).decode())
    samples = np.clip(tts.synthesize(TEXT, seed=6, max_frames=8).samples, -1, 1)
    assert np.array_equal(floats(heard["whole"]), samples)
    assert np.array_equal(np.concatenate([floats(piece) for piece in heard["pieces"]]), samples)
    assert heard["usage"]["completion_tokens"] == len(samples) // 1920
    assert heard["first"] == heard["presets"][0]
    assert base64.b64decode(heard["sample"]) == b"RIFF"
    assert "voxtral-mini-tts-latest" in heard["models"]
    assert heard["refused"] == 400
    # At its defaults LiveKit asks for mp3 of en_paul_neutral by voxtral-mini-tts-latest.
    assert heard["livekit"]["rate"] == 24000
    assert heard["livekit"]["seconds"] > 0.05
    assert heard["made"] == {"type": "custom", "name": "My voice", "renamed": "Other name"}
    voice = tts.create_voice(clip, warn=lambda line: None)
    cloned = np.clip(tts.synthesize(TEXT, voice=voice, seed=6, max_frames=8).samples, -1, 1)
    assert np.array_equal(floats(heard["cloned"]), cloned)
    assert np.array_equal(floats(heard["inline"]), cloned)
    assert heard["left"] == []
