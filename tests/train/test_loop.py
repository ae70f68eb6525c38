"""What the stages share: clock, schedules, checkpoints, processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages import average_and_share
from train import loop
from train.loop import RunningMean, World, cosine, load_weights, run, save_weights, trapezoid

ALONE = World(0, 1, torch.device("cpu"))


@given(st.floats(0, 1.5), st.integers(0, 5000))
def test_schedules_stay_between_zero_and_one(progress: float, step: int) -> None:
    for schedule in (cosine, trapezoid):
        assert 0 < schedule(progress, step) <= 1


@given(st.floats(0, 1), st.floats(0, 1))
def test_after_the_warm_up_schedules_only_fall(one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    for schedule in (cosine, trapezoid):
        assert schedule(later, 1000) <= schedule(earlier, 1000) + 1e-12


def test_schedules_by_hand() -> None:
    assert cosine(0.0, 0) == pytest.approx(0.01)
    assert cosine(0.0, 99) == 1
    assert cosine(1.0, 500) == pytest.approx(0.03)
    assert trapezoid(0.5, 500) == 1
    assert trapezoid(0.8, 500) == pytest.approx(0.5 * 0.97 + 0.03)
    assert trapezoid(1.0, 500, floor=0.1) == pytest.approx(0.1)


def test_weights_are_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "codec.safetensors"
    save_weights(path, {"a": torch.ones(3, requires_grad=True), "b": torch.arange(6).view(2, 3).T})
    before = path.read_bytes()

    def die_half_way(tensors: dict[str, torch.Tensor], target: Path) -> None:
        target.write_bytes(b"half of a che")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_file", die_half_way)
        with pytest.raises(KeyboardInterrupt):
            save_weights(path, {"a": torch.zeros(3)})
    assert path.read_bytes() == before
    save_weights(path, {"a": torch.zeros(3)})
    assert load_weights(path)["a"].tolist() == [0, 0, 0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["codec.safetensors"]


def test_one_process_averages_with_nobody() -> None:
    tensor = torch.tensor([1.0, 2.0])
    ALONE.average([tensor])
    ALONE.share([tensor])
    assert tensor.tolist() == [1, 2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU there is one process")
def test_two_processes_average_share_and_agree_on_the_time(tmp_path: Path) -> None:
    run(average_and_share, 2, tmp_path)
    first, second = (load_weights(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert first["averaged"].tolist() == [[1.5, 2.5]]
    assert first["scalar"].item() == 15
    assert first["shared"].tolist() == [0, 0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU nothing is set")
def test_denormals_are_flushed_only_while_a_stage_runs() -> None:
    tiny = torch.tensor([1e-40])
    seen: list[float] = []
    run(lambda world: seen.append(float(tiny * 1.0)), 1)
    assert seen == [0.0]
    assert float(tiny * 1.0) > 0


def test_a_running_mean_follows_the_weights_and_gives_them_back() -> None:
    weight = torch.zeros(3)
    mean = RunningMean([weight])
    for step in range(1, 1001):
        weight.fill_(float(step))
        mean.update()
    with mean.applied():
        # A step counts as the fifth power of its time: the mean of 0 to 1000 is at five sixths.
        assert float(weight[0]) == pytest.approx(1000 * 5 / 6, rel=0.01)
    assert weight.tolist() == [1000.0] * 3
    with pytest.raises(KeyboardInterrupt), mean.applied():
        raise KeyboardInterrupt
    assert weight.tolist() == [1000.0] * 3
