"""The semantic head and the flow: times, guidance, rounding and the closing frame."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from voxtral.config import AcousticConfig, CodebookConfig
from voxtral.model.acoustic import (
    AcousticTransformer,
    FlowSchedule,
    embed_time,
    time_inverse_frequencies,
)
from voxtral.model.folded import FoldedFlow
from voxtral.model.kernels.flow import round_to_codes
from voxtral.model.layers import last

BOOKS = CodebookConfig(semantic_size=50, acoustic_size=5, num_acoustic=6)
CONFIG = AcousticConfig(
    input_dim=32,
    dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    hidden_dim=48,
    norm_eps=1e-5,
    use_biases=False,
)
ONE = torch.ones(3)


def make_head(config: AcousticConfig = CONFIG) -> AcousticTransformer:
    torch.manual_seed(0)
    head = AcousticTransformer(config, BOOKS)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head.requires_grad_(False)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def final_state(
    head: AcousticTransformer, hidden: torch.Tensor, noise: torch.Tensor, guidance: torch.Tensor
) -> torch.Tensor:
    return last(head.flow_states(hidden, noise, guidance, head.make_schedule(7)))


# Rounding.


def test_ties_go_to_the_even_level() -> None:
    # (x + 1) / 2 * 20 is exactly 2.5, 7.5, 12.5 and 17.5.
    ties = torch.tensor([-0.75, -0.25, 0.25, 0.75])
    assert round_to_codes(ties, 21).tolist() == [2, 8, 12, 18]


def test_levels_lie_from_minus_one_to_one() -> None:
    levels = torch.arange(21) / 10 - 1
    assert round_to_codes(levels, 21).tolist() == list(range(21))
    assert round_to_codes(torch.tensor([-math.inf, -1.01, 1.01, 3e38, math.inf]), 21).tolist() == [0, 0, 20, 20, 20]


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=20), st.integers(2, 64))
def test_rounding_is_that_of_numpy(values: list[float], num_levels: int) -> None:
    x = np.array(values, dtype=np.float32)
    scaled = (np.clip(x, -1, 1) + np.float32(1)) / np.float32(2) * np.float32(num_levels - 1)
    assert round_to_codes(torch.from_numpy(x), num_levels).tolist() == np.rint(scaled).tolist()


# Time.


def test_published_time_frequencies() -> None:
    frequencies = time_inverse_frequencies(3072)
    assert frequencies.shape == (1536,)
    assert frequencies.dtype is torch.float32
    assert frequencies[0] == 1
    assert float(frequencies[1]) == pytest.approx(0.99402165, abs=1e-7)
    assert float(frequencies[-1]) == pytest.approx(1.006e-4, abs=1e-7)


def test_time_zero_is_ones_and_then_zeros() -> None:
    embedded = embed_time(torch.tensor([0.0, 1.0]), time_inverse_frequencies(8))
    assert embedded[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert float(embedded[1, 0]) == pytest.approx(math.cos(1))
    assert float(embedded[1, 4]) == pytest.approx(math.sin(1))


@pytest.mark.parametrize("num_steps", [1, 2, 7, 8, 32])
def test_a_schedule_has_equal_steps_from_zero_to_one(num_steps: int) -> None:
    head = make_head()
    schedule = head.make_schedule(num_steps)
    torch.testing.assert_close(schedule.times, torch.arange(num_steps + 1) / num_steps)
    torch.testing.assert_close(schedule.steps, torch.full((num_steps,), 1 / num_steps))
    # One token for each step, made of its left end.
    expected = head.time_projection(embed_time(schedule.times[:num_steps], head.inverse_frequencies))
    torch.testing.assert_close(schedule.time_tokens, expected)


# Flow.


def test_the_flow_is_the_sum_of_its_steps() -> None:
    head, hidden, noise = make_head(), randn(3, 32), randn(3, 6, seed=1)
    schedule = head.make_schedule(4)
    states = list(head.flow_states(hidden, noise, 1.5 * ONE, schedule))
    assert len(states) == 5
    assert torch.equal(states[0], noise)
    token = head.llm_projection(hidden)
    for number, (before, after) in enumerate(pairwise(states)):
        conditional = head.velocity(before, schedule.time_tokens[number], token)
        free = head.velocity(before, schedule.time_tokens[number], torch.zeros_like(token))
        torch.testing.assert_close(after, before + 0.25 * (1.5 * conditional - 0.5 * free), atol=1e-5, rtol=0)


def test_guidance_zero_ignores_the_hidden_state() -> None:
    head, noise = make_head(), randn(3, 6, seed=1)
    states = [final_state(head, randn(3, 32, seed=seed), noise, 0 * ONE) for seed in (5, 6)]
    assert torch.equal(states[0], states[1])
    guided = [final_state(head, randn(3, 32, seed=seed), noise, ONE) for seed in (5, 6)]
    assert not torch.allclose(guided[0], guided[1], atol=1e-2)


def test_rows_have_their_own_guidance_and_do_not_see_each_other() -> None:
    head, hidden, noise = make_head(), randn(3, 32), randn(3, 6, seed=1)
    together = final_state(head, hidden, noise, torch.tensor([0.5, 1.0, 2.0]))
    for row, guidance in enumerate((0.5, 1.0, 2.0)):
        alone = final_state(head, hidden[row : row + 1], noise[row : row + 1], torch.tensor([guidance]))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)


def test_the_velocity_does_not_depend_on_the_order_of_the_other_two_tokens() -> None:
    # No positions and no mask: time and hidden state may change places, the state may not.
    head, state = make_head(), randn(3, 6)
    time, token = randn(32, seed=1), randn(32, seed=2)
    there = head.velocity(state, time, token.expand(3, -1))
    back = head.velocity(state, token, time.expand(3, -1))
    torch.testing.assert_close(there, back, atol=1e-5, rtol=0)


def test_the_state_stays_float32_in_a_bfloat16_model() -> None:
    head = make_head().bfloat16()
    head.init_tables(torch.device("cpu"))
    hidden, noise = randn(3, 32).bfloat16(), randn(3, 6, seed=1)
    schedule = head.make_schedule(7)
    assert (schedule.times.dtype, schedule.steps.dtype) == (torch.float32, torch.float32)
    step = head(hidden, noise, ONE, schedule)
    assert step.flow_state.dtype is torch.float32
    assert not torch.equal(step.flow_state, step.flow_state.bfloat16().float())


# Frames.


def head_that_chooses(code: int) -> tuple[AcousticTransformer, torch.Tensor, FlowSchedule]:
    head = make_head()
    head.semantic_codebook_output.weight[code] = 10.0
    return head, torch.ones(1, 32), head.make_schedule(3)


@pytest.mark.parametrize("code", [2, 30, 51])
def test_a_frame_is_the_semantic_code_and_then_the_shifted_acoustic_ones(code: int) -> None:
    head, hidden, schedule = head_that_chooses(code)
    step = head(hidden, randn(1, 6), torch.ones(1), schedule)
    assert step.audio_tokens.shape == (1, 7)
    assert step.audio_tokens[0, 0] == code
    assert torch.equal(step.audio_tokens[:, 1:], round_to_codes(step.flow_state, 5) + 2)


def test_an_end_audio_frame_carries_empty_audio_shifted() -> None:
    head, hidden, schedule = head_that_chooses(1)
    assert head(hidden, randn(1, 6), torch.ones(1), schedule).audio_tokens.tolist() == [[1, 2, 2, 2, 2, 2, 2]]


def test_end_audio_can_be_held_back() -> None:
    head, hidden, schedule = head_that_chooses(1)
    frame = head(hidden, randn(1, 6), torch.ones(1), schedule, may_end=False).audio_tokens[0]
    assert frame[0] >= 2
    assert frame[1:].tolist() != [2] * 6


def test_each_row_may_end_or_not() -> None:
    head, hidden, schedule = head_that_chooses(1)
    rows = (hidden.expand(3, -1), randn(3, 6), torch.ones(3), schedule)
    frames = head(*rows, may_end=torch.tensor([True, False, True])).audio_tokens
    allowed, held_back = (head(*rows, may_end=flag).audio_tokens for flag in (True, False))
    assert torch.equal(frames[::2], allowed[::2])
    assert torch.equal(frames[1], held_back[1])


@pytest.mark.parametrize("is_folded", [False, True])
def test_a_frame_never_waits_for_the_device(is_folded: bool) -> None:
    # Fake tensors hold no values: any branch, index or loop on a value raises.
    head = make_head()
    flow = FoldedFlow.build(head) if is_folded else None
    schedule = head.make_schedule(7)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        rows = (mode.from_tensor(tensor) for tensor in (randn(3, 32), randn(3, 6), ONE))
        step = head(*rows, schedule, may_end=mode.from_tensor(ONE > 0), flow=flow)
    assert step.audio_tokens.shape == (3, 7)


@pytest.mark.parametrize("code", [0, 52, 127])
def test_empty_audio_and_padding_rows_never_win(code: int) -> None:
    head, hidden, schedule = head_that_chooses(code)
    assert BOOKS.semantic_vocab == 52
    assert 1 <= int(head(hidden, randn(1, 6), torch.ones(1), schedule).audio_tokens[0, 0]) < 52


def test_biases_exist_where_they_are_asked_for() -> None:
    names = {name for name, _ in make_head(replace(CONFIG, use_biases=True)).named_parameters()}
    assert {name for name in names if name.startswith("layers.1") and name.endswith("bias")} == {
        "layers.1.attention.wq.bias",
        "layers.1.attention.wv.bias",
        "layers.1.attention.wo.bias",
        "layers.1.feed_forward.w2.bias",
    }
