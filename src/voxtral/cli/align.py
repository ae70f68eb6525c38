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
    from voxtral.align.calibrate import Calibration, Speaking
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

        found = find_heads(speaking)
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
    text: Annotated[str, typer.Argument(metavar="TEXT|FILE|-", help="What is said; - reads standard input.")],
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
    content = read_text(text)
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
            codes, sample_rate = given
            if sample_rate != loaded.sample_rate:
                raise RequestError(
                    f"{codes_file} was made for {sample_rate} Hz, this model speaks at {loaded.sample_rate} Hz; codes "
                    "belong to one codec; use the model that they were made with"
                )
            from voxtral.align.calibrate import alignment_for
            from voxtral.align.codes import align_codes
            from voxtral.text.language import resolve_language

            speaking = _speaking(loaded)
            code = resolve_language(language) if language else "en"
            name = voice or next((one.name for one in loaded.voices if one.language == code and one.is_default), None)
            if name is None:
                raise OptionError(f"no preset speaks {code}; the voice of the codes must be named; use --voice")
            times, timing = align_codes(speaking, alignment_for(speaking, say), content, loaded.load_voice(name), codes)
    if as_json:
        entries = [{"word": content[time.text_start : time.text_end], **vars(time)} for time in times]
        show(json.dumps({"timing": timing, "words": entries}))
        return
    show(_words_table(content, times))
    say(f"{len(times)} words, times from {timing}")


COMMANDS = {"calibrate": calibrate, "words": words}


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
