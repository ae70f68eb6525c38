"""The Triton kernels on a GPU beside their plain forms there, at the published sizes; skipped without a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import kernel_checks as checks
from voxtral.model.kernels.dispatch import FLOAT8_CAPABILITY

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
CUDA = "cuda"


@DTYPES
@pytest.mark.parametrize("shape", [(1, 18432), (64, 3, 18432), (2, 74)])
def test_silu_multiply(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    checks.check_silu_multiply(CUDA, dtype, shape)


@DTYPES
@pytest.mark.parametrize(("num_rows", "heads", "head_dim"), [(1, (32, 8), 128), (64, (32, 8), 128), (3, (4, 2), 10)])
def test_rotate_and_store(dtype: torch.dtype, num_rows: int, heads: tuple[int, int], head_dim: int) -> None:
    checks.check_rotate_and_store(CUDA, dtype, num_rows, heads, head_dim, 16)


@DTYPES
@pytest.mark.parametrize(
    ("lengths", "heads", "head_dim", "page_size"),
    [
        ([1], (32, 8), 128, 16),
        ([600], (32, 8), 128, 16),
        ([127, 128, 129, 130, 2000, 1], (32, 8), 128, 16),
        ([7, 1, 33], (6, 2), 24, 3),
    ],
)
def test_attend_rotating(
    dtype: torch.dtype, lengths: list[int], heads: tuple[int, int], head_dim: int, page_size: int
) -> None:
    checks.check_attend_rotating(CUDA, dtype, lengths, heads, head_dim, page_size)


@DTYPES
@pytest.mark.parametrize("group", [0, 64, 128])
@pytest.mark.parametrize(
    "shape",
    [(1, 6144, 3072), (6, 3072, 4096), (2, 18432, 3072), (64, 3072, 9216), (192, 18432, 3072), (3, 50, 384)],
)
def test_quantized_matmul(dtype: torch.dtype, shape: tuple[int, int, int], group: int) -> None:
    checks.check_quantized_matmul(CUDA, dtype, shape, group)


@DTYPES
@pytest.mark.parametrize(
    ("spans", "pairs"),
    [([(190, 305)], [(3, 0), (3, 1)]), ([(0, 0), (61, 573), (128, 129), (300, 419)], [(0, 31), (2, 7)])],
)
def test_weigh_text(dtype: torch.dtype, spans: list[tuple[int, int]], pairs: list[tuple[int, int]]) -> None:
    checks.check_weigh_text(CUDA, dtype, spans, pairs, (32, 8), 128, 64)


@DTYPES
@pytest.mark.parametrize("spans", [[(150, 150)], [(1, 600), (256, 406), (33, 33)]])
def test_attend_spans(dtype: torch.dtype, spans: list[tuple[int, int]]) -> None:
    checks.check_attend_spans(CUDA, dtype, spans, (32, 8), 128, 64)


@DTYPES
@pytest.mark.parametrize("group", [None, 0, 64])
@pytest.mark.parametrize("num_rows", [1, 6, 32, 64])
def test_fused_product(dtype: torch.dtype, num_rows: int, group: int | None) -> None:
    has_norm = dtype is not torch.float16
    checks.check_fused_product(CUDA, dtype, (num_rows, 6144, 3072), group=group, has_norm=has_norm)
    checks.check_fused_product(CUDA, dtype, (num_rows, 18432, 3072), group=group, has_norm=has_norm, is_gated=True)
    checks.check_fused_product(CUDA, dtype, (num_rows, 3072, 9216), group=group)


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < FLOAT8_CAPABILITY, reason="the GPU has no float8"
)
@pytest.mark.parametrize("num_rows", [6, 64, 192])
def test_float8(num_rows: int) -> None:
    checks.check_quantize_rows(CUDA, torch.bfloat16, (num_rows, 3072), has_norm=True)
    checks.check_float8_product(CUDA, torch.bfloat16, (num_rows, 18432, 3072), is_gated=True)
    checks.check_float8_product(CUDA, torch.bfloat16, (num_rows, 3072, 9216))


@DTYPES
@pytest.mark.parametrize("num_rows", [1, 64])
def test_enter_layers(dtype: torch.dtype, num_rows: int) -> None:
    checks.check_enter_layers(CUDA, dtype, num_rows, 3072, 6144)


@DTYPES
@pytest.mark.parametrize(
    ("num_rows", "num_queries", "heads", "head_dim"), [(2, 3, (32, 8), 128), (128, 1, (32, 8), 128), (3, 3, (6, 2), 12)]
)
def test_attend_between_tokens(
    dtype: torch.dtype, num_rows: int, num_queries: int, heads: tuple[int, int], head_dim: int
) -> None:
    checks.check_attend_between_tokens(CUDA, dtype, num_rows, num_queries, heads, head_dim)


@pytest.mark.parametrize("num_rows", [1, 64])
def test_the_flow_step_and_the_end_of_a_frame(num_rows: int) -> None:
    checks.check_guided_step(CUDA, num_rows, 36)
    ties = torch.arange(41) / 20 - 1
    state = torch.stack([ties, *(torch.nextafter(ties, torch.full_like(ties, far)) for far in (-5, 5))])
    checks.check_finish_frame(CUDA, state, [5, 1, 8193], 21)


@DTYPES
@pytest.mark.parametrize("num_rows", [1, 64])
def test_choose_semantic(dtype: torch.dtype, num_rows: int) -> None:
    checks.check_choose_semantic(CUDA, dtype, num_rows, 8194, 8320)


@DTYPES
@pytest.mark.parametrize("num_rows", [1, 64])
def test_sum_embeddings(dtype: torch.dtype, num_rows: int) -> None:
    checks.check_sum_embeddings(CUDA, dtype, num_rows, 37, 3072)


@DTYPES
@pytest.mark.parametrize("window", [2, 4, 8, 16])
@pytest.mark.parametrize("shape", [(1, 8, 24), (32, 40, 56)])
def test_attend_in_window(dtype: torch.dtype, shape: tuple[int, int, int], window: int) -> None:
    checks.check_attend_in_window(CUDA, dtype, shape, (8, 8), 128, window)


@DTYPES
@pytest.mark.parametrize("window", [2, 16])
@pytest.mark.parametrize("shape", [(1, 1), (32, 64)])
def test_attend_after_past(dtype: torch.dtype, shape: tuple[int, int], window: int) -> None:
    checks.check_attend_after_past(CUDA, dtype, shape, (8, 8), 128, window)


@DTYPES
@pytest.mark.parametrize(
    ("shape", "reach", "start"),
    [((4, 1, 292), 2, "repeat"), ((32, 8, 1024), 1, "zeros"), ((32, 64, 1024), 6, "reflect")],
)
def test_shifted_columns(dtype: torch.dtype, shape: tuple[int, int, int], reach: int, start: Any) -> None:
    checks.check_shifted_columns(CUDA, dtype, shape, reach, start)
