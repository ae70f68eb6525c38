"""What fewer bits cost: the figures are what they say, and the page is what the report says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import quantisation
from benchmarks.quality.page import fill
from benchmarks.quantisation import LIMITS, PAGE, fit_half_quadratic, judge_speech, make_parts, round_to_nearest
from benchmarks.report import ROOT
from checkpoints import TINY
from voxtral.loading.files import WEIGHTS_FILE
from voxtral.quantization.fit import fit_int4

REPORTS = sorted((ROOT / "benchmarks" / "results").glob("quantisation-*.json"))


@pytest.mark.parametrize("tail", [0.0, 1.0])
@pytest.mark.parametrize("group_size", [32, 64])
def test_each_fit_is_closer_than_the_one_before(tail: float, group_size: int) -> None:
    normal = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    weight = normal * normal.abs().pow(tail) * 0.02
    plain, half_quadratic = round_to_nearest(weight, group_size), fit_half_quadratic(weight, group_size)
    ours = fit_int4(weight, group_size).dense()
    # Each by its own measure.
    assert (half_quadratic - weight).abs().mean() < (plain - weight).abs().mean()
    assert (ours - weight).square().mean() < (half_quadratic - weight).square().mean()


def test_what_is_equal_is_not_off() -> None:
    generator = torch.Generator().manual_seed(0)
    found = {
        "hidden": torch.randn(4, 8, generator=generator),
        "logits": torch.randn(4, 16, generator=generator),
        "state": torch.randn(4, 36, generator=generator),
        "samples": torch.randn(9600, generator=generator),
    }
    same = quantisation._compare(found, found)
    assert (same["semantic_equal"], same["acoustic_equal"]) == (1.0, 1.0)
    assert same["hidden_off"] == same["divergence"] == same["flow_off"] == same["spectrum_off_db"] == 0.0
    louder = quantisation._compare(found | {"samples": 2 * found["samples"], "hidden": 1.1 * found["hidden"]}, found)
    assert louder["spectrum_off_db"] == pytest.approx(6.0, abs=0.1)
    assert louder["hidden_off"] == pytest.approx(0.1, abs=0.001)


@pytest.mark.parametrize(
    ("figure", "value"), [("error_rate", 0.27), ("length_ratio", 1.2), ("distance", 3.2), ("num_failed", 1)]
)
def test_each_limit_can_be_missed(figure: str, value: float) -> None:
    baseline = {"error_rate": 0.2, "length_ratio": 1.0, "distance": 2.8, "num_failed": 0}
    assert all(judge_speech(baseline, baseline, LIMITS["int4"]).values())
    verdicts = judge_speech(baseline | {figure: value}, baseline, LIMITS["int4"])
    assert [name for name, is_within in verdicts.items() if not is_within] == [
        "finished" if figure == "num_failed" else figure
    ]


def test_the_page_is_what_the_last_report_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    report = json.loads(REPORTS[-1].read_text(encoding="utf-8"))
    assert report["is_complete"]
    assert report["limits"] == LIMITS
    message = f"run python -m benchmarks.quantisation --page {REPORTS[-1].relative_to(ROOT)}"
    assert fill(page, make_parts(report, REPORTS[-1].name)) == page, message


def test_more_bits_are_closer_and_a_flow_of_few_is_a_checkpoint(tmp_path: Path) -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    off = [float((round_to_nearest(weight, 64, bits) - weight).square().mean()) for bits in (4, 5, 6, 8)]
    assert off == sorted(off, reverse=True)
    assert off[2] == pytest.approx(off[0] * (15 / 63) ** 2, rel=0.2)  # a step is 15 / 63 as wide
    quantisation.write_with_rounded_flow(TINY, tmp_path / "rounded", 6, group=32)
    before, after = (load_file(folder / WEIGHTS_FILE) for folder in (TINY, tmp_path / "rounded"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        name for name in before if name.startswith("acoustic_transformer.layers.") and before[name].ndim == 2
    }
