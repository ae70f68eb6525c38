"""Whole utterances of the golden set through the engine, on every path that runs here and in company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import TINY
from golden import judge
from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise
from voxtral.engine.options import EngineOptions
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.model.voxtral import VoxtralModel

GOLDEN = Path(__file__).parent / "data"
NUM_ENTRIES = 15


def run_utterances(monkeypatch: pytest.MonkeyPatch, engine_class: Any) -> dict[str, bool | None]:
    groups = tuple(group for group in judge._GROUPS if group[0] == "e2e/")
    monkeypatch.setattr(judge, "_GROUPS", groups)
    monkeypatch.setattr(judge, "Engine", engine_class)
    golden = judge.load_vectors(GOLDEN)
    # The bfloat16 entries judge nothing and take most of the time.
    golden = replace(golden, entries={name: entry for name, entry in golden.entries.items() if name[:4] != "bf16"})
    report = judge.run_vectors(open_checkpoint(TINY), golden, torch.device("cpu"))
    return {
        result.name: result.ok
        for result in report.results
        if result.name.startswith("e2e/") and result.kind == "output"
    }


@pytest.mark.parametrize(
    "options",
    [
        EngineOptions(flow="folded"),
        EngineOptions(batch_invariant=True, max_batch=3),
        EngineOptions(batch_invariant=True, max_batch=3, flow="folded"),
        EngineOptions(cuda_graphs=True, max_batch=4),
        EngineOptions(block_size=4, prefill_positions=8),
        EngineOptions(chunk_frames=(3, 5)),
    ],
    ids=["folded", "batch invariant", "folded and invariant", "static", "small blocks and parts", "other chunks"],
)
def test_every_path_makes_the_official_utterances(monkeypatch: pytest.MonkeyPatch, options: EngineOptions) -> None:
    outcomes = run_utterances(monkeypatch, lambda model: Engine(model, options))
    assert len(outcomes) == NUM_ENTRIES
    assert [name for name, ok in outcomes.items() if ok is not True] == []


class SharedEngine(Engine):
    """Speaks with three others beside each request, two of which share its voice."""

    def __init__(self, model: VoxtralModel) -> None:
        super().__init__(model, EngineOptions(block_size=8))
        self.neighbours: list[GenerationHandle] = []

    def submit(self, request: GenerationRequest, *, trace: GenerationTrace | None = None) -> GenerationHandle:
        request = replace(request, voice_key="of this request")
        others = [replace(request, noise=SeededNoise(seed, 0, 36), min_frames=request.max_frames) for seed in (1, 2)]
        others.append(replace(others[0], voice_rows=-request.voice_rows, voice_key=None, num_euler_steps=2))
        with self._lock:
            self.neighbours = [super(SharedEngine, self).submit(other) for other in others]
            return super().submit(request, trace=trace)

    def close(self) -> None:
        for handle in self.neighbours:
            assert sum(map(len, handle.chunks()))
        super().close()


def test_neighbours_and_a_shared_voice_leave_the_utterances_official(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = run_utterances(monkeypatch, SharedEngine)
    assert len(outcomes) == NUM_ENTRIES
    assert [name for name, ok in outcomes.items() if ok is not True] == []


def test_a_wrong_start_of_the_codes_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: noise of another frame."""

    class WrongEngine(Engine):
        def submit(self, request: GenerationRequest, *, trace: GenerationTrace | None = None) -> GenerationHandle:
            noise = request.noise
            return super().submit(replace(request, noise=lambda frame: noise(frame ^ 1)), trace=trace)

    outcomes = run_utterances(monkeypatch, WrongEngine)
    assert outcomes["e2e/A/frames"] is False
