"""The state of a stage: whole or absent, and optimisers that go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from train import state as state_module
from train.loop import RunningMean, Standing, StepClock, World
from train.state import load_state, restore_optimisers, save_state, take

ALONE = World(0, 1, torch.device("cpu"))


def test_a_state_comes_back_with_its_optimisers(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(3, 2))
    optimiser = torch.optim.AdamW([weight], lr=0.1)
    weight.grad = torch.full((3, 2), 0.5)
    optimiser.step()
    path = tmp_path / "codec-state.safetensors"
    assert load_state(path) is None
    save_state(path, {"step": 7, "held": ["a"]}, {"codec.weight": weight}, [optimiser])
    found = load_state(path)
    assert found is not None
    numbers, tensors = found
    assert numbers == {"step": 7, "held": ["a"]}
    again = torch.nn.Parameter(take(tensors, "codec.")["weight"])
    other = torch.optim.AdamW([again], lr=0.1)
    restore_optimisers([other], tensors)
    for parameter, one in ((weight, optimiser), (again, other)):
        parameter.grad = torch.full((3, 2), -0.2)
        one.step()
    assert torch.equal(weight, again)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_save_that_is_cut_off_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, {"step": 1}, {"x": torch.ones(2)})

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(state_module.os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        save_state(path, {"step": 2}, {"x": torch.zeros(2)})
    found = load_state(path)
    assert found is not None
    assert found[0] == {"step": 1}
    assert torch.equal(found[1]["x"], torch.ones(2))


def test_a_clock_goes_on_and_does_not_count_what_a_process_spends_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("train.loop.time.monotonic", lambda: now[0])
    standing = Standing(step=5, seconds=30.0)
    clock = StepClock(ALONE, 120.0, None, standing)
    assert clock.progress() == pytest.approx(0.25)
    now[0] += 3
    clock.count()
    assert (standing.step, standing.seconds) == (6, 33.0)
    now[0] += 10_000  # stopped for hours
    clock.count()
    assert standing.seconds <= 33 + 20
    assert StepClock(ALONE, 1e-3, 10, standing).progress() == pytest.approx(0.7)
    assert not clock.is_time("report", 60)
    now[0] += 61
    assert clock.is_time("report", 60)
    assert not clock.is_time("report", 60)
    assert not clock.is_time("save", 60)


def test_a_mean_goes_on() -> None:
    weight = torch.zeros(1)
    mean = RunningMean([weight])
    for value in (1.0, 2.0, 3.0):
        weight.fill_(value)
        mean.update()
    other = RunningMean([weight])
    other.restore([value.clone() for value in mean.means], mean.num_steps)
    weight.fill_(4.0)
    for each in (mean, other):
        each.update()
    assert torch.equal(mean.means[0], other.means[0])
