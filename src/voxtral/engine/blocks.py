"""Blocks of the KV cache: who holds which, and how many are reserved. Counting only, no tensors.

A sequence gets a reservation for as many blocks as it can ever need, and takes them one by one. What has been
admitted so never fails for want of memory. The start of a prompt that many sequences share (the voice) stays
as a prefix: its full blocks are shared, the last, partly filled one is copied by whoever goes on from it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

# Never given out: rows that only fill up a batch write here.
SCRATCH_BLOCK = 0


@dataclass(eq=False)
class Reservation:
    """The blocks of one sequence, in the order of its positions, and how many more it may take."""

    blocks: list[int] = field(default_factory=list[int])
    num_reserved: int = 0  # blocks that it may still take


@dataclass(eq=False)
class Prefix:
    """A start of prompts whose keys and values are kept: `length` positions in `blocks`."""

    length: int
    blocks: list[int]


class BlockPool:
    """Gives blocks to sequences and prefixes and counts them.

    Args:
        num_blocks: in all, the scratch block included.
        block_size: positions in each.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        # Last in, first out: memory that has been touched is touched again first.
        self._free = list(range(num_blocks - 1, SCRATCH_BLOCK, -1))
        self._references = [0] * num_blocks
        self._num_reserved = 0
        self._prefixes: OrderedDict[object, Prefix] = OrderedDict()

    @property
    def capacity(self) -> int:
        """Positions that the largest single sequence may have."""
        return (self.num_blocks - 1) * self.block_size

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds; some of them may be reserved."""
        return len(self._free)

    @property
    def num_reserved(self) -> int:
        """Blocks that reservations may still take."""
        return self._num_reserved

    @property
    def num_in_prefixes(self) -> int:
        """Blocks that prefixes hold, shared or not."""
        return sum(len(prefix.blocks) for prefix in self._prefixes.values())

    def blocks_for(self, num_positions: int) -> int:
        """Count the blocks that hold `num_positions`."""
        return -(-num_positions // self.block_size)

    def reserve(self, num_positions: int, prefix: Prefix | None = None) -> Reservation | None:
        """Reserve room for `num_positions`, with the full blocks of `prefix` in front.

        Other prefixes go to make room, those first that nobody used for longest. None if even that were too little;
        then they all stay.
        """
        shared = [] if prefix is None else prefix.blocks[: prefix.length // self.block_size]
        num_new = self.blocks_for(num_positions) - len(shared)
        others = [(key, other) for key, other in self._prefixes.items() if other is not prefix]
        num_freed = sum(self._references[block] == 1 for _, other in others for block in other.blocks)
        if len(self._free) - self._num_reserved + num_freed < num_new:
            return None
        for key, other in others:
            if len(self._free) - self._num_reserved >= num_new:
                break
            del self._prefixes[key]
            self._let_go(other.blocks)
        self._hold(shared)
        self._num_reserved += num_new
        return Reservation(blocks=list(shared), num_reserved=num_new)

    def extend(self, reservation: Reservation, num_positions: int) -> None:
        """Take blocks until the reservation holds `num_positions`; within what was reserved."""
        while len(reservation.blocks) * self.block_size < num_positions:
            if not reservation.num_reserved:
                raise AssertionError(
                    f"a reservation of {len(reservation.blocks)} blocks was exceeded: {num_positions} positions"
                )
            reservation.num_reserved -= 1
            self._num_reserved -= 1
            reservation.blocks.append(self._take())

    def release(self, reservation: Reservation) -> None:
        """Give everything back; the reservation is empty afterwards."""
        self._let_go(reservation.blocks)
        self._num_reserved -= reservation.num_reserved
        reservation.blocks, reservation.num_reserved = [], 0

    def find_prefix(self, key: object) -> Prefix | None:
        """Look a prefix up; it counts as used."""
        prefix = self._prefixes.get(key)
        if prefix is not None:
            self._prefixes.move_to_end(key)
        return prefix

    def keep_prefix(self, key: object, reservation: Reservation, length: int) -> Prefix | None:
        """Keep the first `length` positions of a sequence.

        Its full blocks become shared. A partly filled last block stays the sequence's own, which goes on
        writing to it: the prefix gets a new one, to which the caller copies. None if there is none to spare.
        """
        num_full, num_over = divmod(length, self.block_size)
        if num_over and len(self._free) <= self._num_reserved:
            return None
        full = reservation.blocks[:num_full]
        self._hold(full)
        prefix = Prefix(length, full + ([self._take()] if num_over else []))
        self._prefixes[key] = prefix
        return prefix

    def check_idle(self) -> str | None:
        """Say what is wrong if, without any sequence, blocks are missing or reserved; None if all is well."""
        held = {block for prefix in self._prefixes.values() for block in prefix.blocks}
        num_missing = self.num_blocks - 1 - len(self._free) - len(held)
        if num_missing or self._num_reserved:
            return f"{num_missing} blocks of the KV cache are lost and {self._num_reserved} promised, with no sequence"
        return None

    def _take(self) -> int:
        block = self._free.pop()
        self._references[block] = 1
        return block

    def _hold(self, blocks: list[int]) -> None:
        for block in blocks:
            self._references[block] += 1

    def _let_go(self, blocks: list[int]) -> None:
        # Backwards, so that the first is the first to be used again.
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free.append(block)
