"""The tensors behind the blocks: keys and values in pages, and what a pass over new positions sees of them.

`SpanMemory` is for `Backbone.extend`: any number of new positions of each sequence, gone through one sequence at a
time, so that a row's result depends on that row alone; on a GPU all sequences in one launch, with the same promise.
`StepMemory` is for `Backbone.step`: one new position of each, in static shapes and without a word from the host, as a
CUDA graph needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from voxtral.config import BackboneConfig
from voxtral.engine.blocks import SCRATCH_BLOCK
from voxtral.model.attention import attend_causally
from voxtral.model.kernels.cpu.whole import PagedPositions
from voxtral.model.kernels.paged import PagedSpans, attend_rotating, attend_spans, rotate_and_store
from voxtral.model.kernels.text import PagedTexts, TextHeads, TextKeys, weigh_text
from voxtral.model.layers import Rotation

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class KVPages:
    """Keys and values of all blocks."""

    keys: Tensor  # [L, blocks, block size, Hkv, Dh]
    values: Tensor  # [L, blocks, block size, Hkv, Dh]

    @property
    def block_size(self) -> int:
        """Positions in a block."""
        return self.keys.shape[2]

    def copy_block(self, source: int, target: int) -> None:
        """Copy one block, in all layers."""
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]

    def read(self, blocks: list[int], length: int) -> tuple[Tensor, Tensor]:
        """Copy the first `length` positions of a sequence to CPU memory: keys and values, [L, length, Hkv, Dh]."""
        used = blocks[: -(-length // self.block_size)]
        keys, values = (part[:, used].flatten(1, 2)[:, :length].cpu() for part in (self.keys, self.values))
        return keys, values

    def write(self, blocks: list[int], keys: Tensor, values: Tensor) -> None:
        """Write the first positions of a sequence, as `read` gives them."""
        for target, source in ((self.keys, keys), (self.values, values)):
            for number, part in enumerate(torch.split(source, self.block_size, dim=1)):
                target[:, blocks[number], : part.shape[1]] = part.to(target.device)


def kv_bytes_per_position(config: BackboneConfig, dtype: torch.dtype) -> int:
    """Count the bytes of the keys and values of one position, in all layers."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * dtype.itemsize


def make_pages(
    config: BackboneConfig, num_blocks: int, block_size: int, *, device: torch.device, dtype: torch.dtype
) -> KVPages:
    """Make the pages, zeroed.

    In CPU memory the system commits them as they are written, so that a generous number costs nothing before.
    """
    shape = (config.num_layers, num_blocks, block_size, config.num_kv_heads, config.head_dim)
    return KVPages(*(_zeros(shape, device, dtype) for _ in range(2)))


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    # torch.zeros writes, and so commits, every page; numpy asks the system for zeroed ones.
    return torch.as_tensor(np.zeros(int(np.prod(shape)) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)


@dataclass(frozen=True, eq=False)
class Span:
    """New positions of one sequence within a pass."""

    start: int  # first of them among those of the pass
    stop: int
    blocks: Tensor  # [n] int64, of the sequence from its first position on
    num_seen: int  # positions of the sequence, the new ones included
    text: tuple[int, int] | None = None  # positions of the text where what one new position sees of it is wanted
    text_keys: TextKeys | None = None  # of the sequence, to be filled; None: they are read again for every frame

    @property
    def num_text(self) -> int:
        """Tokens of the text."""
        return 0 if self.text is None else self.text[1] - self.text[0]


class TextListener:
    """Keeps the queries of heads that follow the text as they come, and weighs the text when all are there.

    It holds a step's projections of their layers until then, and launches nothing in between.

    Args:
        heads: that follow the text.
        texts: of the rows.
    """

    def __init__(self, heads: TextHeads, texts: PagedTexts) -> None:
        self._heads = heads
        self._texts = texts
        self._queries: list[Tensor] = []  # [B, Dh] each, not rotated
        self._rotation: Rotation | None = None

    def hear(self, layer: int, query: Tensor, rotation: Rotation) -> None:
        """Take the queries of a layer; layers come in order.

        Args:
            layer: index.
            query: [B, H * Dh], not rotated.
            rotation: of each row's position.
        """
        head_dim = 2 * rotation[0].shape[-1]
        self._queries += [
            query[:, head * head_dim : (head + 1) * head_dim] for number, head in self._heads.pairs if number == layer
        ]
        self._rotation = rotation

    def weigh(self, keys: Tensor) -> Tensor:
        """Compute what the heads saw of the texts: [B, width] float32, zero behind a text; see `weigh_text`."""
        if self._rotation is None:
            raise AssertionError("the text is weighed before a layer has been heard")
        return weigh_text(self._queries, self._rotation, keys, self._heads, self._texts)


class SpanMemory:
    """Any number of new positions of several sequences, attended to one sequence at a time.

    Args:
        pages: written to.
        slot_mapping: [N] int64, the KV slot of each new position; see `kv_slot`.
        spans: without gaps from 0; positions after the last span are padding and get zeros.
        text_heads: whose attention to the texts of the spans is wanted; spans are one new position each then.
    """

    def __init__(
        self, pages: KVPages, slot_mapping: Tensor, spans: list[Span], text_heads: TextHeads | None = None
    ) -> None:
        self._pages = pages
        self._slot_mapping = slot_mapping
        self._spans = spans
        self._text_heads = text_heads if any(span.text for span in spans) else None
        self._text_pairs = () if self._text_heads is None else self._text_heads.pairs
        self._text_layers = {layer for layer, _ in self._text_pairs}
        # [spans, tokens], of all heads together; where operations are fused, a listener takes its place.
        num_tokens = max(span.num_text for span in spans) if self._text_pairs else 0
        self._text_weights = np.zeros((len(spans), num_tokens), dtype=np.float32)
        self._listener: TextListener | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See AttentionMemory; query [1, H, N, Dh]."""
        keys, values = self._pages.keys[layer], self._pages.values[layer]
        keys.flatten(0, 1)[self._slot_mapping] = key[0].transpose(0, 1)
        values.flatten(0, 1)[self._slot_mapping] = value[0].transpose(0, 1)
        outputs: list[Tensor] = []
        text_keys: list[npt.NDArray[np.float32]] = []  # [Hkv, n, Dh] of each span that has a text
        is_asked = layer in self._text_layers
        for span in self._spans:
            seen_keys, seen_values = (
                part[span.blocks].flatten(0, 1)[: span.num_seen].transpose(0, 1)[None] for part in (keys, values)
            )
            outputs.append(attend_causally(query[:, :, span.start : span.stop], seen_keys, seen_values))
            if is_asked and span.text is not None:
                text_keys.append(self._text_keys_of(layer, span))
        if text_keys:
            self._listen(layer, query, text_keys)
        num_padding = query.shape[2] - self._spans[-1].stop
        if num_padding:
            outputs.append(outputs[0].new_zeros(1, num_padding, outputs[0].shape[2]))
        return torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]

    def single_positions(self) -> PagedPositions | None:
        """See PagedMemory."""
        if any(span.stop - span.start != 1 for span in self._spans):
            return None
        num_rows = len(self._slot_mapping)
        lengths = torch.zeros(num_rows, dtype=torch.int64)
        lengths[: len(self._spans)] = torch.tensor([span.num_seen for span in self._spans])
        tables = torch.zeros(num_rows, max(len(span.blocks) for span in self._spans), dtype=torch.int32)
        for row, span in enumerate(self._spans):
            tables[row, : len(span.blocks)] = span.blocks
        return PagedPositions(
            slots=self._slot_mapping.contiguous(),
            tables=tables,
            lengths=lengths,
            keys=self._pages.keys,
            values=self._pages.values,
            wants_queries=self._text_heads is not None,
        )

    def hear(self, queries: Tensor) -> None:
        """See PagedMemory: listen, layer by layer, to what the heads see of the texts."""
        head_dim = self._pages.keys.shape[-1]
        for layer in sorted(self._text_layers):
            of_layer = queries[layer].view(len(queries[layer]), -1, head_dim)  # [N, H, Dh]
            text_keys = [self._text_keys_of(layer, span) for span in self._spans if span.text is not None]
            if text_keys:
                self._listen(layer, of_layer.transpose(0, 1)[None], text_keys)

    @property
    def text_weights(self) -> Tensor | None:
        """What the heads saw of the texts: [spans, tokens] float32, zero behind a text; None if nobody asked."""
        if self._text_heads is None:
            return None
        if self._listener is not None:
            return self._listener.weigh(self._pages.keys)
        return torch.as_tensor(self._text_weights / len(self._text_pairs))

    def attend_rotating(self, layer: int, projections: tuple[Tensor, Tensor, Tensor], rotation: Rotation) -> Tensor:
        """See FusedMemory."""
        pages = (self._pages.keys[layer], self._pages.values[layer])
        query = rotate_and_store(projections, rotation, self._slot_mapping, *pages)
        if self._text_heads is not None:
            if self._listener is None:
                self._listener = TextListener(self._text_heads, self._paged_texts)
            # Rows behind the last span pad the pass.
            asking, (cos, sin) = slice(len(self._spans)), rotation
            self._listener.hear(layer, projections[0][asking], (cos[asking], sin[asking]))
        return attend_spans(query, pages, self._paged_spans)

    def _text_keys_of(self, layer: int, span: Span) -> npt.NDArray[np.float32]:
        """Look up the keys of a span's text, or read them from the pages, which takes ten times as long."""
        kept = {} if span.text_keys is None else span.text_keys
        if layer not in kept:
            first, stop = span.text or (0, 0)
            keys = self._pages.keys[layer][span.blocks].flatten(0, 1)[first:stop]
            kept[layer] = keys.transpose(0, 1).float().contiguous().numpy()
        return kept[layer]

    def _listen(self, layer: int, query: Tensor, text_keys: list[npt.NDArray[np.float32]]) -> None:
        """Note what the chosen heads of a layer see of the texts.

        By numpy, because these are a few hundred numbers, and torch would take ten times as long over them.

        Args:
            layer: index.
            query: [1, H, N, Dh].
            text_keys: [Hkv, n, Dh] of each span that has a text.
        """
        heads = [head for number, head in self._text_pairs if number == layer]
        group, queries = query.shape[1] // self._pages.keys.shape[3], query.float().numpy()[0]
        asking = [span.start for span in self._spans if span.text]
        scores = [
            keys[head // group].dot(queries[head, start])
            for head in heads
            for start, keys in zip(asking, text_keys, strict=True)
        ]
        # End to end, head after head, so that there are few operations; a row's shares come out the same whatever
        # stands beside it.
        sizes = [len(part) for part in scores]
        starts = [0, *accumulate(sizes[:-1])]
        shares = np.concatenate(scores)
        shares -= np.maximum.reduceat(shares, starts).repeat(sizes)
        shares *= query.shape[3] ** -0.5
        np.exp(shares, out=shares)
        shares /= np.add.reduceat(shares, starts).repeat(sizes)
        of_all_heads = shares.reshape(len(heads), -1).sum(axis=0)
        for place, start, size in zip(asking, starts, sizes, strict=False):
            self._text_weights[place, :size] += of_all_heads[start : start + size]

    @cached_property
    def _paged_spans(self) -> PagedSpans:
        """The spans as kernels read them, for all layers."""
        tables = pad_sequence([span.blocks for span in self._spans], batch_first=True)
        return PagedSpans([(span.start, span.stop, span.num_seen) for span in self._spans], tables.to(torch.int32))

    @cached_property
    def _paged_texts(self) -> PagedTexts:
        """The texts of the spans as kernels read them."""
        tables, texts = self._paged_spans.tables, [span.text or (0, 0) for span in self._spans]
        starts, lengths = (
            torch.tensor(part, dtype=torch.int32, device=tables.device)
            for part in ([start for start, _ in texts], [stop - start for start, stop in texts])
        )
        return PagedTexts(starts, lengths, tables)


class StepMemory:
    """One new position of each row.

    Args:
        pages: written to.
        slot_mapping: [B] int64, the KV slot of each new position; see `kv_slot`.
        block_tables: [B, blocks] int32; what lies behind a row's length is not read.
        lengths: [B] int32, positions that a row sees, the new one included.
        listener: to what heads see of the texts, where that is wanted.
    """

    def __init__(
        self,
        pages: KVPages,
        slot_mapping: Tensor,
        block_tables: Tensor,
        lengths: Tensor,
        listener: TextListener | None = None,
    ) -> None:
        self._pages = pages
        self._slot_mapping = slot_mapping
        self._block_tables = block_tables
        self._lengths = lengths
        self._listener = listener

    @property
    def text_weights(self) -> Tensor | None:
        """What the heads saw of the texts: [B, tokens] float32, zero behind a text; None if nobody asked."""
        return None if self._listener is None else self._listener.weigh(self._pages.keys)

    def attend_rotating(self, layer: int, projections: tuple[Tensor, Tensor, Tensor], rotation: Rotation) -> Tensor:
        """See FusedMemory."""
        keys, values = self._pages.keys[layer], self._pages.values[layer]
        if self._listener is not None:
            self._listener.hear(layer, projections[0], rotation)
        return attend_rotating(
            projections, rotation, self._slot_mapping, (keys, values), self._block_tables, self._lengths
        )


def kv_slot(blocks: list[int], position: int, block_size: int) -> int:
    """Find where the key and value of a position of a sequence are: block * block size + offset.

    >>> kv_slot([7, 3], 5, 4)
    13
    """
    return blocks[position // block_size] * block_size + position % block_size


def scratch_kv_slot(row: int, block_size: int) -> int:
    """Choose a KV slot for a row that only fills up a batch.

    >>> scratch_kv_slot(9, 4)
    1
    """
    return SCRATCH_BLOCK * block_size + row % block_size
