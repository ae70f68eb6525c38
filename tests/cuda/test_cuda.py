"""The same checks on a GPU; skipped, and counted, where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from generations import RequestMaker, collect
from golden.judge import load_vectors, run_vectors
from voxtral import VoxtralTTS
from voxtral.align.attention import text_attention
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import PathName, Paths
from voxtral.engine.sequence import GenerationTrace
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_model
from voxtral.types import SamplingOptions, SpeechRequest

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

VECTORS = Path(__file__).parents[1] / "golden" / "data"


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32 use TF32 otherwise, by default and from Ampere on, which is off by more than 1e-3."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def test_golden_vectors(tiny_folder: Path) -> None:
    report = run_vectors(open_checkpoint(tiny_folder), load_vectors(VECTORS), torch.device("cuda"))
    failed = [(result.name, result.max_abs, result.detail) for result in report.results if result.ok is False]
    assert report.ok, failed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_speaks(tiny_folder: Path, dtype: str) -> None:
    with VoxtralTTS.from_pretrained(tiny_folder, device="cuda", dtype=dtype) as model:
        first, second = (model.synthesize("Hello there, this is a test.", seed=1).numpy() for _ in range(2))
    assert np.isfinite(first).all()
    assert np.array_equal(first, second)


def test_moving_there_and_back(tiny_folder: Path) -> None:
    with VoxtralTTS.from_pretrained(tiny_folder, device="cpu") as model:
        on_cpu = model.synthesize("Hello.", seed=1, max_frames=3).numpy()
        on_gpu = model.to("cuda").synthesize("Hello.", seed=1, max_frames=3).numpy()
        back = model.to("cpu").synthesize("Hello.", seed=1, max_frames=3).numpy()
    assert np.array_equal(on_cpu, back)
    assert np.abs(on_cpu[:1920] - on_gpu[:1920]).max() < 1e-3


def test_loading_reserves_little_more_than_the_weights(tiny_folder: Path) -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    model = load_model(
        open_checkpoint(tiny_folder), device=torch.device("cuda"), dtype=torch.float32, codec_dtype=torch.float32
    )
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    # Torch reserves in blocks of 2 MiB; the weights of the tiny model are of that order.
    assert torch.cuda.max_memory_reserved() - before <= 1.15 * size + 8 * 2**20


@pytest.mark.parametrize("flow", ["plain", "folded"])
def test_a_captured_frame_is_the_frame(tiny_folder: Path, flow: Literal["plain", "folded"]) -> None:
    def speak(*, cuda_graphs: bool) -> list[np.ndarray]:
        options = EngineOptions(cuda_graphs=cuda_graphs, flow=flow)
        with VoxtralTTS.from_pretrained(tiny_folder, device="cuda", dtype="float32", options=options) as model:
            handles = [
                model.submit(SpeechRequest("Five at once.", seed=seed, sampling=SamplingOptions(max_frames=12)))
                for seed in range(5)
            ]
            return [np.concatenate([chunk.samples for chunk in handle.chunks()]) for handle in handles]

    for eager, captured in zip(speak(cuda_graphs=False), speak(cuda_graphs=True), strict=True):
        # The first frame; a code that flips at a bin edge may send later ones apart.
        assert np.abs(eager[:1920] - captured[:1920]).max() < 1e-3


def test_invariant_batches_are_equal_to_the_bit(tiny_folder: Path) -> None:
    options = EngineOptions(batch_invariant=True, max_batch=8)
    with VoxtralTTS.from_pretrained(tiny_folder, device="cuda", options=options) as model:
        texts = [f"Number {number} of five." for number in range(5)]
        alone = [model.synthesize(text, seed=1).numpy() for text in texts]
        handles = [model.submit(SpeechRequest(text, seed=1), hold_segments=True) for text in texts]
        together = [np.concatenate([chunk.samples for chunk in handle.chunks()]) for handle in handles]
        assert model.engine.counts is not None
        assert model.engine.counts.free_slots == 8
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


class Watcher:
    """Follows, and never interferes."""

    def __init__(self) -> None:
        self.weights: list[np.ndarray] = []

    def see(self, weights: np.ndarray) -> None:
        self.weights.append(weights.copy())

    def decide(self, *, says_end: bool) -> Literal["end", "keep"]:
        return "end" if says_end else "keep"


@pytest.mark.parametrize("closed", [None, "graphs", "static"])
def test_a_follower_is_shown_what_one_pass_sees_also_when_heads_are_set_later(
    tiny_folder: Path, closed: PathName | None
) -> None:
    checkpoint = open_checkpoint(tiny_folder)
    model = load_model(
        checkpoint, device=torch.device("cuda"), dtype=torch.float32, codec_dtype=torch.float32, prepared=True
    )
    paths = Paths("here", {} if closed is None else {closed: "off for a test"})
    steps = checkpoint.config.generation.num_euler_steps
    engine = Engine(model, EngineOptions(max_batch=4), paths=paths)
    maker = RequestMaker(checkpoint)
    try:
        for heads in ((), ((0, 1), (1, 0)), ((1, 3),)):
            engine.follow_text(heads)
            watchers, traces = [Watcher() for _ in range(3)], [GenerationTrace() for _ in range(3)]
            requests = [
                maker.request("One two three", seed=seed, num_euler_steps=steps, follower=watcher)
                for seed, watcher in enumerate(watchers)
            ]
            handles = [engine.submit(request, trace=trace) for request, trace in zip(requests, traces, strict=True)]
            for handle in handles:
                collect(handle)
            for request, watcher, trace in zip(requests, watchers, traces, strict=True):
                assert len(watcher.weights) == (len(trace.audio_tokens) if heads else 0)
                if heads:
                    frames = torch.stack(trace.audio_tokens)[:-1]
                    seen = engine.call(
                        lambda model, given=(request.prompt, request.voice_rows, frames, heads): text_attention(
                            model, *given
                        )
                    )
                    expected = sum(seen[head].cpu().numpy() for head in heads) / len(heads)
                    np.testing.assert_allclose(np.stack(watcher.weights), expected, atol=2e-3)
        assert "text" not in paths.closed
    finally:
        engine.close()
