"""The options that choose a model, and loading it with a word about the choice.

`voxtral.loading.locate` chooses; this says what was chosen, and keeps torch out until a command needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from voxtral.cli.terminal import say
from voxtral.loading.locate import choose_model

if TYPE_CHECKING:
    from voxtral.engine.options import EngineOptions
    from voxtral.tts import VoxtralTTS

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A folder, a hub id (owner/name, fetched if it is not here), 4b, or nano (built in, a small demo voice). "
        "Default: VOXTRAL_MODEL, else 4b if it has been downloaded and a GPU is here, else nano.",
        show_default=False,
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
DtypeOption = Annotated[str, typer.Option("--dtype", metavar="DTYPE", help="auto, float32, bfloat16 or float16.")]

QuantizeOption = Annotated[
    str | None,
    typer.Option(
        "--quantize",
        metavar="RECIPE",
        help="Fewer bits for the weights: int8, int4, int4-all, none, or auto (what fits). Default: none, or auto with "
        "--max-memory. On a GPU: auto.",
        show_default=False,
    ),
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="A budget for weights, cache and activations, such as 3GB; what does not fit is refused.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class LoadOptions:
    """How a command loads its model: device and dtype by name, recipe and budget."""

    device: str = "auto"
    dtype: str = "auto"
    quantize: str | None = None
    max_memory: str | None = None


def resolve_model_name(asked_for: str | None, tell: Callable[[str], None], device: str = "auto") -> str:
    """Choose the model and tell what a person should know about the choice."""
    name, reason = choose_model(asked_for, device)
    if asked_for is None:
        tell(f"model: {name}; {reason}")
    return name


def open_model(
    asked_for: str | None, load: LoadOptions, tell: Callable[[str], None], *, options: EngineOptions | None = None
) -> VoxtralTTS:
    """Load the model of a command. Only a model that was named by an option is downloaded.

    Args:
        asked_for: the value of --model.
        load: the values of --device, --dtype, --quantize and --max-memory.
        tell: gets lines for a person.
        options: of the engine; without any, nothing is warmed up, for a single utterance would wait for it.

    Raises:
        VoxtralError: as `VoxtralTTS.from_pretrained`.
    """
    name = resolve_model_name(asked_for, tell, load.device)
    from voxtral.engine.options import EngineOptions
    from voxtral.tts import VoxtralTTS

    # Size and licence of a download are said even where everything else is kept quiet.
    return VoxtralTTS.from_pretrained(
        name,
        **asdict(load),
        local_files_only=asked_for is None,
        announce=say,
        options=options or EngineOptions(warm_up=False),
    )
