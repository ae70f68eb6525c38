"""The step that a CUDA graph holds, run without a graph: the official numbers, and no word from the host."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from checkpoints import TINY
from golden import judge
from voxtral.engine import frame, graphs
from voxtral.engine.engine import Engine
from voxtral.engine.frame_maker import StaticStep, make_text_heads
from voxtral.engine.inputs import FrameInputs, RowInput, gather_inputs
from voxtral.engine.kv_cache import KVPages, make_pages
from voxtral.engine.options import EngineOptions
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.model.folded import FoldedFlow
from voxtral.model.voxtral import VoxtralModel

GOLDEN = Path(__file__).parent / "data"
CPU = torch.device("cpu")


@pytest.mark.parametrize("flow", ["plain", "folded"])
def test_the_golden_vectors_pass_through_the_static_step(flow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    num_steps = 0
    run = graphs.FrameGraphs.run

    def counted(self: graphs.FrameGraphs, inputs: FrameInputs) -> frame.FrameOutputs:
        nonlocal num_steps
        num_steps += 1
        return run(self, inputs)

    options = EngineOptions(cuda_graphs=True, flow=flow)
    monkeypatch.setattr(judge, "Engine", lambda model: Engine(model, options))
    monkeypatch.setattr(graphs.FrameGraphs, "run", counted)
    report = judge.run_vectors(open_checkpoint(TINY), judge.load_vectors(GOLDEN), CPU)
    assert [result.name for result in report.results if result.ok is False] == []
    assert report.count(True) == 113
    assert num_steps >= 10


def test_the_static_step_never_waits_for_the_device(tiny_model: VoxtralModel) -> None:
    # Fake tensors hold no values: any branch, index or loop on a value raises.
    config = tiny_model.config
    rows = [
        RowInput(
            slot=slot,
            position=3,
            kv_slot=7,
            blocks=[1, 2],
            noise=np.zeros(config.codebooks.num_acoustic, dtype=np.float32),
            guidance_scale=1.2,
            may_end=True,
            text=(1, 3),
        )
        for slot in range(3)
    ]
    inputs = gather_inputs(rows, num_blocks=4, has_texts=True)
    schedule = tiny_model.acoustic_transformer.make_schedule(7)
    flow = FoldedFlow.build(tiny_model.acoustic_transformer)
    pages = make_pages(config.backbone, 4, 2, device=CPU, dtype=torch.float32)
    heads = make_text_heads(tiny_model, pages, ((0, 1), (1, 0)))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        given = FrameInputs(*(mode.from_tensor(getattr(inputs, part.name)) for part in fields(inputs)))
        fake_pages = KVPages(mode.from_tensor(pages.keys), mode.from_tensor(pages.values))
        carried = mode.from_tensor(torch.zeros(3, config.backbone.dim))
        outputs = StaticStep(tiny_model, fake_pages, carried, schedule, flow, heads)(given)
    assert outputs.text_weights is not None
    assert outputs.text_weights.shape == (3, 512)
    assert outputs.audio_tokens.shape == (3, config.codebooks.num_codebooks)
