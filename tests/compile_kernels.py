"""Compile every Triton kernel for GPUs that are not here: `python tests/compile_kernels.py 90 bfloat16 all`.

Prints one JSON line for each launch: kernel, compute capability, dtype, bytes of shared memory, registers, and bytes
that a thread spills into memory because its registers do not do. Launches are those of the published sizes; they
compile and do not run. With `once` instead of `all`, the first launch of each kernel alone, without the last two. Run
without TRITON_INTERPRET.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from voxtral.model.kernels.dispatch import FLOAT8_CAPABILITY
from voxtral.model.kernels.elementwise import silu_multiply
from voxtral.model.kernels.float8 import float8_product, quantize_rows
from voxtral.model.kernels.flow import attend_between_tokens, enter_layers, finish_frame, guided_step
from voxtral.model.kernels.matmul import fused_product, quantized_matmul
from voxtral.model.kernels.paged import PagedSpans, attend_rotating, attend_spans, rotate_and_store
from voxtral.model.kernels.shifts import shifted_columns
from voxtral.model.kernels.text import PagedTexts, TextHeads, weigh_text
from voxtral.model.kernels.tokens import choose_semantic, sum_embeddings
from voxtral.model.kernels.window import attend_after_past, attend_in_window

_TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float8_e4m3fn: "*fp8e4nv",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
WITH_PRODUCTS = frozenset({"_multiply", "_attend_rotating", "_attend_spans", "_attend_in_window", "_attend_after_past"})
_OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")

# What Triton does that newer Pythons and libraries warn of is not ours to mend.
warnings.filterwarnings("ignore", category=DeprecationWarning, module="triton")


def argument_type(value: Any) -> str:
    if isinstance(value, Tensor):
        return _TYPES[value.dtype]
    return "i32" if isinstance(value, int) else "fp32"


def compile_launch(kernel: Any, arguments: tuple[Any, ...], named: dict[str, Any], capability: int) -> Any:
    options = {name: named.pop(name) for name in _OPTIONS if name in named}
    values = dict(zip(kernel.arg_names, arguments, strict=False)) | named
    fixed = {kernel.arg_names[place]: values[kernel.arg_names[place]] for place in kernel.constexprs}
    signature = {name: argument_type(value) for name, value in values.items() if name not in fixed}
    # As a real launch finds them: memory and sizes are multiples of 16, so that loads are wide.
    is_wide = {
        name: isinstance(value, Tensor) or value % 16 == 0 for name, value in values.items() if name not in fixed
    }
    places = [kernel.arg_names.index(name) for name, wide in is_wide.items() if wide]
    make: Any = ASTSource
    if "constexprs" in inspect.signature(make).parameters:
        types = {name: "constexpr" if name in fixed else signature[name] for name in values}
        attributes: Any = {(place,): [["tt.divisibility", 16]] for place in places}
        source = make(kernel, signature=types, constexprs=fixed, attrs=attributes)
    else:  # Triton 3.2, which torch 2.6 brings
        from triton.backends.compiler import AttrsDescriptor

        properties = {"arg_properties": {"tt.divisibility": places}, "cls": "AttrsDescriptor"}
        source = make(kernel, signature=signature, constants=fixed, attrs=AttrsDescriptor.from_dict(properties))
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def registers_of(ptx: str, capability: int) -> dict[str, int]:
    """Assemble once more, aloud."""
    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    architecture = f"sm_{capability}a" if capability == 90 else f"sm_{capability}"
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [program, "-v", "--gpu-name", architecture, file.name, "-o", os.devnull]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, spilled = (re.search(what, said) for what in (r"Used (\d+) registers", r"(\d+) bytes spill stores"))
    assert registers is not None, said
    assert spilled is not None, said
    return {"registers": int(registers[1]), "spilled": int(spilled[1])}


def launches(dtype: torch.dtype, capability: tuple[int, int]) -> Iterator[Any]:
    """Call every kernel that a GPU can run with the sizes of the published model."""

    def blank(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        # Nobody reads them, and to write a gigabyte of zeros takes longer than some kernels.
        return torch.empty(shape, dtype=dtype)

    ints, floats = torch.int32, torch.float32
    pages, tokens = blank(8, 16, 8, 128), blank(2, 37, dtype=torch.int64)
    yield silu_multiply(blank(2, 18432), use_triton=True)
    rotation, slots = (blank(2, 64, dtype=floats), blank(2, 64, dtype=floats)), blank(2, dtype=torch.int64)
    projections = (blank(2, 4096), blank(2, 1024), blank(2, 1024))
    yield rotate_and_store(projections, rotation, slots, pages, pages, use_triton=True)
    tables, lengths = blank(2, 32, dtype=ints), blank(2, dtype=ints)
    yield attend_rotating(projections, rotation, slots, (pages, pages), tables, lengths, use_triton=True)
    yield attend_spans(blank(16, 32, 128), (pages, pages), PagedSpans([(0, 16, 16)], tables[:1]), use_triton=True)
    heads = TextHeads.make([(0, 1), (0, 2)], group=4, width=512, page_size=16, device=pages.device)
    places = PagedTexts(lengths, lengths, tables)
    yield weigh_text([blank(2, 128)] * 2, rotation, pages[None], heads, places, use_triton=True)
    norm = None if dtype is torch.float16 else (blank(3072), 1e-5)
    for num_rows in (2, 32, 64):
        x, narrow = blank(num_rows, 3072), blank(num_rows, 9216)
        # With what stands around them in a frame: wqkv, w13 and w2.
        yield fused_product(x, (blank(6144, 3072),), norm=norm, use_triton=True)
        yield fused_product(x, (blank(18432, 3072),), norm=norm, is_gated=True, use_triton=True)
        yield fused_product(narrow, (blank(3072, 9216),), residual=x, use_triton=True)
        int8 = (blank(18432, 3072, dtype=torch.int8), blank(18432, dtype=floats))
        yield fused_product(x, int8, norm=norm, is_gated=True, use_triton=True)
        int4 = blank(18432, 1536, dtype=torch.uint8), blank(18432, 48, dtype=torch.bfloat16)
        yield fused_product(x, (*int4, int4[1].half()), norm=norm, is_gated=True, use_triton=True)
        if capability >= FLOAT8_CAPABILITY:
            rows = quantize_rows(x, (blank(3072), 1e-5), use_triton=True)
            float8 = (blank(18432, 3072, dtype=torch.float8_e4m3fn), blank(18432, dtype=floats))
            yield float8_product(rows, float8, dtype, is_gated=True, use_triton=True)
            rows = quantize_rows(narrow, use_triton=True)
            float8 = (blank(3072, 9216, dtype=torch.float8_e4m3fn), blank(3072, dtype=floats))
            yield float8_product(rows, float8, dtype, residual=x, use_triton=True)
    for num_rows in (2, 48):
        x, bytes_ = blank(num_rows, 3072), blank(64, 3072, dtype=torch.int8)
        yield quantized_matmul(x, bytes_, blank(64, dtype=floats), use_triton=True)
    for group in (64, 128):
        x, halves = blank(2, 3072), blank(64, 1536, dtype=torch.uint8)
        parts = blank(64, 3072 // group, dtype=torch.bfloat16), blank(64, 3072 // group, dtype=torch.float16)
        yield quantized_matmul(x, halves, *parts, use_triton=True)
    entered, time, llm = blank(2, 9216, dtype=floats), (blank(3072), blank(6144)), (blank(4, 3072), blank(4, 6144))
    yield enter_layers(entered, blank(6144), time, llm, 1e-5, use_triton=True)
    yield attend_between_tokens(blank(4, 3, 4096), blank(4, 3, 1024), blank(4, 3, 1024), 128, use_triton=True)
    scale, step = blank(2, dtype=floats), torch.tensor(0.5)
    yield guided_step(blank(2, 36, dtype=floats), blank(4, 36, dtype=floats), scale, step, use_triton=True)
    yield finish_frame(blank(2, 36, dtype=floats), blank(2, dtype=torch.int64), 21, use_triton=True)
    yield choose_semantic(blank(2, 8320), blank(2, dtype=torch.bool), 8194, use_triton=True)
    yield sum_embeddings(tokens, blank(37, dtype=torch.int64), blank(9088, 3072), use_triton=True)
    for window in (2, 16):
        query, slopes = blank(1, 8, 16, 128), blank(8, dtype=floats)
        yield attend_in_window(query, query, query, slopes, window, use_triton=True)
        past, before, norms = blank(2, window, 2048), blank(2, dtype=torch.int64), (blank(1024), blank(1024), 1e-6)
        yield attend_after_past(blank(2, 16, 3072), past, past, before, slopes, norms, 128, use_triton=True)
    for reach, width, start in ((2, 292, "repeat"), (1, 1024, "zeros"), (6, 1024, "reflect")):
        past = blank(2, reach, width)
        yield shifted_columns(blank(2, 8, width), past, past, before, start, use_triton=True)


def main(capability: int, dtype_name: str, extent: str) -> None:
    seen: set[str] = set()

    def compile_instead(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
        assert grid
        assert not warmup
        if extent == "once" and kernel.__name__ in seen:
            return
        # Without the tensor cores of sm_80 the library multiplies.
        if capability < 80 and kernel.__name__ in WITH_PRODUCTS:
            return
        seen.add(kernel.__name__)
        compiled = compile_launch(kernel, arguments, named, capability)
        assert "cubin" in compiled.asm
        fact = {"kernel": kernel.__name__, "capability": capability, "dtype": dtype_name}
        used = {} if extent == "once" else registers_of(compiled.asm["ptx"], capability)
        print(json.dumps(fact | {"shared": compiled.metadata.shared} | used), flush=True)

    JITFunction.run = compile_instead  # pyright: ignore[reportAttributeAccessIssue]
    for _ in launches(getattr(torch, dtype_name), (capability // 10, capability % 10)):
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
