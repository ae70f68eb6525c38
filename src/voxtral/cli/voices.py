"""`voxtral voices` lists presets; `voxtral clone` makes a voice file from a clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from voxtral.cli.files import check_clip, check_safetensors_target, writing
from voxtral.cli.loading import (
    DeviceOption,
    DtypeOption,
    LoadOptions,
    ModelOption,
    fetch_if_agreed,
    open_model,
    resolve_model_name,
)
from voxtral.cli.terminal import say, show
from voxtral.loading.locate import locate_model


def voices(
    model: ModelOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object instead of a table.")] = False,
) -> None:
    """List the preset voices of a model, with the language of each and whether it is that language's default.

    The weights are not loaded and nothing is downloaded unasked.

    Examples:
      voxtral voices
      voxtral voices --model 4b --json
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
    if as_json:
        show(json.dumps({"model": name, "voices": listed}))
        return
    _print_table(listed)


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


def clone(
    clip: Annotated[
        Path,
        typer.Argument(metavar="CLIP", help="1 second to 10 minutes of one speaker; 3 seconds and more are good."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The voice, a .safetensors file.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Default: the name of the file.")] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Make a voice from a clip and save it, to be spoken with: voxtral speak --voice FILE.

    Of a clip above 30 seconds the best stretch is used, and said which. A clip that holds no voice is refused; what
    else is wrong with it is said. docs/VOICES.md tells what makes a good clip.

    The model must hold a codec encoder; the published 4B weights come without one. A voice belongs to the model it
    was made with. Clone a voice only if its owner agrees.

    Examples:
      voxtral clone me.wav -o me.safetensors --model ./my-model
      voxtral speak "Hello!" --voice me.safetensors --model ./my-model
    """
    check_safetensors_target(output)
    check_clip(clip)
    with open_model(model, LoadOptions(device, dtype), say) as loaded:
        voice = loaded.create_voice(clip, name=name or output.stem)
        with writing(output) as partial:
            voice.save(partial)
    seconds = (len(voice.rows) - 1) / loaded.config.frame_rate
    say(f"{output}: voice {voice.name}, from {seconds:.1f} s of audio; use it with --voice {output}")
