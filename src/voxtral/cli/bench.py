"""`voxtral bench`: how fast a model speaks on this machine, and what that costs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxtral.cli.loading import (
    ActivationsOption,
    DeviceOption,
    DtypeOption,
    FlowDtypeOption,
    LoadOptions,
    MaxMemoryOption,
    ModelOption,
    QuantizeOption,
    open_model,
)
from voxtral.cli.terminal import reporter, show
from voxtral.errors import OptionError, VoiceError

if TYPE_CHECKING:
    from voxtral.bench import StreamsReport
    from voxtral.tts import VoxtralTTS


def bench(  # noqa: PLR0913 - they are the options of the command
    streams: Annotated[int, typer.Option("--streams", metavar="N", help="Streams that speak side by side.")] = 8,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", help="Audio of each stream.")] = 10.0,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", help="Times that each measurement is made.")] = 3,
    price_per_hour: Annotated[
        float | None,
        typer.Option("--price-per-hour", metavar="PRICE", help="What the machine costs, in any currency."),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    max_memory: MaxMemoryOption = None,
    flow_dtype: FlowDtypeOption = "model",
    activations: ActivationsOption = "exact",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No lines about progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object instead of a table.")] = False,
) -> None:
    """Measure how fast a model speaks on this machine.

    One stream alone, then several side by side. RTF is computing time per second of audio: below 1 is faster than
    real time. First audio is the time from a request to its first 80 ms of sound, with a voice that has spoken before.
    Characters are counted at 12.5 for a second of audio. The streams are of a fixed length and are not for listening.
    Nothing else should run meanwhile.

    Examples:
      voxtral bench
      voxtral bench --model 4b --streams 32 --price-per-hour 3.50
      voxtral bench --json > bench.json
    """
    _check("streams", streams, 1, 1024)
    _check("seconds", seconds, 0.08, 120)
    _check("rounds", rounds, 1, 100)
    if price_per_hour is not None:
        _check("price-per-hour", price_per_hour, 0, 1e9)
    tell = reporter(is_quiet=quiet)
    from voxtral.engine.options import EngineOptions, parse_activations, parse_flow_dtype

    load = LoadOptions(device, dtype, quantize, max_memory)
    engine = EngineOptions(flow_dtype=parse_flow_dtype(flow_dtype), activations=parse_activations(activations))
    with open_model(model, load, tell, options=engine) as loaded:
        report = _measure(loaded, (1, streams), seconds, rounds, quiet)
    if price_per_hour is not None:
        report["cost"] = _cost(report["streams"], price_per_hour)
    show(json.dumps(report) if as_json else _as_text(report))


def _measure(
    loaded: VoxtralTTS, streams: tuple[int, ...], seconds: float, num_rounds: int, quiet: bool
) -> dict[str, Any]:
    from voxtral.bench import measure_streams, memory_in_use, warm_up
    from voxtral.device import describe_machine, dtype_name

    tell = reporter(is_quiet=quiet)
    defaults = [info.name for info in loaded.voices if info.is_default]
    if not defaults:
        raise VoiceError(f"{loaded.name} has no preset voices; the measurement speaks with one; name another model")
    voice = loaded.load_voice(defaults[0])
    num_frames = math.ceil(seconds * loaded.config.frame_rate)
    reports: list[StreamsReport] = []
    if max(streams) > loaded.engine.max_batch:
        tell(f"{max(streams)} streams: the engine computes {loaded.engine.max_batch} side by side, the others wait")
    for num_streams in sorted(set(streams)):
        warm_up(loaded.engine, loaded.config, voice, num_streams=num_streams)
        reports.append(
            measure_streams(
                loaded.engine,
                loaded.config,
                voice,
                num_streams=num_streams,
                num_frames=num_frames,
                num_rounds=num_rounds,
                tell=tell,
            )
        )
    return {
        "model": loaded.name,
        "device": str(loaded.compute.device),
        "dtype": dtype_name(loaded.compute.dtype),
        "quantization": loaded.compute.quantization.name if loaded.compute.quantization else None,
        "machine": describe_machine(),
        "voice": voice.name,
        "seconds_of_each_stream": num_frames / loaded.config.frame_rate,
        "rounds": num_rounds,
        "streams": [one.to_dict() for one in reports],
        "memory_gb": memory_in_use(loaded.compute.device),
    }


def _cost(streams: list[dict[str, Any]], price_per_hour: float) -> dict[str, float | int]:
    from voxtral.bench import cost_per_million_chars, round_figure

    best = max(streams, key=lambda one: one["chars_per_s"])
    cost = cost_per_million_chars(price_per_hour, best["chars_per_s"])
    return {"price_per_hour": price_per_hour, "streams": best["streams"], "per_million_chars": round_figure(cost)}


def _as_text(report: dict[str, Any]) -> str:
    machine = report["machine"]
    gpus = [text for name, text in machine.items() if name.startswith("cuda")]
    quantization = f", matrices in {report['quantization']}" if report["quantization"] else ""
    lines = [
        f"{report['model']} on {report['device']}, {report['dtype']}{quantization}",
        f"machine      {'; '.join([*gpus, machine['cpu']])}; torch {machine['torch']}",
    ]
    for one in report["streams"]:
        name = "1 stream" if one["streams"] == 1 else f"{one['streams']} streams"
        lines += [
            f"{name:<12} RTF {one['rtf']['median']:.3g}, {one['audio_s_per_s']:.3g} times real time in all, "
            f"{one['chars_per_s']:.3g} characters/s",
            f"{'':<12} first audio {one['ttfa_ms']['median']:.3g} ms (p95 {one['ttfa_ms']['p95']:.3g}), "
            f"{one['frame_ms']['median']:.3g} ms a frame (p95 {one['frame_ms']['p95']:.3g}), "
            f"underruns: {one['underruns']}",
        ]
    memory = ", ".join(f"{name.replace('_', ' ')} {value:.3g} GB" for name, value in report["memory_gb"].items())
    lines.append(f"{'memory':<12} {memory or 'unknown on this system'}")
    if cost := report.get("cost"):
        lines.append(
            f"{'cost':<12} {cost['per_million_chars']:.3g} per million characters at {cost['price_per_hour']:g} an "
            f"hour, with {cost['streams']} streams at all times"
        )
    return "\n".join(lines)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses nan
        raise OptionError(f"--{name} is {value:g}; it must be from {low:g} to {high:g}; choose a number in that range")
