"""The options of speech for the commands that have them, out of the table in `voxtral.options`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from voxtral import options
from voxtral.options import Option


class NormalizeChoice(StrEnum):
    """The values of --normalize."""

    OFF = "off"
    AUTO = "auto"


def _flag(option: Option, help: str | None = None) -> Any:
    """Declare an option of the command line; its name, its value's name and its line are in `voxtral.options`."""
    flag = option.flag
    if flag is None:
        raise TypeError(f"the option {option.name} is not for the command line")
    return typer.Option(flag.name, metavar=flag.metavar, help=help or flag.help)


VoiceOption = Annotated[str | None, _flag(options.VOICE)]
LanguageOption = Annotated[str | None, _flag(options.LANGUAGE)]
ReferenceOption = Annotated[str | None, _flag(options.REFERENCE_AUDIO)]
SeedOption = Annotated[int | None, _flag(options.SEED)]
BatchSeedOption = Annotated[int, _flag(options.SEED, "Each text gets a seed of its own, derived from N and its name.")]
SpeedOption = Annotated[float, _flag(options.SPEED)]
PauseOption = Annotated[float, _flag(options.PAUSE)]
NormalizeOption = Annotated[NormalizeChoice, _flag(options.NORMALIZE)]
GuidanceOption = Annotated[float | None, _flag(options.GUIDANCE_SCALE)]
NoiseOption = Annotated[float | None, _flag(options.NOISE_SCALE)]
StepsOption = Annotated[int | None, _flag(options.NUM_EULER_STEPS)]
MaxFramesOption = Annotated[int | None, _flag(options.MAX_FRAMES)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON object to standard output at the end.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
