"""The options that choose a model, and loading it with a word about the choice.

`voxtral.loading.locate` chooses; this says what was chosen, and keeps torch out until a command needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxtral.cli.terminal import say
from voxtral.errors import DeviceError, ModelNotFoundError
from voxtral.loading import hub
from voxtral.loading.locate import choose_model, is_fetchable, locate_model

if TYPE_CHECKING:
    from voxtral.engine.options import EngineOptions
    from voxtral.speech.codec import VoxtralCodec
    from voxtral.tts import VoxtralTTS

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A folder, a hub id (owner/name; asks before a download), 4b, or nano (built in, a small demo voice). "
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
ActivationsOption = Annotated[
    str,
    typer.Option(
        metavar="HOW", help="int8: the flow's matrices of few bits multiply 8 bits on a CPU, faster and less exact."
    ),
]
FlowDtypeOption = Annotated[
    str,
    typer.Option(
        "--flow-dtype",
        metavar="DTYPE",
        help="float8: the flow's products in 8 bits, on GPUs that have them (Ada, Hopper and newer); unmeasured. "
        "Refused on others.",
    ),
]

EncoderOption = Annotated[
    Path | None,
    typer.Option(
        "--encoder",
        metavar="FILE",
        help="A codec encoder for a model that lacks one (docs/CLONING.md). Default: VOXTRAL_ENCODER, else "
        "codec_encoder.safetensors beside the model.",
        show_default=False,
    ),
]

# Main memory of the process with no model in it (docs/QUANTIZATION.md), which no budget of a model makes smaller.
_PROCESS_BYTES = 350_000_000

# int4-all leaves a third of the published weights; a budget below this share of the files cannot hold any recipe.
_LEAST_SHARE = 0.2


@dataclass(frozen=True)
class LoadOptions:
    """How a command loads its model: device and dtype by name, recipe and budget, a file of the codec encoder."""

    device: str = "auto"
    dtype: str = "auto"
    quantize: str | None = None
    max_memory: str | None = None
    encoder: Path | None = None


def resolve_model_name(asked_for: str | None, tell: Callable[[str], None], device: str = "auto") -> str:
    """Choose the model and tell what a person should know about the choice."""
    name, reason = choose_model(asked_for, device)
    if asked_for is None:
        tell(f"model: {name}; {reason}")
    return name


def fetch_if_agreed(name: str, max_memory: str | None = None) -> None:
    """See that a model is here: what is not is downloaded if a person at the terminal agrees, and never else.

    Args:
        name: of the model.
        max_memory: the value of --max-memory, which no model of several times its size will fit.

    Raises:
        ModelNotFoundError: it is not here, and nobody agreed; the message names the command that downloads it.
        DownloadError: the hub refused or broke off.
        DeviceError: it could never fit `max_memory`.
    """
    try:
        locate_model(name, allow_download=False)
        return
    except ModelNotFoundError:
        if not is_fetchable(name) or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        plan = hub.plan_download(name)
        if max_memory is not None:
            _check_could_fit(plan, max_memory)
        announcement = plan.announcement()
        say(announcement)
        print("Download it now? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise
    # It asks the hub once more, and has nothing new to say.
    hub.download(name, announce=lambda line: None if line == announcement else say(line))


def _check_could_fit(plan: hub.DownloadPlan, max_memory: str) -> None:
    from voxtral.loading.memory import format_bytes, parse_memory

    budget = parse_memory(max_memory)
    if budget < _LEAST_SHARE * plan.total_bytes:
        raise DeviceError(
            f"max_memory is {format_bytes(budget)}, and {plan.source.repo} has {format_bytes(plan.total_bytes)} of "
            "files, which no recipe brings below a fifth; nothing was downloaded; allow more, or name a smaller model"
        )


def open_model(
    asked_for: str | None, load: LoadOptions, tell: Callable[[str], None], *, options: EngineOptions | None = None
) -> VoxtralTTS:
    """Load the model of a command. It is downloaded only if a person at the terminal agrees.

    Args:
        asked_for: the value of --model.
        load: the values of --device, --dtype, --quantize and --max-memory.
        tell: gets lines for a person.
        options: of the engine; without any, nothing is warmed up, for a single utterance would wait for it.

    Raises:
        VoxtralError: as `VoxtralTTS.from_pretrained`.
    """
    name = resolve_model_name(asked_for, tell, load.device)
    fetch_if_agreed(name, load.max_memory)
    from voxtral.engine.options import EngineOptions
    from voxtral.tts import VoxtralTTS

    options = options or EngineOptions(warm_up=False)
    loaded = VoxtralTTS.from_pretrained(name, **asdict(load), local_files_only=True, announce=say, options=options)
    if load.max_memory is not None and loaded.compute.device.type == "cpu":
        from voxtral.loading.memory import format_bytes, parse_memory

        if parse_memory(load.max_memory) < _PROCESS_BYTES:
            say(
                f"warning: --max-memory {load.max_memory} is for weights, cache and activations, which fit; Python and "
                f"torch take about {format_bytes(_PROCESS_BYTES)} of main memory besides"
            )
    return loaded


def open_codec(asked_for: str | None, load: LoadOptions, tell: Callable[[str], None]) -> VoxtralCodec:
    """Load what makes voices of the model of a command; downloaded as in `open_model`.

    Args:
        asked_for: the value of --model.
        load: the values of --device, --dtype and --encoder; nothing else is heeded.
        tell: gets lines for a person.

    Raises:
        VoxtralError: as `voxtral.open_codec`.
    """
    name = resolve_model_name(asked_for, tell, load.device)
    fetch_if_agreed(name)
    from voxtral.speech import codec

    return codec.open_codec(
        name, device=load.device, dtype=load.dtype, encoder=load.encoder, local_files_only=True, announce=say
    )
