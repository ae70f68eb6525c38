"""The floor of a frame against hand-made tables for the published shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.random_checkpoint import published_params
from benchmarks.roofline import PRECISIONS, Rates, frame_cost, kv_bytes_per_position, layer_weights, prefill_flops
from voxtral.loading.params import parse_config

PUBLISHED = parse_config(published_params())
# Measured copying of one H200 and its bfloat16 products, as published; not our measurement.
H200 = Rates(4.3e12, 790e12)
SLOW_CPU = Rates(22e9, 1e15)


def test_a_layer_of_the_published_shape_has_116_million_weights() -> None:
    assert layer_weights(3072, 32, 8, 128, 9216) == 116_391_936


def test_a_position_takes_104_kib_of_cache() -> None:
    assert kv_bytes_per_position(PUBLISHED, 2) == 104 * 1024


@pytest.mark.parametrize(
    ("precision", "num_streams", "gigabytes", "floor_ms"),
    [
        ("bfloat16", 1, 11.12, 2.59),
        ("bfloat16", 32, 13.10, 3.05),
        ("bfloat16", 64, 15.14, 4.21),
        ("int8", 1, 5.86, 1.36),
        ("int4", 1, 4.40, 1.02),
        ("int4", 32, 6.38, None),
        ("int4-all", 1, 3.27, 0.76),
        ("int4-all", 32, 5.26, 1.81),
        ("int4-all", 64, 7.30, 3.18),
    ],
)
def test_bytes_and_floor_of_a_frame(precision: str, num_streams: int, gigabytes: float, floor_ms: float | None) -> None:
    cost = frame_cost(PUBLISHED, PRECISIONS[precision], num_streams=num_streams, context=600)
    assert cost.num_bytes / 1e9 == pytest.approx(gigabytes, rel=0.007)
    if floor_ms is not None:
        assert cost.floor_s(H200) * 1e3 == pytest.approx(floor_ms, rel=0.01)


@pytest.mark.parametrize(
    ("precision", "floor_ms"), [("bfloat16", 505), ("int8", 266), ("int4", 200), ("int4-all", 149)]
)
def test_floor_of_a_slow_memory(precision: str, floor_ms: float) -> None:
    cost = frame_cost(PUBLISHED, PRECISIONS[precision], num_streams=1, context=600)
    assert cost.floor_s(SLOW_CPU) * 1e3 == pytest.approx(floor_ms, rel=0.01)


@pytest.mark.parametrize(("is_folded", "gigaflops", "flow_gigaflops"), [(False, 36.8, 29.3), (True, 29.1, 21.6)])
def test_operations_of_a_frame(is_folded: bool, gigaflops: float, flow_gigaflops: float) -> None:
    cost = frame_cost(PUBLISHED, PRECISIONS["bfloat16"], num_streams=1, context=600, is_folded=is_folded)
    assert cost.flops / 1e9 == pytest.approx(gigaflops, rel=0.003)
    assert cost.flow.flops / 1e9 == pytest.approx(flow_gigaflops, rel=0.003)


def test_an_eighth_step_of_the_flow_costs_two_thirds_of_a_gigabyte() -> None:
    costs = [
        frame_cost(PUBLISHED, PRECISIONS["bfloat16"], num_streams=1, context=600, num_euler_steps=steps).num_bytes
        for steps in (7, 8)
    ]
    assert (costs[1] - costs[0]) / 1e9 == pytest.approx(0.66, abs=0.005)


def test_a_prompt_costs_two_operations_a_weight_and_its_attention() -> None:
    assert prefill_flops(PUBLISHED, 300) == pytest.approx(2 * 3.026e9 * 300, rel=0.02)


@given(st.integers(1, 256), st.integers(1, 4000), st.sampled_from(sorted(PRECISIONS)), st.booleans())
def test_more_streams_cost_more_in_all_and_less_each(
    num_streams: int, context: int, precision: str, is_folded: bool
) -> None:
    def floor_s(rows: int) -> float:
        cost = frame_cost(PUBLISHED, PRECISIONS[precision], num_streams=rows, context=context, is_folded=is_folded)
        return cost.floor_s(H200)

    assert floor_s(num_streams) < floor_s(num_streams + 1)
    assert floor_s(num_streams + 1) / (num_streams + 1) <= floor_s(num_streams) / num_streams * (1 + 1e-12)
