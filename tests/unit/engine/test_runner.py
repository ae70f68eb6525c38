"""The runner on the tiny model: pages against one whole pass, prompts in parts, shared voices, the first chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generations import RequestMaker, collect
from voxtral.engine.engine import Engine
from voxtral.engine.kv_cache import Span, SpanMemory, kv_slot, make_pages
from voxtral.engine.options import EngineOptions
from voxtral.engine.row import Row
from voxtral.engine.runner import Runner
from voxtral.engine.sequence import GenerationRequest
from voxtral.errors import EngineError, NumericsError, OptionError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.model.attention import attend_causally
from voxtral.model.kernels import elementwise, flow, matmul, paged, tokens, window
from voxtral.model.voxtral import VoxtralModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def maker(tiny_checkpoint: Checkpoint) -> RequestMaker:
    return RequestMaker(tiny_checkpoint)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def run_prompt(runner: Runner, row: Row) -> list[int]:
    """Run a prompt; return where its parts ended."""
    ends = []
    while not row.is_prefilled:
        runner.prefill([row])
        ends.append(row.num_prefilled)
    return ends


def admit(runner: Runner, request: GenerationRequest) -> Row:
    row = runner.admit(request, None)
    assert row is not None
    return row


# Pages.


class WholePass:
    """Nothing to remember: the pass is the whole of one sequence."""

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return attend_causally(query, key, value)


@settings(max_examples=15)
@given(data=st.data())
def test_pages_hold_what_one_pass_computes(tiny_model: VoxtralModel, data: st.DataObject) -> None:
    """Two sequences whose blocks lie anywhere, run in parts side by side, equal each one run whole, without pages."""
    block_size = data.draw(st.integers(1, 7))
    lengths = data.draw(st.tuples(st.integers(2, 17), st.integers(2, 17)))
    blocks = data.draw(st.permutations(range(1, 40)))
    tables = [blocks[:17], blocks[17:34]]
    embeds = [tiny_model.embed_text(torch.arange(50 * n, 50 * n + length)) for n, length in enumerate(lengths)]
    pages = make_pages(tiny_model.config.backbone, 40, block_size, device=CPU, dtype=torch.float32)
    done = [0, 0]
    got: list[list[torch.Tensor]] = [[], []]
    with torch.inference_mode():
        while any(done[n] < lengths[n] for n in (0, 1)):
            members = [n for n in (0, 1) if done[n] < lengths[n]]
            ends = {n: data.draw(st.integers(done[n] + 1, lengths[n])) for n in members}
            positions = [position for n in members for position in range(done[n], ends[n])]
            slots = [kv_slot(tables[n], p, block_size) for n in members for p in range(done[n], ends[n])]
            spans, first = [], 0
            for n in members:
                spans.append(Span(first, first + ends[n] - done[n], torch.tensor(tables[n]), ends[n]))
                first = spans[-1].stop
            memory = SpanMemory(pages, torch.tensor(slots), spans)
            new = torch.cat([embeds[n][done[n] : ends[n]] for n in members])
            hidden = tiny_model.backbone.extend(new, torch.tensor(positions), memory)
            for n, span in zip(members, spans, strict=True):
                got[n].append(hidden[span.start : span.stop])
                done[n] = ends[n]
        for n, length in enumerate(lengths):
            whole = tiny_model.backbone.extend(embeds[n], torch.arange(length), WholePass())
            assert torch.allclose(torch.cat(got[n]), whole, atol=2e-5, rtol=0)


# Prompts in parts.


@pytest.mark.parametrize("prefill_positions", [1, 3, 8, 256])
def test_parts_end_at_fixed_positions_and_at_the_voice(
    tiny_model: VoxtralModel, maker: RequestMaker, prefill_positions: int
) -> None:
    runner = Runner(tiny_model, EngineOptions(block_size=4, prefill_positions=prefill_positions))
    request = maker.request("Good morning to you all, and to everybody else who is here.")
    voice_stop, last = request.prompt.voice_stop, len(request.prompt.token_ids) - 1
    in_voice = [*range(prefill_positions, voice_stop, prefill_positions), voice_stop]
    in_text = [*range(voice_stop + prefill_positions, last, prefill_positions), last]
    first = admit(runner, request)
    assert run_prompt(runner, first) == in_voice + in_text
    # With the voice shared, what is left is cut at the same positions.
    second = admit(runner, request)
    assert second.num_prefilled == voice_stop
    assert run_prompt(runner, second) == in_text


@pytest.mark.parametrize("block_size", [1, 5, 64])
def test_a_shared_voice_is_the_same_to_the_bit(tiny_model: VoxtralModel, maker: RequestMaker, block_size: int) -> None:
    """Blocks that end with the voice, and blocks that do not; whoever came first may be gone."""
    request = maker.request("The rain stopped.")
    runner = Runner(tiny_model, EngineOptions(block_size=block_size))
    first = admit(runner, request)
    run_prompt(runner, first)
    pages = runner._on_device().memory.pages
    num_positions = len(request.prompt.token_ids) - 1
    before = [part.clone() for part in pages.read(first.reservation.blocks, num_positions)]
    runner.release(first)
    # Others write where the first was.
    other = admit(runner, replace(request, voice_key=None, voice_rows=-request.voice_rows))
    run_prompt(runner, other)
    second = admit(runner, request)
    assert second.num_prefilled == request.prompt.voice_stop
    run_prompt(runner, second)
    for kept, again in zip(before, pages.read(second.reservation.blocks, num_positions), strict=True):
        assert torch.equal(kept, again)
    runner.release(other)
    runner.release(second)
    assert runner.check_idle() is None


def test_a_prompt_that_ends_with_its_voice_shares_nothing_and_nobody_awaits_it(
    tiny_model: VoxtralModel, maker: RequestMaker
) -> None:
    request = maker.request("Hello.")
    prompt = replace(request.prompt, token_ids=request.prompt.token_ids[: request.prompt.voice_stop])
    runner = Runner(tiny_model, EngineOptions(block_size=4))
    rows = [admit(runner, replace(request, prompt=prompt))]
    assert not runner.is_prefix_awaited(replace(request, prompt=prompt), rows)
    run_prompt(runner, rows[0])
    run_prompt(runner, admit(runner, replace(request, prompt=prompt)))


def test_a_prefix_is_awaited_from_those_alone_who_are_about_to_make_it(
    tiny_model: VoxtralModel, maker: RequestMaker
) -> None:
    runner = Runner(tiny_model, EngineOptions(block_size=4))
    request, other = maker.request("Hello."), maker.request("Hello.", voice=1)
    row = admit(runner, request)
    assert runner.is_prefix_awaited(request, [row])
    assert not runner.is_prefix_awaited(other, [row])
    assert not runner.is_prefix_awaited(replace(request, voice_key=None), [row])
    runner.prefill([row])
    assert not runner.is_prefix_awaited(request, [row])


def test_changed_weights_share_nothing_with_those_before(tiny_model: VoxtralModel, maker: RequestMaker) -> None:
    runner = Runner(tiny_model, EngineOptions(block_size=4))
    request = maker.request("Hello.")
    row = admit(runner, request)
    run_prompt(runner, row)
    runner.release(row)
    assert admit(runner, request).num_prefilled == request.prompt.voice_stop
    runner.weights_changed()
    assert admit(runner, request).num_prefilled == 0


# What fails leaves nothing behind.


def test_a_request_that_cannot_be_embedded_leaves_its_slot_and_blocks(
    tiny_model: VoxtralModel, maker: RequestMaker
) -> None:
    runner = Runner(tiny_model, EngineOptions(block_size=4, max_batch=1))
    request = maker.request("Hello.")
    with pytest.raises(AssertionError, match="placeholders"):
        runner.admit(replace(request, voice_rows=request.voice_rows[1:]), None)
    assert runner.check_idle() is None
    assert runner.admit(request, None) is not None


def test_a_swapped_row_goes_on_to_the_bit(tiny_model: VoxtralModel, maker: RequestMaker) -> None:
    request = maker.request("Hello.", max_frames=6)

    def frames(*, swap_at: int | None) -> list[np.ndarray]:
        runner = Runner(tiny_model, EngineOptions(block_size=4, max_batch=1, chunk_frames=(1,)))
        row = admit(runner, request)
        run_prompt(runner, row)
        samples = []
        for number in range(6):
            if number == swap_at:
                runner.swap_out(row)
                other = admit(runner, maker.request("Somebody else.", voice=1))
                run_prompt(runner, other)
                assert not runner.swap_in(row)
                runner.release(other)
                assert runner.swap_in(row)
            ((_, output),) = runner.collect(runner.launch([row]))
            assert not isinstance(output, Exception)
            assert output.chunk is not None
            samples.append(output.chunk.samples)
        return samples

    for whole, swapped in zip(frames(swap_at=None), frames(swap_at=3), strict=True):
        assert np.array_equal(whole, swapped)


@pytest.mark.parametrize("where", ["voice", "flow"])
def test_what_is_not_finite_ends_its_own_row_alone(tiny_model: VoxtralModel, maker: RequestMaker, where: str) -> None:
    good = maker.request("Hello.", max_frames=4)
    bad = maker.request("Hello there.", voice=1)
    if where == "voice":
        bad = replace(bad, voice_rows=torch.full_like(bad.voice_rows, torch.nan))
    else:
        bad = replace(bad, noise=lambda frame: np.full(36, np.nan, np.float32))
    engine = Engine(tiny_model, EngineOptions(max_batch=4, batch_invariant=True))
    try:
        alone = collect(engine.submit(good))
        with engine._lock:
            handles = [engine.submit(request) for request in (good, bad, good)]
        with pytest.raises(NumericsError, match="not finite at frame 0"):
            collect(handles[1])
        for handle in (handles[0], handles[2]):
            assert np.array_equal(collect(handle), alone)
    finally:
        engine.close()


def test_the_length_that_is_refused_is_one_more_than_fits(tiny_model: VoxtralModel, maker: RequestMaker) -> None:
    config = tiny_model.config.backbone
    block_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4 * 8
    engine = Engine(tiny_model, EngineOptions(block_size=8, kv_cache_bytes=10 * block_bytes))
    room = 80 - (len(maker.request("Hello.").prompt.token_ids) - 1)
    try:
        with pytest.raises(OptionError, match="the KV cache has 80"):
            engine.submit(maker.request("Hello.", max_frames=room + 1))
        assert len(collect(engine.submit(maker.request("Hello.", max_frames=room)))) > 0
    finally:
        engine.close()


# The first chunk.


class StepCountingRunner(Runner):
    """Counts steps, and lets no more happen than it is told."""

    num_steps = 0

    def launch(self, rows: Any) -> Any:
        self.num_steps += 1
        if self.num_steps > 1:
            raise EngineError("a second step was asked for before the first chunk was heard")
        return super().launch(rows)


@pytest.mark.parametrize("is_voice_cached", [False, True], ids=["new voice", "cached voice"])
@pytest.mark.parametrize(
    "options",
    [{}, {"flow": "folded"}, {"batch_invariant": True, "max_batch": 2}, {"cuda_graphs": True}, {"block_size": 8}],
    ids=["plain", "folded", "batch invariant", "static", "small blocks"],
)
def test_the_first_chunk_takes_one_step(
    tiny_model: VoxtralModel, maker: RequestMaker, options: dict[str, Any], is_voice_cached: bool
) -> None:
    chosen = EngineOptions(**options)
    runner = StepCountingRunner(tiny_model, chosen)
    engine = Engine(tiny_model, chosen, runner=runner)
    try:
        if is_voice_cached:
            collect(engine.submit(maker.request("Before.", max_frames=1)))
            runner.num_steps = 0
        chunks = engine.submit(maker.request("Hello.")).chunks()
        assert len(next(chunks)) > 0
        with pytest.raises(EngineError, match="second step"):
            next(chunks)
    finally:
        engine.close()


@pytest.mark.parametrize("cuda_graphs", [False, True], ids=["as it comes", "static"])
def test_on_a_cpu_nothing_asks_whether_a_kernel_runs(
    tiny_model: VoxtralModel, maker: RequestMaker, monkeypatch: pytest.MonkeyPatch, *, cuda_graphs: bool
) -> None:
    """For one short request that was a thousand calls, a seventh of all."""

    def ask(*_: object) -> bool:
        raise AssertionError("a tensor in main memory was asked for")

    for module in (elementwise, flow, matmul, paged, tokens, window):
        monkeypatch.setattr(module, "uses_triton", ask)
    engine = Engine(tiny_model, EngineOptions(cuda_graphs=cuda_graphs, max_batch=2))
    try:
        assert len(collect(engine.submit(maker.request("Hello.", max_frames=2)))) > 0
    finally:
        engine.close()
