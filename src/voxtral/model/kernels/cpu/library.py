"""One opened library, the threads it computes in, and the instructions that it uses on this processor.

Threads are those of the OpenMP that torch itself computes with, handed over as pointers: a second one would have
threads of its own that wait beside torch's (docs/LOG.md, "Teams that do not wait").
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from voxtral.disk import cache_folder
from voxtral.errors import OptionError, quoted
from voxtral.model.kernels.cpu.building import NoLibraryError, find_library
from voxtral.switches import SWITCHES, is_switched_off

# Names the best form that may be used: for tests, and to see what a lesser processor would do.
FORM_VARIABLE = "VOXTRAL_CPU_FORM"

# All that there are, on any processor; what the library has is in it, the best last.
FORM_NAMES = ("avx2", "avxvnni", "avx512vnni", "dotprod", "i8mm")

_VERSION = 2


class Matrix(ctypes.Structure):
    """`matrix` of source/shapes.h."""

    _fields_ = (
        ("bits", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("num_outputs", ctypes.c_int64),
        ("num_inputs", ctypes.c_int64),
        ("packed", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
    )


class Product(ctypes.Structure):
    """`product` of source/shapes.h."""

    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("inputs", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("residual", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("input_stride", ctypes.c_int64),
        ("residual_stride", ctypes.c_int64),
        ("output_stride", ctypes.c_int64),
        ("input_type", ctypes.c_int32),
        ("norm_type", ctypes.c_int32),
        ("bias_type", ctypes.c_int32),
        ("residual_type", ctypes.c_int32),
        ("output_type", ctypes.c_int32),
        ("is_gated", ctypes.c_int32),
        ("num_bytes", ctypes.c_int32),
        ("eps", ctypes.c_float),
    )


class Paged(ctypes.Structure):
    """`paged` of source/shapes.h."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in (
                "projections",
                "cosines",
                "sines",
                "slots",
                "tables",
                "lengths",
                "keys",
                "values",
                "outputs",
                "rotated",
            )
        ),
        *((name, ctypes.c_int64) for name in ("max_pages", "page_size", "num_heads", "num_kv_heads")),
        ("head_dim", ctypes.c_int32),
        ("page_type", ctypes.c_int32),
    )


class Layer(ctypes.Structure):
    """`layer` of source/shapes.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("wqkv", "wo", "w13", "w2", "attention_norm", "ffn_norm")),
        ("biases", ctypes.c_void_p * 4),
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
    )


class Steps(ctypes.Structure):
    """`steps` of source/shapes.h."""

    _fields_ = (
        ("layers", ctypes.c_void_p),
        ("x", ctypes.c_void_p),
        ("positions", Paged),
        *((name, ctypes.c_int64) for name in ("num_layers", "num_rows", "dim", "hidden_dim")),
        *((name, ctypes.c_int32) for name in ("norm_type", "bias_type", "num_bytes")),
        ("eps", ctypes.c_float),
    )


class FlowCall(ctypes.Structure):
    """`flow` of source/shapes.h."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in (
                "layers",
                "state_table",
                "biases",
                "time_tokens",
                "time_projected",
                "llm_tokens",
                "llm_projected",
                "output",
                "norm",
                "step_sizes",
                "guidance",
                "state",
            )
        ),
        *(
            (name, ctypes.c_int64)
            for name in (
                "num_layers",
                "num_steps",
                "num_rows",
                "dim",
                "hidden_dim",
                "num_acoustic",
                "num_heads",
                "num_kv_heads",
            )
        ),
        *((name, ctypes.c_int32) for name in ("head_dim", "norm_type", "bias_type", "num_bytes")),
        ("eps", ctypes.c_float),
    )


class Team(ctypes.Structure):
    """`team` of source/team.h: entry points of an OpenMP, as GNU or as LLVM names them."""

    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in (
            "gnu_parallel",
            "gnu_barrier",
            "llvm_fork",
            "llvm_thread",
            "llvm_push",
            "llvm_barrier",
            "thread_number",
            "team_size",
        )
    )


_COMMON = {"thread_number": "omp_get_thread_num", "team_size": "omp_get_num_threads"}
_GNU = {"gnu_parallel": "GOMP_parallel", "gnu_barrier": "GOMP_barrier"} | _COMMON
_LLVM = {
    "llvm_fork": "__kmpc_fork_call",
    "llvm_thread": "__kmpc_global_thread_num",
    "llvm_push": "__kmpc_push_num_threads",
    "llvm_barrier": "__kmpc_barrier",
} | _COMMON


@dataclass(frozen=True, eq=False)
class CpuForm:
    """The library with the instructions that it is to use.

    Attributes:
        library: the opened library, its functions declared.
        number: of the form in the library.
        name: of the form.
        team: whose threads compute; None computes in the calling thread alone.
        origin: how the library came to be there, in words.
    """

    library: ctypes.CDLL
    number: int
    name: str
    team: Team | None
    origin: str

    @property
    def team_address(self) -> int | None:
        """What the library takes for the team."""
        return None if self.team is None else ctypes.addressof(self.team)


def find_form() -> CpuForm:
    """Open the library, once for this process, and choose the best form that this processor has and a person allows.

    Raises:
        NoLibraryError: there is no library, or no form that this processor runs, or it is switched off.
        OptionError: the variable names no form.
    """
    limit = os.environ.get(FORM_VARIABLE, "").strip()
    if limit and limit not in FORM_NAMES:
        raise OptionError(f"{FORM_VARIABLE} is {quoted(limit)}; it must be one of {', '.join(FORM_NAMES)}; unset it")
    if is_switched_off("cpu_kernels"):
        raise NoLibraryError(f"{SWITCHES['cpu_kernels'].variable} is 0")
    library, origin = open_library(cache_folder())
    names = [library.voxtral_form_name(number).decode() for number in range(library.voxtral_num_forms())]
    allowed = names[: names.index(limit) + 1] if limit in names else [] if limit else names
    supported = [number for number in range(len(allowed)) if library.voxtral_form_is_supported(number)]
    if not supported:
        why = f"{FORM_VARIABLE} is {limit}" if limit else f"the processor has none of {', '.join(names)}"
        raise NoLibraryError(why)
    number = supported[-1]
    return CpuForm(library, number, names[number], find_team(), origin)


@functools.cache
def open_library(cache: Path | None) -> tuple[ctypes.CDLL, str]:
    """Open the library of a wheel or of a folder of kept ones; errors as in `find_library`."""
    path, origin = find_library(cache)
    try:
        library = ctypes.CDLL(str(path))
        _declare(library)
    except (OSError, AttributeError) as error:
        raise NoLibraryError(f"{path.name} cannot be opened ({' '.join(str(error).split())})") from error
    if library.voxtral_version() != _VERSION:
        raise NoLibraryError(f"{path.name} is of another version")
    return library, origin


def _declare(library: ctypes.CDLL) -> None:
    pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    signatures: Mapping[str, tuple[type | None, tuple[type, ...]]] = {
        "voxtral_version": (number, ()),
        "voxtral_num_forms": (number, ()),
        "voxtral_form_name": (ctypes.c_char_p, (number,)),
        "voxtral_form_is_supported": (number, (number,)),
        "voxtral_packed_bytes": (size, (size, size, number, number)),
        "voxtral_pack": (None, (number, pointer, size, size, number, number, pointer)),
        "voxtral_unpack": (None, (number, pointer, size, size, number, number, pointer)),
        "voxtral_scratch_bytes": (size, (number, pointer, number, size)),
        "voxtral_products": (None, (pointer, number, pointer, number, size, pointer, number)),
        "voxtral_steps_scratch": (size, (number, pointer, number)),
        "voxtral_steps": (None, (pointer, number, pointer, pointer, number)),
        "voxtral_flow_scratch": (size, (number, pointer)),
        "voxtral_flow": (None, (pointer, number, pointer, pointer, number)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


@functools.cache
def find_team() -> Team | None:
    """Find the OpenMP that torch computes with, which is in this process already; None if there is none."""
    if not torch.backends.openmp.is_available():
        return None
    folder = Path(torch.__file__).parent / "lib"
    # Symbols of a library are sought in those that it needs too, so torch's own leads to its OpenMP; not on Windows.
    files = {"win32": ("libiomp5md.dll",), "darwin": ("libtorch_cpu.dylib", "libomp.dylib")}
    for name in files.get(sys.platform, ("libtorch_cpu.so",)):
        if (team := _team_of(str(folder / name))) is not None:
            return team
    return None


def _team_of(path: str) -> Team | None:
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return None
    for names in (_GNU, _LLVM):
        try:
            found = {ours: ctypes.cast(getattr(library, theirs), ctypes.c_void_p) for ours, theirs in names.items()}
        except AttributeError:
            continue
        return Team(**{name: address.value for name, address in found.items()})
    return None
