"""Single operations at the sizes of the published shape: each kernel beside its torch form and the library's call.

    python -m benchmarks.kernels --device cuda --json FILE

Times are for one call, inputs in place; on a GPU many calls lie between two waits for the device. GB/s counts what must
be read of weights and caches, once. The difference is the largest, relative to the largest value of the first form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.options import make_parser, read_numbers, resolve
from benchmarks.report import Report
from benchmarks.subjects import config_of, random_weight
from benchmarks.timing import time_in_turn
from voxtral.bench import round_figure
from voxtral.config import ModelConfig
from voxtral.engine.options import MAX_FOLLOWED_TOKENS
from voxtral.model.attention import attend_causally
from voxtral.model.kernels.dispatch import FLOAT8_CAPABILITY, has_triton
from voxtral.model.kernels.elementwise import silu_multiply
from voxtral.model.kernels.float8 import float8_product, quantize_rows
from voxtral.model.kernels.flow import attend_between_tokens, enter_layers, finish_frame, guided_step
from voxtral.model.kernels.matmul import fused_product, quantized_matmul
from voxtral.model.kernels.paged import PagedSpans, attend_rotating, attend_spans, rotate_and_store
from voxtral.model.kernels.text import PagedTexts, TextHeads, weigh_text
from voxtral.model.kernels.tokens import choose_semantic, sum_embeddings
from voxtral.model.kernels.window import attend_in_window
from voxtral.model.linear_cpu import prepare_weight
from voxtral.model.linear_weights import QuantizedWeight
from voxtral.quantization.recipes import GROUP_SIZES

# Positions in each stream's cache, and in a page.
_CONTEXT, _PAGE_SIZE = 600, 64
_TEXT_TOKENS = 115  # of 400 characters

_ROWS = (1, 2, 6, 8, 16, 32, 48, 64, 128)


@dataclass(frozen=True, eq=False)
class Case:
    """One operation at one size.

    Attributes:
        operation: its name and size.
        rows: of the activations.
        ways: what to call; the first is the reference of the comparison.
        num_bytes: of weights and caches that a call must read, by way; a way that is not named has none.
    """

    operation: str
    rows: int
    ways: dict[str, Callable[[], Any]]
    num_bytes: dict[str, int]


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.set_defaults(model="4b-random")
    parser.add_argument("--rows", type=read_numbers, default=_ROWS, help="streams, or rows of activations")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.rows, arguments.rounds = (1, 6), 2
    device, precision = resolve(arguments)
    report = Report("kernels", arguments)
    report.note(device=str(device), precision=precision)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    config = config_of(arguments.model)
    with torch.inference_mode():
        for case in all_cases(config, device, dtype, arguments.rows):
            add_case(report, case, device, arguments.rounds)
    report.finish()


def add_case(report: Report, case: Case, device: torch.device, num_rounds: int) -> None:
    """Compare results, then times; a way that fails is reported and costs nobody else."""
    results: dict[str, Tensor] = {}
    for name, way in list(case.ways.items()):
        try:
            results[name] = _first_tensor(way())
        # A kernel that does not compile here must not end the run.
        except Exception as error:  # noqa: BLE001
            report.add(operation=case.operation, rows=case.rows, way=name, failed=f"{type(error).__name__}: {error}")
            del case.ways[name]
    if not results:
        return
    reference = next(iter(results.values())).float()
    scale = float(reference.abs().max()) or 1.0
    for name, spread in time_in_turn(case.ways, device, num_rounds).items():
        num_bytes = case.num_bytes.get(name)
        report.add(
            operation=case.operation,
            rows=case.rows,
            way=name,
            us=spread.to_dict(1e6),
            difference=round_figure(float((results[name].float() - reference).abs().max()) / scale),
            **({"gb_per_s": round_figure(num_bytes / spread.median / 1e9)} if num_bytes else {}),
        )


def _first_tensor(result: Any) -> Tensor:
    return (result[0] if isinstance(result, tuple) else result).clone()


def all_cases(config: ModelConfig, device: torch.device, dtype: torch.dtype, all_rows: Sequence[int]) -> Iterator[Case]:
    """Build the cases one after the other; each may be dropped before the next is built."""
    draw = Inputs(device, dtype)
    for rows in all_rows:
        yield from streams(config, draw, rows)
        yield from flow(config, draw, rows)
        yield from codec_window(config, draw, rows)
    for rows in all_rows:
        yield from products(config, draw, rows)
    for rows in all_rows:
        yield from fused_products(config, draw, rows)


class Inputs:
    """Draws operands on a device; the same ones in every run."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self._generator = torch.Generator(device).manual_seed(0)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Draw normal numbers in the dtype of the activations."""
        drawn = torch.randn(shape, generator=self._generator, device=self.device)
        return drawn.mul_(scale).to(self.dtype)

    def numbers(self, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        """Draw whole numbers from `low` to `high - 1`."""
        return torch.randint(low, high, shape, generator=self._generator, device=self.device, dtype=dtype)

    @property
    def label(self) -> str:
        """Name of the dtype."""
        return str(self.dtype).removeprefix("torch.")


def torch_and_triton(draw: Inputs, function: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
    """Give the torch form of a kernel, and the Triton form where it can run."""
    ways: dict[str, Callable[[], Any]] = {"torch": lambda: function(use_triton=False)}
    if draw.device.type == "cuda" and has_triton():
        ways["triton"] = lambda: function(use_triton=True)
    return ways


def streams(config: ModelConfig, draw: Inputs, rows: int) -> Iterator[Case]:
    """What a backbone layer does for each stream beside its products, and the two ends of a frame."""
    net, books = config.backbone, config.codebooks
    gate_and_up = draw.normal(rows, 2 * net.hidden_dim)
    yield _case("silu_multiply", rows, torch_and_triton(draw, partial(silu_multiply, gate_and_up)))
    yield from _paged(config, draw, rows)
    logits = draw.normal(rows, books.semantic_head_rows)
    may_end = draw.numbers(0, 2, rows).bool()
    semantic = partial(choose_semantic, logits, may_end, books.semantic_vocab)
    yield _case("choose_semantic", rows, torch_and_triton(draw, semantic))
    offsets = torch.tensor(books.offsets, device=draw.device)
    tokens = draw.numbers(0, books.acoustic_vocab, rows, books.num_codebooks)
    table = draw.normal(books.embedding_rows, net.dim)
    num_bytes = rows * books.num_codebooks * net.dim * table.element_size()
    summed = torch_and_triton(draw, partial(sum_embeddings, tokens, offsets, table))
    yield _case("sum_embeddings", rows, summed, num_bytes)


def _paged(config: ModelConfig, draw: Inputs, rows: int) -> Iterator[Case]:
    """The cache in pages that lie in random order, beside the library's attention to one that lies end to end."""
    net = config.backbone
    pages_each = -(-_CONTEXT // _PAGE_SIZE)
    shape = (rows * pages_each, _PAGE_SIZE, net.num_kv_heads, net.head_dim)
    keys, values = draw.normal(*shape), draw.normal(*shape)
    order = torch.randperm(shape[0], generator=torch.Generator().manual_seed(0))
    tables = order.view(rows, pages_each).to(device=draw.device, dtype=torch.int32)
    lengths = torch.full((rows,), _CONTEXT, dtype=torch.int32, device=draw.device)
    widths = [heads * net.head_dim for heads in (net.num_heads, net.num_kv_heads, net.num_kv_heads)]
    projections = draw.normal(rows, sum(widths)).split(widths, dim=-1)
    angles = draw.normal(rows, net.head_dim // 2).float()
    last_page = tables[:, (_CONTEXT - 1) // _PAGE_SIZE].long()
    slots = last_page * _PAGE_SIZE + (_CONTEXT - 1) % _PAGE_SIZE
    rotate = partial(rotate_and_store, projections, (angles.cos(), angles.sin()), slots, keys, values)
    yield _case("rotate_and_store", rows, torch_and_triton(draw, rotate))
    query = rotate(use_triton=False)  # and the caches hold the new positions
    rotation = (angles.cos(), angles.sin())
    attend = partial(attend_rotating, projections, rotation, slots, (keys, values), tables, lengths)
    ways = torch_and_triton(draw, attend)
    contiguous = [
        pages[tables.long()].flatten(1, 2)[:, :_CONTEXT].transpose(1, 2).contiguous() for pages in (keys, values)
    ]
    ways["library, one cache end to end"] = lambda: attend_causally(query[:, :, None], *contiguous)[:, 0]
    num_bytes = 2 * rows * _CONTEXT * net.num_kv_heads * net.head_dim * keys.element_size()
    yield _case(f"attend_rotating, {_CONTEXT} positions", rows, ways, num_bytes)
    bounds = [(row, row + 1, _CONTEXT) for row in range(rows)]
    spans = partial(attend_spans, query, (keys, values), PagedSpans(bounds, tables))
    yield _case(f"attend_spans, {_CONTEXT} positions", rows, torch_and_triton(draw, spans), num_bytes)
    pairs, group = ((0, 0), (0, net.num_heads - 1)), net.num_heads // net.num_kv_heads
    heads = TextHeads.make(pairs, group=group, width=MAX_FOLLOWED_TOKENS, page_size=_PAGE_SIZE, device=keys.device)
    starts, tokens = (torch.full_like(lengths, number) for number in (_CONTEXT // 4, _TEXT_TOKENS))
    queries = [projections[0].unflatten(-1, (net.num_heads, -1))[:, head] for _, head in pairs]
    weigh = partial(weigh_text, queries, rotation, keys[None], heads, PagedTexts(starts, tokens, tables))
    num_bytes = rows * len(pairs) * _TEXT_TOKENS * net.head_dim * keys.element_size()
    yield _case(f"weigh_text, {_TEXT_TOKENS} tokens", rows, torch_and_triton(draw, weigh), num_bytes)


def flow(config: ModelConfig, draw: Inputs, rows: int) -> Iterator[Case]:
    """What a step of the flow does beside its products, for two guided rows of three tokens."""
    net, books = config.acoustic, config.codebooks
    width = (net.num_heads + 2 * net.num_kv_heads) * net.head_dim
    entered, biases = draw.normal(rows, net.dim + width).float(), draw.normal(width)
    time, llm = ((draw.normal(*lead, net.dim), draw.normal(*lead, width)) for lead in ((), (2 * rows,)))
    enter = partial(enter_layers, entered, biases, time, llm, net.norm_eps)
    yield _case("enter_layers", rows, torch_and_triton(draw, enter))
    query = draw.normal(2 * rows, 3, net.num_heads * net.head_dim)
    key, value = (draw.normal(2 * rows, 3, net.num_kv_heads * net.head_dim) for _ in range(2))
    attend = partial(attend_between_tokens, query, key, value, net.head_dim)
    yield _case("attend_between_tokens", rows, torch_and_triton(draw, attend))
    state = draw.normal(rows, books.num_acoustic).float()
    velocities = draw.normal(2 * rows, books.num_acoustic).float()
    guidance = torch.full((rows,), 1.2, device=draw.device)
    step = torch.tensor(1 / 7, device=draw.device)
    yield _case("guided_step", rows, torch_and_triton(draw, partial(guided_step, state, velocities, guidance, step)))
    semantic = draw.numbers(0, books.semantic_vocab, rows)
    finish = partial(finish_frame, state, semantic, books.acoustic_size)
    yield _case("finish_frame", rows, torch_and_triton(draw, finish))


def codec_window(config: ModelConfig, draw: Inputs, rows: int) -> Iterator[Case]:
    """Attention of the codec's last layers for one frame, behind a full window."""
    codec = config.codec
    num_new, window = codec.steps_per_frame, 16
    query = draw.normal(rows, codec.num_heads, num_new, codec.head_dim)
    key, value = (draw.normal(rows, codec.num_kv_heads, window + num_new, codec.head_dim) for _ in range(2))
    slopes = torch.tensor(codec.alibi_slopes, device=draw.device)
    attend = partial(attend_in_window, query, key, value, slopes, window)
    yield _case("attend_in_window", rows, torch_and_triton(draw, attend))


def _case(operation: str, rows: int, ways: dict[str, Callable[[], Any]], num_bytes: int | None = None) -> Case:
    return Case(operation, rows, ways, {} if num_bytes is None else dict.fromkeys(ways, num_bytes))


def matrices(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Name the matrices of a backbone layer, fused, as [N, K]."""
    net = config.backbone
    width, kv_width = net.num_heads * net.head_dim, net.num_kv_heads * net.head_dim
    return {
        "wqkv": (width + 2 * kv_width, net.dim),
        "wo": (net.dim, width),
        "w13": (2 * net.hidden_dim, net.dim),
        "w2": (net.dim, net.hidden_dim),
    }


def products(config: ModelConfig, draw: Inputs, rows: int) -> Iterator[Case]:
    """Activations times each matrix of a layer, in each form of the weights; the forms hold the same numbers."""
    generator = torch.Generator(draw.device).manual_seed(0)
    for name, shape in matrices(config).items():
        x = draw.normal(rows, shape[1])
        group_size = next(size for size in (*GROUP_SIZES, 16) if shape[1] % size == 0)
        for precision in ("int8", "int4"):
            weight = random_weight(shape, precision, group_size, generator)
            grid = f", groups of {group_size}" if precision == "int4" else ""
            yield _product(f"{precision} {name} {shape[0]} x {shape[1]}{grid}", draw, x, weight)


def fused_products(config: ModelConfig, draw: Inputs, rows: int) -> Iterator[Case]:
    """Multiply as a frame does: behind a norm, gated, or added to the residual stream; and in float8."""
    for name, shape in matrices(config).items():
        x, dense = draw.normal(rows, shape[1]), draw.normal(*shape, scale=shape[1] ** -0.5)
        is_gated, size = name == "w13", f"{name} {shape[0]} x {shape[1]}"
        norm = (draw.normal(shape[1]), config.backbone.norm_eps) if name in ("wqkv", "w13") else None
        residual = draw.normal(rows, shape[0]) if norm is None else None
        fused = partial(fused_product, x, (dense,), norm=norm, is_gated=is_gated, residual=residual)
        yield _case(f"fused {size}", rows, torch_and_triton(draw, fused), dense.nbytes)
        if draw.device.type == "cuda" and torch.cuda.get_device_capability(draw.device) >= FLOAT8_CAPABILITY:
            matrix = quantize_rows(dense, use_triton=False)
            ways = torch_and_triton(draw, partial(_float8, x, matrix, is_gated=is_gated))
            yield _case(f"float8 {size}", rows, ways, matrix[0].nbytes)


def _float8(x: Tensor, matrix: tuple[Tensor, Tensor], *, is_gated: bool, use_triton: bool) -> Tensor:
    """Round the rows and multiply: two launches."""
    rows = quantize_rows(x, use_triton=use_triton)
    return float8_product(rows, matrix, x.dtype, is_gated=is_gated, use_triton=use_triton)


def _product(operation: str, draw: Inputs, x: Tensor, weight: QuantizedWeight) -> Case:
    """Multiply with few bits as the product does here, and with the same numbers in the dtype of the activations."""
    dense = weight.dense().to(draw.dtype)
    library = f"{draw.label}, library"
    ways: dict[str, Callable[[], Any]] = {library: lambda: F.linear(x, dense)}
    num_bytes = {library: dense.nbytes}
    if draw.device.type == "cpu":
        prepared = prepare_weight(weight)
        ways[prepared.name] = lambda: prepared.matmul(x)
        num_bytes[prepared.name] = prepared.num_bytes
        return Case(operation, x.shape[0], ways, num_bytes)
    for way, function in torch_and_triton(draw, partial(quantized_matmul, x, *weight.parts)).items():
        ways[way], num_bytes[way] = function, weight.num_bytes
    return Case(operation, x.shape[0], ways, num_bytes)


if __name__ == "__main__":
    main()
