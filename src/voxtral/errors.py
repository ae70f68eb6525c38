"""The exceptions that voxtral raises, how their messages quote what was got, and nothing else.

Every message says what was got, what the rule is and what to do. `code` is stable and meant for
programs; `retryable` says whether the same call may succeed later without a change.

    VoxtralError
    ├── RequestError                 the caller's input; nothing was computed
    │   ├── TextError                empty, unspeakable or too long text
    │   │   ├── SsmlError            SSML that is no XML, or asks for what cannot be done
    │   │   └── JapaneseReaderMissingError   kanji, without the extra that reads them
    │   ├── OptionError              an option outside its range, or two that exclude each other
    │   ├── DictionaryError          a dictionary that cannot be read or breaks a rule
    │   ├── BookError                a book that cannot be read: no book, protected, too large, pictures alone
    │   ├── LanguageError            a language the checkpoint does not speak
    │   ├── VoiceError               an unknown voice, or a voice file that does not fit
    │   │   ├── VoiceUnknownError    no stored voice has that id
    │   │   ├── VoiceUnreadableError a voice, or the folder of them, cannot be read now
    │   │   ├── VoiceNameTakenError  another voice has that name
    │   │   └── VoiceStoreFullError  as many voices are stored as are allowed
    │   ├── ReferenceAudioError      reference audio that cannot be read or used
    │   ├── EncoderMissingError      cloning asked of a checkpoint without codec encoder
    │   └── CodeRangeError           a code outside its codebook
    ├── CheckpointError              files that are missing, damaged or not what they claim
    │   ├── ConfigError              params.json that is malformed or asks for what is not supported
    │   ├── ModelNotFoundError       no such folder, alias or cached model
    │   ├── EncoderFileError         an encoder file that is missing, damaged, or does not fit the checkpoint
    │   │   └── EncoderMismatchError it was made for another decoder
    │   └── AlignmentError           an alignment that is damaged, of other weights, or cannot be written
    ├── TrainingError                an encoder cannot be trained: its folder of work, or the training itself
    ├── DownloadError                the hub refused, broke off or is switched off
    ├── TokenizerMissingError        mistral-common is not installed
    ├── LanguageFileError            a file in `text/data` that is missing or breaks a rule
    ├── AudioError                   audio that cannot be encoded or written
    │   └── AacEncoderMissingError   nothing on this machine makes AAC
    ├── DeviceError                  a device or dtype that this machine does not have
    ├── VoiceStoreError              the folder of stored voices cannot be written
    │   └── VoiceStoreBusyError      for the moment: another process writes, or the machine is short of something
    ├── BatchError                   items of a batch failed; it has the results of the others
    └── EngineError                  a request that was accepted and did not finish
        ├── GenerationError          runaway or silent speech, after one retry
        ├── NumericsError            a value that is not finite
        ├── CancelledError           the caller cancelled
        ├── DeadlineError            the request was not done in the time that it was given
        └── EngineStoppedError       the engine was closed, or its thread died
"""

from __future__ import annotations

import reprlib
from typing import Any, ClassVar

# Of what a message repeats: enough to know it again, and never an answer as long as the question.
_QUOTED_CHARS = 64


class VoxtralError(Exception):
    """Base of all errors of this package."""

    code: ClassVar[str] = "voxtral_error"
    retryable: ClassVar[bool] = False


class RequestError(VoxtralError, ValueError):
    """The caller's input breaks a rule; nothing was computed."""

    code = "invalid_request"


class TextError(RequestError):
    """The text is empty, holds nothing to speak, or is too long for the call."""

    code = "invalid_text"


class SsmlError(TextError):
    """The text is SSML that is no XML, or asks for what the model cannot do."""

    code = "invalid_ssml"


class JapaneseReaderMissingError(TextError):
    """The text has kanji, and the extra that reads them is not installed."""

    code = "japanese_reader_missing"


class OptionError(RequestError):
    """An option is outside its range, or two options exclude each other."""

    code = "invalid_option"


class DictionaryError(RequestError):
    """A dictionary cannot be read, or one of its rules breaks a rule."""

    code = "invalid_dictionary"


class BookError(RequestError):
    """A book cannot be read: it is missing, no book, protected, too large, or has no text."""

    code = "invalid_book"


class LanguageError(RequestError):
    """The language is unknown, or the checkpoint does not speak it."""

    code = "unsupported_language"


class VoiceError(RequestError):
    """The voice is unknown, or its file does not fit the checkpoint."""

    code = "invalid_voice"


class VoiceUnknownError(VoiceError):
    """No stored voice has that id."""

    code = "voice_not_found"


class VoiceUnreadableError(VoiceError):
    """A voice, or the folder of stored voices, is there or may be, and cannot be read now.

    Nothing is said of what is in it: it is neither absent nor damaged.
    """

    code = "voice_unreadable"
    retryable = True


class VoiceNameTakenError(VoiceError):
    """Another voice has that name."""

    code = "voice_exists"


class VoiceStoreFullError(VoiceError):
    """There are as many voices as are allowed."""

    code = "too_many_voices"


class ReferenceAudioError(RequestError):
    """The reference audio cannot be read, is too short, too long or too large, or holds no voice."""

    code = "invalid_reference_audio"


class EncoderMissingError(RequestError):
    """Cloning was asked of a checkpoint that holds no codec encoder."""

    code = "encoder_missing"


class CodeRangeError(RequestError):
    """A code is outside its codebook; the message names codebook, frame and value."""

    code = "code_out_of_range"


class CheckpointError(VoxtralError):
    """A checkpoint file is missing, damaged or not what it claims to be."""

    code = "invalid_checkpoint"


class ConfigError(CheckpointError):
    """params.json is malformed, contradicts itself or asks for something unsupported."""

    code = "invalid_config"


class ModelNotFoundError(CheckpointError):
    """No folder, alias or cached model has the name that was asked for."""

    code = "model_not_found"


class EncoderFileError(CheckpointError):
    """An encoder file is missing, damaged, of other sizes, or cannot be written."""

    code = "invalid_encoder"


class EncoderMismatchError(EncoderFileError):
    """An encoder file was made for another decoder."""

    code = "encoder_mismatch"


class AlignmentError(CheckpointError):
    """A file that says which heads follow the text is damaged, is of other weights, or cannot be written."""

    code = "alignment_invalid"


class TrainingError(VoxtralError):
    """An encoder cannot be trained: of what is in the way, the folder of the work or the training itself."""

    code = "training_failed"


class DownloadError(VoxtralError):
    """The hub refused, broke off, or network access is switched off."""

    code = "download_failed"
    retryable = True


class TokenizerMissingError(VoxtralError):
    """mistral-common is not installed; everything but text works without it."""

    code = "tokenizer_missing"


class LanguageFileError(VoxtralError):
    """The file of a language in `text/data` is missing or breaks a rule."""

    code = "invalid_language_file"


class AudioError(VoxtralError):
    """Audio cannot be encoded, written or played."""

    code = "audio_error"


class AacEncoderMissingError(AudioError):
    """Neither PyAV nor an ffmpeg program is there, which AAC needs; other formats do without."""

    code = "aac_encoder_missing"


class DeviceError(VoxtralError):
    """The device or dtype asked for is not available on this machine."""

    code = "device_unavailable"


class VoiceStoreError(VoxtralError):
    """The folder of voices cannot be written."""

    code = "voice_store_failed"


class VoiceStoreBusyError(VoiceStoreError):
    """The folder of voices cannot be written for the moment."""

    code = "voice_store_busy"
    retryable = True


class BatchError(VoxtralError):
    """Items of a batch failed while they were spoken.

    Attributes:
        results: for each item in order its audio, or the error that ended it.
    """

    code = "batch_failed"

    def __init__(self, message: str, results: list[Any]) -> None:
        super().__init__(message)
        self.results = results


class EngineError(VoxtralError):
    """A request was accepted and did not finish."""

    code = "engine_error"
    retryable = True


class GenerationError(EngineError):
    """The model made no usable speech, twice: it ran away, ended at once or stayed silent.

    Attributes:
        finish_reason: "runaway", "empty" or "silent".
        seeds: the seed of each attempt.
        audio: [S] float32 samples made before the error and not given out otherwise, or None.
    """

    code = "generation_failed"

    def __init__(self, message: str, *, finish_reason: str, seeds: tuple[int, ...], audio: Any = None) -> None:
        super().__init__(message)
        self.finish_reason = finish_reason
        self.seeds = seeds
        self.audio = audio


class NumericsError(EngineError):
    """A hidden state or a sample is not finite."""

    code = "not_finite"
    retryable = False


class CancelledError(EngineError):
    """The caller cancelled the request."""

    code = "cancelled"
    retryable = False


class DeadlineError(EngineError):
    """The request was not done in the time that it was given."""

    code = "deadline_exceeded"
    retryable = True


class EngineStoppedError(EngineError):
    """The engine was closed, or its thread died; the cause is chained."""

    code = "engine_stopped"
    retryable = False


class VoxtralWarning(UserWarning):
    """Something that the caller should know and that does not stop the work."""


def shortened(text: str) -> str:
    """Cut a name that somebody sent to its first 64 characters."""
    return text if len(text) <= _QUOTED_CHARS else f"{text[:_QUOTED_CHARS]}..."


def quoted(value: object) -> str:
    """Write what was got, for a message: as `repr` does, of a long text the first 64 characters and its length.

    Every message that repeats what somebody sent repeats it through here, so that none is as long as its cause.

    >>> quoted("alloy"), quoted("x" * 1000).replace("x" * 64, "64 of them")
    ("'alloy'", "'64 of them'... (1000 characters)")
    >>> quoted(10**5000)
    'an integer of 16610 bits'
    """
    if isinstance(value, str | bytes):
        if len(value) <= _QUOTED_CHARS:
            return repr(value)
        return f"{value[:_QUOTED_CHARS]!r}... ({len(value)} {'characters' if isinstance(value, str) else 'bytes'})"
    if isinstance(value, int) and value.bit_length() > 3 * _QUOTED_CHARS:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to write out thousands of digits
    return shortened(_SHORT.repr(value))


# Of what is no text, such as a list where a name belongs: only so many elements are looked at.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _QUOTED_CHARS
