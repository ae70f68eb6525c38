"""`voxtral align`: which heads of a model follow its text, and when each word is heard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxtral.cli.codec import read_codes
from voxtral.cli.files import check_target, read_text
from voxtral.cli.loading import DeviceOption, DtypeOption, LoadOptions, ModelOption, QuantizeOption, open_model
from voxtral.cli.options import QuietOption
from voxtral.cli.terminal import reporter, say, show
from voxtral.errors import OptionError, RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from voxtral.align.alignment import Alignment
    from voxtral.align.calibrate import Calibration, Speaking
    from voxtral.align.codes import HeardCodes
    from voxtral.tts import VoxtralTTS
    from voxtral.types import WordTime

AsJsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON object instead of a table.")]

_SHOWN_HEADS = 8


def calibrate(
    model: ModelOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write what was found, such as alignment.json in the model's folder. Default: the cache.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    as_json: AsJsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Find out which heads of a model follow its text; word times and checks are read from them.

    The model says a few sentences in each of its languages, which takes about a minute. Asking for timestamps does
    this once by itself; here it is done anew, and the table shows the best heads with their scores.

    Examples:
      voxtral align calibrate
      voxtral align calibrate --model ./my-model -o ./my-model/alignment.json
    """
    from voxtral.align.alignment import cache_path, write_alignment
    from voxtral.loading.checkpoint import shared_fingerprint

    if output is not None:
        check_target(output)
    with open_model(model, LoadOptions(device, dtype, quantize), say) as loaded:
        speaking = _speaking(loaded)
        target = output or cache_path(shared_fingerprint(loaded.checkpoint))
        if target is None:
            raise OptionError(
                "VOXTRAL_CACHE is empty, so that nothing is kept; what is found must go somewhere; name a file with "
                "--output, or set VOXTRAL_CACHE to a folder"
            )
        reporter(is_quiet=is_quiet)("measuring, about a minute")
        from voxtral.align.calibrate import calibrate as find_heads
        from voxtral.align.thresholds import measure_thresholds

        found = find_heads(speaking, thresholds=measure_thresholds)
    write_alignment(found.alignment, target)
    show(json.dumps(_as_plain(found)) if as_json else _heads_table(found))
    alignment = found.alignment
    if alignment.has_aligner:
        heads = ", ".join(f"layer {layer} head {head}" for layer, head in alignment.heads)
        codec_ms, lead_ms = 1000 * alignment.codec_lag_s, 1000 * alignment.head_lead_s
        say(f"{target}: {heads}; the codec is {codec_ms:.0f} ms late, the heads are {lead_ms:.0f} ms ahead")
    else:
        say(f"{target}: no head of this model follows the text; times will be estimated from letters")


def words(  # noqa: PLR0913 - each is an option of its own
    text: Annotated[str, typer.Argument(metavar="TEXT|-", help="What is said; - reads it from standard input.")],
    codes_file: Annotated[
        Path | None,
        typer.Option(
            "--codes",
            metavar="FILE",
            help="Speech that is there already, from voxtral encode. Default: the text is spoken.",
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", "-l", metavar="LANGUAGE", help="Chooses the voice.", show_default=False),
    ] = None,
    voice: Annotated[
        str | None, typer.Option("--voice", "-v", metavar="VOICE", help="A preset or a file.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the speech.")] = 0,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Show when each word of a text is heard, and how sure that is (0 to 1).

    With --codes the text must be what is said there, as one segment. Without, the text is spoken as voxtral speak
    speaks it, and the audio is dropped.

    Examples:
      voxtral align words "Hello there, my friend."
      voxtral encode clip.wav -o clip.safetensors
      voxtral align words "What is said." --codes clip.safetensors
    """
    content = read_text(text) if text == "-" else text
    given = None if codes_file is None else read_codes(codes_file)
    with open_model(model, LoadOptions(device, dtype, quantize), say) as loaded:
        if given is None:
            from voxtral.types import SpeechRequest

            request = SpeechRequest(content, language, voice, seed=seed, timestamps=True)
            handle = loaded.submit(request, hold_segments=True)
            for _ in handle.chunks():
                pass  # only its words are wanted
            times = [time for segment in handle.segments for time in segment.words]
            timing = handle.segments[-1].timing if handle.segments else "none"
        else:
            heard, _ = _hear(loaded, content, codes_file, given, language, voice)
            times, timing = heard.times, heard.timing
    if as_json:
        entries = [{"word": content[time.text_start : time.text_end], **vars(time)} for time in times]
        show(json.dumps({"timing": timing, "words": entries}))
        return
    show(_words_table(content, times))
    say(f"{len(times)} words, times from {timing}")


def check(  # noqa: PLR0913 - each is an option of its own
    text: Annotated[str, typer.Argument(metavar="TEXT|-", help="What is said; - reads it from standard input.")],
    codes_file: Annotated[
        Path | None,
        typer.Option(
            "--codes",
            metavar="FILE",
            help="Speech that is there already, from voxtral encode. Default: the text is spoken.",
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", "-l", metavar="LANGUAGE", help="Chooses the voice.", show_default=False),
    ] = None,
    voice: Annotated[
        str | None, typer.Option("--voice", "-v", metavar="VOICE", help="A preset or a file.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the speech.")] = 0,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Show whether all of a text is said, and nothing else, as far as the model itself knows.

    With --codes the text must be what should be said there, as one segment. Without, the text is spoken as voxtral
    speak speaks it, and the audio is dropped. "ok" says nothing of how words are pronounced.

    Examples:
      voxtral align check "Hello there, my friend."
      voxtral align check "What should be said." --codes clip.safetensors --json
    """
    from voxtral.align.report import check_report, check_table

    content = read_text(text) if text == "-" else text
    given = None if codes_file is None else read_codes(codes_file)
    with open_model(model, LoadOptions(device, dtype, quantize), say) as loaded:
        if given is None:
            from voxtral.types import SpeechRequest

            request = SpeechRequest(content, language, voice, seed=seed, timestamps=True, verify="report")
            handle = loaded.submit(request, hold_segments=True)
            for _ in handle.chunks():
                pass  # only its checks are wanted
            segments = handle.segments
            checks = [segment.check for segment in segments if segment.check is not None]
            times = [time for segment in segments for time in segment.words]
        else:
            from voxtral.align.checks import check_speech, unchecked_speech

            heard, alignment = _hear(loaded, content, codes_file, given, language, voice)
            times = list(heard.times)
            checks = [
                unchecked_speech(content, (0, len(content)), heard.samples, loaded.sample_rate)
                if heard.segment is None
                else check_speech(heard.segment, alignment)
            ]
    if as_json:
        show(json.dumps(check_report(content, times, checks)))
        return
    show(check_table(content, times, checks))


def _hear(
    loaded: VoxtralTTS,
    content: str,
    codes_file: Path | None,
    given: tuple[Tensor, int],
    language: str | None,
    voice: str | None,
) -> tuple[HeardCodes, Alignment]:
    """Find the words of a text in codes."""
    codes, sample_rate = given
    if sample_rate != loaded.sample_rate:
        raise RequestError(
            f"{codes_file} was made for {sample_rate} Hz, this model speaks at {loaded.sample_rate} Hz; codes belong "
            "to one codec; use the model that they were made with"
        )
    from voxtral.align.calibrate import alignment_for
    from voxtral.align.codes import hear_codes
    from voxtral.align.thresholds import measure_thresholds
    from voxtral.text.language import resolve_language

    speaking = _speaking(loaded)
    named = next((one for one in loaded.voices if one.name == voice), None)
    code = resolve_language(language) if language else "en" if named is None else named.language
    name = voice or next((one.name for one in loaded.voices if one.language == code and one.is_default), None)
    if name is None:
        raise OptionError(f"no preset speaks {code}; the voice of the codes must be named; use --voice")
    alignment = alignment_for(speaking, say, thresholds=measure_thresholds)
    return hear_codes(speaking, alignment, content, loaded.load_voice(name), codes, language=code), alignment


COMMANDS = {"calibrate": calibrate, "words": words, "check": check}


def _speaking(loaded: VoxtralTTS) -> Speaking:
    from voxtral.align.calibrate import Speaking
    from voxtral.loading.load import open_tokenizer
    from voxtral.voices.library import VoiceLibrary

    checkpoint = loaded.checkpoint
    voices = VoiceLibrary(checkpoint.folder, checkpoint.config)
    return Speaking(checkpoint, open_tokenizer(checkpoint), voices, loaded.engine)


def _as_plain(found: Calibration) -> dict[str, Any]:
    alignment = found.alignment
    return {
        "heads": alignment.heads,
        "max_step": alignment.max_step,
        "codec_lag_s": alignment.codec_lag_s,
        "head_lead_s": alignment.head_lead_s,
        "figures": dict(alignment.figures),
        "scores": [{"layer": layer, "head": head, **vars(figures)} for (layer, head), figures in found.figures.items()],
    }


def _heads_table(found: Calibration) -> str:
    rows = [
        (
            str(layer),
            str(head),
            f"{one.score:.3f}",
            f"{one.position:.1f}",
            "yes" * ((layer, head) in found.alignment.heads),
        )
        for (layer, head), one in list(found.figures.items())[:_SHOWN_HEADS]
    ]
    return _table(("LAYER", "HEAD", "SCORE", "POSITION", "CHOSEN"), rows)


def _words_table(text: str, times: Sequence[WordTime]) -> str:
    rows = [
        (f"{time.start_s:.2f}", f"{time.end_s:.2f}", f"{time.confidence:.2f}", text[time.text_start : time.text_end])
        for time in times
    ]
    return _table(("START", "END", "SURE", "WORD"), rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from voxtral.cli.terminal import one_line

    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings) - 1)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), one_line(line[-1])]
        ).rstrip()
        for line in lines
    )
