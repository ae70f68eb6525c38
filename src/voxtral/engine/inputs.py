"""What goes into a frame of many sequences: rows of the host, written into one buffer, and on the device by one copy.

On the device each input is a view of that buffer, so that a frame costs one copy and no kernel to take it apart. On the
way to a GPU the buffer is in page-locked memory, from which a copy does not wait; there are two, because the copy of
one may be under way while the next is written. Read next: `voxtral.engine.frame`, which computes with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from voxtral.engine.transfer import mark
from voxtral.model.kernels.text import TextKeys

if TYPE_CHECKING:
    import numpy.typing as npt

# Each input begins at a multiple of so many bytes in the buffer that holds all of them: kernels read whole words then.
_ALIGNMENT = 64


class RowInput(NamedTuple):
    """What the host knows of one row's next frame.

    Attributes:
        slot: where its carried embedding is.
        position: of that embedding in its sequence.
        kv_slot: where its key and value go in the pages.
        blocks: of the sequence, the one of `position` last; only to be read.
        noise: [A] float32, scaled.
        guidance_scale: weight of the conditional velocity.
        may_end: whether END_AUDIO may be chosen.
        text: positions of the text's tokens where the attention to them is wanted.
        text_keys: see Span.
    """

    slot: int
    position: int
    kv_slot: int
    blocks: list[int]
    noise: npt.NDArray[np.float32]
    guidance_scale: float
    may_end: bool
    text: tuple[int, int] | None = None
    text_keys: TextKeys | None = None


@dataclass(frozen=True, eq=False)
class FrameInputs:
    """The rows of one step as tensors; B rows, padding included. All of them are views of one buffer."""

    slots: Tensor  # [B] int64
    positions: Tensor  # [B] int64
    slot_mapping: Tensor  # [B] int64, KV slots
    lengths: Tensor  # [B] int32, positions to be seen: position + 1
    block_tables: Tensor  # [B, blocks] int32
    noise: Tensor  # [B, A] float32
    guidance_scale: Tensor  # [B] float32
    may_end: Tensor  # [B] bool
    text_starts: Tensor  # [B] int32, position of the first token of each row's text; [0] where no text is followed
    text_lengths: Tensor  # [B] int32, tokens of it, 0 where nobody follows it; [0] where no text is followed
    packed: Tensor  # [bytes] uint8, what the others are views of

    @classmethod
    def blank(
        cls,
        num_rows: int,
        num_blocks: int,
        num_acoustic: int,
        *,
        has_texts: bool = False,
        device: torch.device | str = "cpu",
        pin: bool = False,
    ) -> FrameInputs:
        """Make inputs of zeros.

        Args:
            num_rows: B.
            num_blocks: width of the block tables.
            num_acoustic: A.
            has_texts: whether texts are followed.
            device: where.
            pin: use page-locked memory, from which copies to a GPU do not wait.
        """
        parts = _parts(num_rows, num_blocks, num_acoustic, has_texts=has_texts)
        num_bytes = sum(_padded(part) for part in parts)
        return cls._over(torch.zeros(num_bytes, dtype=torch.uint8, device=device, pin_memory=pin), parts)

    @classmethod
    def _over(cls, packed: Tensor, parts: list[_Part]) -> FrameInputs:
        start, views = 0, list[Tensor]()
        for part in parts:
            views.append(packed[start : start + part.num_bytes].view(part.dtype).view(part.shape))
            start += _padded(part)
        return cls(*views, packed=packed)

    @property
    def num_rows(self) -> int:
        """B."""
        return self.slots.shape[0]

    @property
    def num_blocks(self) -> int:
        """Width of the block tables."""
        return self.block_tables.shape[1]

    def to(self, device: torch.device) -> FrameInputs:
        """Copy to a device, all at once."""
        has_texts = len(self.text_lengths) > 0
        parts = _parts(self.num_rows, self.num_blocks, self.noise.shape[1], has_texts=has_texts)
        return self._over(self.packed.to(device), parts)

    def copy_(self, other: FrameInputs) -> None:
        """Take over the values of inputs of the same shapes in one copy, without waiting."""
        self.packed.copy_(other.packed, non_blocking=True)


class _Part(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


def _parts(num_rows: int, num_blocks: int, num_acoustic: int, *, has_texts: bool) -> list[_Part]:
    """Lay out the inputs, in the order of the fields of FrameInputs."""
    one, of_text = (num_rows,), (num_rows if has_texts else 0,)
    return [
        _Part(torch.int64, one),
        _Part(torch.int64, one),
        _Part(torch.int64, one),
        _Part(torch.int32, one),
        _Part(torch.int32, (num_rows, num_blocks)),
        _Part(torch.float32, (num_rows, num_acoustic)),
        _Part(torch.float32, one),
        _Part(torch.bool, one),
        _Part(torch.int32, of_text),
        _Part(torch.int32, of_text),
    ]


def _padded(part: _Part) -> int:
    return -(-part.num_bytes // _ALIGNMENT) * _ALIGNMENT


class HostInputs:
    """Inputs in CPU memory that rows are written to, again and again.

    Args:
        num_rows: B.
        num_blocks: width of the block tables.
        num_acoustic: A.
        has_texts: whether texts are followed.
        pin: use page-locked memory, from which copies to a GPU do not wait.
    """

    def __init__(
        self, num_rows: int, num_blocks: int, num_acoustic: int, *, has_texts: bool = False, pin: bool = False
    ) -> None:
        inputs = FrameInputs.blank(num_rows, num_blocks, num_acoustic, has_texts=has_texts, pin=pin)
        self.inputs = inputs
        # The same memory, without what each operation of torch costs.
        self._slots, self._positions, self._kv_slots = (
            part.numpy() for part in (inputs.slots, inputs.positions, inputs.slot_mapping)
        )
        self._lengths, self._tables = inputs.lengths.numpy(), inputs.block_tables.numpy()
        self._noise, self._guidance, self._may_end = (
            part.numpy() for part in (inputs.noise, inputs.guidance_scale, inputs.may_end)
        )
        self._text_starts, self._text_lengths = inputs.text_starts.numpy(), inputs.text_lengths.numpy()
        self._columns = np.arange(num_blocks)

    def write(self, rows: list[RowInput]) -> FrameInputs:
        """Write rows, B of them; unused entries of the block tables are 0, the scratch block."""
        slots, positions, kv_slots, blocks, noise, guidance_scale, may_end, texts, _ = zip(*rows, strict=True)
        self._slots[:] = slots
        self._positions[:] = positions
        self._kv_slots[:] = kv_slots
        np.add(self._positions, 1, out=self._lengths, casting="same_kind")
        self._tables[:] = 0
        used = self._columns < np.array([len(of_row) for of_row in blocks])[:, None]
        self._tables[used] = list(chain.from_iterable(blocks))
        np.concatenate(noise, out=self._noise.reshape(-1))
        self._guidance[:] = guidance_scale
        self._may_end[:] = may_end
        if len(self._text_lengths):
            self._text_starts[:] = [0 if text is None else text[0] for text in texts]
            self._text_lengths[:] = [0 if text is None else text[1] - text[0] for text in texts]
        return self.inputs


def gather_inputs(rows: list[RowInput], *, num_blocks: int, has_texts: bool = False, pin: bool = False) -> FrameInputs:
    """Write rows into new tensors in CPU memory.

    Args:
        rows: at least one.
        num_blocks: width of the block tables; unused entries are 0, the scratch block.
        has_texts: whether texts are followed.
        pin: use page-locked memory, from which copies to a GPU do not wait.
    """
    return HostInputs(len(rows), num_blocks, len(rows[0].noise), has_texts=has_texts, pin=pin).write(rows)


class InputStage:
    """Two buffers of one size that are written in turn, each when the copy that reads it has passed.

    Args:
        num_rows: B.
        num_blocks: width of the block tables.
        num_acoustic: A.
        device: that the inputs go to.
        has_texts: whether texts are followed.
    """

    def __init__(
        self, num_rows: int, num_blocks: int, num_acoustic: int, device: torch.device, *, has_texts: bool = False
    ) -> None:
        sizes, pin = (num_rows, num_blocks, num_acoustic), device.type == "cuda"
        self._device = device
        self._buffers = [HostInputs(*sizes, has_texts=has_texts, pin=pin) for _ in range(2)]
        self._sent: list[torch.cuda.Event | None] = [None, None]
        self._current = 0

    def write(self, rows: list[RowInput]) -> FrameInputs:
        """Write rows into the buffer that was written before the last; `sent` is to be called after their copy."""
        self._current = 1 - self._current
        sent = self._sent[self._current]
        if sent is not None:
            sent.synchronize()
        return self._buffers[self._current].write(rows)

    def sent(self) -> None:
        """Note that all copies of what was written last have been asked for, on the current stream."""
        self._sent[self._current] = mark(self._device)
