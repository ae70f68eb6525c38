"""Triton forms of `voxtral.model.kernels.flow`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxtral.config import EMPTY_AUDIO, END_AUDIO, NUM_SPECIAL_CODES
from voxtral.model.kernels.launching import on_its_device


@triton.jit(do_not_specialize=["num_states"])
def _enter_layers(
    entered_ptr,
    biases_ptr,
    time_token_ptr,
    time_projected_ptr,
    llm_tokens_ptr,
    llm_projected_ptr,
    tokens_ptr,
    projected_ptr,
    num_states,
    dim,
    width,
    eps,
    BLOCK_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One token of one row of either branch for each program."""
    row = tl.program_id(0).to(tl.int64)
    kind = tl.program_id(1)
    dims = tl.arange(0, BLOCK_DIM)
    is_dim = dims < dim
    state_row = entered_ptr + (row % num_states) * (dim + width)
    if kind == 0:
        token = tl.load(state_row + dims, mask=is_dim, other=0.0)
    else:
        side = tl.where(kind == 1, time_token_ptr, llm_tokens_ptr + row * dim)
        token = tl.load(side + dims, mask=is_dim, other=0.0).to(tl.float32)
    tl.store(tokens_ptr + (row * 3 + kind) * dim + dims, token.to(tokens_ptr.dtype.element_ty), mask=is_dim)
    # For the state token's projections; the other two were normed before they were projected.
    inverse_rms = 1.0 / tl.sqrt(tl.sum(token * token, axis=0) / dim + eps)
    for start in range(0, width, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < width
        targets = projected_ptr + (row * 3 + kind) * width + columns
        if kind == 0:
            product = tl.load(state_row + dim + columns, mask=inside, other=0.0)
            bias = tl.load(biases_ptr + columns, mask=inside, other=0.0).to(tl.float32)
            tl.store(targets, (product * inverse_rms + bias).to(projected_ptr.dtype.element_ty), mask=inside)
        else:
            source = tl.where(kind == 1, time_projected_ptr, llm_projected_ptr + row * width)
            tl.store(targets, tl.load(source + columns, mask=inside, other=0.0), mask=inside)


@on_its_device
def enter_layers(
    entered: Tensor, biases: Tensor, time: tuple[Tensor, Tensor], llm: tuple[Tensor, Tensor], eps: float
) -> tuple[Tensor, Tensor]:
    """Launch over rows of both branches and the three tokens."""
    num_rows, dim = llm[0].shape
    width = biases.shape[0]
    tokens = torch.empty(num_rows, 3, dim, dtype=biases.dtype, device=biases.device)
    projected = torch.empty(num_rows, 3, width, dtype=biases.dtype, device=biases.device)
    _enter_layers[(num_rows, 3)](
        entered.contiguous(),
        biases,
        *(part.contiguous() for part in (*time, *llm)),
        tokens,
        projected,
        num_rows // 2,
        dim,
        width,
        eps,
        BLOCK_DIM=triton.next_power_of_2(dim),
        BLOCK=min(1024, triton.next_power_of_2(width)),
        num_warps=8 if dim > 1024 else 4,
        enable_fp_fusion=True,
    )
    return tokens, projected


@triton.jit
def _attend_between_tokens(
    query_ptr,
    key_ptr,
    value_ptr,
    output_ptr,
    query_row_stride,
    query_token_stride,
    key_row_stride,
    key_token_stride,
    value_row_stride,
    value_token_stride,
    scale,
    NUM_QUERIES: tl.constexpr,
    NUM_TOKENS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """One query head of one row for each program."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    tokens = tl.arange(0, BLOCK_TOKENS)
    dims = tl.arange(0, BLOCK_DIM)
    is_token = tokens < NUM_TOKENS
    is_dim = dims < HEAD_DIM
    is_key = is_token[:, None] & is_dim[None, :]
    first = (head // GROUP) * HEAD_DIM + dims[None, :]
    key = tl.load(
        key_ptr + row * key_row_stride + tokens[:, None] * key_token_stride + first, mask=is_key, other=0.0
    ).to(tl.float32)
    value = tl.load(
        value_ptr + row * value_row_stride + tokens[:, None] * value_token_stride + first, mask=is_key, other=0.0
    ).to(tl.float32)
    for asking in tl.static_range(NUM_QUERIES):  # pyright: ignore[reportGeneralTypeIssues]
        source = query_ptr + row * query_row_stride + asking * query_token_stride + head * HEAD_DIM + dims
        query = tl.load(source, mask=is_dim, other=0.0).to(tl.float32)
        scores = tl.sum(key * query[None, :], axis=1) * scale
        scores = tl.where(is_token, scores, float("-inf"))
        weights = tl.exp(scores - tl.max(scores, axis=0))
        mixed = tl.sum(value * weights[:, None], axis=0) / tl.sum(weights, axis=0)
        target = output_ptr + ((row * NUM_QUERIES + asking) * tl.num_programs(1) + head) * HEAD_DIM + dims
        tl.store(target, mixed.to(output_ptr.dtype.element_ty), mask=is_dim)


@on_its_device
def attend_between_tokens(query: Tensor, key: Tensor, value: Tensor, head_dim: int) -> Tensor:
    """Launch over rows and query heads."""
    query, key, value = (part if part.stride(-1) == 1 else part.contiguous() for part in (query, key, value))
    num_rows, num_queries, width = query.shape
    num_tokens, num_heads = key.shape[1], width // head_dim
    output = query.new_empty(num_rows, num_queries, width)
    _attend_between_tokens[(num_rows, num_heads)](
        query,
        key,
        value,
        output,
        query.stride(0),
        query.stride(1),
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        head_dim**-0.5,
        NUM_QUERIES=num_queries,
        NUM_TOKENS=num_tokens,
        GROUP=num_heads // (key.shape[2] // head_dim),
        HEAD_DIM=head_dim,
        BLOCK_TOKENS=triton.next_power_of_2(num_tokens),
        BLOCK_DIM=triton.next_power_of_2(head_dim),
        num_warps=1,
        enable_fp_fusion=True,
    )
    return output


@triton.jit
def _guided_step(state_ptr, velocities_ptr, scale_ptr, step_ptr, result_ptr, width, BLOCK: tl.constexpr):
    """One row for each program."""
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    places = row * width + columns
    scale = tl.load(scale_ptr + row)
    conditional = tl.load(velocities_ptr + places, mask=inside, other=0.0).to(tl.float32)
    free_places = tl.num_programs(0) * width + places
    unconditional = tl.load(velocities_ptr + free_places, mask=inside, other=0.0).to(tl.float32)
    velocity = scale * conditional + (1 - scale) * unconditional
    state = tl.load(state_ptr + places, mask=inside, other=0.0)
    tl.store(result_ptr + places, state + velocity * tl.load(step_ptr), mask=inside)


@on_its_device
def guided_step(state: Tensor, velocities: Tensor, guidance_scale: Tensor, step: Tensor) -> Tensor:
    """Launch over the rows."""
    num_rows, width = state.shape
    result = torch.empty_like(state, memory_format=torch.contiguous_format)
    _guided_step[(num_rows,)](
        state.contiguous(),
        velocities.contiguous(),
        guidance_scale.contiguous(),
        step,
        result,
        width,
        BLOCK=triton.next_power_of_2(width),
        num_warps=1,
        # Rounded after each operation, as torch does.
        enable_fp_fusion=False,
    )
    return result


@triton.jit
def _finish_frame(
    state_ptr,
    semantic_ptr,
    tokens_ptr,
    width,
    num_levels,
    END: tl.constexpr,
    EMPTY: tl.constexpr,
    SHIFT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row for each program."""
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    state = tl.load(state_ptr + row * width + columns, mask=inside, other=0.0)
    scaled = (tl.minimum(tl.maximum(state, -1.0), 1.0) + 1.0) / 2.0 * (num_levels - 1)
    below = tl.floor(scaled)
    # The difference is exact, so a tie is seen as one; it goes to the even level.
    rest = scaled - below
    level = below.to(tl.int64)
    is_up = (rest > 0.5) | ((rest == 0.5) & (level % 2 == 1))
    level = tl.where(is_up, level + 1, level)
    semantic = tl.load(semantic_ptr + row)
    level = tl.where(semantic == END, EMPTY, level)
    target = tokens_ptr + row * (width + 1)
    tl.store(target, semantic)
    tl.store(target + 1 + columns, level + SHIFT, mask=inside)


@on_its_device
def finish_frame(state: Tensor, semantic: Tensor, num_levels: int) -> Tensor:
    """Launch over the rows."""
    num_rows, width = state.shape
    tokens = torch.empty(num_rows, 1 + width, dtype=torch.int64, device=state.device)
    _finish_frame[(num_rows,)](
        state.contiguous(),
        semantic.contiguous(),
        tokens,
        width,
        num_levels,
        END=END_AUDIO,
        EMPTY=EMPTY_AUDIO,
        SHIFT=NUM_SPECIAL_CODES,
        BLOCK=triton.next_power_of_2(width),
        num_warps=1,
        enable_fp_fusion=False,
    )
    return tokens
