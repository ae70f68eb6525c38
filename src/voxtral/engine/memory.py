"""What rows hold on the device: slots, blocks of the KV cache, shared prefixes; and swapping rows to the CPU and back.

`blocks` counts, `kv_cache` has the tensors; here they are kept together. It runs nothing. Read next:
`voxtral.engine.runner`, which fills the pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from voxtral.device import free_memory
from voxtral.engine.blocks import BlockPool, Prefix, Reservation
from voxtral.engine.kv_cache import KVPages, kv_bytes_per_position, make_pages
from voxtral.engine.needs import DRIVER_BYTES, LONGEST_STATIC_POSITIONS, Needs
from voxtral.engine.options import POSITIONS_PER_SEQUENCE, EngineOptions
from voxtral.engine.prefix_store import PrefixStore
from voxtral.engine.protocol import Counts
from voxtral.engine.row import Row, SwappedOut
from voxtral.engine.sequence import GenerationRequest
from voxtral.errors import DeviceError
from voxtral.model.kernels.dispatch import KERNELS
from voxtral.model.linear import QuantizedLinear
from voxtral.model.voxtral import VoxtralModel

_SHARE_OF_FREE_MEMORY = 0.6

FEWER_BITS = (
    'load the model with fewer bits (--quantize int4, quantize="int4"), fewer sequences side by side (max_batch), or '
    "close what else uses the device"
)


@dataclass(frozen=True, eq=False)
class Room:
    """What a request gets when it is admitted."""

    slot: int
    reservation: Reservation
    prefix: Prefix | None  # whose full blocks the reservation begins with


class DeviceMemory:
    """Slots, pages and carried embeddings of all rows, on the model's device.

    Attributes:
        pool: counts the blocks.
        pages: keys and values of all blocks.
        carried: [slots + 1, D], the embedding that each row's next frame begins with; the last slot is for rows that
            only fill up a batch.
        free_slots: that no row has.

    Args:
        model: on its device, in its dtype.
        options: sizes.
        max_batch: slots.
        store: where prefixes are kept between processes, if anywhere.
    """

    def __init__(self, model: VoxtralModel, options: EngineOptions, max_batch: int, store: PrefixStore | None) -> None:
        config = model.config.backbone
        num_blocks = plan_blocks(model, options, max_batch)
        self.device, self.dtype = model.device, model.dtype
        self.pool = BlockPool(num_blocks, options.block_size)
        self.pages: KVPages = make_pages(config, num_blocks, options.block_size, device=self.device, dtype=self.dtype)
        self.carried = torch.zeros(max_batch + 1, config.dim, device=self.device, dtype=self.dtype)
        self.free_slots = list(range(max_batch - 1, -1, -1))
        self._num_slots = max_batch
        self._store = store

    @property
    def scratch_slot(self) -> int:
        """The slot of rows that only fill up a batch."""
        return self._num_slots

    # Rows come and go.

    def take_room(self, request: GenerationRequest) -> Room | None:
        """Take a slot and reserve memory for the whole request; None if there is no room now."""
        if not self.free_slots:
            return None
        key = request.prefix_key
        prefix = None if key is None else self.pool.find_prefix(key)
        reservation = self.pool.reserve(request.num_positions, prefix)
        if reservation is None and prefix is not None:
            prefix, reservation = None, self.pool.reserve(request.num_positions)
        return None if reservation is None else Room(self.free_slots.pop(), reservation, prefix)

    def give_back(self, slot: int, reservation: Reservation) -> None:
        """Free a slot and all blocks of a reservation."""
        self.pool.release(reservation)
        self.free_slots.append(slot)

    def swap_out(self, row: Row) -> None:
        """Move a row to CPU memory; its slot and blocks are free then."""
        blocks = row.reservation.blocks
        row.swapped = SwappedOut(
            keys=self.pages.keys[:, blocks].to("cpu", copy=True),
            values=self.pages.values[:, blocks].to("cpu", copy=True),
            carried=self.carried[row.slot].to("cpu", copy=True),
        )
        self.give_back(row.slot, row.reservation)

    def swap_in(self, row: Row) -> bool:
        """Bring a row back; False if there is no room now."""
        kept = row.swapped
        if kept is None or not self.free_slots:
            return kept is None
        reservation = self.pool.reserve(row.request.num_positions)
        if reservation is None:
            return False
        self.pool.extend(reservation, kept.keys.shape[1] * self.pool.block_size)
        row.reservation, row.slot, row.swapped = reservation, self.free_slots.pop(), None
        self.pages.keys[:, reservation.blocks] = kept.keys.to(self.device)
        self.pages.values[:, reservation.blocks] = kept.values.to(self.device)
        self.carried[row.slot] = kept.carried.to(self.device)
        return True

    # Prefixes.

    def begin_with_prefix(self, row: Row, prefix: Prefix | None) -> None:
        """Let a new row go on from the prefix that it shares, or from the one on disk, if there is any."""
        if prefix is not None:
            row.num_prefilled = prefix.length
            if prefix.length % self.pool.block_size:
                self.pool.extend(row.reservation, prefix.length)
                self.pages.copy_block(prefix.blocks[-1], row.reservation.blocks[-1])
        elif row.request.prefix_key is not None and row.request.is_voice_stored:
            self._load_prefix(row)

    def keep_prefix(self, row: Row) -> None:
        """Keep what a row has run of its prompt, where that is just what others may share."""
        key = row.request.prefix_key
        if key is None or row.num_prefilled != row.request.prompt.voice_stop:
            return
        self._share_prefix(row)
        if self._store is not None and row.request.is_voice_stored:
            self._store.save(key, *self.pages.read(row.reservation.blocks, row.num_prefilled))

    def _share_prefix(self, row: Row) -> None:
        key = row.request.prefix_key
        if self.pool.find_prefix(key) is not None:
            return
        prefix = self.pool.keep_prefix(key, row.reservation, row.num_prefilled)
        if prefix is not None and prefix.length % self.pool.block_size:
            self.pages.copy_block(row.reservation.blocks[len(prefix.blocks) - 1], prefix.blocks[-1])

    def _load_prefix(self, row: Row) -> None:
        length = row.request.prompt.voice_stop
        num_layers, _, _, *heads = self.pages.keys.shape
        shape = (num_layers, length, *heads)
        found = None if self._store is None else self._store.load(row.request.prefix_key, shape, self.dtype)
        if found is None:
            return
        self.pool.extend(row.reservation, length)
        self.pages.write(row.reservation.blocks, *found)
        row.num_prefilled = length
        self._share_prefix(row)

    # Accounts.

    def check_idle(self) -> str | None:
        """Say what is wrong if, with no row left, slots or blocks are missing; None if all is well."""
        num_missing = self._num_slots - len(self.free_slots)
        return f"{num_missing} slots are lost" if num_missing else self.pool.check_idle()

    @property
    def counts(self) -> Counts:
        """What is given out."""
        return Counts(
            free_slots=len(self.free_slots),
            slots=self._num_slots,
            free_blocks=self.pool.num_free,
            blocks=self.pool.num_blocks - 1,
            prefix_blocks=self.pool.num_in_prefixes,
            reserved_blocks=self.pool.num_reserved,
        )


def plan_blocks(model: VoxtralModel, options: EngineOptions, max_batch: int) -> int:
    """Choose the number of blocks, the scratch block included."""
    block_bytes = options.block_size * kv_bytes_per_position(model.config.backbone, model.dtype)
    if options.kv_cache_bytes is not None:
        return 1 + max(1, options.kv_cache_bytes // block_bytes)
    # A single request may be as long as the model allows where memory is committed as it is written; a GPU's is taken
    # at once, for each row of a usual length and for one that a static step still holds.
    is_gpu = model.device.type == "cuda"
    longest = LONGEST_STATIC_POSITIONS if is_gpu else model.config.backbone.max_seq_len
    num_positions = max(max_batch * POSITIONS_PER_SEQUENCE, min(longest, model.config.backbone.max_seq_len))
    num_blocks = 1 + -(-num_positions // options.block_size)
    free = free_memory(model.device) if is_gpu else None
    if free is None:
        return num_blocks
    has_kernels = KERNELS.is_on("attend_rotating", model.device, model.dtype)
    needs = Needs(model.config, model.dtype, model.codec.dtype, model.device.type, has_kernels)
    left = min(int(free * _SHARE_OF_FREE_MEMORY), free - needs.reserve(free) - needs.work(max_batch) - DRIVER_BYTES)
    return min(num_blocks, max(2, left // block_bytes))


def lacks_memory(model: VoxtralModel, options: EngineOptions, max_batch: int) -> DeviceError:
    """Say what an engine wanted when a device had no room for it, and what to do."""
    parts = (part.quantized_weight.num_bytes for part in model.modules() if isinstance(part, QuantizedLinear))
    weights = sum(parameter.nbytes for parameter in model.parameters()) + sum(parts)
    needs = Needs(model.config, model.dtype, model.codec.dtype, model.device.type)
    cache = options.kv_cache_bytes or needs.cache(needs.stream_positions)
    return DeviceError(
        f"{model.device} has no room left to speak: the weights take {weights / 1e9:.2f} GB, prompts and frames of "
        f"{max_batch} sequences side by side {needs.work(max_batch) / 1e9:.2f} GB, keys and values at least "
        f"{cache / 1e9:.2f} GB; {FEWER_BITS}"
    )
