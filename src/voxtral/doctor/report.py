"""The block that ends a report: what somebody who is not at the machine needs to know of it, to be pasted.

It holds no paths and no texts: a home folder is written as ~, and a model that is a folder as "a folder". Times are of
this moment on this machine, one short measurement each.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from voxtral import __version__
from voxtral.device import ComputePlan, available_memory, device_memory, dtype_name
from voxtral.driver import driver_version
from voxtral.engine.engine import Engine
from voxtral.engine.frame_maker import FrameMaker
from voxtral.engine.inputs import RowInput
from voxtral.engine.kv_cache import kv_bytes_per_position, kv_slot
from voxtral.engine.memory import DeviceMemory
from voxtral.engine.noise import SeededNoise
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import PATHS, Paths
from voxtral.engine.rig import ModelRig
from voxtral.engine.self_check import examine
from voxtral.engine.verdict import Verdict
from voxtral.gpu import read_gpu, system_kind, triton_version
from voxtral.loading import hub
from voxtral.loading.memory import MemoryPlan, format_bytes
from voxtral.model.kernels.dispatch import KERNELS, USES_DOT, one_line
from voxtral.model.voxtral import VoxtralModel
from voxtral.switches import SWITCHES, is_switched_off

FIRST_LINE = "----- report: paste from here to the end -----"
LAST_LINE = "----- end -----"

# Positions behind a row that is timed, and about how long each measurement may take.
_POSITIONS = 200
_MEASURE_S = 0.2
_CODEC_FRAMES = 8


@dataclass(frozen=True)
class Report:
    """The lines of the block, each with what it is about."""

    lines: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """Write the block."""
        written = [f"{topic:<8} {text}" for topic, text in self.lines]
        return "\n".join((FIRST_LINE, *written, LAST_LINE))

    def to_dict(self) -> list[dict[str, str]]:
        """Turn into what JSON holds."""
        return [{"about": topic, "text": text} for topic, text in self.lines]


def make_report(
    name: str, compute: ComputePlan, plan: MemoryPlan, model: VoxtralModel, verdict: Verdict | None
) -> Report:
    """Look at the machine, compare paths on a loaded model, and time a frame.

    Args:
        name: of the model, as it was chosen.
        compute: how it was loaded.
        plan: what it should take of memory.
        model: loaded.
        verdict: of the check in another process; None without one.
    """
    lines = [("voxtral", describe_versions()), ("gpu", describe_gpu(compute.device))]
    if compute.device.type == "cuda":
        lines.append(("tools", describe_tools()))
    quantization = "none" if compute.quantization is None else compute.quantization.name
    lines.append(("model", f"{_public_name(name)}, {describe_dtype(compute)}, weights {quantization}"))
    lines += _describe_switches()
    for finding in () if verdict is None else verdict.findings:
        lines.append(("check", str(finding)))
    lines += _guarded("weights", lambda: _compare(model))
    lines += _guarded("speed", lambda: _measure(model, compute, verdict))
    lines += _describe_closed(compute.device, verdict)
    lines.append(("memory", _describe_memory(compute.device, plan)))
    return Report(tuple((topic, hide_home(text)) for topic, text in lines))


def describe_versions() -> str:
    """Name what is installed, and where it runs."""
    triton = triton_version()
    return (
        f"{__version__}, torch {torch.__version__}, triton {triton or 'none'}, python {platform.python_version()}, "
        f"{system_kind()} {platform.machine()}, {os.cpu_count()} cores {torch.backends.cpu.get_cpu_capability()}"
    )


def describe_gpu(device: torch.device) -> str:
    """Name the GPU and its driver; without one in use, what torch would take."""
    if device.type != "cuda":
        build = "built for the CPU only" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
        driver = driver_version()
        seen = "no driver of NVIDIA" if driver == "unknown" else f"driver {driver}"
        return f"none in use ({device}); torch is {build}; {seen}"
    facts = read_gpu(device)
    major, minor = facts.capability
    split = ", MIG" if "MIG" in facts.name else ""
    return (
        f"{facts.name}, sm_{major}{minor}, {facts.num_sms} SMs, {facts.total_bytes / 1e9:.1f} GB "
        f"({facts.free_bytes / 1e9:.1f} free), driver {driver_version()}, CUDA {torch.version.cuda}, "
        f"{system_kind()}{split}"
    )


def describe_tools() -> str:
    """Say whether Triton finds what it compiles with, and whether it may keep the result."""
    compiler = next(
        (name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and shutil.which(name)), None
    )
    folder = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    nearest = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
    cache = "writable" if os.access(nearest, os.W_OK) else "not writable"
    return f"C compiler {'found' if compiler else 'none'}, Triton's cache {cache}"


def describe_dtype(compute: ComputePlan) -> str:
    """Name the dtypes, and whether the GPU has bfloat16 of its own."""
    text = f"{dtype_name(compute.dtype)}, codec {dtype_name(compute.codec_dtype)}"
    if compute.device.type == "cuda":
        native = "native" if torch.cuda.is_bf16_supported(including_emulation=False) else "emulated"
        text += f", bf16 {native}"
    return text


def hide_home(text: str) -> str:
    """Write the home folder as ~, for it has a person's name."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _public_name(name: str) -> str:
    """Give a name that says nothing of the machine."""
    return name if name == "nano" or hub.canonical_id(name) == hub.CANONICAL_ID else "a folder"


def _describe_switches() -> list[tuple[str, str]]:
    return [("switch", f"{SWITCHES[name].variable} is off") for name in SWITCHES if is_switched_off(name)]


def _guarded(topic: str, describe: Callable[[], list[str]]) -> list[tuple[str, str]]:
    """Turn whatever fails into a line, so that the other lines are not lost."""
    try:
        return [(topic, text) for text in describe()]
    except Exception as error:  # noqa: BLE001
        return [(topic, one_line(f"failed: {type(error).__name__}: {error}"))]


@torch.inference_mode()
def _compare(model: VoxtralModel) -> list[str]:
    verdict = examine(ModelRig(model), only=("static step", "folded flow", "codec step", "codec stream"))
    return [str(finding) for finding in verdict.findings]


def _measure(model: VoxtralModel, compute: ComputePlan, verdict: Verdict | None) -> list[str]:
    """Warm up and time frames and a chunk of audio, on an engine's thread as in use."""
    paths = Paths(str(compute.device), verdict.paths_off if verdict is not None else None)
    options = EngineOptions(num_threads=compute.num_threads, kv_cache_bytes=_kv_bytes(model, 8), max_batch=8)
    engine = Engine(model, options, paths=paths)
    lines: list[str] = []
    try:
        if compute.device.type == "cuda":
            before = device_memory()
            lines.append(f"{engine.warm_up(45.0)}, {format_bytes(max(0, device_memory() - before))} more reserved")
        lines.append(engine.call(lambda loaded: _time_frames(loaded, options, paths)))
    finally:
        engine.close()
    return lines


def _time_frames(model: VoxtralModel, options: EngineOptions, paths: Paths) -> str:
    config = model.config
    seconds_of_frame = config.samples_per_frame / config.sample_rate
    parts: list[str] = []
    for num_rows in (1, 8):
        memory = DeviceMemory(model, options, num_rows, None)
        maker = FrameMaker(model, memory, options, num_rows, paths)
        rows = [_row(number, memory, config.codebooks.num_acoustic) for number in range(num_rows)]
        seconds = _best(model.device, partial(maker.make, rows, config.generation.num_euler_steps))
        parts.append(f"frame of {num_rows} {1e3 * seconds:.1f} ms (RTF {seconds / seconds_of_frame:.3f})")
    tokens = torch.full((1, _CODEC_FRAMES, config.codebooks.num_codebooks), 2, device=model.device)
    seconds = _best(model.device, lambda: model.decode_rows(tokens, model.init_codec_state(), is_last=True))
    return f"{', '.join(parts)}, codec of {_CODEC_FRAMES} frames {1e3 * seconds:.1f} ms"


def _row(number: int, memory: DeviceMemory, num_acoustic: int) -> RowInput:
    size = memory.pool.block_size
    each = memory.pool.blocks_for(_POSITIONS + 1)
    blocks = list(range(1 + number * each, 1 + (number + 1) * each))
    noise = SeededNoise(number, 0, num_acoustic)(0)
    return RowInput(number, _POSITIONS, kv_slot(blocks, _POSITIONS, size), blocks, noise, 1.2, True)


def _kv_bytes(model: VoxtralModel, num_rows: int) -> int:
    size = EngineOptions.block_size
    each = -(-(_POSITIONS + 1) // size) * size
    return num_rows * each * kv_bytes_per_position(model.config.backbone, model.dtype)


def _best(device: torch.device, work: Callable[[], Any]) -> float:
    """Time a few calls after one that warms up; the shortest, in seconds."""

    def timed() -> float:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    first = timed()
    return min(timed() for _ in range(max(1, min(10, int(_MEASURE_S / max(first, 1e-6))))))


def _describe_closed(device: torch.device, verdict: Verdict | None) -> list[tuple[str, str]]:
    closed = {} if verdict is None else {PATHS[path][0]: reason for path, reason in verdict.paths_off.items()}
    if device.type == "cuda":
        problems = {name: KERNELS.problem(name, device, torch.float32) for name in USES_DOT}
        closed |= {f"kernel {name}": problem for name, problem in problems.items() if problem is not None}
    return [("off", f"{name}: {one_line(reason)}") for name, reason in closed.items()]


def _describe_memory(device: torch.device, plan: MemoryPlan) -> str:
    text = f"planned {format_bytes(plan.total)}"
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{text}, reserved {format_bytes(device_memory())}, in use on the GPU {format_bytes(total - free)}"
    available = available_memory()
    return text if available is None else f"{text}, {format_bytes(available[0])} of {format_bytes(available[1])} free"
