"""Each Triton kernel beside its plain-torch form, on a device: shared by the interpreted and the CUDA tests.

Inputs are made on the CPU, so that both devices see the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from voxtral.model.kernels.elementwise import silu_multiply
from voxtral.model.kernels.float8 import float8_product, quantize_rows
from voxtral.model.kernels.flow import attend_between_tokens, enter_layers, finish_frame, guided_step
from voxtral.model.kernels.matmul import fused_product, quantized_matmul
from voxtral.model.kernels.paged import PagedSpans, attend_rotating, attend_spans, rotate_and_store
from voxtral.model.kernels.shifts import Start, shifted_columns
from voxtral.model.kernels.text import PagedTexts, TextHeads, weigh_text
from voxtral.model.kernels.tokens import choose_semantic, sum_embeddings
from voxtral.model.kernels.window import attend_after_past, attend_in_window

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


def paged_rows(
    draw: Inputs, lengths: list[int], heads: tuple[int, int], head_dim: int, page_size: int
) -> tuple[list[Tensor], Tensor]:
    """Draw pages of keys and values, and a table of rows whose pages lie in any order.

    Page 0 is scratch. What lies behind a row's length holds NaN or is no page at all: it must not be looked at.
    """
    max_pages = max(1, math.ceil(max(lengths) / page_size))
    num_pages = len(lengths) * max_pages + 1
    pages = [draw.normal(num_pages, page_size, heads[1], head_dim) for _ in range(2)]
    tables = 1 + torch.randperm(num_pages - 1, generator=draw.generator).view(len(lengths), max_pages)
    tables = tables.to(draw.device, torch.int32)
    for row, length in enumerate(lengths):
        num_used = math.ceil(length / page_size)
        tables[row, num_used:] = 2**30
        if length % page_size:
            for part in pages:
                part[tables[row, num_used - 1], length % page_size :] = torch.nan
    return pages, tables


def check_attend_rotating(
    device: str, dtype: torch.dtype, lengths: list[int], heads: tuple[int, int], head_dim: int, page_size: int
) -> None:
    draw = Inputs(device, dtype)
    num_rows, width, kv_width = len(lengths), heads[0] * head_dim, heads[1] * head_dim
    pages, tables = paged_rows(draw, lengths, heads, head_dim, page_size)
    parts = draw.normal(num_rows, width + 2 * kv_width).split((width, kv_width, kv_width), dim=-1)
    angles = draw.normal(num_rows, head_dim // 2, dtype=torch.float32) * 10
    rotation = (angles.cos(), angles.sin())
    newest = torch.tensor(lengths, device=device) - 1
    slots = tables.gather(1, (newest // page_size)[:, None])[:, 0].long() * page_size + newest % page_size
    seen = (newest + 1).int()
    # The new position is not there before; it must be written, and nothing else.
    for page in pages:
        page.flatten(0, 1)[slots] = torch.nan
    results = []
    for choice in (True, False):
        written = [page.clone() for page in pages]
        mixed = attend_rotating(parts, rotation, slots, (written[0], written[1]), tables, seen, use_triton=choice)
        results.append((mixed, *written))
    (kernel, *kernel_pages), (plain, *plain_pages) = results
    assert_close(kernel, plain, 5e-6 if dtype is torch.float32 else None)
    is_new = torch.zeros(pages[0].shape[0] * page_size, dtype=torch.bool, device=device)
    is_new[slots] = True
    for one, other, before in zip(kernel_pages, plain_pages, pages, strict=True):
        assert_close(one.flatten(0, 1)[is_new], other.flatten(0, 1)[is_new])
        kept = before.flatten(0, 1)[~is_new]
        assert torch.equal(one.flatten(0, 1)[~is_new].nan_to_num(9), kept.nan_to_num(9))
    # A row is what it is alone, also when it is computed again: nothing is left behind.
    first = tuple(part[:1] for part in parts)
    alone = attend_rotating(
        (first[0], first[1], first[2]),
        (rotation[0][:1], rotation[1][:1]),
        slots[:1],
        (kernel_pages[0], kernel_pages[1]),
        tables[:1],
        seen[:1],
        use_triton=True,
    )
    assert torch.equal(kernel[:1], alone)


def check_weigh_text(
    device: str,
    dtype: torch.dtype,
    spans: list[tuple[int, int]],
    pairs: list[tuple[int, int]],
    heads: tuple[int, int],
    head_dim: int,
    page_size: int,
    width: int = 512,
) -> None:
    """Texts at `spans` (first position and the one behind the last; no text at 0, 0); all other keys are NaN."""
    draw = Inputs(device, dtype)
    num_rows, num_layers = len(spans), 1 + max(layer for layer, _ in pairs)
    _, tables = paged_rows(draw, [max(1, stop) for _, stop in spans], heads, head_dim, page_size)
    num_pages = 1 + num_rows * tables.shape[1]
    keys = draw.normal(num_layers, num_pages, page_size, heads[1], head_dim)
    kept = torch.zeros(num_pages * page_size, dtype=torch.bool, device=device)
    slots: list[Tensor] = []
    for row, (start, stop) in enumerate(spans):
        positions = torch.arange(start, stop, device=device)
        slots.append(tables[row, positions // page_size].long() * page_size + positions % page_size)
        kept[slots[-1]] = True
    kept[tables[:, 0].long() * page_size] = True  # rows without a text may look at their first position, in vain
    keys.flatten(1, 2)[:, ~kept] = torch.nan
    queries = [draw.normal(num_rows, head_dim) for _ in pairs]
    angles = draw.normal(num_rows, head_dim // 2, dtype=torch.float32) * 10
    rotation = (angles.cos(), angles.sin())
    chosen = TextHeads.make(pairs, group=heads[0] // heads[1], width=width, page_size=page_size, device=keys.device)
    starts, lengths = (
        torch.tensor(part, dtype=torch.int32, device=device)
        for part in ([start for start, _ in spans], [stop - start for start, stop in spans])
    )
    texts = PagedTexts(starts, lengths, tables)
    kernel, plain = (weigh_text(queries, rotation, keys, chosen, texts, use_triton=choice) for choice in (True, False))
    assert_close(kernel, plain, 1e-5)
    assert kernel.shape == (num_rows, width)
    # And both are what the definition says, written down once more, row by row.
    for row, (start, stop) in enumerate(spans):
        assert not kernel[row, stop - start :].any()
        assert not plain[row, stop - start :].any()
        if start == stop:
            continue
        shares = []
        for query, (layer, head) in zip(queries, sorted(pairs), strict=True):
            even, odd = query[row].double().unflatten(-1, (-1, 2)).unbind(-1)
            cos, sin = (part[row].double() for part in rotation)
            rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten()
            seen = keys[layer].flatten(0, 1)[slots[row], head // (heads[0] // heads[1])].double()
            shares.append((seen @ rotated / head_dim**0.5).softmax(dim=0))
        expected = torch.stack(shares).mean(dim=0)
        torch.testing.assert_close(plain[row, : stop - start].double(), expected, atol=2e-6, rtol=2e-5)
    # A row is what it is alone.
    alone = weigh_text(
        [query[-1:] for query in queries],
        (rotation[0][-1:], rotation[1][-1:]),
        keys,
        chosen,
        PagedTexts(starts[-1:], lengths[-1:], tables[-1:]),
        use_triton=True,
    )
    assert torch.equal(alone, kernel[-1:])


def check_attend_spans(
    device: str,
    dtype: torch.dtype,
    spans: list[tuple[int, int]],
    heads: tuple[int, int],
    head_dim: int,
    page_size: int,
) -> None:
    """Spans are given as new positions and positions seen; three positions behind them pad the pass."""
    draw = Inputs(device, dtype)
    pages, tables = paged_rows(draw, [num_seen for _, num_seen in spans], heads, head_dim, page_size)
    stops = [sum(num_new for num_new, _ in spans[: index + 1]) for index in range(len(spans))]
    bounds = [(stop - num_new, stop, num_seen) for stop, (num_new, num_seen) in zip(stops, spans, strict=True)]
    query = draw.normal(stops[-1] + 3, heads[0], head_dim)
    given = (query, (pages[0], pages[1]), PagedSpans(bounds, tables))
    kernel, plain = (attend_spans(*given, use_triton=choice) for choice in (True, False))
    assert_close(kernel, plain, 5e-6 if dtype is torch.float32 else None)
    assert not kernel[stops[-1] :].any()


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


def check_fused_product(
    device: str,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    *,
    group: int | None = None,
    has_norm: bool = False,
    is_gated: bool = False,
) -> None:
    """Check with a bias and a residual; without `group` the matrix is in the dtype of the activations."""
    draw = Inputs(device, dtype)
    num_rows, num_columns, depth = shape
    # Rows that lie apart, as the state tokens among the three of the flow do.
    x = draw.normal(num_rows, 3, depth)[:, 0]
    if group is None:
        matrix: tuple[Tensor, ...] = (draw.normal(num_columns, depth) * depth**-0.5,)
    else:
        matrix = tuple(part for part in quantized(draw, num_columns, depth, group) if part is not None)
    width = num_columns // 2 if is_gated else num_columns
    norm = (draw.normal(depth), 1e-5) if has_norm else None
    bias, residual = draw.normal(num_columns), draw.normal(num_rows, 2, width)[:, 1]
    kernel, plain = (
        fused_product(x, matrix, norm=norm, bias=bias, is_gated=is_gated, residual=residual.clone(), use_triton=choice)
        for choice in (True, False)
    )
    assert kernel.shape == (num_rows, width)
    assert_close(kernel, plain, 1e-5 if dtype is torch.float32 else None)


def check_quantize_rows(device: str, dtype: torch.dtype, shape: tuple[int, ...], *, has_norm: bool) -> None:
    draw = Inputs(device, dtype)
    x = draw.normal(*shape)
    x[0] = 0
    norm = (draw.normal(shape[-1]), 1e-5) if has_norm else None
    (values, scales), (plain, plain_scales) = (quantize_rows(x, norm, use_triton=choice) for choice in (True, False))
    assert values.dtype is plain.dtype is torch.float8_e4m3fn
    # A norm that is summed in another order may round the other way before it is rounded again.
    assert_close(scales, plain_scales, TOLERANCE[dtype] if has_norm else 1e-7)
    found, expected = values.float(), plain.float()
    if device == "cpu":
        # Triton's interpreter (3.7.1) does not carry into the exponent: what rounds up to a power of two comes out
        # halved. And it rounds ties up, where hardware rounds them to even.
        is_halved = (torch.frexp(found.abs())[0] == 0.5) & ((2 * found - expected).abs() < (found - expected).abs())
        exact = x.float() / plain_scales.view(*x.shape[:-1], 1)
        is_tie = (exact - found).abs() == (exact - expected).abs()
        found = torch.where(is_tie, expected, torch.where(is_halved, 2 * found, found))
    is_off = found != expected
    if not has_norm:
        assert not is_off.any()
    assert float(is_off.float().mean()) <= 0.05
    # The next number of 4 significant bits, or of the smallest ones.
    assert bool(((found - expected).abs() <= expected.abs() * 2**-3 + 2**-9).all())


def check_float8_product(
    device: str, dtype: torch.dtype, shape: tuple[int, int, int], *, is_gated: bool = False
) -> None:
    draw = Inputs(device, dtype)
    num_rows, num_columns, depth = shape
    rows = quantize_rows(draw.normal(num_rows, depth), use_triton=False)
    matrix = quantize_rows(draw.normal(num_columns, depth) * depth**-0.5, use_triton=False)
    width = num_columns // 2 if is_gated else num_columns
    bias, residual = draw.normal(num_columns), draw.normal(num_rows, width)
    kernel, plain = (
        float8_product(rows, matrix, dtype, bias=bias, is_gated=is_gated, residual=residual.clone(), use_triton=choice)
        for choice in (True, False)
    )
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


def _parts_of_states(draw: Inputs, num_rows: int, length: int, width: int) -> tuple[Tensor, Tensor]:
    """A part of packed states with others around it, and room for the same part of the states after."""
    before, after = draw.normal(num_rows, length * width + 7), draw.normal(num_rows, length * width + 7)
    first, second = (part[:, 3 : 3 + length * width].unflatten(1, (length, width)) for part in (before, after))
    return first, second


def check_attend_after_past(
    device: str, dtype: torch.dtype, shape: tuple[int, int], heads: tuple[int, int], head_dim: int, window: int
) -> None:
    draw = Inputs(device, dtype)
    num_rows, num_queries = shape
    num_heads, num_kv_heads = heads
    projected = draw.normal(num_rows, num_queries, (num_heads + 2 * num_kv_heads) * head_dim)
    past, kept = _parts_of_states(draw, num_rows, window, 2 * num_kv_heads * head_dim)
    # A stream that begins, one that is younger than the window, and others.
    before = torch.arange(num_rows, device=device) * max(1, window - 1)
    slopes = 0.5 ** torch.arange(num_heads, device=device)
    norms = (draw.normal(num_heads * head_dim), draw.normal(num_kv_heads * head_dim), 1e-6)
    for given in (norms, None):
        plain = attend_after_past(projected, past, kept, before, slopes, given, head_dim, use_triton=False)
        expected = kept.clone()
        kept.fill_(7)
        made = attend_after_past(projected, past, kept, before, slopes, given, head_dim, use_triton=True)
        assert_close(made, plain, 5e-6 if dtype is torch.float32 else None)
        # Of positions that there never were nobody reads.
        for row in range(num_rows):
            there = min(window, int(before[row]) + num_queries)
            assert torch.equal(kept[row, window - there :], expected[row, window - there :])


def check_shifted_columns(
    device: str, dtype: torch.dtype, shape: tuple[int, int, int], reach: int, start: Start
) -> None:
    draw = Inputs(device, dtype)
    x = draw.normal(*shape)
    past, kept = _parts_of_states(draw, shape[0], reach, shape[2])
    before = torch.arange(shape[0], device=device)
    plain = shifted_columns(x, past, kept, before, start, use_triton=False)
    expected = kept.clone()
    kept.fill_(7)
    assert torch.equal(shifted_columns(x, past, kept, before, start, use_triton=True), plain)
    assert torch.equal(kept, expected)
