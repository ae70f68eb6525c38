"""How many threads a plan wants on a CPU."""

from __future__ import annotations

import pytest

from voxtral.device import plan_compute


def test_a_tiny_model_computes_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert plan_compute("cpu", num_parameters=11_680_000).num_threads == 1


def test_a_large_model_and_an_unknown_one_leave_the_choice_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert plan_compute("cpu", num_parameters=4_000_000_000).num_threads is None
    assert plan_compute("cpu").num_threads is None


def test_who_sets_the_variable_has_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert plan_compute("cpu", num_parameters=11_680_000).num_threads is None
