"""Marks on a device: on few cores a thread sleeps while it waits."""

from __future__ import annotations

import os

import pytest
import torch

from voxtral.engine import transfer


@pytest.mark.parametrize(("num_cores", "sleeps"), [(1, True), (4, True), (5, False), (64, False)])
def test_a_wait_spins_only_where_cores_are_many(num_cores: int, sleeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []

    class Event:
        def __init__(self, *, blocking: bool) -> None:
            made.append(blocking)

        def record(self) -> None: ...

    monkeypatch.setattr(os, "sched_getaffinity", lambda who: set(range(num_cores)), raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    transfer._has_few_cores.cache_clear()
    try:
        assert transfer.mark(torch.device("cuda:0")) is not None
        assert transfer.mark(torch.device("cpu")) is None
        assert made == [sleeps]
    finally:
        transfer._has_few_cores.cache_clear()
