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
        AacEncoderMissingError,
        AlignmentError,
        AudioError,
        BatchError,
        BookError,
        CancelledError,
        CheckpointError,
        CodeRangeError,
        ConfigError,
        DeadlineError,
        DeviceError,
        DictionaryError,
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
        SsmlError,
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
    from voxtral.speech.feed import TextFeed
    from voxtral.speech.result import Audio
    from voxtral.speech.stream import SpeechStream
    from voxtral.speech.utterance import SpeechHandle
    from voxtral.text.dictionary import Alias, Dictionary, read_dictionary
    from voxtral.text.normalize import Change
    from voxtral.text.preview import Left, Preview, normalize_text
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
    "Alias": "voxtral.text.dictionary",
    "Audio": "voxtral.speech.result",
    "AudioChunk": "voxtral.types",
    "BatchProgress": "voxtral.jobs.run",
    "BatchReport": "voxtral.jobs.run",
    "BatchResult": "voxtral.speech.batch",
    "Change": "voxtral.text.normalize",
    "CloneReport": "voxtral.voices.report",
    "Dictionary": "voxtral.text.dictionary",
    "EngineOptions": "voxtral.engine.options",
    "Finding": "voxtral.types",
    "Left": "voxtral.text.preview",
    "Mark": "voxtral.types",
    "Preview": "voxtral.text.preview",
    "RefineOptions": "voxtral.cloning.options",
    "RefineProgress": "voxtral.cloning.options",
    "SamplingOptions": "voxtral.types",
    "SegmentCheck": "voxtral.types",
    "SegmentInfo": "voxtral.types",
    "SpeechHandle": "voxtral.speech.utterance",
    "SpeechRequest": "voxtral.types",
    "SpeechStats": "voxtral.types",
    "SpeechStream": "voxtral.speech.stream",
    "TextFeed": "voxtral.speech.feed",
    "VoiceBlend": "voxtral.types",
    "VoiceInfo": "voxtral.voices.presets",
    "VoicePrompt": "voxtral.voices.prompt",
    "VoxtralCodec": "voxtral.speech.codec",
    "VoxtralTTS": "voxtral.tts",
    "WordTime": "voxtral.types",
    "normalize_text": "voxtral.text.preview",
    "open_codec": "voxtral.speech.codec",
    "read_dictionary": "voxtral.text.dictionary",
}

__all__ = [
    "AacEncoderMissingError",
    "Alias",
    "AlignmentError",
    "Audio",
    "AudioChunk",
    "AudioError",
    "BatchError",
    "BatchProgress",
    "BatchReport",
    "BatchResult",
    "BookError",
    "CancelledError",
    "Change",
    "CheckpointError",
    "CloneReport",
    "CodeRangeError",
    "ConfigError",
    "DeadlineError",
    "DeviceError",
    "Dictionary",
    "DictionaryError",
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
    "Left",
    "Mark",
    "ModelNotFoundError",
    "NumericsError",
    "OptionError",
    "Preview",
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
    "SsmlError",
    "TextError",
    "TextFeed",
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
    "normalize_text",
    "open_codec",
    "read_dictionary",
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
