"""What rows hold on the device: room that is refused takes nothing, and swapping gives all of it up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from generations import RequestMaker
from voxtral.engine.memory import DeviceMemory, plan_blocks
from voxtral.engine.options import EngineOptions
from voxtral.engine.row import Row
from voxtral.engine.sequence import GenerationRequest
from voxtral.loading.checkpoint import Checkpoint
from voxtral.model.voxtral import VoxtralModel

BLOCK_SIZE = 8


@pytest.fixture(scope="module")
def request_(tiny_checkpoint: Checkpoint) -> GenerationRequest:
    return replace(RequestMaker(tiny_checkpoint).request("Hello."), voice_key=None)


def make_memory(model: VoxtralModel, num_positions: int, max_batch: int) -> DeviceMemory:
    config = model.config.backbone
    position_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * model.dtype.itemsize
    options = EngineOptions(block_size=BLOCK_SIZE, kv_cache_bytes=num_positions * position_bytes)
    return DeviceMemory(model, options, max_batch, None)


@pytest.mark.parametrize("what", ["slots", "blocks"])
def test_room_that_is_refused_takes_nothing(tiny_model: VoxtralModel, request_: GenerationRequest, what: str) -> None:
    num_positions = -(-request_.num_positions // BLOCK_SIZE) * BLOCK_SIZE
    many = 10 * num_positions
    memory = make_memory(tiny_model, *((many, 1) if what == "slots" else (num_positions, 10)))
    room = memory.take_room(request_)
    assert room is not None
    before = memory.counts
    assert memory.take_room(request_) is None
    assert memory.counts == before
    memory.give_back(room.slot, room.reservation)
    assert memory.check_idle() is None


def test_a_row_that_is_swapped_out_holds_nothing_and_comes_back_with_its_contents(
    tiny_model: VoxtralModel, request_: GenerationRequest
) -> None:
    memory = make_memory(tiny_model, 1000, 2)
    room = memory.take_room(request_)
    assert room is not None
    row = Row(request_, None, room.reservation, room.slot, tiny_model.init_codec_state(), torch.zeros(0, 1))
    memory.pool.extend(row.reservation, 20)
    for part in (memory.pages.keys, memory.pages.values):
        part[:, row.reservation.blocks] = torch.randn(part[:, row.reservation.blocks].shape)
    memory.carried[row.slot] = torch.randn(memory.carried.shape[1])
    before = (*memory.pages.read(row.reservation.blocks, 20), memory.carried[row.slot].clone())
    memory.swap_out(row)
    assert memory.check_idle() is None
    # Somebody else takes what it had, and writes there.
    other = memory.take_room(request_)
    assert other is not None
    memory.pool.extend(other.reservation, 20)
    memory.pages.keys[:, other.reservation.blocks] = 7.0
    memory.carried[other.slot] = 7.0
    assert memory.swap_in(row)
    assert row.swapped is None
    after = (*memory.pages.read(row.reservation.blocks, 20), memory.carried[row.slot])
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_a_cache_without_a_size_holds_a_request_as_long_as_the_model_allows(tiny_model: VoxtralModel) -> None:
    num_blocks = plan_blocks(tiny_model, EngineOptions(block_size=64), 1)
    assert (num_blocks - 1) * 64 >= tiny_model.config.backbone.max_seq_len
