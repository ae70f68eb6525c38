"""Each kernel alone beside its plain form, at the widths of a model: what the self-check begins with.

Inputs are drawn from a seed on the device. A trial takes `use_triton` and gives the results as tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from voxtral.config import ModelConfig, TransformerBlockConfig
from voxtral.model.kernels.elementwise import silu_multiply
from voxtral.model.kernels.float8 import LARGEST, float8_product, quantize_rows
from voxtral.model.kernels.flow import attend_between_tokens, enter_layers, finish_frame, guided_step
from voxtral.model.kernels.matmul import fused_product, quantized_matmul
from voxtral.model.kernels.paged import PagedSpans, attend_rotating, attend_spans, rotate_and_store
from voxtral.model.kernels.shifts import Start, shifted_columns
from voxtral.model.kernels.text import PagedTexts, TextHeads, weigh_text
from voxtral.model.kernels.tokens import choose_semantic, sum_embeddings
from voxtral.model.kernels.window import attend_after_past, attend_in_window

# Rows of a trial, positions of a page, and lengths at both sides of a part of the attention.
_ROWS = 3
_PAGE = 64
_LENGTHS = (1, 128, 200)

Trial = Callable[[bool], tuple[Tensor, ...]]


class Draw:
    """Draws inputs of one model's widths, on its device and in its dtype."""

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype, codec_dtype: torch.dtype) -> None:
        self.config = config
        self.device = device
        self.dtype = dtype
        self.codec_dtype = codec_dtype
        self._generator = torch.Generator(device).manual_seed(0)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Draw normal numbers."""
        return torch.randn(shape, generator=self._generator, device=self.device).to(dtype or self.dtype)

    def integers(self, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        """Draw whole numbers from `low` up to, not including, `high`."""
        return torch.randint(low, high, shape, generator=self._generator, device=self.device).to(dtype)


def _silu_multiply(draw: Draw) -> Trial:
    x = draw.normal(_ROWS, 2 * draw.config.backbone.hidden_dim)
    return lambda choice: (silu_multiply(x, use_triton=choice),)


def _projections(draw: Draw, num_heads: int, num_kv_heads: int, head_dim: int, *rows: int) -> list[Tensor]:
    widths = [num_heads * head_dim, num_kv_heads * head_dim, num_kv_heads * head_dim]
    return list(torch.split(draw.normal(*rows, sum(widths)), widths, dim=-1))


def _rotate_and_store(draw: Draw) -> Trial:
    sizes = draw.config.backbone
    query, key, value = _projections(draw, sizes.num_heads, sizes.num_kv_heads, sizes.head_dim, _ROWS)
    angles = draw.normal(_ROWS, sizes.head_dim // 2, dtype=torch.float32)
    slots = torch.arange(1, _ROWS + 1, device=draw.device) * 5

    def trial(choice: bool) -> tuple[Tensor, ...]:
        keys, values = (
            torch.zeros(2, _PAGE, sizes.num_kv_heads, sizes.head_dim, dtype=draw.dtype, device=draw.device)
            for _ in range(2)
        )
        rotation = (angles.cos(), angles.sin())
        rotated = rotate_and_store((query, key, value), rotation, slots, keys, values, use_triton=choice)
        return rotated, keys, values

    return trial


def _paged_rows(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Draw pages of keys and values, and tables of rows of `_LENGTHS` positions."""
    sizes = draw.config.backbone
    num_pages = -(-max(_LENGTHS) // _PAGE)
    shape = (1 + _ROWS * num_pages, _PAGE, sizes.num_kv_heads, sizes.head_dim)
    tables = torch.arange(1, 1 + _ROWS * num_pages, dtype=torch.int32, device=draw.device).view(_ROWS, num_pages)
    return draw.normal(*shape), draw.normal(*shape), tables


def _attend_rotating(draw: Draw) -> Trial:
    sizes = draw.config.backbone
    query, key, value = _projections(draw, sizes.num_heads, sizes.num_kv_heads, sizes.head_dim, _ROWS)
    angles = draw.normal(_ROWS, sizes.head_dim // 2, dtype=torch.float32)
    keys, values, tables = _paged_rows(draw)
    lengths = torch.tensor(_LENGTHS, dtype=torch.int32, device=draw.device)
    newest = (lengths - 1).long()
    slots = tables.gather(1, (newest // _PAGE)[:, None])[:, 0].long() * _PAGE + newest % _PAGE

    def trial(choice: bool) -> tuple[Tensor, ...]:
        pages = (keys.clone(), values.clone())
        rotation = (angles.cos(), angles.sin())
        mixed = attend_rotating((query, key, value), rotation, slots, pages, tables, lengths, use_triton=choice)
        return mixed, *pages

    return trial


def _attend_spans(draw: Draw) -> Trial:
    sizes = draw.config.backbone
    keys, values, tables = _paged_rows(draw)
    # New positions of each row: all that it has, one, and some behind others; then one that pads the pass.
    new = (_LENGTHS[0], 1, 70)
    stops = [sum(new[: row + 1]) for row in range(_ROWS)]
    bounds = [(stop - count, stop, seen) for stop, count, seen in zip(stops, new, _LENGTHS, strict=True)]
    query = draw.normal(stops[-1] + 1, sizes.num_heads, sizes.head_dim)
    spans = PagedSpans(bounds, tables)
    return lambda choice: (attend_spans(query, (keys, values), spans, use_triton=choice),)


def _weigh_text(draw: Draw) -> Trial:
    sizes = draw.config.backbone
    keys, _, tables = _paged_rows(draw)
    group, width = sizes.num_heads // sizes.num_kv_heads, _LENGTHS[1]
    pairs = ((0, 0), (1, sizes.num_heads - 1))
    heads = TextHeads.make(pairs, group=group, width=width, page_size=_PAGE, device=draw.device)
    # No text, one at the end of a page and behind it, and one as long as a text may be.
    starts, lengths = (
        torch.tensor(part, dtype=torch.int32, device=draw.device) for part in ((0, 60, 3), (0, 9, width))
    )
    texts = PagedTexts(starts, lengths, tables)
    queries = [draw.normal(_ROWS, sizes.head_dim) for _ in pairs]
    angles = draw.normal(_ROWS, sizes.head_dim // 2, dtype=torch.float32)
    both, rotation = torch.stack((keys, keys.flip(0))), (angles.cos(), angles.sin())
    return lambda choice: (weigh_text(queries, rotation, both, heads, texts, use_triton=choice),)


def _fused_product(draw: Draw) -> Trial:
    sizes = draw.config.backbone
    dim, hidden = sizes.dim, sizes.hidden_dim
    x, bias, residual = draw.normal(_ROWS, dim), draw.normal(dim), draw.normal(_ROWS, dim)
    square, gates = draw.normal(dim, dim) * dim**-0.5, draw.normal(2 * hidden, dim) * dim**-0.5
    numbers = draw.integers(-127, 128, dim, dim, dtype=torch.int8)
    scales = draw.normal(dim, dtype=torch.float32).abs() * 0.01
    # Of float16 a norm comes before the product.
    norm = None if draw.dtype is torch.float16 else (draw.normal(dim), sizes.norm_eps)

    def trial(choice: bool) -> tuple[Tensor, ...]:
        return (
            fused_product(x, (square,), bias=bias, residual=residual.clone(), use_triton=choice),
            fused_product(x, (gates,), norm=norm, is_gated=True, use_triton=choice),
            fused_product(x, (numbers, scales), norm=norm, use_triton=choice),
        )

    return trial


def _quantized_matmul(draw: Draw) -> Trial:
    dim = draw.config.backbone.dim
    x, numbers = draw.normal(_ROWS, dim), draw.integers(-127, 128, dim, dim, dtype=torch.int8)
    scales = draw.normal(dim, dtype=torch.float32).abs() * 0.01
    return lambda choice: (quantized_matmul(x, numbers, scales, use_triton=choice),)


def _quantize_rows(draw: Draw) -> Trial:
    sizes = draw.config.acoustic
    # A quarter above what float8 holds, and the largest of float8, so that there is one right answer to the bit.
    exact = draw.integers(8, 15, _ROWS, sizes.dim, dtype=draw.dtype) + 0.25
    exact[:, 0] = LARGEST
    x, norm = draw.normal(_ROWS, sizes.dim), (draw.normal(sizes.dim), sizes.norm_eps)

    def trial(choice: bool) -> tuple[Tensor, ...]:
        values, scales = quantize_rows(exact, use_triton=choice)
        # A norm that is summed in another order may move a number to the next of float8, but hardly the largest.
        return values.float(), scales, quantize_rows(x, norm, use_triton=choice)[1]

    return trial


def _float8_product(draw: Draw) -> Trial:
    dim, hidden = draw.config.acoustic.dim, draw.config.acoustic.hidden_dim

    def matrix(num_rows: int) -> tuple[Tensor, Tensor]:
        # Sums of small whole numbers are exact even where hardware adds float8 in fewer bits than 32.
        numbers = draw.integers(-1, 2, num_rows, dim, dtype=torch.float8_e4m3fn)
        return numbers, draw.normal(num_rows, dtype=torch.float32).abs() * dim**-0.5

    rows, square, gates = matrix(_ROWS), matrix(dim), matrix(2 * hidden)
    bias, residual = draw.normal(dim), draw.normal(_ROWS, dim)

    def trial(choice: bool) -> tuple[Tensor, ...]:
        return (
            float8_product(rows, square, draw.dtype, bias=bias, residual=residual.clone(), use_triton=choice),
            float8_product(rows, gates, draw.dtype, is_gated=True, use_triton=choice),
        )

    return trial


def _enter_layers(draw: Draw) -> Trial:
    sizes = draw.config.acoustic
    dim, width = sizes.dim, (sizes.num_heads + 2 * sizes.num_kv_heads) * sizes.head_dim
    entered, biases = draw.normal(_ROWS, dim + width, dtype=torch.float32), draw.normal(width)
    time, llm = (draw.normal(dim), draw.normal(width)), (draw.normal(2 * _ROWS, dim), draw.normal(2 * _ROWS, width))
    return lambda choice: enter_layers(entered, biases, time, llm, sizes.norm_eps, use_triton=choice)


def _attend_between_tokens(draw: Draw) -> Trial:
    sizes = draw.config.acoustic
    query, key, value = _projections(draw, sizes.num_heads, sizes.num_kv_heads, sizes.head_dim, 2 * _ROWS, 3)
    return lambda choice: (attend_between_tokens(query, key, value, sizes.head_dim, use_triton=choice),)


def _guided_step(draw: Draw) -> Trial:
    width = draw.config.codebooks.num_acoustic
    state, velocities = draw.normal(_ROWS, width, dtype=torch.float32), draw.normal(2 * _ROWS, width)
    scale, step = draw.normal(_ROWS, dtype=torch.float32), torch.tensor(1 / 7, device=draw.device)
    return lambda choice: (guided_step(state, velocities, scale, step, use_triton=choice),)


def _finish_frame(draw: Draw) -> Trial:
    books = draw.config.codebooks
    state, semantic = draw.normal(_ROWS, books.num_acoustic, dtype=torch.float32), draw.integers(1, 9, _ROWS)
    return lambda choice: (finish_frame(state, semantic, books.acoustic_size, use_triton=choice),)


def _choose_semantic(draw: Draw) -> Trial:
    books = draw.config.codebooks
    logits = draw.normal(_ROWS, books.semantic_head_rows, dtype=torch.float32)
    may_end = torch.arange(_ROWS, device=draw.device) % 2 == 0
    return lambda choice: (choose_semantic(logits, may_end, books.semantic_vocab, use_triton=choice),)


def _sum_embeddings(draw: Draw) -> Trial:
    books = draw.config.codebooks
    table = draw.normal(books.embedding_rows, draw.config.backbone.dim)
    tokens = draw.integers(2, books.acoustic_vocab, _ROWS, books.num_codebooks)
    offsets = torch.tensor(books.offsets, device=draw.device)
    return lambda choice: (sum_embeddings(tokens, offsets, table, use_triton=choice),)


def _attend_in_window(draw: Draw) -> Trial:
    sizes = draw.config.codec
    windows = {block.window for block in sizes.decoder_blocks if isinstance(block, TransformerBlockConfig)}
    query, key, value = (
        draw.normal(1, heads, length, sizes.head_dim, dtype=draw.codec_dtype)
        for heads, length in ((sizes.num_heads, 9), (sizes.num_kv_heads, 21), (sizes.num_kv_heads, 21))
    )
    slopes = 0.5 ** torch.arange(sizes.num_heads, dtype=torch.float32, device=draw.device)
    return lambda choice: tuple(
        attend_in_window(query, key, value, slopes, window, use_triton=choice) for window in sorted(windows)
    )


def _attend_after_past(draw: Draw) -> Trial:
    sizes = draw.config.codec
    windows = {block.window for block in sizes.decoder_blocks if isinstance(block, TransformerBlockConfig)}
    width, kv_width = sizes.num_heads * sizes.head_dim, sizes.num_kv_heads * sizes.head_dim
    projected = draw.normal(_ROWS, 9, width + 2 * kv_width, dtype=draw.codec_dtype)
    past = draw.normal(_ROWS, max(windows), 2 * kv_width, dtype=draw.codec_dtype)
    # A stream that begins, and others that are younger than the largest window or older.
    before = 5 * torch.arange(_ROWS, device=draw.device)
    weights = draw.normal(width, dtype=draw.codec_dtype), draw.normal(kv_width, dtype=draw.codec_dtype)
    slopes = 0.5 ** torch.arange(sizes.num_heads, dtype=torch.float32, device=draw.device)

    def trial(choice: bool) -> tuple[Tensor, ...]:
        made: list[Tensor] = []
        for window in sorted(windows):
            seen, kept = past[:, -window:].clone(), past[:, -window:].clone()
            norms = (*weights, sizes.qk_norm_eps)
            made.append(
                attend_after_past(projected, seen, kept, before, slopes, norms, sizes.head_dim, use_triton=choice)
            )
            made.append(kept[-1])
        return tuple(made)

    return trial


def _shifted_columns(draw: Draw) -> Trial:
    sizes = draw.config.codec
    x = draw.normal(_ROWS, 9, sizes.dim, dtype=draw.codec_dtype)
    past = draw.normal(_ROWS, sizes.patch_kernel - 1, sizes.dim, dtype=draw.codec_dtype)
    before = torch.arange(_ROWS, device=draw.device)
    starts: tuple[Start, ...] = ("zeros", "repeat", "reflect")

    def trial(choice: bool) -> tuple[Tensor, ...]:
        made: list[Tensor] = []
        for start in starts:
            kept = torch.zeros_like(past)
            made += [shifted_columns(x, past, kept, before, start, use_triton=choice), kept]
        return tuple(made)

    return trial


TRIALS: Final[Mapping[str, Callable[[Draw], Trial]]] = {
    "silu_multiply": _silu_multiply,
    "rotate_and_store": _rotate_and_store,
    "attend_rotating": _attend_rotating,
    "attend_spans": _attend_spans,
    "weigh_text": _weigh_text,
    "fused_product": _fused_product,
    "quantized_matmul": _quantized_matmul,
    "quantize_rows": _quantize_rows,
    "float8_product": _float8_product,
    "enter_layers": _enter_layers,
    "attend_between_tokens": _attend_between_tokens,
    "guided_step": _guided_step,
    "finish_frame": _finish_frame,
    "choose_semantic": _choose_semantic,
    "sum_embeddings": _sum_embeddings,
    "attend_in_window": _attend_in_window,
    "attend_after_past": _attend_after_past,
    "shifted_columns": _shifted_columns,
}


def difference(made: Tensor, plain: Tensor) -> float:
    """Measure how far results are apart, relative to the largest value; infinity where one is not finite."""
    made, plain = made.double(), plain.double()
    if made.shape != plain.shape or not bool(torch.isfinite(made).all()):
        return float("inf")
    if not made.numel():
        return 0.0
    return float((made - plain).abs().max() / plain.abs().max().clamp(min=1e-9))
