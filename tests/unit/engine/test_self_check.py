"""The self-check's decisions, on a rig whose paths are made to fail; and the rig that computes, on the tiny model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch

from launches import as_on_gpu
from voxtral.engine import graphs, kernel_trials, rig
from voxtral.engine.rig import ModelRig
from voxtral.engine.self_check import CHECKS, Untried, examine
from voxtral.engine.verdict import Finding, Verdict
from voxtral.errors import DeviceError
from voxtral.model.kernels import dispatch
from voxtral.model.kernels.dispatch import USES_DOT
from voxtral.model.voxtral import VoxtralModel

CPU = torch.device("cpu")


class FakeRig:
    """Every path computes what it is told to: a difference, or an exception."""

    device = CPU
    is_narrow = True
    kernels = ("rotate_and_store", "attend_rotating", "silu_multiply")
    products = ("int8 1 rows", "int8 192 rows")

    def __init__(self, culprits: Iterable[str] = (), **outcomes: float | Exception) -> None:
        self.outcomes = outcomes
        self.culprits = set(culprits)  # kernels that are right alone, and wrong in the step
        self.calls: list[str] = []

    def _outcome(self, name: str) -> float:
        self.calls.append(name)
        outcome = self.outcomes.get(name.replace(" ", "_"), 0.001 if name not in ("graph replay", "late look") else 0.0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def kernel(self, name: str) -> float:
        return self._outcome(name)

    def product(self, name: str) -> float:
        return self._outcome(name)

    def static_step(self, kernels_off: Iterable[str]) -> float:
        off = set(kernels_off)
        self.calls.append(f"static without {','.join(sorted(off))}")
        if self.culprits - off:
            return 0.5
        return self._outcome("static step")

    def folded_flow(self) -> float:
        return self._outcome("folded flow")

    def graph_replay(self) -> float:
        return self._outcome("graph replay")

    def codec_step(self, kernels_off: Iterable[str]) -> float:
        return self._outcome("codec step without kernels" if list(kernels_off) else "codec step")

    def codec(self, *, has_stream: bool) -> float:
        return self._outcome("codec stream" if has_stream else "codec plain")

    def late_look(self) -> float:
        return self._outcome("late look")


WRONG = [
    *(0.5, math.nan, math.inf),
    RuntimeError("CUDA error: invalid configuration argument"),
    AssertionError("no"),
    OSError("ptxas"),
]


def test_a_machine_on_which_all_is_well_closes_nothing() -> None:
    verdict = examine(FakeRig())
    assert verdict.is_clean
    assert [finding.path for finding in verdict.findings] == [
        "kernel rotate_and_store",
        "kernel attend_rotating",
        "kernel silu_multiply",
        "product int8 1 rows",
        "product int8 192 rows",
        "static step",
        "folded flow",
        "graph replay",
        "codec step",
        "codec stream",
        "late look",
    ]
    assert all(finding.is_ok for finding in verdict.findings)


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize(
    ("path", "closed"),
    [
        ("folded_flow", "folded"),
        ("graph_replay", "graphs"),
        ("codec_step", "codec_step"),
        ("codec_stream", "codec_stream"),
        ("late_look", "ahead"),
    ],
)
def test_a_path_that_is_wrong_or_fails_is_closed_and_the_others_stay_open(
    path: str, closed: Any, wrong: float | Exception
) -> None:
    verdict = examine(FakeRig(**{path: wrong}))
    assert list(verdict.paths_off) == [closed]
    assert not verdict.kernels_off
    reason = verdict.paths_off[closed]
    assert reason
    assert "\n" not in reason


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("kernel", ["rotate_and_store", "attend_rotating"])
def test_a_kernel_that_is_wrong_alone_is_off_alone(kernel: str, wrong: float | Exception) -> None:
    rig = FakeRig(**{kernel: wrong})
    verdict = examine(rig)
    assert list(verdict.kernels_off) == [kernel]
    assert not verdict.paths_off
    # The step is tried without it.
    assert f"static without {kernel}" in rig.calls


def test_a_product_that_is_wrong_turns_the_kernels_of_products_off() -> None:
    verdict = examine(FakeRig(int8_192_rows=0.02))
    reason = "2 % off, 1 % are allowed"
    assert verdict.kernels_off == {"fused_product": reason, "quantized_matmul": reason}


def test_a_kernel_that_is_wrong_only_in_the_step_is_found() -> None:
    verdict = examine(FakeRig({"attend_rotating"}))
    assert list(verdict.kernels_off) == ["attend_rotating"]
    assert not verdict.paths_off


def test_where_no_single_kernel_is_to_blame_all_are_off_and_then_the_step_itself() -> None:
    verdict = examine(FakeRig({"attend_rotating", "silu_multiply"}))
    assert set(verdict.kernels_off) == set(FakeRig.kernels)
    assert not verdict.paths_off
    verdict = examine(FakeRig(static_step=0.5))
    assert not verdict.kernels_off
    assert list(verdict.paths_off) == ["static"]


def test_a_codec_that_is_wrong_on_any_stream_loses_its_kernel_too() -> None:
    verdict = examine(FakeRig(codec_stream=0.5, codec_plain=0.5))
    assert list(verdict.paths_off) == ["codec_stream"]
    assert list(verdict.kernels_off) == ["attend_in_window"]


@pytest.mark.parametrize("is_right_without", [True, False])
def test_a_codec_step_that_is_wrong_loses_its_kernels_or_goes(*, is_right_without: bool) -> None:
    class WithKernels(FakeRig):
        kernels = ("attend_after_past", "shifted_columns", "silu_multiply")

    rig = WithKernels(codec_step=0.5, codec_step_without_kernels=0.001 if is_right_without else 0.5)
    verdict = examine(rig, only=["codec step"])
    assert list(verdict.kernels_off) == (["attend_after_past", "shifted_columns"] if is_right_without else [])
    assert list(verdict.paths_off) == ([] if is_right_without else ["codec_step"])


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), Untried("not here")])
@pytest.mark.parametrize("path", ["folded_flow", "graph_replay", "static_step", "rotate_and_store", "codec_stream"])
def test_what_could_not_be_tried_stays_open(path: str, error: Exception) -> None:
    verdict = examine(FakeRig(**{path: error}))
    assert verdict.is_clean
    assert [finding.is_ok for finding in verdict.findings].count(None) == 1


def test_what_ended_a_process_before_is_closed_and_not_tried() -> None:
    rig = FakeRig()
    known = {
        "kernel rotate_and_store": "the check was ended by signal 11 in it",
        "graph replay": "the check hung in it",
    }
    verdict = examine(rig, known=known)
    assert verdict.kernels_off == {"rotate_and_store": "the check was ended by signal 11 in it"}
    assert verdict.paths_off == {"graphs": "the check hung in it"}
    assert {"rotate_and_store", "graph replay"}.isdisjoint(rig.calls)


def test_a_device_that_is_lost_ends_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(device: torch.device) -> None:
        raise DeviceError("it does not compute any more")

    monkeypatch.setattr("voxtral.engine.self_check.probe_device", gone)
    begun: list[str] = []
    rig = FakeRig(folded_flow=RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(DeviceError):
        examine(rig, on_begin=begun.append)
    assert begun[-1] == "folded flow"


def test_float32_is_held_to_closer_limits() -> None:
    class Exact(FakeRig):
        is_narrow = False

    verdict = examine(Exact(folded_flow=0.001, static_step=1e-5), only=["static step", "folded flow"])
    assert list(verdict.paths_off) == ["folded"]
    assert all(check.exact <= check.narrow for check in CHECKS.values())


# Verdicts.


def test_a_verdict_survives_json() -> None:
    verdict = examine(FakeRig(folded_flow=0.5, rotate_and_store=RuntimeError("no"), late_look=Untried("not here")))
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))).to_dict() == verdict.to_dict()


@pytest.mark.parametrize(
    "garbage",
    [
        None,
        [],
        "ok",
        {},
        {"findings": [], "kernels_off": {}, "paths_off": {}},
        {"findings": {}, "kernels_off": {}, "paths_off": {}, "seconds": 1},
        {"findings": [{}], "kernels_off": {}, "paths_off": {}, "seconds": 1},
        {"findings": [7], "kernels_off": {}, "paths_off": {}, "seconds": 1},
        {"findings": [], "kernels_off": {"rotate_and_store": 1}, "paths_off": {}, "seconds": 1},
        {"findings": [], "kernels_off": [], "paths_off": {}, "seconds": 1},
        {"findings": [], "kernels_off": {}, "paths_off": {"warp drive": "off"}, "seconds": 1},
        {"findings": [], "kernels_off": {}, "paths_off": {}, "seconds": "soon"},
        {"findings": [vars(Finding("x", True)) | {"is_ok": "yes"}], "kernels_off": {}, "paths_off": {}, "seconds": 1},
    ],
    ids=lambda garbage: str(garbage)[:40],
)
def test_what_is_no_verdict_is_refused(garbage: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Verdict.from_dict(garbage)


# The rig that computes.


@pytest.fixture
def own_rig(tiny_model: VoxtralModel) -> Iterator[ModelRig]:
    with torch.inference_mode():
        yield ModelRig(tiny_model)


def test_the_paths_of_a_cpu_agree(own_rig: ModelRig) -> None:
    verdict = examine(own_rig)
    assert verdict.is_clean
    tried = {finding.path: finding.worst for finding in verdict.findings if finding.is_ok}
    assert set(tried) == {"static step", "folded flow", "codec step"}
    assert all(worst is not None and 0 < worst < 1e-5 for worst in tried.values())
    assert own_rig.codec(has_stream=False) < 1e-5


def test_on_a_gpu_the_measure_of_all_is_made_without_kernels(
    own_rig: ModelRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the pass that grows a sequence takes the fused operations too."""
    launched: list[str] = []

    def enter(launch: Any) -> None:
        launched.append(launch._kernel)
        raise AssertionError("a kernel")

    monkeypatch.setattr(dispatch.attempt, "__enter__", enter)
    with as_on_gpu():
        measure = own_rig._plain
        assert not launched
        # What it measures does launch some.
        with pytest.raises(AssertionError, match="a kernel"):
            own_rig.static_step([])
    assert torch.isfinite(measure.hidden[:2]).all()
    assert launched


def test_there_is_a_trial_for_every_kernel() -> None:
    assert set(kernel_trials.TRIALS) == set(USES_DOT)


@pytest.mark.skipif(
    not dispatch.has_triton() or torch.cuda.is_available(), reason="interpreted kernels need Triton and no GPU"
)
@pytest.mark.parametrize("kernel", USES_DOT)
def test_every_kernel_passes_its_trial_and_a_wrong_one_does_not(
    own_rig: ModelRig, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = kernel_trials.TRIALS[kernel]
    # An interpreted kernel takes seconds: what it made once is spoiled afterwards.
    made: dict[bool, tuple[torch.Tensor, ...]] = {}

    def kept(draw: kernel_trials.Draw) -> kernel_trials.Trial:
        trial = real(draw)
        return lambda choice: made.setdefault(bool(choice), tuple(trial(choice)))

    def spoiled(draw: kernel_trials.Draw) -> kernel_trials.Trial:
        return lambda choice: tuple(part + int(choice) * (part.abs().max() // 9 + 1) for part in made[bool(choice)])

    monkeypatch.setattr(rig, "TRIALS", {kernel: kept})
    assert own_rig.kernel(kernel) <= CHECKS["kernels"].exact
    monkeypatch.setattr(rig, "TRIALS", {kernel: spoiled})
    assert own_rig.kernel(kernel) > CHECKS["kernels"].narrow


def test_a_replay_is_compared_to_the_bit(tiny_model: VoxtralModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "CAPTURES", graphs.CaptureState())

    class Recorder:
        def __init__(self, drift: float) -> None:
            self.drift = drift

        def record(self, compute: Any) -> graphs.Recording:
            outputs = compute()

            def replay() -> None:
                made = compute().tensors
                for name, kept in outputs.tensors.items():
                    kept.copy_(made[name])
                outputs.hidden.add_(self.drift * torch.rand(()))

            return graphs.Recording(replay, outputs)

    class Refusing:
        def record(self, compute: Any) -> graphs.Recording:
            raise graphs.CaptureError("capture failed: no")

    with torch.inference_mode():
        assert ModelRig(tiny_model, max_rows=4, recorder=Recorder(0.0)).graph_replay() == 0.0
        assert ModelRig(tiny_model, max_rows=4, recorder=Recorder(1e-6)).graph_replay() == 1.0
        verdict = examine(ModelRig(tiny_model, recorder=Refusing()), only=["graph replay"])
    assert verdict.paths_off == {"graphs": "CaptureError: capture failed: no"}


def test_frames_looked_at_late_are_the_frames(own_rig: ModelRig) -> None:
    late, step_by_step = (own_rig._frames(is_late=is_late) for is_late in (True, False))
    assert all(torch.equal(one, other) for one, other in zip(late, step_by_step, strict=True))
    assert len(late) == 8
