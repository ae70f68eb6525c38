"""`voxtral speak`: a text to a file, to standard output or to the loudspeakers.

Whatever the length of the text, the audio is written as it is made and then forgotten. Files wait
for whole segments, so that a failed one is made again unheard; streams do not wait.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

import typer

from voxtral.cli.files import check_clip, check_target, read_pieces, read_text
from voxtral.cli.loading import (
    ActivationsOption,
    DeviceOption,
    DtypeOption,
    EncoderOption,
    FlowDtypeOption,
    LoadOptions,
    MaxMemoryOption,
    ModelOption,
    QuantizeOption,
    open_model,
)
from voxtral.cli.options import ForcedTextOption, JsonOption, QuietOption, TextArgument, with_speech_options
from voxtral.cli.terminal import deferred_interrupts, reporter, say, show, writing_output
from voxtral.engine.options import EngineOptions, parse_activations, parse_flow_dtype
from voxtral.errors import AudioError, TextError
from voxtral.types import worst_verdict

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from voxtral.speech.utterance import SpeechHandle
    from voxtral.tts import VoxtralTTS
    from voxtral.types import SegmentInfo, SpeechRequest

    Samples = npt.NDArray[np.float32]

_DEFAULT_NAME = "voxtral"

# Sequences side by side: one text has a few segments under way, and on a GPU each that there is room for takes some,
# whether it comes or not.
_MAX_BATCH = 8

# What a person who mistyped the name of a text file would have typed.
_FILE_NAME = re.compile(r"\S+\.(txt|text|md)", re.IGNORECASE)


@with_speech_options()
def speak(  # noqa: PLR0913 - each parameter is an option
    *,
    text: TextArgument = None,
    forced_text: ForcedTextOption = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|-",
            help="A file, whose extension chooses the format; or - for standard output, as it is made. "
            "Default: voxtral.wav, or no file with --play.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="wav, flac, mp3, opus, ogg, aac, m4a or pcm. Default: by the extension, or wav.",
        ),
    ] = None,
    captions: Annotated[
        str | None,
        typer.Option(
            "--captions",
            metavar="FILE",
            help="Also write captions: .srt, .vtt, .json (each word and when it is heard) or .lrc.",
            show_default=False,
        ),
    ] = None,
    options: dict[str, Any],
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    max_memory: MaxMemoryOption = None,
    encoder: EncoderOption = None,
    flow_dtype: FlowDtypeOption = "model",
    activations: ActivationsOption = "exact",
    play: Annotated[bool, typer.Option("--play", help="Play the audio as it is made.")] = False,
    as_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Speak a text.

    TEXT is taken for a file if a file has that name; --text TEXT is always the text itself. A file that is written
    appears whole or not at all, and an existing one is replaced. Seed, RTF and the time to the first audio are said
    at the end.

    Standard input (-) that is heard at once, with --play or -o -, is spoken sentence by sentence as it comes.

    Examples:
      voxtral speak "Hello!" -o hello.wav
      voxtral speak book.txt -o book.mp3 --voice en_m1 --seed 7
      voxtral speak --text book.txt --play
      echo "Hello!" | voxtral speak - -o - --format pcm | aplay -f S16_LE -r 24000
      my-language-model | voxtral speak - --play
      voxtral speak "Bonjour !" --language fr --json
      voxtral speak book.txt -o book.mp3 --captions book.srt
    """
    destination = _choose_destination(output, format, captions, play=play, as_json=as_json)
    if captions is not None:
        options["timestamps"] = True
    # Who listens need not wait for the end of what is written.
    is_piecewise = destination.is_live and text == "-" and forced_text is None
    spoken = "" if is_piecewise else choose_text(text, forced_text)
    tell = reporter(is_quiet=is_quiet)

    from voxtral.text.clean import check_early
    from voxtral.text.language import LANGUAGES, resolve_language

    # The model would say the same, after the time that a large one takes to load.
    if options["language"] is not None:
        resolve_language(options["language"])
    if not is_piecewise and options["emoji"] == "off":
        check_early(spoken, options["normalize"])

    from voxtral.speech.feed import TextFeed, feed_from
    from voxtral.speech.request import check_options, make_request

    request = make_request(spoken, **options)
    check_options(request)
    if options["reference_audio"] is not None:
        check_clip(options["reference_audio"])
    engine = EngineOptions(
        max_batch=_MAX_BATCH, flow_dtype=parse_flow_dtype(flow_dtype), activations=parse_activations(activations)
    )
    with open_model(model, LoadOptions(device, dtype, quantize, max_memory, encoder), tell, options=engine) as loaded:
        feed = TextFeed() if is_piecewise else None
        if feed is not None:
            feed_from(read_pieces(), feed)
        handle = loaded.submit(request, hold_segments=not destination.is_live, feed=feed)
        if handle.language.source == "text" and handle.language.code != "en":
            tell(f"language: {LANGUAGES[handle.language.code]}, by the text; --language chooses another")
        # How long a text will be that is not whole yet cannot be said.
        is_watched = not (is_quiet or as_json or is_piecewise) and sys.stderr.isatty()
        _speak(loaded, handle, request, destination, is_watched=is_watched)
        if feed is not None:
            request = replace(request, text=feed.text)
        if captions is not None:
            _write_captions(captions, request.text, handle)
        report = _report(loaded, handle, request, destination)
    tell(_summary(report, destination))
    if as_json:
        show(json.dumps(report))


def choose_text(text: str | None, forced_text: str | None) -> str:
    """Find out what TEXT and --text mean.

    Raises:
        BadParameter: both are given, or neither.
        TextError: a file cannot be read.
    """
    if (text is None) == (forced_text is None):
        got = "nothing" if text is None else "two texts"
        raise typer.BadParameter(f"got {got} to speak; give TEXT, FILE, - or --text TEXT", param_hint="TEXT")
    if text is None:
        return forced_text or ""
    if text == "-":
        return read_text(text)
    mode = _mode_of_file(text)
    # Whatever exists and is no folder: also pipes, such as <(command) in a shell.
    if mode is not None and not stat.S_ISDIR(mode):
        return read_text(text)
    if _FILE_NAME.fullmatch(text) or mode is not None:
        what = f"{text} is a folder" if mode is not None else f"there is no file {text}"
        say(f"warning: {what}, so these letters themselves are spoken")
    return text


def _mode_of_file(text: str) -> int | None:
    """Look whether a text is the name of a file; None if there is none.

    Raises:
        TextError: there may be one, which cannot be looked at: nobody wants to hear its name.
    """
    try:
        return os.stat(text).st_mode
    except ValueError:  # a zero byte, or half a surrogate
        return None
    except OSError as error:
        is_link_to_nowhere = isinstance(error, FileNotFoundError) and os.path.islink(text)
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG) and not is_link_to_nowhere:
            return None
        raise TextError(
            f"{text} cannot be read ({error.strerror}); a text that is the name of a file stands for what is in it; "
            "check the path and its permissions, or say --text TEXT if these are the words"
        ) from error


# Where the audio goes.


@dataclass(frozen=True)
class _Destination:
    """Where the audio goes, checked as far as can be without a model.

    Attributes:
        path: a file, or None.
        format: of the file or of standard output.
        is_piped: it goes to standard output.
        is_played: it goes to the loudspeakers.
        captions: a file for them, or None.
    """

    path: str | None
    format: str
    is_piped: bool
    is_played: bool
    captions: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether somebody listens while it is made."""
        return self.is_piped or self.is_played

    def __str__(self) -> str:
        places = {self.path: self.path, "standard output": self.is_piped, "loudspeakers": self.is_played}
        places |= {self.captions: self.captions}
        return " and ".join(str(place) for place, is_used in places.items() if is_used)


def _choose_destination(
    output: str | None, format: str | None, captions: str | None, *, play: bool, as_json: bool
) -> _Destination:
    from voxtral.audio.encode import FORMATS, format_for_path

    if format is not None and format not in FORMATS:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(FORMATS)}", param_hint="--format")
    if output == "-":
        if as_json:
            raise typer.BadParameter("standard output takes either the audio (-o -) or --json", param_hint="--json")
        if sys.stdout.isatty():
            raise typer.BadParameter(
                "standard output is a terminal, which shows no audio; write a file, or pipe it", param_hint="-o"
            )
        path = None
    else:
        path = output or (None if play else f"{_DEFAULT_NAME}.{format or 'wav'}")
        if path is not None:
            check_target(Path(path))
            format = format or format_for_path(path)
    if captions is not None:
        _check_captions(captions, path)
    if play:
        _load_sounddevice()
    return _Destination(path, format or "wav", is_piped=output == "-", is_played=play, captions=captions)


def _check_captions(captions: str, output: str | None) -> None:
    """Refuse a place where no captions can be written, before anything is spoken."""
    from voxtral.captions.formats import format_for_path

    format_for_path(captions)
    check_target(Path(captions))
    if output is not None and os.path.realpath(captions) == os.path.realpath(output):
        raise AudioError(f"{captions} is the file of the audio; captions need a name of their own; choose one")


def _write_captions(captions: str, text: str, handle: SpeechHandle) -> None:
    from voxtral.captions.formats import format_for_path, render
    from voxtral.speech.result import write_captions

    write_captions(captions, render(format_for_path(captions), text, handle.segments, handle.stats.duration_s))


class _Sink(Protocol):
    """Takes audio; as a context manager, so that it knows whether all of it came."""

    def write(self, samples: Samples) -> object: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class _Pipe:
    """Standard output, as bytes of a format."""

    def __init__(self, format: str, sample_rate: int) -> None:
        from voxtral.audio.encode import open_encoder

        self._encoder = open_encoder(format, sample_rate)

    def write(self, samples: Samples) -> None:
        self._send(self._encoder.write(samples))

    def _send(self, data: bytes) -> None:
        with writing_output():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Without its end a broken-off stream does not pass for a whole one.
        if error_type is None:
            self._send(self._encoder.finish())


class _Loudspeakers:
    """The default output device."""

    def __init__(self, sample_rate: int) -> None:
        sounddevice = _load_sounddevice()
        self._error: type[Exception] = sounddevice.PortAudioError
        try:
            self._stream = sounddevice.OutputStream(samplerate=sample_rate, channels=1, dtype="float32")
            self._stream.start()
        except self._error as error:
            raise self._failure(error) from error

    def write(self, samples: Samples) -> None:
        try:
            self._stream.write(samples.clip(-1.0, 1.0).reshape(-1, 1))
        except self._error as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> AudioError:
        return AudioError(
            f"the audio cannot be played ({error}); --play needs an output device that is free; write a file with -o"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # `stop` waits until all of it has been heard, `abort` does not.
            if error_type is None:
                self._stream.stop()
            else:
                self._stream.abort()
        finally:
            self._stream.close()


def _load_sounddevice() -> Any:
    try:
        import sounddevice  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise AudioError(
            "--play needs the package sounddevice, which is not installed; pip install 'voxtral-tts[play]'"
        ) from error
    except OSError as error:
        raise AudioError(
            f"--play needs the library PortAudio, which does not load ({error}); install it with the system's package "
            "manager (libportaudio2 on Debian and Ubuntu), or write a file with -o"
        ) from error
    return sounddevice


def _open_sinks(destination: _Destination, sample_rate: int, stack: ExitStack) -> list[_Sink]:
    from voxtral.audio.file import AudioFileWriter

    sinks: list[_Sink] = []
    if destination.path is not None:
        sinks.append(stack.enter_context(AudioFileWriter(destination.path, sample_rate, format=destination.format)))
    if destination.is_piped:
        sinks.append(stack.enter_context(_Pipe(destination.format, sample_rate)))
    if destination.is_played:
        sinks.append(stack.enter_context(_Loudspeakers(sample_rate)))
    return sinks


def _speak(
    loaded: VoxtralTTS, handle: SpeechHandle, request: SpeechRequest, destination: _Destination, *, is_watched: bool
) -> None:
    with deferred_interrupts(handle.cancel) as check_interrupt, ExitStack() as stack:
        sinks = _open_sinks(destination, loaded.sample_rate, stack)
        if is_watched:
            from voxtral.cli.progress import show_progress

            frames_per_s = loaded.config.frame_rate * request.speed
            stack.enter_context(show_progress(handle, len(request.text), frames_per_s))
        for chunk in handle.chunks():
            for sink in sinks:
                sink.write(chunk.samples)
        # Before the sinks take the audio for whole.
        check_interrupt()


# What is said about it.


def _report(
    loaded: VoxtralTTS, handle: SpeechHandle, request: SpeechRequest, destination: _Destination
) -> dict[str, Any]:
    """Gather what --json prints; the language as its code."""
    verdict = worst_verdict(handle.segments)
    return {
        "path": destination.path,
        **({} if destination.captions is None else {"captions": destination.captions}),
        "duration_s": round(handle.stats.duration_s, 4),
        "sample_rate": loaded.sample_rate,
        "seed": handle.seed,
        "voice": _name_voice(handle, request),
        "language": handle.language.code,
        "language_source": handle.language.source,
        "model": loaded.name,
        "finish_reason": handle.finish_reason,
        **({} if verdict is None else {"verdict": verdict}),
        "segments": [
            {
                "text_start": segment.text_start,
                "text_end": segment.text_end,
                "start_s": round(segment.start_s, 4),
                "end_s": round(segment.end_s, 4),
                "finish_reason": segment.finish_reason,
                "seed": segment.seed,
                **_words(request, segment),
                **({} if segment.check is None else {"check": segment.check.to_dict()}),
            }
            for segment in handle.segments
        ],
        "stats": handle.stats.to_dict(),
    }


def _words(request: SpeechRequest, segment: SegmentInfo) -> dict[str, Any]:
    """Gather the words of a segment, where they are wanted."""
    if not request.timestamps:
        return {}
    words = [{"word": request.text[word.text_start : word.text_end], **word.to_dict()} for word in segment.words]
    return {"timing": segment.timing, "words": words}


def _name_voice(handle: SpeechHandle, request: SpeechRequest) -> str:
    given = request.voice if request.reference_audio is None else request.reference_audio
    return handle.voice if given is None else str(given)


def _summary(report: dict[str, Any], destination: _Destination) -> str:
    stats = report["stats"]
    parts = [
        f"{report['duration_s']:.1f} s",
        f"RTF {stats['rtf']:.2f}",
        f"first audio after {stats['ttfa_s']:.2f} s",
        f"voice {report['voice']}",
        f"seed {report['seed']}",
    ]
    if report["finish_reason"] == "length":
        parts.append("cut by --max-frames")
    if report.get("verdict", "ok") != "ok":
        parts.append(f"check: {report['verdict']}, see --json")
    if stats["num_retries"]:
        parts.append(f"segments made twice: {stats['num_retries']}")
    return f"{destination}: {', '.join(parts)}"
