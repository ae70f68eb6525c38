"""The options of speech that more than one command has, declared once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class NormalizeChoice(StrEnum):
    """The values of --normalize."""

    OFF = "off"
    AUTO = "auto"


VoiceOption = Annotated[
    str | None,
    typer.Option("--voice", metavar="VOICE", help="A preset (see voxtral voices), or a .safetensors voice file."),
]
LanguageOption = Annotated[
    str | None,
    typer.Option("--language", metavar="LANGUAGE", help="Chooses the default voice and the rules of --normalize."),
]
ReferenceOption = Annotated[
    str | None, typer.Option("--reference", metavar="CLIP", help="Speak with the voice of this clip.")
]
SpeedOption = Annotated[float, typer.Option("--speed", metavar="X", help="0.25 to 4; the pitch stays.")]
PauseOption = Annotated[
    float, typer.Option("--pause", metavar="S", help="Seconds between the segments of a long text.")
]
NormalizeOption = Annotated[
    NormalizeChoice,
    typer.Option("--normalize", metavar="off|auto", help="auto writes numbers as words and drops markup."),
]
GuidanceOption = Annotated[float | None, typer.Option("--guidance", metavar="X", help="Guidance scale.")]
NoiseOption = Annotated[float | None, typer.Option("--noise", metavar="X", help="Noise scale.")]
StepsOption = Annotated[int | None, typer.Option("--steps", metavar="N", help="Euler steps per frame.")]
MaxFramesOption = Annotated[
    int | None, typer.Option("--max-frames", metavar="N", help="Cut each segment after so many frames.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON object to standard output at the end.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
