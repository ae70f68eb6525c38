"""Voxtral TTS on your own machine.

    from voxtral import VoxtralTTS

    model = VoxtralTTS.from_pretrained("mistralai/Voxtral-TTS")
    model.synthesize(text="Hello!", language="en").save("hello.wav")

Importing this package loads nothing heavy: names are looked up when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxtral import errors
    from voxtral.errors import VoxtralError, VoxtralWarning
    from voxtral.speech.batch import BatchResult
    from voxtral.speech.result import Audio
    from voxtral.speech.stream import SpeechStream
    from voxtral.speech.utterance import SpeechHandle
    from voxtral.tts import VoxtralTTS
    from voxtral.types import AudioChunk, SamplingOptions, SegmentInfo, SpeechRequest, SpeechStats
    from voxtral.voices.prompt import VoicePrompt

__version__ = "0.1.0"

_HOMES = {
    "Audio": "voxtral.speech.result",
    "AudioChunk": "voxtral.types",
    "BatchResult": "voxtral.speech.batch",
    "SamplingOptions": "voxtral.types",
    "SegmentInfo": "voxtral.types",
    "SpeechHandle": "voxtral.speech.utterance",
    "SpeechRequest": "voxtral.types",
    "SpeechStats": "voxtral.types",
    "SpeechStream": "voxtral.speech.stream",
    "VoicePrompt": "voxtral.voices.prompt",
    "VoxtralError": "voxtral.errors",
    "VoxtralTTS": "voxtral.tts",
    "VoxtralWarning": "voxtral.errors",
}

__all__ = [
    "Audio",
    "AudioChunk",
    "BatchResult",
    "SamplingOptions",
    "SegmentInfo",
    "SpeechHandle",
    "SpeechRequest",
    "SpeechStats",
    "SpeechStream",
    "VoicePrompt",
    "VoxtralError",
    "VoxtralTTS",
    "VoxtralWarning",
    "__version__",
    "errors",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("voxtral.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'voxtral' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
