"""With `batch_invariant` a request has the same samples to the bit whoever else is there, and whatever they do."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from generations import RequestMaker, collect, load_on_cpu, speak_alone
from voxtral.config import QuantizationConfig
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace
from voxtral.errors import EngineError, VoxtralError
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.locate import locate_model
from voxtral.model.voxtral import VoxtralModel

TEXTS = ("Hello.", "The rain stopped.", "Good morning to you all.", "Yes!")

Speak = Callable[[int], np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Nano computes with one thread, as the package has it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def nano_checkpoint() -> Checkpoint:
    return open_checkpoint(locate_model("nano", allow_download=False))


@pytest.fixture(scope="module")
def nano(nano_checkpoint: Checkpoint) -> VoxtralModel:
    return load_on_cpu(nano_checkpoint)


@pytest.fixture(scope="module")
def maker(nano_checkpoint: Checkpoint) -> RequestMaker:
    return RequestMaker(nano_checkpoint)


def numbered(maker: RequestMaker, number: int, **changes: Any) -> GenerationRequest:
    """Requests that differ in everything; neighbours share a voice now and then."""
    settings = {
        "max_frames": 4 + number % 3,
        "num_euler_steps": (2, 2, 3)[number % 3],
        "guidance_scale": (1.2, 1.0, 2.0)[number % 3],
    }
    return maker.request(TEXTS[number % 4], number % 5, seed=number, **(settings | changes))


def options(max_batch: int, **changes: Any) -> EngineOptions:
    return EngineOptions(max_batch=max_batch, batch_invariant=True, **changes)


def alone(model: VoxtralModel, maker: RequestMaker, chosen: EngineOptions) -> Speak:
    return cache(lambda number: speak_alone(model, chosen, lambda: numbered(maker, number)))


def assert_all_is_free(engine: Engine) -> None:
    deadline = time.monotonic() + 20
    while engine.num_unfinished:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    # On the engine's thread, where whatever ended last has been freed.
    counts = engine.call(lambda _: engine.counts)
    assert counts is not None
    assert counts.free_slots == counts.slots
    assert counts.free_blocks + counts.prefix_blocks == counts.blocks
    assert counts.reserved_blocks == 0


def together(engine: Engine, maker: RequestMaker, numbers: range) -> dict[int, np.ndarray]:
    handles = {number: engine.submit(numbered(maker, number)) for number in numbers}
    return {number: collect(handle) for number, handle in handles.items()}


def test_1_4_and_16_streams_make_the_same_samples(nano: VoxtralModel, maker: RequestMaker) -> None:
    chosen = options(16)
    engine = Engine(nano, chosen)
    try:
        all_16 = together(engine, maker, range(16))
        first_4 = together(engine, maker, range(4))  # their voices are shared now
        assert_all_is_free(engine)
    finally:
        engine.close()
    for number, samples in first_4.items():
        assert np.array_equal(samples, all_16[number]), number
    speak = alone(nano, maker, chosen)
    for number in (0, 5, 10, 15):
        assert np.array_equal(speak(number), all_16[number]), number


@pytest.mark.slow
def test_all_of_16_streams_equal_themselves_alone(nano: VoxtralModel, maker: RequestMaker) -> None:
    chosen = options(16)
    speak = alone(nano, maker, chosen)
    engine = Engine(nano, chosen)
    try:
        for number, samples in together(engine, maker, range(16)).items():
            assert np.array_equal(samples, speak(number)), number
    finally:
        engine.close()


@pytest.mark.parametrize(
    "changes",
    [{"flow": "folded"}, {"cuda_graphs": True}, {"block_size": 8}, {"prefill_positions": 16}],
    ids=["folded", "static", "small blocks", "small parts"],
)
def test_every_path_is_invariant(nano: VoxtralModel, maker: RequestMaker, changes: dict[str, Any]) -> None:
    chosen = options(4, **changes)
    speak = alone(nano, maker, chosen)
    engine = Engine(nano, chosen)
    try:
        got = together(engine, maker, range(5))
        assert_all_is_free(engine)
    finally:
        engine.close()
    for number in (0, 2, 4):
        assert np.array_equal(got[number], speak(number)), number


@pytest.mark.parametrize("changes", [{}, {"cuda_graphs": True}], ids=["reference", "static"])
def test_a_source_filter_head_is_invariant(
    source_filter_checkpoint: Checkpoint, source_filter_model: VoxtralModel, changes: dict[str, Any]
) -> None:
    maker, chosen = RequestMaker(source_filter_checkpoint), options(4, **changes)

    def request(number: int) -> GenerationRequest:
        return numbered(maker, number, noise_key=(number, 1))

    engine = Engine(source_filter_model, chosen)
    try:
        handles = {number: engine.submit(request(number)) for number in range(5)}
        got = {number: collect(handle) for number, handle in handles.items()}
    finally:
        engine.close()
    for number in (0, 2, 4):
        assert np.array_equal(got[number], speak_alone(source_filter_model, chosen, lambda n=number: request(n))), (
            number
        )
    # The same codes, with noise of another key.
    other = speak_alone(source_filter_model, chosen, lambda: replace(request(2), noise_key=(2, 0)))
    assert other.shape == got[2].shape
    assert not np.array_equal(other, got[2])


@pytest.mark.parametrize(
    "config",
    [QuantizationConfig("int8", "int8", "int8", 64), QuantizationConfig("int4", "int8", "int8", 64)],
    ids=lambda config: config.name,
)
def test_quantised_weights_are_invariant(
    nano_checkpoint: Checkpoint, maker: RequestMaker, config: QuantizationConfig
) -> None:
    model = load_on_cpu(nano_checkpoint, quantization=config)
    chosen = options(4)
    speak = alone(model, maker, chosen)
    engine = Engine(model, chosen)
    try:
        got = together(engine, maker, range(5))
    finally:
        engine.close()
    for number in (1, 4):
        assert np.array_equal(got[number], speak(number)), number


def test_bad_company_changes_nothing(nano: VoxtralModel, maker: RequestMaker) -> None:
    bad_company(nano, maker, num_streams=12, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 9))
def test_much_bad_company_changes_nothing(nano: VoxtralModel, maker: RequestMaker, seed: int) -> None:
    bad_company(nano, maker, num_streams=40, seed=seed)


def bad_company(model: VoxtralModel, maker: RequestMaker, *, num_streams: int, seed: int) -> None:
    """Good streams join at random times, between some that are cancelled, slow, failing, late or forgotten."""
    # Room for about four streams, of blocks that no voice ends with: rows are swapped out, and voices go and come back.
    block_size, config = 8, model.config.backbone
    block_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4 * block_size
    chosen = options(4, block_size=block_size, kv_cache_bytes=36 * block_bytes, max_buffered_frames=2)
    speak = alone(model, maker, chosen)
    chance = random.Random(seed)
    engine = Engine(model, chosen)
    problems: list[str] = []
    threads: list[threading.Thread] = []

    def read(number: int, handle: GenerationHandle, kind: str) -> None:
        if kind in ("good", "slow"):
            parts = []
            for part in handle.chunks():
                parts.append(part.samples)
                if kind == "slow":
                    time.sleep(0.03)
            if not np.array_equal(np.concatenate(parts), speak_of[number]):
                problems.append(f"stream {number} ({kind}) differs")
        elif kind == "cancelled":
            time.sleep(0.02 * (number % 5))
            handle.cancel()
        elif kind == "vanishing":
            for _ in handle.chunks():
                break
        else:
            with suppress(VoxtralError):
                collect(handle)
                problems.append(f"stream {number} ({kind}) did not fail")

    kinds = ["good", "slow", *("cancelled", "vanishing", "failing", "not finite", "late")]
    plan = [(number, chance.choice(kinds) if number % 3 else "good") for number in range(num_streams)]
    speak_of = {number % 15: speak(number % 15) for number, kind in plan if kind in ("good", "slow")}
    try:
        for number, kind in plan:
            request = spoil(numbered(maker, number % 15), kind)
            handle = engine.submit(request)
            threads.append(threading.Thread(target=read, args=(number % 15, handle, kind)))
            threads[-1].start()
            del handle
            time.sleep(chance.choice((0.0, 0.0, 0.03)))
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert problems == []
        assert_all_is_free(engine)
    finally:
        engine.close()


def spoil(request: GenerationRequest, kind: str) -> GenerationRequest:
    if kind == "failing":

        def fail(frame: int) -> np.ndarray:
            if frame == 2:
                raise EngineError("no noise today")
            return noise(frame)

        noise = request.noise
        return replace(request, noise=fail)
    if kind == "not finite":
        # A key of its own: a shared voice has equal rows.
        return replace(request, voice_rows=torch.full_like(request.voice_rows, torch.nan), voice_key="broken")
    return replace(request, deadline_s=0.001) if kind == "late" else request


def test_without_the_option_only_rounding_differs(nano: VoxtralModel, maker: RequestMaker) -> None:
    """The first frame has the same history alone and together: nearly all codes are equal there."""

    def first_frames(numbers: list[int], together: bool) -> list[torch.Tensor]:
        traces = [GenerationTrace() for _ in numbers]
        pairs = list(zip(numbers, traces, strict=True))
        for group in [pairs] if together else [[pair] for pair in pairs]:
            engine = Engine(nano, EngineOptions(max_batch=8))
            try:
                for handle in [engine.submit(numbered(maker, number), trace=trace) for number, trace in group]:
                    collect(handle)
            finally:
                engine.close()
        return [trace.hidden[0] for trace in traces] + [trace.audio_tokens[0] for trace in traces]

    numbers = list(range(6))
    lone, shared = first_frames(numbers, together=False), first_frames(numbers, together=True)
    hidden = [(lone[index] - shared[index]).abs().max().item() for index in numbers]
    assert max(hidden) < 1e-4
    codes = [(lone[6 + index] == shared[6 + index]).float().mean().item() for index in numbers]
    assert min(codes) > 0.9
