"""The golden vectors with matrices joined, where they stay exact, and quantised, where they stay within bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import TINY
from cpu_forms import TORCH, use_form
from golden import judge
from golden.judge import VectorReport, load_vectors, run_vectors
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.load import load_model
from voxtral.model.kernels.cpu.library import FORM_NAMES
from voxtral.model.voxtral import VoxtralModel, prepare_for_inference
from voxtral.quantization.recipes import choose_recipe

GOLDEN = Path(__file__).parent / "data"
ODD = Path(__file__).parent / "odd"

AS_STORED = "as stored"

# Forms give the same bits (tests/unit/model/test_linear_kernel.py), so one of a kind of processor is quick.
_QUICK = ("avx512vnni", "dotprod")
_FORMS = [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in FORM_NAMES]

# Of the largest number of an entry. Tiny has groups of 32 in matrices 64 wide, of random weights: larger models are
# closer (docs/QUANTIZATION.md).
BOUNDS = {"int8": {"lm/": 0.04, "semantic/logits_raw": 0.02, "fm/": 0.05}, "int4": {"lm/": 0.35, "fm/": 0.05}}


def run(
    folder: Path, golden: Path, monkeypatch: pytest.MonkeyPatch, *, recipe: str | None, prepared: bool
) -> VectorReport:
    def load(checkpoint: Checkpoint, **options: Any) -> VoxtralModel:
        quantization = None if recipe is None else choose_recipe(recipe, checkpoint.config)
        model = load_model(checkpoint, quantization=quantization, **options)
        if prepared:
            prepare_for_inference(model)
        return model

    monkeypatch.setattr(judge, "load_model", load)
    vectors = load_vectors(golden)
    if recipe is not None:  # bounds are for float32, and the bfloat16 entries take as long as all others
        vectors = replace(vectors, entries={k: v for k, v in vectors.entries.items() if not k.startswith("bf16/")})
    return run_vectors(open_checkpoint(folder), vectors, torch.device("cpu"))


@pytest.mark.parametrize(
    ("folder", "golden"),
    [(TINY, GOLDEN), (ODD / "options" / "checkpoint", ODD / "options"), (ODD / "sizes" / "checkpoint", ODD / "sizes")],
)
def test_joined_matrices_give_the_official_numbers(folder: Path, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = run(folder, golden, monkeypatch, recipe=None, prepared=True)
    assert [result.name for result in report.results if result.ok is False] == []
    assert report.ok


@pytest.mark.parametrize("form", [AS_STORED, TORCH, *_FORMS])
@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_quantised_numbers_stay_within_bounds(recipe: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if form != AS_STORED:
        use_form(form, monkeypatch)
    report = run(TINY, GOLDEN, monkeypatch, recipe=recipe, prepared=form != AS_STORED)
    expected = load_vectors(GOLDEN).tensors
    outputs = [result for result in report.results if result.kind == "output"]
    failed = {result.name for result in outputs if not result.ok}
    # Everything else is what it was: tokens, embeddings, tables and the codec.
    assert all(name.startswith(("lm/", "semantic/", "fm/", "e2e/")) for name in failed), failed
    num_bounded = 0
    for result in outputs:
        for prefix, bound in BOUNDS[recipe].items():
            if result.name.startswith(prefix) and result.max_abs is not None and not result.name.endswith("codes"):
                assert result.max_abs <= bound * float(expected[result.name].abs().max()), result.name
                num_bounded += not result.ok
    assert num_bounded >= 10
