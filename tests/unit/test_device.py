"""How many threads a plan wants on a CPU, and work that is done aside."""

from __future__ import annotations

import threading

import pytest

from voxtral.device import plan_compute, run_aside


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


def test_work_aside_gives_its_result_or_its_error_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    assert run_aside(lambda: threading.current_thread() is not threading.main_thread())
    with pytest.raises(ZeroDivisionError):
        run_aside(lambda: 1 / 0)
    wait = [thread.join(10) for thread in set(threading.enumerate()) - before]
    assert set(threading.enumerate()) <= before, wait
