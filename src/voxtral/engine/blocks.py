"""Blocks of the KV cache: who holds which, and how many are promised. Counting only, no tensors.

A sequence gets a lease for as many blocks as it can ever need, and takes them one by one. What has been
admitted so never fails for want of memory. The start of a prompt that many sequences share (the voice) stays
as a prefix: its full blocks are shared, the last, partly filled one is copied by whoever goes on from it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

# Never leased: rows that only fill up a batch write here.
SCRATCH_BLOCK = 0


@dataclass(eq=False)
class Lease:
    """The blocks of one sequence, in the order of its positions."""

    blocks: list[int] = field(default_factory=list)
    num_promised: int = 0  # blocks that it may still take


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
        self._num_promised = 0
        self._prefixes: OrderedDict[object, Prefix] = OrderedDict()

    @property
    def capacity(self) -> int:
        """Positions that the largest single sequence may have."""
        return (self.num_blocks - 1) * self.block_size

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds; some of them may be promised."""
        return len(self._free)

    @property
    def num_promised(self) -> int:
        """Blocks that leases may still take."""
        return self._num_promised

    @property
    def num_in_prefixes(self) -> int:
        """Blocks that prefixes hold, shared or not."""
        return sum(len(prefix.blocks) for prefix in self._prefixes.values())

    def blocks_for(self, num_positions: int) -> int:
        """Count the blocks that hold `num_positions`."""
        return -(-num_positions // self.block_size)

    def lease(self, num_positions: int, prefix: Prefix | None = None) -> Lease | None:
        """Promise room for `num_positions`, with the full blocks of `prefix` in front.

        Other prefixes go to make room, those first that nobody used for longest. None if even that were too little;
        then they all stay.
        """
        shared = [] if prefix is None else prefix.blocks[: prefix.length // self.block_size]
        num_new = self.blocks_for(num_positions) - len(shared)
        others = [(key, other) for key, other in self._prefixes.items() if other is not prefix]
        num_freed = sum(self._references[block] == 1 for _, other in others for block in other.blocks)
        if len(self._free) - self._num_promised + num_freed < num_new:
            return None
        for key, other in others:
            if len(self._free) - self._num_promised >= num_new:
                break
            del self._prefixes[key]
            self._let_go(other.blocks)
        self._hold(shared)
        self._num_promised += num_new
        return Lease(blocks=list(shared), num_promised=num_new)

    def extend(self, lease: Lease, num_positions: int) -> None:
        """Take blocks until the lease holds `num_positions`; within what was promised."""
        while len(lease.blocks) * self.block_size < num_positions:
            if not lease.num_promised:
                raise AssertionError(f"a lease of {len(lease.blocks)} blocks was exceeded: {num_positions} positions")
            lease.num_promised -= 1
            self._num_promised -= 1
            lease.blocks.append(self._take())

    def release(self, lease: Lease) -> None:
        """Give everything back; the lease is empty afterwards."""
        self._let_go(lease.blocks)
        self._num_promised -= lease.num_promised
        lease.blocks, lease.num_promised = [], 0

    def find_prefix(self, key: object) -> Prefix | None:
        """Look a prefix up; it counts as used."""
        prefix = self._prefixes.get(key)
        if prefix is not None:
            self._prefixes.move_to_end(key)
        return prefix

    def keep_prefix(self, key: object, lease: Lease, length: int) -> Prefix | None:
        """Keep the first `length` positions of a sequence.

        Its full blocks become shared. A partly filled last block stays the sequence's own, which goes on
        writing to it: the prefix gets a new one, to which the caller copies. None if there is none to spare.
        """
        num_full, num_over = divmod(length, self.block_size)
        if num_over and len(self._free) <= self._num_promised:
            return None
        full = lease.blocks[:num_full]
        self._hold(full)
        prefix = Prefix(length, full + ([self._take()] if num_over else []))
        self._prefixes[key] = prefix
        return prefix

    def drop_prefixes(self) -> None:
        """Let all prefixes go."""
        while self._prefixes:
            self._let_go(self._prefixes.popitem()[1].blocks)

    def check_idle(self) -> str | None:
        """Say what is wrong if, without any lease, blocks are missing or promised; None if all is well."""
        held = {block for prefix in self._prefixes.values() for block in prefix.blocks}
        num_missing = self.num_blocks - 1 - len(self._free) - len(held)
        if num_missing or self._num_promised:
            return f"{num_missing} blocks of the KV cache are lost and {self._num_promised} promised, with no sequence"
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
