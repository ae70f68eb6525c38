"""The command line of the doctor; argparse, so that it runs where only torch is installed."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from voxtral.config import ModelConfig
from voxtral.device import ComputePlan, describe_machine, dtype_name, plan_compute
from voxtral.doctor.checks import Check, check_model
from voxtral.doctor.report import make_report
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.verdict import Verdict
from voxtral.errors import OptionError, VoxtralError
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.first_use import apply_verdict, make_verdict
from voxtral.loading.load import load_as_planned, open_tokenizer
from voxtral.loading.locate import choose_model, locate_model
from voxtral.loading.memory import check_precision, choose_quantization, plan_for
from voxtral.model.linear import describe_products
from voxtral.model.voxtral import VoxtralModel
from voxtral.switches import SWITCHES, check_variables, is_switched_off

_EXAMPLES = """examples:
  voxtral doctor                                     this machine, and the model that would be used
  voxtral doctor --model ./Voxtral-4B-TTS-2603       check a checkpoint folder
  voxtral doctor --model 4b --cloning                and what voices made of clips depend on
  voxtral doctor --model DIR --vectors DIR --json    compare with golden vectors; exit code 1 on a difference
  voxtral doctor --model tests/golden/tiny --vectors tests/golden/data    the same, with those of a checkout
"""


def main(argv: Sequence[str], fetch: Callable[[str], None] | None = None) -> int:
    """Run the doctor; returns the exit code: 0 well, 1 something failed, 2 wrong usage.

    Args:
        argv: the arguments.
        fetch: sees that the model of a name is here, and may ask a person to agree to a download.
    """
    arguments = _parse(argv)
    arguments.fetch = fetch
    off = [switch.variable for name, switch in SWITCHES.items() if getattr(arguments, f"no_{name}")]
    with _set_for_a_while(dict.fromkeys(off, "0")):
        return _run(arguments)


@contextmanager
def _set_for_a_while(variables: dict[str, str]) -> Generator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, text in before.items():
            os.environ.pop(name)
            if text is not None:
                os.environ[name] = text


def _run(arguments: argparse.Namespace) -> int:
    try:
        check_variables()
        if arguments.vectors is not None:
            return _compare(arguments)
        return _examine(arguments)
    except VoxtralError as error:
        _say(f"error: {error}", to_stderr=True)
        if arguments.json:
            _say(json.dumps({"ok": False, "error": {"code": error.code, "message": str(error)}}))
        return 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="voxtral doctor",
        description="Look at this machine and a checkpoint, and say what would be used and why.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", help="a folder, a hub id in the local cache, or nano; default: as for `voxtral speak`"
    )
    parser.add_argument("--vectors", type=Path, help="folder of a golden set: vectors.json and vectors.safetensors")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16; vectors run in float32")
    parser.add_argument("--quantize", help="int8, int4, int4-all, none or auto, as for `voxtral speak`")
    parser.add_argument("--max-memory", help="a budget such as 3GB, as for `voxtral speak`")
    parser.add_argument(
        "--cloning",
        action="store_true",
        help="also look at what cloning depends on: codes of presets, delay of the decoder, and how exact codes must "
        "be; a minute or two, on a CPU longer for a large model",
    )
    for name, switch in SWITCHES.items():
        help_text = f"{switch.help} Or: {switch.variable}=0."
        parser.add_argument(switch.flag, dest=f"no_{name}", action="store_true", help=help_text)
    parser.add_argument("--json", action="store_true", help="the last line of stdout is one JSON object")
    return parser.parse_args(list(argv))


def _open(arguments: argparse.Namespace) -> tuple[Checkpoint, str, str]:
    name, reason = choose_model(arguments.model, arguments.device)
    if arguments.fetch is not None:
        arguments.fetch(name)
    return open_checkpoint(locate_model(name, allow_download=False)), name, reason


def _compare(arguments: argparse.Namespace) -> int:
    path = _find_judge(Path(__file__))
    if arguments.model is None and not os.environ.get("VOXTRAL_MODEL"):
        raise OptionError(
            "got --vectors without --model; golden vectors are the numbers of one checkpoint; name it, such as "
            "--model tests/golden/tiny for tests/golden/data"
        )
    judge = _load_judge(path)
    checkpoint, name, _ = _open(arguments)
    device = plan_compute(arguments.device).device
    report = judge.run_vectors(checkpoint, judge.load_vectors(arguments.vectors), device)
    _say(f"{name}: {len(report.results)} entries on {device}, float32")
    for line in report.lines(checkpoint.config.quantization):
        _say(line)
    if arguments.json:
        _say(json.dumps(report.to_dict(), allow_nan=False))
    return 0 if report.ok else 1


def _find_judge(this_file: Path) -> Path:
    """Find the judge of golden vectors in the checkout that the package lies in.

    It will be executed, and so is taken from nowhere else: not from the current folder, nor from one that is named.

    Args:
        this_file: src/voxtral/doctor/command.py in a checkout.

    Raises:
        OptionError: the package is in no checkout, such as one that a wheel installed.
    """
    source = this_file.resolve().parents[2]
    judge = source.parent / "tests" / "golden" / "judge.py"
    if source.name != "src" or not judge.is_file():
        raise OptionError(
            "got --vectors, and this voxtral does not run from a checkout of the repository; golden vectors are "
            "compared by its tests/golden/judge.py, which no wheel holds; clone it and run pip install -e . there"
        )
    return judge


def _load_judge(path: Path) -> Any:
    judge = ModuleType("voxtral_golden_judge")
    # Dataclasses look their annotations up there.
    sys.modules[judge.__name__] = judge
    SourceFileLoader(judge.__name__, str(path)).exec_module(judge)
    return judge


def _examine(arguments: argparse.Namespace) -> int:
    check_precision(arguments.quantize, arguments.max_memory)
    machine = describe_machine()
    for key, value in machine.items():
        _say(f"{key:<10}{value}")
    checkpoint, name, reason = _open(arguments)
    compute = plan_compute(arguments.device, arguments.dtype, num_parameters=checkpoint.num_parameters)
    compute = choose_quantization(checkpoint, compute, arguments.quantize, arguments.max_memory)
    choices = _choices(name, reason, checkpoint, compute)
    for key, (value, why) in choices.items():
        _say(f"{key:<10}{value} ({why})")
    verdict = _try_paths(checkpoint, compute)
    started = time.perf_counter()
    model = load_as_planned(checkpoint, compute)
    loading = f"loaded in {time.perf_counter() - started:.1f} s, {_memory_used(compute.device)}"
    _say(f"{'memory':<10}{loading}")
    checks: list[Check] = []
    with torch.inference_mode():
        paths = Paths(str(compute.device), verdict.paths_off if verdict is not None else None)
        for check in check_model(checkpoint, model, paths):
            checks.append(check)
            _say(f"{check.status:<10}{check.name}: {check.detail}")
    survey = _survey_cloning(checkpoint, model, compute, paths, checks) if arguments.cloning else None
    is_well = all(check.status != "failed" for check in checks)
    num_warnings = sum(1 for check in checks if check.status == "warning")
    _say("some checks FAILED" if not is_well else f"no check failed, {num_warnings} warnings")
    report = make_report(
        name, compute, plan_for(checkpoint, compute, compute.quantization, compute.max_batch or 1), model, verdict
    )
    _say(str(report))
    if arguments.json:
        described = _as_dict(is_well, machine, choices, loading, checks)
        cloning = {} if survey is None else {"cloning": survey}
        _say(json.dumps(described | {"report": report.to_dict()} | cloning))
    return 0 if is_well else 1


def _survey_cloning(
    checkpoint: Checkpoint, model: VoxtralModel, compute: ComputePlan, paths: Paths, checks: list[Check]
) -> dict[str, Any]:
    """Look at what cloning depends on; adds its findings to the others, and returns its figures."""
    try:
        # Here, because it needs more packages than the rest.
        from voxtral.cloning.talk import Talker
        from voxtral.doctor.cloning import CloningSurvey, check_cloning, tolerance_table

        tokenizer = open_tokenizer(checkpoint)
    except (ImportError, VoxtralError) as error:
        checks.append(Check("cloning", "skipped", str(error)))
        _say(f"{'skipped':<10}cloning: {error}")
        return {}
    survey = CloningSurvey()
    engine = Engine(model, EngineOptions(num_threads=compute.num_threads), paths=paths)
    try:
        for check in check_cloning(checkpoint, Talker(checkpoint.config, tokenizer, engine), survey, _say):
            checks.append(replace(check, name=f"cloning, {check.name}"))
            _say(f"{check.status:<10}cloning, {check.name}: {check.detail}")
    except Exception as error:  # noqa: BLE001 - as of the other checks: what was found before is not lost
        checks.append(Check("cloning", "failed", f"{type(error).__name__}: {error}"))
        _say(f"{'failed':<10}cloning: {type(error).__name__}: {error}")
    finally:
        engine.close()
    if "tolerance" in survey.figures:
        _say(tolerance_table(survey.figures["tolerance"]))
    return survey.figures


def _try_paths(checkpoint: Checkpoint, compute: ComputePlan) -> Verdict | None:
    """On a GPU, try every path anew in another process, before the model takes its memory."""
    if compute.device.type != "cuda" or is_switched_off("self_check"):
        return None
    verdict = make_verdict(checkpoint, compute, EngineOptions(), _say)
    if verdict is not None:
        apply_verdict(verdict, compute.device)
    return verdict


def _choices(name: str, reason: str, checkpoint: Checkpoint, compute: ComputePlan) -> dict[str, tuple[str, str]]:
    config: ModelConfig = checkpoint.config
    generation = config.generation
    return {
        "model": (f"{name} in {checkpoint.folder}", reason),
        "device": (str(compute.device), compute.device_reason),
        "dtype": (dtype_name(compute.dtype), compute.dtype_reason),
        "codec": (dtype_name(compute.codec_dtype), compute.codec_reason),
        "weights": (compute.quantization.name if compute.quantization else "plain", compute.quantization_reason),
        "products": (describe_products(compute.device, compute.dtype), "tried here against exact arithmetic"),
        "audio": (f"{config.sample_rate} Hz, {config.frame_rate:g} frames/s", "params.json"),
        "languages": (", ".join(config.languages), "the language is no model input; the text decides"),
        "defaults": (
            f"guidance {generation.guidance_scale:g}, noise {generation.noise_scale:g}, "
            f"{generation.num_euler_steps} Euler steps",
            "params.json, or the official values",
        ),
    }


def _memory_used(device: torch.device) -> str:
    try:
        import resource
    except ImportError:  # Windows has no such module
        return "peak memory unknown on this system"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    used = f"peak {peak / 2**30:.2f} GiB of main memory, file mapping included"
    if device.type == "cuda":
        used += f", {torch.cuda.max_memory_reserved(device) / 2**30:.2f} GiB reserved on the GPU"
    return used


def _as_dict(
    is_well: bool, machine: dict[str, str], choices: dict[str, tuple[str, str]], loading: str, checks: list[Check]
) -> dict[str, Any]:
    return {
        "ok": is_well,
        "machine": machine,
        "choices": {key: {"value": value, "reason": why} for key, (value, why) in choices.items()},
        "memory": loading,
        "checks": [{"name": check.name, "status": check.status, "detail": check.detail} for check in checks],
    }


def _say(line: str, *, to_stderr: bool = False) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    stream.write(f"{line}\n")
    stream.flush()
