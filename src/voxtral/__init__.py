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
    from voxtral.cloning.options import RefineOptions, RefineProgress
    from voxtral.engine.options import EngineOptions
    from voxtral.errors import (
        AlignmentError,
        AudioError,
        BatchError,
        CancelledError,
        CheckpointError,
        CodeRangeError,
        ConfigError,
        DeadlineError,
        DeviceError,
        DownloadError,
        EncoderFileError,
        EncoderMismatchError,
        EncoderMissingError,
        EngineError,
        EngineStoppedError,
        GenerationError,
        JapaneseReaderMissingError,
        LanguageError,
        LanguageFileError,
        ModelNotFoundError,
        NumericsError,
        OptionError,
        ReferenceAudioError,
        RequestError,
        TextError,
        TokenizerMissingError,
        TrainingError,
        VoiceError,
        VoiceNameTakenError,
        VoiceStoreBusyError,
        VoiceStoreError,
        VoiceStoreFullError,
        VoiceUnknownError,
        VoiceUnreadableError,
        VoxtralError,
        VoxtralWarning,
    )
    from voxtral.jobs.run import BatchProgress, BatchReport
    from voxtral.speech.batch import BatchResult
    from voxtral.speech.codec import VoxtralCodec, open_codec
    from voxtral.speech.result import Audio
    from voxtral.speech.stream import SpeechStream
    from voxtral.speech.utterance import SpeechHandle
    from voxtral.tts import VoxtralTTS
    from voxtral.types import (
        AudioChunk,
        Finding,
        Mark,
        SamplingOptions,
        SegmentCheck,
        SegmentInfo,
        SpeechRequest,
        SpeechStats,
        VoiceBlend,
        WordTime,
    )
    from voxtral.voices.presets import VoiceInfo
    from voxtral.voices.prompt import VoicePrompt
    from voxtral.voices.report import CloneReport

__version__ = "0.1.0"

_HOMES = {
    "Audio": "voxtral.speech.result",
    "AudioChunk": "voxtral.types",
    "BatchProgress": "voxtral.jobs.run",
    "BatchReport": "voxtral.jobs.run",
    "BatchResult": "voxtral.speech.batch",
    "CloneReport": "voxtral.voices.report",
    "EngineOptions": "voxtral.engine.options",
    "Finding": "voxtral.types",
    "Mark": "voxtral.types",
    "RefineOptions": "voxtral.cloning.options",
    "RefineProgress": "voxtral.cloning.options",
    "SamplingOptions": "voxtral.types",
    "SegmentCheck": "voxtral.types",
    "SegmentInfo": "voxtral.types",
    "SpeechHandle": "voxtral.speech.utterance",
    "SpeechRequest": "voxtral.types",
    "SpeechStats": "voxtral.types",
    "SpeechStream": "voxtral.speech.stream",
    "VoiceInfo": "voxtral.voices.presets",
    "VoiceBlend": "voxtral.types",
    "VoicePrompt": "voxtral.voices.prompt",
    "VoxtralCodec": "voxtral.speech.codec",
    "VoxtralTTS": "voxtral.tts",
    "WordTime": "voxtral.types",
    "open_codec": "voxtral.speech.codec",
}

__all__ = [
    "AlignmentError",
    "Audio",
    "AudioChunk",
    "AudioError",
    "BatchError",
    "BatchProgress",
    "BatchReport",
    "BatchResult",
    "CancelledError",
    "CheckpointError",
    "CloneReport",
    "CodeRangeError",
    "ConfigError",
    "DeadlineError",
    "DeviceError",
    "DownloadError",
    "EncoderFileError",
    "EncoderMismatchError",
    "EncoderMissingError",
    "EngineError",
    "EngineOptions",
    "EngineStoppedError",
    "Finding",
    "GenerationError",
    "JapaneseReaderMissingError",
    "LanguageError",
    "LanguageFileError",
    "Mark",
    "ModelNotFoundError",
    "NumericsError",
    "OptionError",
    "ReferenceAudioError",
    "RefineOptions",
    "RefineProgress",
    "RequestError",
    "SamplingOptions",
    "SegmentCheck",
    "SegmentInfo",
    "SpeechHandle",
    "SpeechRequest",
    "SpeechStats",
    "SpeechStream",
    "TextError",
    "TokenizerMissingError",
    "TrainingError",
    "VoiceBlend",
    "VoiceError",
    "VoiceInfo",
    "VoiceNameTakenError",
    "VoicePrompt",
    "VoiceStoreBusyError",
    "VoiceStoreError",
    "VoiceStoreFullError",
    "VoiceUnknownError",
    "VoiceUnreadableError",
    "VoxtralCodec",
    "VoxtralError",
    "VoxtralTTS",
    "VoxtralWarning",
    "WordTime",
    "__version__",
    "errors",
    "open_codec",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("voxtral.errors")
    if name in __all__:
        # Whatever lives nowhere else is an error.
        return getattr(import_module(_HOMES.get(name, "voxtral.errors")), name)
    raise AttributeError(f"module 'voxtral' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
