"""The first use of a model on a GPU: paths are tried in a process of their own, and the verdict is kept.

What a verdict was found on is its key: GPU, driver, versions, dtype and recipe. Where another process cannot be
started, or ends before it has tried anything, nothing is known, and everything stays open: what fails later is closed
then (`voxtral.engine.frame_maker`).
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from voxtral import __version__
from voxtral.config import ModelConfig
from voxtral.device import ComputePlan, dtype_name
from voxtral.driver import driver_version
from voxtral.engine.options import EngineOptions, default_max_batch
from voxtral.engine.paths import PATHS, PathName, Paths
from voxtral.engine.verdict import Finding, Verdict, read_finding
from voxtral.gpu import read_gpu, triton_version
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.files import cache_folder
from voxtral.loading.self_check_child import Specification
from voxtral.model.kernels.dispatch import KERNELS, USES_DOT
from voxtral.switches import is_switched_off

_log = logging.getLogger(__name__)

_FILE = "selfcheck.json"

# Compiles count: 45 s are what a slow machine takes for all of them.
_CHILD_LIMIT_S = 120.0

# A path that ends the process is left out of the next try; after so many, everything that could do it is closed.
_MAX_TRIES = 4

# Verdicts of other versions and drivers are not worth a file that grows.
_MAX_KEPT = 16

# What is closed where the check ends again and again and nobody knows why.
_CAREFUL: tuple[PathName, ...] = ("graphs", "codec_step", "codec_stream", "ahead")


@dataclass(frozen=True)
class ChildReport:
    """How a process that made the check ended.

    Attributes:
        verdict: if it came to one.
        last_begun: the path that it was trying.
        findings: what it had found by then.
        end: how it ended, in words.
    """

    verdict: Verdict | None
    last_begun: str | None
    findings: tuple[Finding, ...]
    end: str


def open_paths(
    checkpoint: Checkpoint, compute: ComputePlan, options: EngineOptions, announce: Callable[[str], None]
) -> Paths:
    """Decide which paths a model may take here, trying them out where nobody has yet; says so in one line.

    Args:
        checkpoint: what is to be loaded.
        compute: where and in which precision.
        options: of the engine.
        announce: gets lines for a person.
    """
    device = compute.device
    if options.triton is False:
        KERNELS.forbid("EngineOptions.triton is False")
    if device.type != "cuda":
        return Paths(str(device))
    where = read_gpu(device).name
    verdict = None
    if not is_switched_off("self_check"):
        verdict = find_verdict(checkpoint, compute, options, announce)
    if verdict is None:
        return Paths(where)
    apply_verdict(verdict, device)
    if not verdict.is_clean:
        announce(describe(verdict, where))
    return Paths(where, verdict.paths_off)


def apply_verdict(verdict: Verdict, device: torch.device) -> None:
    """Turn the kernels off that a verdict names; its paths are the engine's to close."""
    for kernel, reason in verdict.kernels_off.items():
        KERNELS.turn_off(kernel, device, reason)


def describe(verdict: Verdict, where: str) -> str:
    """Say in one line what a verdict closes.

    >>> describe(Verdict(paths_off={"graphs": "capture failed"}), "NVIDIA L4")[:54]
    'voxtral: off on NVIDIA L4: CUDA graphs (capture failed'
    """
    closed = [f"{PATHS[path][0]} ({reason})" for path, reason in verdict.paths_off.items()]
    closed += [f"the kernel {kernel} ({reason})" for kernel, reason in verdict.kernels_off.items()]
    return (
        f'voxtral: off on {where}: {", ".join(closed)}; speech is right but slower; run "voxtral doctor" and report '
        "its last block"
    )


def find_verdict(
    checkpoint: Checkpoint, compute: ComputePlan, options: EngineOptions, announce: Callable[[str], None]
) -> Verdict | None:
    """Look a verdict up, or make it in another process and keep it; None where that is not possible."""
    key = machine_key(checkpoint.config, compute)
    folder = cache_folder()
    kept = None if folder is None else load_verdict(folder / _FILE, key)
    return kept if kept is not None else make_verdict(checkpoint, compute, options, announce)


def make_verdict(
    checkpoint: Checkpoint, compute: ComputePlan, options: EngineOptions, announce: Callable[[str], None]
) -> Verdict | None:
    """Make a verdict in another process and keep it, over one that may be there; None where that is not possible."""
    key, folder = machine_key(checkpoint.config, compute), cache_folder()
    gpu = read_gpu(compute.device)
    announce(f"trying what {gpu.name} computes and compiling kernels for it (once), about 20 s")
    quantization = compute.quantization
    specification = Specification(
        folder=str(checkpoint.folder),
        device=str(compute.device),
        dtype=dtype_name(compute.dtype),
        codec_dtype=dtype_name(compute.codec_dtype),
        recipe=None if quantization is None else quantization.name,
        max_rows=options.max_batch or default_max_batch("cuda"),
        known={},
    )
    verdict = try_in_children(specification)
    if verdict is not None and folder is not None:
        save_verdict(folder / _FILE, key, verdict)
    return verdict


def machine_key(config: ModelConfig, compute: ComputePlan) -> str:
    """Name what a verdict depends on, as text."""
    gpu = read_gpu(compute.device)
    quantization = compute.quantization
    backbone, acoustic = config.backbone, config.acoustic
    return json.dumps(
        {
            "gpu": gpu.name,
            "capability": gpu.capability,
            "driver": driver_version(),
            "torch": torch.__version__,
            "triton": triton_version(),
            "voxtral": __version__,
            "dtype": f"{dtype_name(compute.dtype)} {dtype_name(compute.codec_dtype)}",
            "recipe": None if quantization is None else quantization.name,
            "widths": [backbone.dim, backbone.hidden_dim, backbone.num_heads, acoustic.dim, config.codec.dim],
        }
    )


# Children.


def try_in_children(
    specification: Specification, run: Callable[[Specification], ChildReport] | None = None
) -> Verdict | None:
    """Try all paths; those that end the process are left out of the next one.

    Args:
        specification: what is to be tried.
        run: starts a process and waits for it.

    Returns:
        The verdict; None where no process came to try anything.
    """
    run = run or run_child
    started = time.perf_counter()
    findings: tuple[Finding, ...] = ()
    for _ in range(_MAX_TRIES):
        report = run(specification)
        if report.verdict is not None:
            return replace(report.verdict, seconds=time.perf_counter() - started)
        _log.debug("the self-check %s at %s", report.end, report.last_begun)
        # A path that was left out and still ended it is not what ended it.
        if report.last_begun is None or report.last_begun in specification.known:
            break
        findings = report.findings
        reason = f"the check {report.end} in it"
        specification = replace(specification, known={**specification.known, report.last_begun: reason})
    if not specification.known:
        return None
    reason = "the check ended again and again"
    careful: dict[PathName, str] = dict.fromkeys(_CAREFUL, reason)
    return Verdict(findings, dict.fromkeys(USES_DOT, reason), careful, time.perf_counter() - started)


def run_child(specification: Specification) -> ChildReport:
    """Make the check in another process, and wait for it as long as it may take."""
    command = [sys.executable, "-m", "voxtral.loading.self_check_child", json.dumps(asdict(specification))]
    return run_command(command, limit_s=_CHILD_LIMIT_S)


def run_command(command: Sequence[str], *, limit_s: float) -> ChildReport:
    """Run a command that writes what `voxtral.loading.self_check_child` writes, and see how it ends."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as error:
        return ChildReport(None, None, (), f"could not be started ({error})")
    end = ""
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        end = f"took longer than {limit_s:g} s"
    except BaseException:
        process.kill()
        process.wait()
        raise
    code = process.returncode
    if not end:
        end = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return _read_report(output, end, is_well=code == 0)


def _read_report(output: bytes, end: str, *, is_well: bool) -> ChildReport:
    verdict, begun = None, None
    findings: list[Finding] = []
    for line in output.splitlines():
        # Libraries write to standard output too.
        with suppress(ValueError, RecursionError):
            fact = json.loads(line.decode("utf-8", errors="replace"))
            if not isinstance(fact, dict):
                continue
            entries = cast("dict[str, Any]", fact)
            if isinstance(entries.get("begin"), str):
                begun = entries["begin"]
            elif "finding" in entries:
                findings.append(read_finding(entries["finding"]))
            elif "verdict" in entries:
                verdict = Verdict.from_dict(entries["verdict"])
    return ChildReport(verdict if is_well else None, begun, tuple(findings), end)


# What is kept.


def load_verdict(path: Path, key: str) -> Verdict | None:
    """Read the verdict of a machine; None where there is none that can be read."""
    with suppress(OSError, ValueError, RecursionError):
        return Verdict.from_dict(_load(path).get(key))
    return None


def save_verdict(path: Path, key: str, verdict: Verdict) -> None:
    """Keep a verdict beside those of other machines; a folder that cannot be written keeps none."""
    kept: dict[str, Any] = {}
    with suppress(OSError, ValueError, RecursionError):
        kept = _load(path)
    kept.pop(key, None)
    kept[key] = verdict.to_dict()
    kept = dict(list(kept.items())[-_MAX_KEPT:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(kept, file, indent=1)
        os.replace(file.name, path)
    except OSError as error:
        _log.debug("the verdict of the self-check is not kept: %s", error)


def _load(path: Path) -> dict[str, Any]:
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    return cast("dict[str, Any]", data)
