"""The causal language model: embeddings in, hidden states out, with the KV cache as an argument.

It knows positions, and what it asks of a cache (`AttentionMemory`, `FusedMemory`); not tokens, prompts or
requests. Read next: `voxtral.engine.kv_cache`, which holds the keys and values, and `voxtral.model.acoustic`,
which turns a hidden state into a frame.
"""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from voxtral.config import BackboneConfig
from voxtral.model.by_kernel import layers_for_kernel, sizes_of
from voxtral.model.kernels.cpu.products import TYPES
from voxtral.model.kernels.cpu.whole import PagedPositions, run_steps
from voxtral.model.layers import (
    AttentionProjections,
    FeedForward,
    RMSNorm,
    Rotation,
    apply_rope,
    rope_inverse_frequencies,
    rope_rotation,
    split_heads,
)
from voxtral.model.linear import product


class AttentionMemory(Protocol):
    """The keys and values that a pass over new positions adds to and reads; one object for all layers."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Keep the new positions' keys and values of a layer, and attend from them to all that they may see.

        Args:
            layer: index.
            query: [B, H, T, Dh], rotated.
            key: [B, Hkv, T, Dh], rotated.
            value: [B, Hkv, T, Dh].

        Returns:
            [B, T, H * Dh].
        """
        ...


@runtime_checkable
class FusedMemory(Protocol):
    """Keys and values as the fused operations want them: B new positions side by side, of one sequence or of many."""

    def attend_rotating(self, layer: int, projections: tuple[Tensor, Tensor, Tensor], rotation: Rotation) -> Tensor:
        """Rotate, keep and attend.

        Args:
            layer: index.
            projections: queries [B, H * Dh], keys and values [B, Hkv * Dh], not rotated.
            rotation: of each row's position.

        Returns:
            [B, H * Dh].
        """
        ...


@runtime_checkable
class PagedMemory(Protocol):
    """Keys and values in pages, which a call may read and write by itself."""

    def single_positions(self) -> PagedPositions | None:
        """Say where new positions go and what they see; None if a sequence has more than one."""
        ...

    def hear(self, queries: Tensor) -> None:
        """Take the rotated queries of all layers, [L, N, H * Dh] float32, where they were wanted."""
        ...


class BackboneAttention(AttentionProjections):
    """Grouped-query causal attention with rotary positions."""

    def forward(self, x: Tensor, rotation: Rotation, memory: AttentionMemory, layer: int) -> Tensor:
        """Attend from T new positions to all that `memory` lets them see, themselves included.

        Args:
            x: [B, T, D], normalised.
            rotation: of the T new positions.
            memory: gets the new keys and values.
            layer: index of this layer in it.

        Returns:
            [B, T, D].
        """
        return self.wo(self.mix(x, rotation, memory, layer))

    def mix(
        self, x: Tensor, rotation: Rotation, memory: AttentionMemory, layer: int, norm: RMSNorm | None = None
    ) -> Tensor:
        """Attend as `forward`, and leave `wo` to the caller: [B, T, H * Dh]. Without `norm` `x` is normalised."""
        query, key, value = (split_heads(part, self.head_dim) for part in self.project(x, norm=norm))
        query, key = apply_rope(query, rotation), apply_rope(key, rotation)
        return memory.attend(layer, query, key, value)


class BackboneLayer(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.attention = BackboneAttention(config)
        self.feed_forward = FeedForward(config.dim, config.hidden_dim)
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)

    def forward(self, x: Tensor, rotation: Rotation, memory: AttentionMemory, layer: int) -> Tensor:
        """Map the residual stream [B, T, D]; arguments as in BackboneAttention."""
        attention = self.attention
        # Not joined where it learns; and on a GPU a product may write over its residual, which may be a caller's here.
        if attention.wqkv is None or x.is_cuda:
            x = x + self.attention(self.attention_norm(x), rotation, memory, layer)
            return x + self.feed_forward(self.ffn_norm(x))
        mixed = attention.mix(x, rotation, memory, layer, norm=self.attention_norm)
        return self.feed_forward.add_to(product(attention.wo, mixed, residual=x), self.ffn_norm)


class Backbone(nn.Module):
    """The stack of layers and the final norm; there is no text head, TTS never needs one."""

    inverse_frequencies: Tensor

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(BackboneLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.init_tables(torch.device("cpu"))

    def init_tables(self, device: torch.device) -> None:
        """Compute what is no weight: the rotary frequencies, always float32."""
        table = rope_inverse_frequencies(self.config.head_dim, self.config.rope_theta).to(device)
        self.register_buffer("inverse_frequencies", table, persistent=False)

    def extend(self, embeds: Tensor, positions: Tensor, memory: AttentionMemory) -> Tensor:
        """Run new positions of any number of sequences, side by side.

        Args:
            embeds: [N, D], one for each new position.
            positions: [N] int64, absolute within their sequence.
            memory: knows which position belongs to which sequence, and what it may see.

        Returns:
            [N, D], hidden states after the final norm.
        """
        if embeds.is_cuda and isinstance(memory, FusedMemory):
            return self.step(embeds.clone(), positions, memory)
        rotation = rope_rotation(positions, self.inverse_frequencies)
        if embeds.device.type == "cpu" and isinstance(memory, PagedMemory):
            hidden = self._step_by_kernel(embeds, rotation, memory)
            if hidden is not None:
                return hidden
        x = embeds[None]
        for index, layer in enumerate(self.layers):
            x = layer(x, rotation, memory, index)
        return self.norm(x)[0]

    def _step_by_kernel(self, embeds: Tensor, rotation: Rotation, memory: PagedMemory) -> Tensor | None:
        """Run one new position of each sequence in one call of our own C; None where that cannot."""
        positions = memory.single_positions()
        if positions is None:
            return None
        sizes = sizes_of(self.config)
        layers, num_bytes = layers_for_kernel(self.layers, sizes)
        if layers is None or num_bytes != 2 or positions.keys.dtype not in TYPES:
            return None
        x, queries = run_steps(layers, sizes, embeds, rotation, positions)
        if queries is not None:
            memory.hear(queries)
        return self.norm(x.to(embeds.dtype))

    def step(self, embeds: Tensor, positions: Tensor, memory: FusedMemory) -> Tensor:
        """Run new positions by the fused operations of `voxtral.model.kernels`.

        The same computation as `extend`, on a GPU with an eighth of its launches where rows are few: five a layer.
        Static shapes, no waiting.

        Args:
            embeds: [B, D]; may be written over.
            positions: [B] int64, absolute within their sequence.
            memory: of the positions.

        Returns:
            [B, D], hidden states after the final norm.
        """
        rotation = rope_rotation(positions, self.inverse_frequencies)
        x = embeds
        for index, layer in enumerate(cast("list[BackboneLayer]", self.layers)):
            attention = layer.attention
            projections = attention.project(x, norm=layer.attention_norm)
            x = product(attention.wo, memory.attend_rotating(index, projections, rotation), residual=x)
            x = layer.feed_forward.add_to(x, layer.ffn_norm)
        return self.norm(x)
