"""The official code's numbers for two checkpoints whose sizes are not the published ones, met by the product."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from golden.judge import load_vectors, run_vectors
from voxtral.config import CodecConfig, TransformerBlockConfig
from voxtral.loading.checkpoint import open_checkpoint

ODD = Path(__file__).parent / "odd"
VARIANTS = ["sizes", "options"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_output_entry_is_met(variant: str) -> None:
    vectors = load_vectors(ODD / variant)
    by_role: dict[str, set[str]] = {"output": set(), "input": set(), "informational": set()}
    for name, entry in vectors.entries.items():
        by_role[entry.get("role", "output")].add(name)

    report = run_vectors(open_checkpoint(ODD / variant / "checkpoint"), vectors, torch.device("cpu"))

    missed = {result.name: (result.max_abs, result.detail) for result in report.results if result.ok is False}
    assert not missed
    assert report.ok
    assert {result.name for result in report.results if result.ok} == by_role["output"]
    assert report.count(True) == len(by_role["output"]) > 100
    assert report.count(None) == 0, "an output was skipped"
    for role in ("input", "informational"):
        assert {result.name for result in report.results if result.kind == role} == by_role[role]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_generation_ends_as_its_case_says(variant: str) -> None:
    vectors = load_vectors(ODD / variant)
    endings = set()
    for case, given in vectors.cases.items():
        if case.startswith("e2e/"):
            frames = vectors.tensors[f"{case}/frames"]
            assert (int(frames[-1, 0]) == 1) is given["ended_by_end_audio"]
            assert given["ended_by_end_audio"] or len(frames) == given["max_frames"]
            endings.add(given["ended_by_end_audio"])
    assert endings == {True, False}


def test_the_sizes_are_as_far_from_the_published_ones_as_the_sets_promise() -> None:
    sizes, options = (open_checkpoint(ODD / variant / "checkpoint").config for variant in VARIANTS)

    assert not math.log2(sizes.codec.num_heads).is_integer(), "slopes of a head count that is no power of two"
    assert sizes.codec.num_kv_heads not in (1, sizes.codec.num_heads)
    assert sizes.generation.num_euler_steps != options.generation.num_euler_steps == 7
    assert options.audio_token_id != 24
    assert options.codebooks.semantic_head_rows == options.codebooks.semantic_vocab, "a semantic head without padding"
    assert options.codec.patch_kernel > 2 * options.codec.steps_per_frame, "the first samples wait for the third frame"
    assert layers(options.codec).count(0) == 4, "stages without layers on both sides"
    assert options.acoustic.use_biases
    assert options.codec.use_biases
    assert not options.codec.layer_scale
    assert not options.codec.conv_weight_norm


def layers(codec: CodecConfig) -> list[int]:
    blocks = (*codec.encoder_blocks, *codec.decoder_blocks)
    return [block.num_layers for block in blocks if isinstance(block, TransformerBlockConfig)]
