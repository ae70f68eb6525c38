"""What is chosen on a GPU: device, precision, rows and budget; and what a person is told of it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.random_checkpoint import published_params
from fake_gpu import GB, FakeGpu
from voxtral import tts as facade
from voxtral.device import ComputePlan, plan_compute, resolve_device
from voxtral.engine import frame_maker, memory
from voxtral.engine.memory import plan_blocks
from voxtral.engine.options import EngineOptions
from voxtral.engine.runner import Runner
from voxtral.errors import DeviceError, EngineError
from voxtral.loading import load
from voxtral.loading.budgets import Budgets
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.convert import write_quantized
from voxtral.loading.memory import choose_quantization, plan_memory
from voxtral.loading.params import parse_config
from voxtral.model.voxtral import VoxtralModel, is_quantized
from voxtral.quantization.recipes import choose_recipe
from voxtral.server.model_host import ModelHost
from voxtral.server.options import ServerOptions
from voxtral.tts import VoxtralTTS

PUBLISHED = parse_config(published_params())
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
NO_TRITON = "Triton is not installed"


def published(recipe: str | None = None) -> Checkpoint:
    stored = None if recipe is None else choose_recipe(recipe, PUBLISHED)
    return Checkpoint(Path(), replace(PUBLISHED, quantization=stored), {}, has_encoder=False)


def choose(stored: str | None = None, quantize: str | None = None, max_memory: str | None = None) -> ComputePlan:
    checkpoint = published(stored)
    return choose_quantization(checkpoint, plan_compute("auto", num_parameters=4 * GB), quantize, max_memory)


def needed(recipe: str | None) -> int:
    sizes: dict[str, Any] = {"has_encoder": False, "dtype": torch.bfloat16, "codec_dtype": torch.bfloat16}
    quantization = None if recipe is None else choose_recipe(recipe, PUBLISHED)
    return plan_memory(PUBLISHED, **sizes, quantization=quantization, device_type="cuda").total


# The device.


@pytest.mark.parametrize("asked_for", ["auto", "cuda", "cuda:2", torch.device("cuda")])
def test_a_gpu_has_its_number(asked_for: str | torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it every budget ended in a ValueError of torch."""
    gpu = FakeGpu(number=2).install(monkeypatch)
    device, _ = resolve_device(asked_for)
    assert device == torch.device("cuda:2")
    Budgets().claim(device, 3 * GB)
    assert gpu.fractions == [0.25]


def test_a_small_model_speaks_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu().install(monkeypatch)
    compute = plan_compute("auto", num_parameters=11_680_000)
    assert compute.device == torch.device("cpu")
    (line,) = compute.remarks
    assert "12 M parameters" in line
    assert "`--device cuda`" in line
    assert plan_compute("cuda", num_parameters=11_680_000).device == GPU
    assert plan_compute("auto", num_parameters=4 * GB).device == GPU
    assert plan_compute("auto", num_parameters=4 * GB).remarks == ()


def test_a_gpu_that_cannot_be_asked_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu().install(monkeypatch)

    def fail(device: Any = None) -> Any:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    with pytest.raises(DeviceError, match=r"cuda:0 cannot be used .*out of memory"):
        choose()
    monkeypatch.setattr(torch.cuda, "current_device", fail)
    with pytest.raises(DeviceError, match="the GPU cannot be used"):
        resolve_device("auto")


# The precision.


def test_the_default_on_a_gpu_is_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was 16 bits whatever was free, and a traceback on a card of 8 GB."""
    gpu = FakeGpu().install(monkeypatch)
    expected = [(24, None), (12, None), (8, "int8"), (6, "int8"), (4, "int4")]
    for free, recipe in expected:
        gpu.free = int(0.95 * free * GB)
        compute = choose()
        assert (compute.quantization.name if compute.quantization else None) == recipe
        if recipe is None:
            assert compute.remarks == ()
        else:
            (line,) = compute.remarks
            wider = "bfloat16" if recipe == "int8" else "int8"
            assert line.startswith(f"weights: {recipe}; {wider} needs ")
            assert "may be used" in line
    gpu.free = 2 * GB
    with pytest.raises(DeviceError, match=r"1\.80 GB are free on cuda:0, and int4 needs more: backbone .* reserve"):
        choose()


def test_what_torch_holds_for_itself_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(free=2 * GB, reserved=8 * GB, allocated=GB // 2).install(monkeypatch)
    assert choose().quantization is None
    gpu.allocated = 6 * GB
    assert choose().quantization is not None


def test_what_was_asked_for_and_does_not_fit_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(free=int(7.2 * GB)).install(monkeypatch)
    with pytest.raises(DeviceError, match=r"7\.20 GB are free .* take fewer bits with --quantize int4"):
        choose(quantize="none")
    assert choose(quantize="int4").remarks == ()


def test_few_bits_without_kernels_are_dequantised_once_where_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(free=11 * GB, kernel_problem=NO_TRITON).install(monkeypatch)
    compute = choose(stored="int4")
    assert compute.is_dequantized
    assert compute.quantization is None
    assert compute.remarks[0].startswith("weights: bfloat16, dequantised at loading; no kernel here multiplies int4")
    # Where it does not fit, torch's own products compute.
    gpu.free = 6 * GB
    compute = choose(stored="int4")
    assert not compute.is_dequantized
    assert compute.quantization is not None
    # With kernels nothing is changed.
    FakeGpu(free=11 * GB).install(monkeypatch)
    assert not choose(stored="int4").is_dequantized
    assert choose(stored="int4").remarks == ()


def test_nobody_gets_few_bits_unasked_that_nothing_multiplies_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """They took 149 ms a frame on a 4090 by the count of bytes, and were chosen without a word."""
    failed = "NotImplementedError: no such product"
    given = {"kernel_problem": NO_TRITON, "int8_problem": failed, "int4_problem": failed}
    gpu = FakeGpu(free=7 * GB, **given).install(monkeypatch)
    with pytest.raises(DeviceError, match="slower than it is heard") as caught:
        choose()
    for part in (NO_TRITON, failed, "--quantize int4", "install Triton"):
        assert part in str(caught.value)
    with pytest.raises(DeviceError, match="slower than it is heard"):
        choose(max_memory="5GB")
    # Who asks gets it, and is told.
    for compute in (choose(quantize="int4"), choose(stored="int4")):
        assert compute.quantization is not None
        assert "slower than speech" in compute.remarks[0]
    gpu.free = 11 * GB
    compute = choose(quantize="int4")
    assert compute.quantization is None
    assert compute.remarks[0].startswith("weights: bfloat16; int4 was asked for, and nothing here multiplies int")


def test_only_one_product_missing_skips_the_recipes_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(free=4 * GB, capability=(7, 5)).install(monkeypatch)
    with pytest.raises(DeviceError, match="multiplies int4 fast"):
        choose()
    FakeGpu(free=7 * GB, capability=(7, 5)).install(monkeypatch)
    compute = choose()
    assert compute.dtype is torch.float16
    assert compute.quantization is not None
    assert compute.quantization.name == "int8"


# Rows and budgets.


def test_a_budget_leaves_room_for_the_rows_that_it_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu().install(monkeypatch)
    numbers: list[int] = []
    for max_memory in ("3GB", "4GB", "5GB", "9GB"):
        compute = choose(quantize="int4", max_memory=max_memory)
        assert compute.kv_cache_bytes is not None
        numbers.append(compute.max_batch or 64)
        one = 2048 * 2 * 26 * 8 * 128 * 2
        assert compute.kv_cache_bytes >= max(one, numbers[-1] * one // 4)
    assert numbers == sorted(numbers)
    assert numbers[0] <= 4
    assert numbers[-1] == 64


def test_without_a_budget_a_small_card_has_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(total=24 * GB, free=24 * GB).install(monkeypatch)
    assert choose().max_batch is None
    gpu.free = int(9.5 * GB)
    few = choose().max_batch
    assert few is not None
    assert 1 <= few < 16


def test_budgets_are_lifted_when_their_models_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is the process's, and stayed for every later model."""
    gpu = FakeGpu().install(monkeypatch)
    budgets = Budgets()
    first = budgets.claim(GPU, 3 * GB)
    second = budgets.claim(GPU, 3 * GB)
    unbounded = budgets.claim(GPU, None)
    unbounded()
    first()
    first()
    second()
    assert gpu.fractions == [0.25, 0.5, 1.0, 0.5, 0.25, 1.0]
    assert budgets.claim(torch.device("cpu"), 3 * GB)() is None
    assert len(gpu.fractions) == 6


# The public call.


@pytest.fixture
def load_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan for the GPU, and load on the processor, for nothing computes on a GPU that is not there."""
    as_planned = facade.load_as_planned

    def load_elsewhere(checkpoint: Checkpoint, compute: ComputePlan) -> VoxtralModel:
        return as_planned(checkpoint, replace(compute, device=CPU))

    monkeypatch.setattr(facade, "load_as_planned", load_elsewhere)


@pytest.mark.usefixtures("load_here")
def test_tiny_speaks_as_it_was_planned_for_a_gpu(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(kernel_problem=NO_TRITON).install(monkeypatch)
    lines: list[str] = []
    budget = 300_000_000
    model = VoxtralTTS.from_pretrained(
        tiny_folder, device="cuda", dtype="float32", max_memory=budget, announce=lines.append
    )
    with model:
        assert model.compute.device == GPU
        assert model.engine.options.kv_cache_bytes == model.compute.kv_cache_bytes
        assert model.max_batch == (model.compute.max_batch or 64)
        assert model.synthesize("Hello.", max_frames=3, seed=1).samples.any()
        assert gpu.fractions[-1] == pytest.approx(budget / gpu.total)
    assert gpu.fractions[-1] == 1.0
    # And a model that is forgotten instead.
    model = VoxtralTTS.from_pretrained(tiny_folder, device="cuda", max_memory=budget, announce=lines.append)
    assert gpu.fractions[-1] != 1.0
    del model
    gc.collect()
    assert gpu.fractions[-1] == 1.0
    assert all(line.startswith("warmed up") for line in lines)


@pytest.mark.parametrize("name", ["cuda out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling it"])
def test_a_load_that_runs_out_of_memory_shows_the_plan(
    name: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeGpu().install(monkeypatch)
    error = torch.OutOfMemoryError(name) if name.startswith("cuda") else RuntimeError(name)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(load, "load_model", fail)
    with pytest.raises(DeviceError) as caught:
        VoxtralTTS.from_pretrained(tiny_folder, device="cuda", max_memory=300_000_000)
    for part in ("out of memory on cuda:0 while the model was loaded", "planned: backbone", "--quantize int4", name):
        assert part in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert gpu.fractions[-1] == 1.0


def test_other_errors_of_a_load_stay_what_they_are(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(load, "load_model", fail)
    with pytest.raises(ZeroDivisionError):
        VoxtralTTS.from_pretrained(tiny_folder, device="cpu")


@pytest.mark.parametrize("where", ["voxtral.engine.memory.make_pages", "voxtral.engine.frame_maker.FoldedFlow.build"])
def test_a_first_request_that_runs_out_of_memory_says_what_to_do(
    where: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with VoxtralTTS.from_pretrained(tiny_folder, device="cpu") as model:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, fail)
            with pytest.raises(DeviceError, match=r"no room left to speak: the weights take .*--quantize int4"):
                model.synthesize("Hello.", max_frames=2, seed=1)
        # The engine lives on.
        assert model.synthesize("Hello.", max_frames=2, seed=1).samples.any()


def test_calls_and_later_frames_that_run_out_of_memory_are_no_errors_of_torch(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    with VoxtralTTS.from_pretrained(tiny_folder, device="cpu") as model:
        for target, call in _calls(model):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(target, fail)
                with pytest.raises(EngineError, match=r"out of memory.*--quantize int4"):
                    call()


def _calls(model: VoxtralTTS) -> list[tuple[str, Callable[[], object]]]:
    clip = (np.zeros(24000, dtype=np.float32), 24000)
    return [
        ("voxtral.engine.frame_maker.compute_frame", lambda: model.synthesize("Hello.", max_frames=2, seed=1)),
        ("voxtral.model.voxtral.VoxtralModel.encode_audio", lambda: model.encode(clip)),
    ]


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_a_quantised_file_is_held_in_the_dtype(recipe: str, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    quantization = choose_recipe(recipe, tiny_checkpoint.config)
    write_quantized(tiny_checkpoint, quantization, tmp_path / "few", device=CPU, on_progress=lambda *_: None)
    stored = open_checkpoint(tmp_path / "few")
    where: dict[str, Any] = {"device": CPU, "dtype": torch.bfloat16, "codec_dtype": torch.bfloat16}
    few, dense = load.load_model(stored, **where), load.load_model(stored, **where, dequantized=True, prepared=True)
    assert is_quantized(few)
    assert not is_quantized(dense)
    joined = [few.backbone.layers[0].attention.get_submodule(name).dense_weight() for name in ("wq", "wk", "wv")]
    assert torch.equal(dense.backbone.layers[0].attention.wqkv.weight, torch.cat(joined).to(torch.bfloat16))


# The engine.


def on_gpu(dtype: torch.dtype = torch.bfloat16) -> Any:
    model = type("OnGpu", (), {"config": PUBLISHED, "device": GPU, "dtype": dtype})()
    model.codec = type("Codec", (), {"dtype": dtype})()
    return model


def test_few_rows_take_a_small_cache_whatever_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """One text took the cache of a request as long as the model allows: 7 GB, and of 64 rows 14."""
    gpu = FakeGpu(free=100 * GB).install(monkeypatch)
    assert plan_blocks(on_gpu(), EngineOptions(), 8) == 1 + 8 * 2048 // 64
    assert plan_blocks(on_gpu(), EngineOptions(), 1) == 1 + 8192 // 64
    gpu.free = 3 * GB
    block = 64 * 2 * 26 * 8 * 128 * 2
    assert (plan_blocks(on_gpu(), EngineOptions(), 64) - 1) * block < 0.6 * 3 * GB
    # What frames, prompts and libraries need comes first, and more of it where no kernel computes.
    few = [plan_blocks(on_gpu(), EngineOptions(), 32)]
    gpu.kernel_problem = NO_TRITON
    gpu.install(monkeypatch)
    few.append(plan_blocks(on_gpu(), EngineOptions(), 32))
    assert few[1] < few[0]


def test_the_flow_is_folded_before_the_cache_takes_what_is_left(
    tiny_model: VoxtralModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it there were 87 MB for what needs 152."""
    order: list[str] = []
    build, make = frame_maker.FoldedFlow.build, memory.make_pages
    monkeypatch.setattr(frame_maker.FoldedFlow, "build", lambda *given: order.append("flow") or build(*given))
    monkeypatch.setattr(memory, "make_pages", lambda *given, **more: order.append("pages") or make(*given, **more))
    Runner(tiny_model, EngineOptions())._on_device()
    assert order == ["flow", "pages"]


@pytest.mark.parametrize(("name", "rows"), [("nano", 16), ("no/such-model", 64)])
def test_a_server_counts_the_rows_of_the_device_that_its_model_gets(
    name: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeGpu().install(monkeypatch)
    assert ModelHost(ServerOptions(model=name)).num_rows == rows
    assert ModelHost(ServerOptions(model=name, max_batch=3)).num_rows == 3
