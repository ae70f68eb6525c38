"""How the judge compares: tolerances, infinities, shapes, what is no judgement, and the verdict on a whole set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from golden.judge import EntryResult, VectorReport, _compare, _Failure, _judge, _Quirk, _Skip, load_vectors

GOLDEN = Path(__file__).parent / "data"


@pytest.mark.parametrize(
    ("value", "tolerance", "is_within"),
    [
        ([1.0, 2.0], {"atol": 0.0, "rtol": 0.0}, True),
        ([1.0, 2.0000002], {"atol": 0.0, "rtol": 0.0}, False),
        ([1.0, 2.09], {"atol": 0.1, "rtol": 0.0}, True),
        ([1.0, 2.11], {"atol": 0.1, "rtol": 0.0}, False),
        ([1.0, 2.11], {"atol": 0.0, "rtol": 0.1}, True),
        ([1.0, float("nan")], {"atol": 1.0, "rtol": 0.0}, False),
        ([1.0, float("inf")], {"atol": 1.0, "rtol": 1.0}, False),
        ([1.0, 2.0], "exact", True),
        ([1.0, 2.5], "exact", False),
        ([1.0, 2.05], 0.1, True),
        ([1.0, 2.05], 0.01, False),
        ([1.0, 2.05], None, False),
    ],
)
def test_an_entry_is_within_its_tolerance_or_not(value: list[float], tolerance: Any, is_within: bool) -> None:
    result = _compare(EntryResult("x", "output", tolerance), torch.tensor(value), torch.tensor([1.0, 2.0]))
    assert result.ok is is_within


def test_equal_infinities_differ_by_nothing_and_others_by_everything() -> None:
    masked = torch.tensor([-torch.inf, 1.0])
    entry = EntryResult("x", "output", {"atol": 1e-4, "rtol": 1.0})
    same = _compare(entry, masked.clone(), masked)
    assert (same.ok, same.max_abs) == (True, 0)
    for other in (torch.tensor([torch.inf, 1.0]), torch.tensor([0.0, 1.0]), torch.tensor([-3e38, 1.0])):
        result = _compare(entry, other, masked)
        assert result.ok is False
        # JSON has no infinity.
        assert result.max_abs is None
        assert "infinite" in result.detail


def test_integers_are_compared_as_they_are() -> None:
    entry = EntryResult("x", "output", "exact")
    assert _compare(entry, torch.tensor([300]), torch.tensor([44], dtype=torch.uint8)).ok is False
    assert _compare(entry, torch.tensor([44]), torch.tensor([44], dtype=torch.uint8)).ok is True
    assert _compare(entry, torch.tensor([44.0]), torch.tensor([44])).ok is False


def test_a_value_of_another_shape_fails_with_both_shapes() -> None:
    vectors = load_vectors(GOLDEN)
    result = _judge(vectors, "rope/y", {"rope/y": torch.zeros(2, 3)})
    assert result.ok is False
    assert result.detail == "shape [2, 3], expected [6, 6, 16]"


def test_skips_and_quirks_are_no_judgement() -> None:
    vectors = load_vectors(GOLDEN)
    skipped = _judge(vectors, "rope/y", {"rope/y": _Skip("no time")})
    assert (skipped.kind, skipped.ok, skipped.detail) == ("output", None, "no time")
    quirk = _judge(vectors, "rope/y", {"rope/y": _Quirk("they err")})
    assert (quirk.kind, quirk.ok, quirk.detail) == ("informational", None, "they err")


def test_a_computation_that_breaks_fails_its_entries_with_its_error() -> None:
    vectors = load_vectors(GOLDEN)
    result = _judge(vectors, "rope/y", {"rope/y": _Failure("ValueError: broken")})
    assert (result.ok, result.detail) == (False, "ValueError: broken")


@pytest.mark.parametrize(
    ("oks", "is_ok"),
    [((True, True), True), ((True, False), False), ((True, None), True), ((None, None), False), ((), False)],
)
def test_a_report_is_well_if_something_passed_and_nothing_failed(oks: tuple[bool | None, ...], is_ok: bool) -> None:
    report = VectorReport(tuple(EntryResult(f"entry/{n}", "output", "exact", ok=ok) for n, ok in enumerate(oks)))
    assert report.ok is is_ok
    assert report.to_dict()["ok"] is is_ok
