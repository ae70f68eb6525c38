"""Keys and values end to end, without pages: for loops whose rows all start together and have one length."""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral.model.attention import attend_causally
from voxtral.model.voxtral import VoxtralModel


class ContiguousCache:
    """Keys and values of B rows that advance together.

    `length` positions of each are filled. On the CPU the system commits memory as it is written, so that a generous
    capacity costs nothing before.

    Args:
        model: on its device.
        capacity: positions that fit, of each row.
        num_rows: B.
    """

    def __init__(self, model: VoxtralModel, capacity: int, num_rows: int = 1) -> None:
        config = model.config.backbone
        shape = (config.num_layers, num_rows, config.num_kv_heads, capacity, config.head_dim)
        # keys and values: [L, B, Hkv, S, Dh]
        self.keys, self.values = (torch.empty(shape, device=model.device, dtype=model.dtype) for _ in range(2))
        self.length = 0
        self._backbone = model.backbone

    def extend(self, embeds: Tensor) -> Tensor:
        """Run T new positions of each row: [B, T, D] to hidden states [B, T, D]."""
        num_rows, num_new, _ = embeds.shape
        positions = torch.arange(self.length, self.length + num_new, device=embeds.device).repeat(num_rows)
        hidden = self._backbone.extend(embeds.flatten(0, 1), positions, self)
        self.length += num_new
        return hidden.unflatten(0, (num_rows, num_new))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See AttentionMemory; the rows' new positions come one row after another."""
        num_rows = self.keys.shape[1]
        query, key, value = (part[0].unflatten(1, (num_rows, -1)).transpose(0, 1) for part in (query, key, value))
        start, stop = self.length, self.length + query.shape[2]
        keys, values = self.keys[layer][:, :, :stop], self.values[layer][:, :, :stop]
        keys[:, :, start:] = key
        values[:, :, start:] = value
        return attend_causally(query, keys, values).flatten(0, 1)[None]
