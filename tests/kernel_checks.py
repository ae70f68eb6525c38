"""Each Triton kernel beside its plain-torch form, on a device: shared by the interpreted and the CUDA tests.

Inputs are made on the CPU, so that both devices see the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from voxtral.model.kernels.elementwise import add_rms_norm, silu_multiply
from voxtral.model.kernels.flow import attend_between_tokens, enter_layers, finish_frame, guided_step
from voxtral.model.kernels.matmul import quantized_matmul
from voxtral.model.kernels.paged import attend_to_pages, rotate_and_store
from voxtral.model.kernels.tokens import choose_semantic, sum_embeddings
from voxtral.model.kernels.window import attend_in_window

# Relative to the largest value: float32 sums in another order, and two roundings of a 16-bit number.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


class Inputs:
    """Draws tensors from one seed."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        self.device = device
        self.dtype = dtype
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device, dtype or self.dtype)

    def integers(self, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.randint(low, high, shape, generator=self.generator).to(self.device, dtype)


def assert_close(kernel: Tensor, plain: Tensor, tolerance: float | None = None) -> None:
    assert kernel.shape == plain.shape
    assert kernel.dtype is plain.dtype
    assert bool(torch.isfinite(kernel).all())
    scale = max(1e-6, float(plain.abs().max()))
    worst = float((kernel.double() - plain.double()).abs().max()) / scale
    assert worst <= (tolerance or TOLERANCE[plain.dtype]), worst


def check_add_rms_norm(device: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    draw = Inputs(device, dtype)
    given = (draw.normal(*shape), draw.normal(*shape), draw.normal(shape[-1]), 1e-5)
    kernel, plain = (add_rms_norm(*given, use_triton=choice) for choice in (True, False))
    for one, other in zip(kernel, plain, strict=True):
        assert_close(one, other)


def check_silu_multiply(device: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = Inputs(device, dtype).normal(*shape) * 4
    assert_close(silu_multiply(x, use_triton=True), silu_multiply(x, use_triton=False))


def check_rotate_and_store(
    device: str, dtype: torch.dtype, num_rows: int, heads: tuple[int, int], head_dim: int, page_size: int
) -> None:
    draw = Inputs(device, dtype)
    num_heads, num_kv_heads = heads
    projected = draw.normal(num_rows, (num_heads + 2 * num_kv_heads) * head_dim)
    parts = projected.split((num_heads * head_dim, num_kv_heads * head_dim, num_kv_heads * head_dim), dim=-1)
    angles = draw.normal(num_rows, head_dim // 2, dtype=torch.float32) * 10
    pages = [draw.normal(num_rows + 2, page_size, num_kv_heads, head_dim) for _ in range(2)]
    # The ends of different pages, and nothing twice.
    slots = torch.arange(1, num_rows + 1, device=device) * page_size + page_size - 1
    results = []
    for choice in (True, False):
        keys, values = (page.clone() for page in pages)
        query = rotate_and_store(parts, (angles.cos(), angles.sin()), slots, keys, values, use_triton=choice)
        results.append((query, keys, values))
    for kernel, plain in zip(*results, strict=True):
        assert_close(kernel, plain)
    is_untouched = torch.ones(len(pages[0]) * page_size, dtype=torch.bool, device=device)
    is_untouched[slots] = False
    for kernel, page in zip(results[0][1:], pages, strict=True):
        assert torch.equal(kernel.flatten(0, 1)[is_untouched], page.flatten(0, 1)[is_untouched])
    assert torch.equal(results[0][2].flatten(0, 1)[slots].flatten(1), parts[2])


def check_attend_to_pages(
    device: str, dtype: torch.dtype, lengths: list[int], heads: tuple[int, int], head_dim: int, page_size: int
) -> None:
    draw = Inputs(device, dtype)
    num_heads, num_kv_heads = heads
    max_pages = max(1, math.ceil(max(lengths) / page_size))
    num_pages = len(lengths) * max_pages + 1
    keys, values = (draw.normal(num_pages, page_size, num_kv_heads, head_dim) for _ in range(2))
    # Pages in any order; page 0 is scratch, and what lies behind a row's length must not be looked at.
    tables = 1 + torch.randperm(num_pages - 1, generator=draw.generator).view(len(lengths), max_pages)
    tables = tables.to(device, torch.int32)
    for row, length in enumerate(lengths):
        num_used = math.ceil(length / page_size)
        tables[row, num_used:] = 2**30
        if length % page_size:
            keys[tables[row, num_used - 1], length % page_size :] = torch.nan
            values[tables[row, num_used - 1], length % page_size :] = torch.nan
    query = draw.normal(len(lengths), num_heads, head_dim)
    seen = torch.tensor(lengths, dtype=torch.int32, device=device)
    kernel, plain = (attend_to_pages(query, keys, values, tables, seen, use_triton=choice) for choice in (True, False))
    assert_close(kernel, plain, 5e-6 if dtype is torch.float32 else None)
    for row, length in enumerate(lengths):
        if length == 0:
            assert not kernel[row].any()
    # A row is what it is alone.
    alone = attend_to_pages(query[:1], keys, values, tables[:1], seen[:1], use_triton=True)
    assert torch.equal(kernel[:1], alone)


def quantized(draw: Inputs, num_columns: int, depth: int, group: int) -> tuple[Tensor, Tensor, Tensor | None]:
    if group == 0:
        weight = draw.integers(-128, 128, num_columns, depth, dtype=torch.int8)
        return weight, draw.normal(num_columns, dtype=torch.float32).abs() * 0.01, None
    weight = draw.integers(0, 256, num_columns, depth // 2, dtype=torch.uint8)
    scales = draw.normal(num_columns, depth // group, dtype=torch.float32).abs() * 0.01
    zeros = draw.normal(num_columns, depth // group, dtype=torch.float32) + 7.5
    # The dtypes of voxtral.model.linear_weights.Int4Weight.
    return weight, scales.bfloat16(), zeros.half()


def check_quantized_matmul(device: str, dtype: torch.dtype, shape: tuple[int, int, int], group: int) -> None:
    draw = Inputs(device, dtype)
    num_rows, num_columns, depth = shape
    x = draw.normal(num_rows, depth)
    matrix = quantized(draw, num_columns, depth, group)
    kernel, plain = (quantized_matmul(x, *matrix, use_triton=choice) for choice in (True, False))
    assert kernel.shape == (num_rows, num_columns)
    assert_close(kernel, plain, 1e-5 if dtype is torch.float32 else None)


def check_enter_layers(device: str, dtype: torch.dtype, num_rows: int, dim: int, width: int) -> None:
    draw = Inputs(device, dtype)
    entered = draw.normal(num_rows, dim + width, dtype=torch.float32)
    time, llm = (
        (draw.normal(dim), draw.normal(width)),
        (draw.normal(2 * num_rows, dim), draw.normal(2 * num_rows, width)),
    )
    given = (entered, draw.normal(width), time, llm, 1e-5)
    kernel, plain = (enter_layers(*given, use_triton=choice) for choice in (True, False))
    for one, other in zip(kernel, plain, strict=True):
        assert_close(one, other)
        assert torch.equal(one[:, 1:], other[:, 1:])


def check_attend_between_tokens(
    device: str, dtype: torch.dtype, num_rows: int, num_queries: int, heads: tuple[int, int], head_dim: int
) -> None:
    num_heads, num_kv_heads = heads
    projected = Inputs(device, dtype).normal(num_rows, 3, (num_heads + 2 * num_kv_heads) * head_dim)
    parts = projected.split((num_heads * head_dim, num_kv_heads * head_dim, num_kv_heads * head_dim), dim=-1)
    given = (parts[0][:, :num_queries], parts[1], parts[2], head_dim)
    kernel, plain = (attend_between_tokens(*given, use_triton=choice) for choice in (True, False))
    assert_close(kernel, plain)


def check_guided_step(device: str, num_rows: int, width: int) -> None:
    draw = Inputs(device)
    scale, step = draw.normal(num_rows), torch.tensor(1 / 7, device=device)
    given = (draw.normal(num_rows, width), draw.normal(2 * num_rows, width), scale, step)
    kernel, plain = (guided_step(*given, use_triton=choice) for choice in (True, False))
    assert torch.equal(kernel, plain)


def check_finish_frame(device: str, state: Tensor, semantic: list[int], num_levels: int) -> None:
    given = (state.to(device), torch.tensor(semantic, device=device), num_levels)
    kernel, plain = (finish_frame(*given, use_triton=choice) for choice in (True, False))
    assert torch.equal(kernel, plain)


def check_choose_semantic(device: str, dtype: torch.dtype, num_rows: int, vocab: int, num_logits: int) -> None:
    draw = Inputs(device, dtype)
    # Few different values, so that there are ties, and the highest of all where none may win.
    logits = draw.integers(-3, 4, num_rows, num_logits).to(dtype)
    logits[:, 0] = 9
    logits[:, 1] = 8
    logits[:, vocab:] = 9
    may_end = torch.arange(num_rows, device=device) % 2 == 0
    kernel = choose_semantic(logits, may_end, vocab, use_triton=True)
    assert torch.equal(kernel, choose_semantic(logits, may_end, vocab, use_triton=False))
    assert kernel.tolist() == [
        1 if row % 2 == 0 else 2 + int((logits[row, 2:vocab] == logits[row, 2:vocab].max()).int().argmax())
        for row in range(num_rows)
    ]


def check_sum_embeddings(device: str, dtype: torch.dtype, num_rows: int, num_codebooks: int, dim: int) -> None:
    draw = Inputs(device, dtype)
    tokens = draw.integers(0, 5, num_rows, num_codebooks)
    offsets = torch.arange(num_codebooks, device=device) * 5
    table = draw.normal(num_codebooks * 5 + 3, dim)
    kernel, plain = (sum_embeddings(tokens, offsets, table, use_triton=choice) for choice in (True, False))
    assert_close(kernel, plain)


def check_attend_in_window(
    device: str, dtype: torch.dtype, shape: tuple[int, int, int], heads: tuple[int, int], head_dim: int, window: int
) -> None:
    draw = Inputs(device, dtype)
    num_rows, num_queries, num_keys = shape
    # As the codec has them: queries and values as they were projected, keys copied beside those of the cache.
    query = draw.normal(num_rows, num_queries, heads[0], head_dim).transpose(1, 2)
    key = draw.normal(num_rows, heads[1], num_keys, head_dim)
    value = draw.normal(num_rows, num_keys, heads[1], head_dim).transpose(1, 2)
    # Powers of two, so that the plain form's bias of 16 bits is exact too.
    slopes = 0.5 ** torch.arange(heads[0], device=device)
    kernel, plain = (attend_in_window(query, key, value, slopes, window, use_triton=choice) for choice in (True, False))
    assert_close(kernel, plain, 5e-6 if dtype is torch.float32 else None)
