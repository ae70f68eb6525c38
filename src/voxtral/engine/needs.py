"""What an engine needs of a device beside the weights, in bytes, from sizes alone.

Bounds, not measurements: each counts what one part holds at once. Tests compare them with the live bytes of that part
on the meta device. `voxtral.loading.memory` adds the weights before anything is loaded, and `voxtral.engine.memory`
divides what is free by the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from voxtral.config import ModelConfig
from voxtral.engine.kv_cache import kv_bytes_per_position
from voxtral.engine.options import MAX_FOLLOWED_TOKENS, POSITIONS_PER_SEQUENCE, EngineOptions
from voxtral.model.codec import FRAMES_PER_PASS

# Block tables of static steps are at most so wide; longer rows run alone.
LONGEST_STATIC_POSITIONS = 4 * POSITIONS_PER_SEQUENCE

# Positions of a sentence with its voice. A cache that is small is shared by as many rows as have this many each; one
# row alone always gets POSITIONS_PER_SEQUENCE.
_SHORT_POSITIONS = POSITIONS_PER_SEQUENCE // 4

# Tokens of the flow for each row: state, time and hidden state, guided and unguided.
_FLOW_TOKENS = 6

# Heads that follow a text are few. They may be set while an engine runs, so every plan counts them.
_TEXT_HEADS = 2

# Positions that the attention kernel takes at a time (`voxtral.model.kernels.paged_triton`).
_PART = 128

# On a GPU kept from everything else: workspaces of libraries (8 MiB for each stream, on Hopper 32), what rounding to
# segments wastes, and the pieces between them. Reckoned, not measured.
_RESERVE_BYTES, _RESERVE_SHARE = 192_000_000, 0.05

# Of a GPU, what its driver takes beside torch: of code that is loaded as it is first used. Reckoned, not measured.
DRIVER_BYTES = 300_000_000

# Elsewhere, what libraries take to work in.
_LIBRARY_BYTES = 2**25

_STATE_BYTES = 300_000  # of the codec, for each row


@dataclass(frozen=True)
class Needs:
    """What an engine needs on one device.

    Attributes:
        config: sizes.
        dtype: of the model; codec_dtype: of the codec.
        device_type: "cuda" or another.
        has_kernels: whether attention over pages is a kernel. Without, each row gathers all that it may see.
    """

    config: ModelConfig
    dtype: torch.dtype
    codec_dtype: torch.dtype
    device_type: str
    has_kernels: bool = True

    @property
    def stream_positions(self) -> int:
        """Positions that one stream gets."""
        return min(POSITIONS_PER_SEQUENCE, self.config.backbone.max_seq_len)

    def cache(self, num_positions: int) -> int:
        """Count keys and values."""
        return num_positions * kv_bytes_per_position(self.config.backbone, self.dtype)

    def work(self, num_rows: int) -> int:
        """Count what prompts, frames of so many rows, and their audio hold beside keys and values."""
        if self.device_type != "cuda":
            return max(self._prompt(4), self._whole_audio(4)) + _LIBRARY_BYTES
        # Graphs keep the memory of a frame; prompts and audio come beside it.
        return self._prompt(self.dtype.itemsize) + self._seen() + self._frame(num_rows) + self._audio(num_rows)

    def reserve(self, num_bytes: int) -> int:
        """Count what is kept back beside so many bytes."""
        return max(_RESERVE_BYTES, int(num_bytes * _RESERVE_SHARE)) if self.device_type == "cuda" else 0

    def divide(self, num_bytes: int, most_rows: int) -> tuple[int, int]:
        """Divide what weights leave between rows and their keys and values.

        Returns:
            As many rows as there is room for, at least 1 and at most `most_rows`, and the bytes for keys and values.
        """
        one, short = self.cache(self.stream_positions), self.cache(min(_SHORT_POSITIONS, self.stream_positions))
        for num_rows in range(most_rows, 1, -1):
            cache = num_bytes - self.work(num_rows)
            if cache >= max(one, num_rows * short):
                return num_rows, cache
        return 1, num_bytes - self.work(1)

    def _prompt(self, itemsize: int) -> int:
        """One part of a prompt: gate, up and their product beside a few rows of the stream."""
        backbone = self.config.backbone
        return EngineOptions.prefill_positions * (3 * backbone.hidden_dim + 8 * backbone.dim) * itemsize

    def _seen(self) -> int:
        """What a part of a prompt sees: gathered, repeated for each query head, and the mask in the dtype of both."""
        backbone, itemsize = self.config.backbone, self.dtype.itemsize
        heads = 2 * backbone.num_kv_heads + 2 * backbone.num_heads
        masked = EngineOptions.prefill_positions * (1 + itemsize)
        return self.stream_positions * (heads * backbone.head_dim * itemsize + masked)

    def _frame(self, num_rows: int) -> int:
        backbone, acoustic, itemsize = self.config.backbone, self.config.acoustic, self.dtype.itemsize
        flow = _FLOW_TOKENS * (3 * acoustic.hidden_dim + 8 * acoustic.dim) * itemsize
        logits = 3 * self.config.codebooks.semantic_head_rows * 4
        seen = min(LONGEST_STATIC_POSITIONS, backbone.max_seq_len)
        if self.has_kernels:
            attention = -(-seen // _PART) * backbone.num_heads * (backbone.head_dim + 2) * 4
        else:
            attention = seen * (3 * backbone.num_kv_heads * backbone.head_dim * itemsize + 16)
        # Layers that are listened to keep their projections; the text is weighed when attention has let go of its own.
        heard = _TEXT_HEADS * (backbone.num_heads + 2 * backbone.num_kv_heads) * backbone.head_dim * itemsize
        return num_rows * (flow + logits + heard + max(attention, self._text()))

    def _text(self) -> int:
        """What weighing the text of one row holds: its weights, twice; without kernels its keys, also in float32."""
        weights = 2 * MAX_FOLLOWED_TOKENS * 4
        if self.has_kernels:
            return weights
        each = self.config.backbone.head_dim * (4 + self.dtype.itemsize) + 64  # beside places, scores and shares
        return weights + _TEXT_HEADS * MAX_FOLLOWED_TOKENS * each

    def _audio(self, num_rows: int) -> int:
        codec = self.config.codec
        # Gates, what they open and their product; without the kernel also each of them in float32.
        hidden = 3 if self.has_kernels else 2 + 3 * 4 // self.codec_dtype.itemsize
        width = codec.steps_per_frame * (hidden * codec.hidden_dim + 8 * codec.dim) * self.codec_dtype.itemsize
        # States three times: those of all streams, those of the rows of a call, and what becomes of them. Two more
        # are for rows that only fill a call up.
        states = 3 * num_rows + 2
        num_frames = num_rows * max(EngineOptions.chunk_frames)
        together = num_frames * width + self._source(num_frames) + states * _STATE_BYTES
        return max(together, self._whole_audio(self.codec_dtype.itemsize))

    def _whole_audio(self, itemsize: int) -> int:
        codec = self.config.codec
        layers = FRAMES_PER_PASS * codec.steps_per_frame * (3 * codec.hidden_dim + 8 * codec.dim) * itemsize
        return max(layers, self._source(FRAMES_PER_PASS))

    def _source(self, num_frames: int) -> int:
        """What a source-filter head holds: spectra of each half step, pulses, and the weights of the pitch, wide."""
        codec, head = self.config.codec, self.config.codec.source_filter_head
        if head is None:
            return 0
        spectrum = 4 * codec.patch_size * 4  # at least as long as the transform, in float32
        each = codec.steps_per_frame * (2 * 5 * spectrum + codec.patch_size * 8 * 8)
        weights = head.pitch_dim * (head.pitch_frames * codec.latent_dim + 2 * codec.steps_per_frame)
        return num_frames * each + 2 * weights * 8
