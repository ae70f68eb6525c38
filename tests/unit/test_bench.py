"""What is computed from the times of arrival; measured times themselves are never asserted."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voxtral.bench import (
    Spread,
    StreamTiming,
    count_underruns,
    forced_request,
    measure_streams,
    memory_in_use,
    percentile,
    poisson_arrivals,
    run_streams,
    summarize_rounds,
    warm_up,
)
from voxtral.engine.engine import Engine
from voxtral.errors import EngineError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.model.voxtral import VoxtralModel
from voxtral.voices.prompt import VoicePrompt

RATE = 100  # samples per second, so that 1 sample is 10 ms
finite = st.floats(min_value=0, max_value=1e6)


@given(st.lists(finite, min_size=1, max_size=30), st.floats(0, 100))
def test_a_percentile_lies_between_the_extremes_and_grows(values: list[float], percent: float) -> None:
    assert min(values) <= percentile(values, percent) <= max(values)
    assert percentile(values, 0) == min(values)
    assert percentile(values, 100) == max(values)
    assert percentile(values, percent) <= percentile(values, min(100.0, percent + 1)) * (1 + 1e-12)


def test_percentiles_are_those_of_numpy() -> None:
    values = [float(value * value % 17) for value in range(40)]
    for percent in (0, 5, 50, 95, 99.5, 100):
        expected = torch.quantile(torch.tensor(values, dtype=torch.float64), percent / 100)
        assert percentile(values, percent) == pytest.approx(float(expected))


def test_a_spread_as_json_is_scaled_but_its_count_is_not() -> None:
    assert Spread.of([0.001, 0.003]).to_dict(1e3) == {"median": 2.0, "p95": 2.9, "low": 1.0, "high": 3.0, "count": 2}


@given(st.integers(0, 1000), st.floats(0.1, 50), st.floats(0.1, 20))
def test_arrivals_are_in_order_within_the_time_and_repeatable(seed: int, rate: float, duration: float) -> None:
    times = poisson_arrivals(rate, duration, seed)
    assert times == sorted(times)
    assert all(0 <= time < duration for time in times)
    assert times == poisson_arrivals(rate, duration, seed)


def test_gaps_between_arrivals_are_exponential() -> None:
    times = poisson_arrivals(5.0, 4000.0, seed=1)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(0.2, rel=0.05)
    assert deviation == pytest.approx(mean, rel=0.05)


def test_a_stream_that_keeps_up_has_no_underrun() -> None:
    # Each chunk arrives just when the one before has been played.
    timing = StreamTiming(0.0, ((3.0, 10), (3.1, 20), (3.3, 5)))
    assert count_underruns(timing, RATE).count == 0


def test_after_an_underrun_the_player_is_late_and_so_later_chunks_are_in_time() -> None:
    # 0.5 s late; the next chunk would be 0.4 s late by the first clock, and is early by the clock that stopped.
    timing = StreamTiming(0.0, ((1.0, 10), (1.6, 10), (1.65, 10)))
    found = count_underruns(timing, RATE)
    assert (found.count, found.silence_s) == (1, pytest.approx(0.5))


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=20))
def test_silence_is_what_is_left_of_the_time_when_the_audio_is_taken_away(gaps: list[tuple[float, int]]) -> None:
    arrivals: list[tuple[float, int]] = []
    for gap, count in gaps:
        arrivals.append(((arrivals[-1][0] if arrivals else 0.0) + gap, count))
    timing = StreamTiming(0.0, tuple(arrivals))
    found = count_underruns(timing, RATE)
    # A player that plays all has finished when time since the first chunk = audio + silence, if it never waits more.
    latest = max(
        arrived - arrivals[0][0] - sum(count for _, count in arrivals[:number]) / RATE
        for number, (arrived, _) in enumerate(arrivals)
    )
    assert found.silence_s == pytest.approx(max(0.0, latest), abs=1e-9)


def test_the_first_chunk_counts_for_the_first_audio_only() -> None:
    timing = StreamTiming(10.0, ((10.5, 2), (10.6, 2), (11.0, 4)))
    assert timing.ttfa_s == pytest.approx(0.5)
    assert timing.frame_times_s(samples_per_frame=2) == [pytest.approx(0.1), pytest.approx(0.2)]


def test_throughput_is_that_of_the_median_round(tiny_checkpoint: Checkpoint) -> None:
    config = tiny_checkpoint.config
    second = config.sample_rate
    rounds = [
        [StreamTiming(start, ((start + wall, second),))] for start, wall in ((0.0, 0.5), (9.0, 0.25), (20.0, 4.0))
    ]
    report = summarize_rounds(rounds, config)
    assert report.audio_s_per_s == pytest.approx(2.0)
    assert report.chars_per_s == pytest.approx(25.0)
    assert report.rtf.median == pytest.approx(0.5)


def make_voice(model: VoxtralModel, num_missing: int = 0) -> VoicePrompt:
    return VoicePrompt("test", torch.zeros(3, model.config.backbone.dim - num_missing))


def test_streams_last_exactly_as_long_as_they_are_told_to(tiny_model: VoxtralModel) -> None:
    config, engine = tiny_model.config, Engine(tiny_model)
    lengths = (1, 7, 12)
    requests = [forced_request(config, make_voice(tiny_model), num_frames=frames, text_tokens=5) for frames in lengths]
    timings = run_streams(engine, requests, [0.0, 0.01, 0.02])
    engine.close()
    assert [timing.num_samples for timing in timings] == [frames * config.samples_per_frame for frames in lengths]
    assert all(timing.due_at < timing.arrivals[0][0] for timing in timings)
    assert timings[1].due_at - timings[0].due_at == pytest.approx(0.01)


def test_a_report_counts_all_streams_of_all_rounds(tiny_model: VoxtralModel) -> None:
    config, engine, told = tiny_model.config, Engine(tiny_model), list[str]()
    voice = make_voice(tiny_model)
    warm_up(engine, config, voice, num_streams=2)
    report = measure_streams(engine, config, voice, num_streams=2, num_frames=4, num_rounds=3, tell=told.append)
    engine.close()
    assert len(told) == 3
    assert report.num_streams == 2
    assert report.ttfa_s.count == report.rtf.count == 6
    assert report.frame_s.count > 6
    assert 0 < report.ttfa_s.low <= report.ttfa_s.median <= report.ttfa_s.high


def test_a_failing_stream_ends_the_measurement(tiny_model: VoxtralModel) -> None:
    config, engine = tiny_model.config, Engine(tiny_model)
    good = forced_request(config, make_voice(tiny_model), num_frames=3, text_tokens=5)
    bad = forced_request(config, make_voice(tiny_model, num_missing=1), num_frames=3, text_tokens=5)
    with pytest.raises(EngineError):
        run_streams(engine, [good, bad])
    engine.close()


def test_memory_is_that_of_this_process() -> None:
    before = memory_in_use(torch.device("cpu"))
    if not before:
        pytest.skip("this system does not tell")
    held = torch.ones(32 * 2**20)
    after = memory_in_use(torch.device("cpu"))
    assert after["anonymous"] - before["anonymous"] == pytest.approx(held.nbytes / 1e9, rel=0.2)
