"""`voxtral voices` lists presets; `voxtral clone` makes a voice file from a clip."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from voxtral.cli.files import check_clip, check_safetensors_target, writing
from voxtral.cli.loading import (
    DeviceOption,
    DtypeOption,
    EncoderOption,
    LoadOptions,
    ModelOption,
    fetch_if_agreed,
    open_codec,
    open_model,
    resolve_model_name,
)
from voxtral.cli.options import JsonOption
from voxtral.cli.progress import clock, show_line
from voxtral.cli.terminal import say, show
from voxtral.cloning.options import STEPS_FROM_ENCODER, STEPS_FROM_NOTHING, RefineOptions, RefineProgress
from voxtral.errors import OptionError
from voxtral.loading.locate import locate_model


def voices(
    model: ModelOption = None,
    sample: Annotated[
        Path | None,
        typer.Option("--sample", metavar="FOLDER", help="Let each say a sentence in its language, into a file there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object instead of a table.")] = False,
) -> None:
    """List the preset voices of a model, with the language of each and whether it is that language's default.

    The weights are not loaded and nothing is downloaded unasked.

    With --sample they are loaded.

    Examples:
      voxtral voices
      voxtral voices --model 4b --json
      voxtral voices --sample samples
    """
    name = resolve_model_name(model, say)
    fetch_if_agreed(name)
    folder = locate_model(name, allow_download=False)

    from voxtral.loading.files import PARAMS_FILE
    from voxtral.loading.params import load_config
    from voxtral.voices.presets import default_voice, describe_preset, list_presets, voice_language

    languages = load_config(folder / PARAMS_FILE).languages
    presets = list_presets(folder)
    listed = []
    for preset, path in presets.items():
        language = voice_language(preset, languages)
        is_default = default_voice(presets, languages, language) == preset
        description = describe_preset(path)
        listed.append({"name": preset, "language": language, "is_default": is_default, "description": description})
    if sample is not None:
        _write_samples(name, sample, [(str(voice["name"]), str(voice["language"])) for voice in listed])
    if as_json:
        show(json.dumps({"model": name, "voices": listed}))
        return
    _print_table(listed)


def _write_samples(model: str, folder: Path, listed: list[tuple[str, str]]) -> None:
    """Let each voice say a sentence, always the same way, into a wave file.

    Raises:
        OptionError: a file of that name is there.
    """
    from voxtral.text.language import sample_sentence

    targets = {name: folder / f"{name}.wav" for name, _ in listed}
    for target in targets.values():
        if target.exists():
            raise OptionError(f"{target} is there already; samples overwrite nothing; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with open_model(model, LoadOptions(), lambda _: None) as loaded:
        for name, language in listed:
            spoken = loaded.synthesize(sample_sentence(language), language, voice=name, seed=0)
            spoken.save(targets[name])
            say(f"{targets[name]}: {spoken.duration:.1f} s")


def _print_table(listed: list[dict[str, str | bool]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from voxtral.text.language import LANGUAGES

    table = Table(box=None, pad_edge=False, header_style="bold")
    headings = ["VOICE", "LANGUAGE", "DEFAULT"]
    # Published presets have names that say everything.
    is_described = any(voice["description"] for voice in listed)
    for heading in headings + ["DESCRIPTION"] * is_described:
        table.add_column(heading, no_wrap=True)
    for voice in listed:
        code = str(voice["language"])
        cells = [str(voice["name"]), f"{code} ({LANGUAGES.get(code, code)})", "yes" if voice["is_default"] else ""]
        table.add_row(*cells, *[str(voice["description"])] * is_described)
    console = Console(markup=False, highlight=False)
    with console.capture() as drawn:
        console.print(table)
    # rich itself would end the process if the reader has gone away.
    show(drawn.get().rstrip("\n"))


def clone(  # noqa: PLR0913 - each parameter is an option
    clip: Annotated[
        Path,
        typer.Argument(metavar="CLIP", help="1 second to 10 minutes of one speaker; 3 seconds and more are good."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The voice, a .safetensors file.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Default: the name of the file.")] = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="Search for the codes that sound like the clip: without an encoder, or from the encoder's. Takes "
            "seconds on a GPU, minutes on a CPU.",
        ),
    ] = False,
    refine_steps: Annotated[
        int | None,
        typer.Option(
            "--refine-steps",
            metavar="N",
            help=f"Steps of the search, and so --refine. Default: {STEPS_FROM_NOTHING}, with an encoder "
            f"{STEPS_FROM_ENCODER}.",
            show_default=False,
        ),
    ] = None,
    consent: Annotated[
        str | None, typer.Option("--consent", metavar="TEXT", help="Who agreed, and when; kept with the voice.")
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    encoder: EncoderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a voice from a clip and save it, to be spoken with: voxtral speak --voice FILE.

    Of a clip above 30 seconds the best stretch is used, and said which. A clip that holds no voice is refused; what
    else is wrong with it is said. docs/VOICES.md tells what makes a good clip.

    The model must hold a codec encoder; the published 4B weights come without one. A voice belongs to the model it
    was made with. Clone a voice only if its owner agrees.

    Where the model holds no encoder, --encoder names a file that has one, and --refine does without. See
    docs/CLONING.md.

    Examples:
      voxtral clone me.wav -o me.safetensors --model ./my-model
      voxtral clone me.wav -o me.safetensors --model 4b --refine
      voxtral speak "Hello!" --voice me.safetensors --model ./my-model
    """
    options = RefineOptions(steps=refine_steps) if refine or refine_steps is not None else None
    check_safetensors_target(output)
    check_clip(clip)
    metadata = {} if consent is None else {"consent": consent}
    with open_codec(model, LoadOptions(device, dtype, encoder=encoder), say) as codec:
        with _shown_search() as on_progress:
            voice = codec.create_voice(
                clip, name or output.stem, metadata, refine=options, on_progress=on_progress, warn=_warn
            )
        with writing(output) as partial:
            voice.save(partial)
    report = voice.report
    if as_json:
        facts = {} if report is None else asdict(report)
        show(json.dumps({"file": str(output), "name": voice.name, "model": codec.name, **facts}))
    seconds = (len(voice.rows) - 1) / codec.config.frame_rate
    how = ""
    if report is not None and report.distance is not None:
        how = f" ({report.steps} steps, {report.elapsed_s:.0f} s, spectral distance {report.distance:.2f})"
    say(f"{output}: voice {voice.name}, from {seconds:.1f} s of audio{how}; use it with --voice {output}")


@contextmanager
def _shown_search() -> Generator[Callable[[RefineProgress], None] | None]:
    """Show a moving line while a search is under way, where somebody looks at a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    seen: list[RefineProgress] = []

    def look() -> tuple[float, str]:
        if not seen or not seen[-1].step:
            return 0.0, ""
        last = seen[-1]
        return (
            last.fraction,
            f"step {last.step} of {last.steps}, distance {last.distance:.2f}, {clock(last.left_s)} left",
        )

    with show_line(look):
        yield seen.append


def _warn(message: str) -> None:
    say(f"warning: {message}")
