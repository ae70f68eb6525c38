"""Blocks of the KV cache: none is held twice, and what was reserved is there."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from voxtral.engine.blocks import SCRATCH_BLOCK, BlockPool, Reservation

NUM_BLOCKS, BLOCK_SIZE = 13, 4


class BlockPoolMachine(RuleBasedStateMachine):
    """Sequences of random lengths come, grow, keep a prefix, and go."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS, BLOCK_SIZE)
        self.reservations: list[
            tuple[Reservation, int, str]
        ] = []  # with its positions in all and the key of its prefix

    @rule(num_positions=st.integers(1, 40), key=st.sampled_from("abc"))
    def admit(self, num_positions: int, key: str) -> None:
        prefix = self.pool.find_prefix(key)
        if prefix is not None and prefix.length > num_positions:
            prefix = None
        num_prefixes, num_free = self.pool.num_in_prefixes, self.pool.num_free
        reservation = self.pool.reserve(num_positions, prefix)
        if reservation is None:
            # A try that failed has changed nothing.
            assert (self.pool.num_in_prefixes, self.pool.num_free) == (num_prefixes, num_free)
            return
        if prefix is not None:
            assert reservation.blocks == prefix.blocks[: prefix.length // BLOCK_SIZE]
            self.pool.extend(reservation, prefix.length)
            if prefix.length % BLOCK_SIZE:
                # The partly filled block is the sequence's own: it will write there.
                assert reservation.blocks[-1] != prefix.blocks[-1]
        self.reservations.append((reservation, num_positions, key))

    @precondition(lambda self: self.reservations)
    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        reservation, num_positions, _ = data.draw(st.sampled_from(self.reservations))
        self.pool.extend(reservation, data.draw(st.integers(0, num_positions)))

    @precondition(lambda self: self.reservations)
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        reservation, num_positions, key = data.draw(st.sampled_from(self.reservations))
        length = min(num_positions, len(reservation.blocks) * BLOCK_SIZE)
        if not length or self.pool.find_prefix(key) is not None:
            return
        prefix = self.pool.keep_prefix(key, reservation, data.draw(st.integers(1, length)))
        if prefix is not None and prefix.length % BLOCK_SIZE:
            assert prefix.blocks[-1] not in reservation.blocks

    @precondition(lambda self: self.reservations)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.reservations) - 1))
        self.pool.release(self.reservations.pop(index)[0])

    @invariant()
    def every_reservation_can_be_kept(self) -> None:
        assert self.pool.num_reserved == sum(reservation.num_reserved for reservation, *_ in self.reservations)
        assert self.pool.num_reserved <= self.pool.num_free
        for reservation, num_positions, _ in self.reservations:
            assert len(reservation.blocks) + reservation.num_reserved == self.pool.blocks_for(num_positions)

    @invariant()
    def no_block_is_lost_or_held_by_two_who_write(self) -> None:
        prefixes = [prefix for key in "abc" if (prefix := self.pool.find_prefix(key)) is not None]
        shared = {block for prefix in prefixes for block in prefix.blocks}
        in_reservations = Counter(block for reservation, *_ in self.reservations for block in reservation.blocks)
        held = shared | set(in_reservations)
        assert SCRATCH_BLOCK not in held
        assert len(held) + self.pool.num_free == NUM_BLOCKS - 1
        for prefix in prefixes:
            if prefix.length % BLOCK_SIZE:
                assert in_reservations[prefix.blocks[-1]] == 0

    def teardown(self) -> None:
        for reservation, *_ in self.reservations:
            self.pool.release(reservation)
        assert self.pool.check_idle() is None
        # Prefixes hold what is left, and go where all of it is wanted.
        assert self.pool.reserve(self.pool.capacity) is not None
        assert self.pool.num_free == NUM_BLOCKS - 1


BlockPoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestBlockPool = BlockPoolMachine.TestCase


def test_a_reservation_is_never_exceeded() -> None:
    pool = BlockPool(4, BLOCK_SIZE)
    reservation = pool.reserve(5)
    assert reservation is not None
    pool.extend(reservation, 8)
    with pytest.raises(AssertionError, match="exceeded"):
        pool.extend(reservation, 9)


def test_prefixes_go_in_the_order_of_their_use_and_only_if_that_helps() -> None:
    pool = BlockPool(7, BLOCK_SIZE)
    for key in "ab":
        reservation = pool.reserve(8)
        assert reservation is not None
        pool.extend(reservation, 8)
        pool.keep_prefix(key, reservation, 8)
        pool.release(reservation)
    pool.find_prefix("a")  # used now, so that b is the oldest
    assert pool.reserve(28) is None  # more than there is
    assert pool.num_in_prefixes == 4
    assert pool.reserve(16) is not None
    assert pool.find_prefix("a") is not None
    assert pool.find_prefix("b") is None


def test_a_prefix_whose_blocks_are_in_use_makes_no_room() -> None:
    pool = BlockPool(5, BLOCK_SIZE)
    reservation = pool.reserve(8)
    assert reservation is not None
    pool.extend(reservation, 8)
    pool.keep_prefix("a", reservation, 8)
    assert pool.reserve(12) is None
    assert pool.find_prefix("a") is not None


def test_blocks_that_are_missing_are_noticed() -> None:
    pool = BlockPool(5, BLOCK_SIZE)
    reservation = pool.reserve(8)
    assert reservation is not None
    pool.extend(reservation, 4)
    assert pool.check_idle() == "1 blocks of the KV cache are lost and 1 promised, with no sequence"
