"""A decode step of the backbone, and the flow of a frame, each in one call of our own C.

Between two products everything stays in float32, and no thread waits for Python. What is told here is where things lie;
the order of operations is in source/whole.h, and is that of `voxtral.model.backbone` and `voxtral.model.folded`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxtral.model.kernels.cpu.library import FlowCall, Layer, Paged, Steps
from voxtral.model.kernels.cpu.products import TYPES, NumBytes, PackedMatrix, readable

# source/shapes.h.
MAX_HEAD_DIM = 256
MAX_HEADS_OF_GROUP = 16


@dataclass(frozen=True, eq=False)
class LayerParts:
    """One layer: matrices joined and packed, biases of them or None, and the weights of its norms.

    Attributes:
        matrices: wqkv, wo, w13 and w2.
        biases: of them.
        norms: before attention and before the feed-forward, [D] each.
    """

    matrices: tuple[PackedMatrix, PackedMatrix, PackedMatrix, PackedMatrix]
    biases: tuple[Tensor | None, ...]
    norms: tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class PagedPositions:
    """One new position of each row, and the pages that it sees.

    Attributes:
        slots: [B] int64, where the new position goes.
        tables: [B, pages] int32, pages in order.
        lengths: [B] int64, positions that are seen, the new one included; 0 for a row that pads the pass.
        keys: [L, pages, page size, Hkv, Dh], written to.
        values: the same.
        wants_queries: whether the rotated queries are asked for.
    """

    slots: Tensor
    tables: Tensor
    lengths: Tensor
    keys: Tensor
    values: Tensor
    wants_queries: bool = False


@dataclass(frozen=True)
class Sizes:
    """Sizes of a stack of layers."""

    dim: int
    hidden_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    eps: float

    @property
    def fit(self) -> bool:
        """Whether heads are small and few enough for what the C keeps of them."""
        return (
            self.head_dim <= MAX_HEAD_DIM
            and self.head_dim % 2 == 0
            and self.num_heads // self.num_kv_heads <= MAX_HEADS_OF_GROUP
        )


def run_steps(
    layers: Sequence[LayerParts],
    sizes: Sizes,
    embeds: Tensor,
    rotation: tuple[Tensor, Tensor],
    positions: PagedPositions,
) -> tuple[Tensor, Tensor | None]:
    """Run one new position of each row through all layers.

    Args:
        layers: all of one form.
        sizes: of the layers.
        embeds: [B, D].
        rotation: of each row's position, [B, Dh / 2] float32 each.
        positions: where they go, and what they see.

    Returns:
        [B, D] float32 before the final norm, and the rotated queries [L, B, H * Dh] float32 where they are wanted.
    """
    form = layers[0].matrices[0].form
    num_rows = len(embeds)
    x = embeds.float().clone()
    queries = None
    if positions.wants_queries:
        queries = torch.zeros(len(layers), num_rows, sizes.num_heads * sizes.head_dim)
    cosines, sines = (part.contiguous() for part in rotation)
    tables, keys = positions.tables.contiguous(), positions.keys
    paged = Paged(
        None,
        cosines.data_ptr(),
        sines.data_ptr(),
        positions.slots.data_ptr(),
        tables.data_ptr(),
        positions.lengths.data_ptr(),
        None,
        None,
        None,
        None if queries is None else queries.data_ptr(),
        tables.shape[1],
        keys.shape[2],
        sizes.num_heads,
        sizes.num_kv_heads,
        sizes.head_dim,
        TYPES[keys.dtype],
    )
    described, kept = _describe(layers, keys, positions.values)
    call = Steps(
        ctypes.addressof(described),
        x.data_ptr(),
        paged,
        len(layers),
        num_rows,
        sizes.dim,
        sizes.hidden_dim,
        *kept.types,
        2,
        sizes.eps,
    )
    num_threads = torch.get_num_threads()
    address = ctypes.addressof(call)
    scratch = torch.empty(form.library.voxtral_steps_scratch(form.number, address, num_threads), dtype=torch.uint8)
    form.library.voxtral_steps(form.team_address, form.number, address, scratch.data_ptr(), num_threads)
    return x, queries


@dataclass(frozen=True, eq=False)
class FlowInputs:
    """What the folded flow is given, all float32 and contiguous; shapes as in source/shapes.h, `flow`."""

    state_table: Tensor
    biases: Tensor
    time_tokens: Tensor
    time_projected: Tensor
    llm_tokens: Tensor
    llm_projected: Tensor
    output: Tensor
    step_sizes: Tensor
    guidance: Tensor


def run_flow(
    layers: Sequence[LayerParts],
    sizes: Sizes,
    norm: Tensor,
    noise: Tensor,
    inputs: FlowInputs,
    num_bytes: NumBytes,
) -> Tensor:
    """Integrate the folded flow from noise [B, A] to its end, [B, A] float32.

    Args:
        layers: all of one form.
        sizes: of the layers.
        norm: weight [D] of the last norm.
        noise: already scaled.
        inputs: see there.
        num_bytes: of an activation.
    """
    form = layers[0].matrices[0].form
    state = noise.float().clone()
    described, kept = _describe(layers, None, None)
    last_norm = readable(norm).to(kept.norm_dtype)
    call = FlowCall(
        ctypes.addressof(described),
        inputs.state_table.data_ptr(),
        inputs.biases.data_ptr(),
        inputs.time_tokens.data_ptr(),
        inputs.time_projected.data_ptr(),
        inputs.llm_tokens.data_ptr(),
        inputs.llm_projected.data_ptr(),
        inputs.output.data_ptr(),
        last_norm.data_ptr(),
        inputs.step_sizes.data_ptr(),
        inputs.guidance.data_ptr(),
        state.data_ptr(),
        len(layers),
        len(inputs.step_sizes),
        len(state),
        sizes.dim,
        sizes.hidden_dim,
        state.shape[1],
        sizes.num_heads,
        sizes.num_kv_heads,
        sizes.head_dim,
        *kept.types,
        num_bytes,
        sizes.eps,
    )
    address = ctypes.addressof(call)
    scratch = torch.empty(form.library.voxtral_flow_scratch(form.number, address), dtype=torch.uint8)
    num_threads = torch.get_num_threads()
    form.library.voxtral_flow(form.team_address, form.number, address, scratch.data_ptr(), num_threads)
    return state


@dataclass(frozen=True, eq=False)
class _Kept:
    """What must live as long as a description of layers, and the dtypes that norms and biases have in it."""

    tensors: list[Tensor]
    norm_dtype: torch.dtype
    bias_dtype: torch.dtype

    @property
    def types(self) -> tuple[int, int]:
        return TYPES[self.norm_dtype], TYPES[self.bias_dtype]


def _describe(
    layers: Sequence[LayerParts], keys: Tensor | None, values: Tensor | None
) -> tuple[ctypes.Array[Layer], _Kept]:
    """Say where layers lie; those of a backbone have pages."""
    norm_dtype = readable(layers[0].norms[0]).dtype
    known = next((bias for layer in layers for bias in layer.biases if bias is not None), None)
    bias_dtype = norm_dtype if known is None else readable(known).dtype
    kept = _Kept([], norm_dtype, bias_dtype)

    def place(part: Tensor | None, dtype: torch.dtype) -> int | None:
        if part is None:
            return None
        part = part.to(dtype).contiguous()
        kept.tensors.append(part)
        return part.data_ptr()

    described = (Layer * len(layers))()
    for number, layer in enumerate(layers):
        described[number] = Layer(
            *(ctypes.addressof(matrix.described) for matrix in layer.matrices),
            *(place(norm, norm_dtype) for norm in layer.norms),
            (ctypes.c_void_p * 4)(*(place(bias, bias_dtype) for bias in layer.biases)),
            None if keys is None else keys[number].data_ptr(),
            None if values is None else values[number].data_ptr(),
        )
    return described, kept
