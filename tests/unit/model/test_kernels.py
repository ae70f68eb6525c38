"""The Triton kernels, interpreted on the CPU, beside their plain forms; and the plain forms beside the model."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kernel_checks as checks
from voxtral.config import AcousticConfig, CodebookConfig
from voxtral.model.acoustic import AcousticTransformer
from voxtral.model.kernels import dispatch
from voxtral.model.kernels.elementwise import silu_multiply
from voxtral.model.kernels.flow import attend_between_tokens
from voxtral.model.kernels.matmul import fused_product
from voxtral.model.kernels.paged import attend_to_pages, rotate_and_store
from voxtral.model.layers import apply_rope

CPU = "cpu"
DTYPES = [torch.float32, torch.float16]
# The interpreter cannot multiply matrices of bfloat16, and cuts where hardware rounds.
ALL_DTYPES = [*DTYPES, torch.bfloat16]

interpreted = pytest.mark.skipif(
    not dispatch.has_triton() or torch.cuda.is_available(),
    reason="interpreted kernels need Triton, and a machine without GPU (there tests/cuda runs them compiled)",
)


@interpreted
@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("shape", [(1, 2), (2, 3, 74), (1, 2100)])
def test_silu_multiply(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    checks.check_silu_multiply(CPU, dtype, shape)


@interpreted
@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize(("num_rows", "heads", "head_dim", "page_size"), [(1, (1, 1), 2, 1), (3, (4, 2), 10, 5)])
def test_rotate_and_store(
    dtype: torch.dtype, num_rows: int, heads: tuple[int, int], head_dim: int, page_size: int
) -> None:
    checks.check_rotate_and_store(CPU, dtype, num_rows, heads, head_dim, page_size)


@interpreted
def test_rows_that_pad_a_batch_share_the_scratch_page() -> None:
    projected = torch.randn(3, 4 * 8)
    parts = (projected[:, :16], projected[:, 16:24], projected[:, 24:])
    angles = torch.zeros(3, 4)
    pages = [torch.zeros(2, 4, 1, 8) for _ in range(2)]
    rotate_and_store(parts, (angles.cos(), angles.sin()), torch.tensor([5, 0, 0]), *pages, use_triton=True)
    assert torch.equal(pages[1][1, 1, 0], projected[0, -8:])
    assert any(torch.equal(pages[1][0, 0, 0], projected[row, -8:]) for row in (1, 2))


@interpreted
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("lengths", "heads", "head_dim", "page_size"),
    [
        ([1], (1, 1), 4, 1),
        ([7, 1, 3], (2, 2), 8, 3),
        ([16, 15, 17], (6, 2), 24, 16),  # around the edge of a page
        ([128, 129, 130, 300], (8, 2), 16, 16),  # around the edge of a part
    ],
)
def test_attend_rotating(
    dtype: torch.dtype, lengths: list[int], heads: tuple[int, int], head_dim: int, page_size: int
) -> None:
    checks.check_attend_rotating(CPU, dtype, lengths, heads, head_dim, page_size)


@interpreted
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("spans", "heads", "head_dim", "page_size"),
    [
        ([(1, 1)], (1, 1), 4, 1),
        ([(3, 3), (1, 9), (5, 20)], (6, 2), 12, 4),
        ([(40, 40), (70, 140)], (4, 2), 16, 16),  # several programs, and keys of more than one block
    ],
)
def test_attend_spans(
    dtype: torch.dtype, spans: list[tuple[int, int]], heads: tuple[int, int], head_dim: int, page_size: int
) -> None:
    checks.check_attend_spans(CPU, dtype, spans, heads, head_dim, page_size)


@interpreted
@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize(
    ("spans", "pairs", "heads", "head_dim", "page_size"),
    [
        ([(0, 1)], [(0, 0)], (1, 1), 4, 1),
        ([(0, 0), (5, 12), (16, 17), (0, 16)], [(2, 5), (0, 1), (2, 0)], (6, 2), 24, 4),
        ([(61, 67), (0, 512), (0, 0)], [(0, 3), (1, 2)], (4, 2), 64, 64),
        ([(100, 215), (1, 513)], [(1, 7)], (8, 1), 128, 16),
    ],
    ids=["one token", "pages, no text, layers", "as long as it may be", "wide heads"],
)
def test_weigh_text(
    dtype: torch.dtype,
    spans: list[tuple[int, int]],
    pairs: list[tuple[int, int]],
    heads: tuple[int, int],
    head_dim: int,
    page_size: int,
) -> None:
    checks.check_weigh_text(CPU, dtype, spans, pairs, heads, head_dim, page_size)


@interpreted
@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=4),
    st.integers(1, 9),
    st.sampled_from([20, 33]),
)
def test_weigh_text_wherever_texts_lie(
    texts: list[tuple[int, int]], pairs: list[tuple[int, int]], page_size: int, width: int
) -> None:
    spans = [(start, start + length) if length else (0, 0) for start, length in texts]
    checks.check_weigh_text(CPU, torch.float32, spans, pairs, (4, 2), 6, page_size, width)


@interpreted
@pytest.mark.parametrize("group", [None, 0, 16])
@pytest.mark.parametrize("shape", [(1, 16, 64), (5, 50, 208), (70, 24, 64)])
def test_fused_product(shape: tuple[int, int, int], group: int | None) -> None:
    checks.check_fused_product(CPU, torch.float32, shape, group=group)
    checks.check_fused_product(CPU, torch.float16, shape, group=group, is_gated=True)
    checks.check_fused_product(CPU, torch.float32, shape, group=group, has_norm=True, is_gated=True)


@interpreted
def test_programs_that_share_a_block_of_the_result_join_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from voxtral.model.kernels import launching, matmul_triton

    def splits() -> int:
        kinds = {"group": 0, "has_norm": False, "is_gated": False}
        return matmul_triton.choose_tiles((3, 20, 600), torch.float32, 32, **kinds).splits

    assert splits() == 1
    x, weight = torch.randn(3, 600), torch.randn(20, 600)
    alone = matmul_triton.multiply(x, (weight,))
    monkeypatch.setattr(matmul_triton, "_LEAST_STEPS", 1)
    assert splits() == 8
    first, second = (matmul_triton.multiply(x, (weight,)) for _ in range(2))
    torch.testing.assert_close(first, alone, rtol=1e-5, atol=1e-4)
    # The next launch finds the counters as this one did, and gives the same to the bit.
    assert torch.equal(first, second)
    assert not launching.arrivals(x).any()
    checks.check_fused_product(CPU, torch.float32, (3, 20, 600), group=0)
    # What is gated is whole, with a norm or without.
    checks.check_fused_product(CPU, torch.float32, (3, 20, 600), is_gated=True)


@interpreted
def test_a_norm_before_a_product_of_float16_is_refused() -> None:
    """The kernel multiplies by the norm's weight before it divides: 300 * 300 is beyond float16."""
    x, weight = torch.full((1, 16), 300.0).half(), torch.ones(16, 16).half()
    norm = (torch.full((16,), 300.0).half(), 1e-5)
    with pytest.raises(AssertionError, match="float16"):
        fused_product(x, (weight,), norm=norm, use_triton=True)


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 1), (3, 40), (2, 3, 300)])
def test_quantize_rows(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    checks.check_quantize_rows(CPU, dtype, shape, has_norm=False)
    checks.check_quantize_rows(CPU, dtype, shape, has_norm=True)


@interpreted
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("is_gated", [False, True])
def test_float8_product(dtype: torch.dtype, *, is_gated: bool) -> None:
    checks.check_float8_product(CPU, dtype, (5, 50, 200), is_gated=is_gated)


@interpreted
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group", [0, 8, 64])
@pytest.mark.parametrize("shape", [(1, 16, 64), (3, 50, 192), (2, 70, 128), (70, 20, 64)])
def test_quantized_matmul(dtype: torch.dtype, shape: tuple[int, int, int], group: int) -> None:
    checks.check_quantized_matmul(CPU, dtype, shape, group)


@interpreted
@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize(("num_rows", "dim", "width"), [(1, 1, 2), (3, 20, 1100)])
def test_enter_layers(dtype: torch.dtype, num_rows: int, dim: int, width: int) -> None:
    checks.check_enter_layers(CPU, dtype, num_rows, dim, width)


@interpreted
@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize(("num_rows", "num_queries", "heads", "head_dim"), [(1, 1, (1, 1), 4), (3, 3, (6, 2), 12)])
def test_attend_between_tokens(
    dtype: torch.dtype, num_rows: int, num_queries: int, heads: tuple[int, int], head_dim: int
) -> None:
    checks.check_attend_between_tokens(CPU, dtype, num_rows, num_queries, heads, head_dim)


@interpreted
@pytest.mark.parametrize(("num_rows", "width"), [(1, 1), (3, 36)])
def test_guided_step(num_rows: int, width: int) -> None:
    checks.check_guided_step(CPU, num_rows, width)


@interpreted
@settings(max_examples=20)
@given(st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=12), st.integers(2, 64))
def test_finish_frame(values: list[float], num_levels: int) -> None:
    checks.check_finish_frame(CPU, torch.tensor([values] * 3), [5, 1, 2], num_levels)


@interpreted
@pytest.mark.parametrize("num_levels", [5, 21])
def test_finish_frame_at_every_tie_and_beside_it(num_levels: int) -> None:
    ties = (torch.arange(2 * num_levels - 1) / 2) / (num_levels - 1) * 2 - 1
    beside = [torch.nextafter(ties, torch.full_like(ties, far)) for far in (-5, 5)]
    state = torch.cat((ties, *beside, torch.tensor([-0.0, 3e38, -3e38])))[None]
    checks.check_finish_frame(CPU, state, [7], num_levels)


@interpreted
@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize(("num_rows", "vocab", "num_logits"), [(1, 5, 8), (3, 52, 128), (2, 4100, 4224)])
def test_choose_semantic(dtype: torch.dtype, num_rows: int, vocab: int, num_logits: int) -> None:
    checks.check_choose_semantic(CPU, dtype, num_rows, vocab, num_logits)


@interpreted
@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize(("num_rows", "num_codebooks", "dim"), [(1, 1, 1), (3, 7, 36), (2, 3, 300)])
def test_sum_embeddings(dtype: torch.dtype, num_rows: int, num_codebooks: int, dim: int) -> None:
    checks.check_sum_embeddings(CPU, dtype, num_rows, num_codebooks, dim)


@interpreted
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "heads", "head_dim", "window"),
    [
        ((1, 1, 1), (1, 1), 4, 2),
        ((2, 5, 21), (4, 2), 12, 16),
        ((2, 35, 39), (2, 2), 8, 4),  # three blocks of queries
        ((1, 17, 17), (2, 1), 16, 3),
    ],
)
def test_attend_in_window(
    dtype: torch.dtype, shape: tuple[int, int, int], heads: tuple[int, int], head_dim: int, window: int
) -> None:
    checks.check_attend_in_window(CPU, dtype, shape, heads, head_dim, window)


@interpreted
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "heads", "head_dim", "window"),
    [
        ((1, 1), (1, 1), 4, 2),
        ((3, 5), (4, 2), 12, 16),
        ((3, 35), (2, 2), 8, 4),  # three blocks of queries
        ((2, 17), (2, 1), 16, 3),
    ],
)
def test_attend_after_past(
    dtype: torch.dtype, shape: tuple[int, int], heads: tuple[int, int], head_dim: int, window: int
) -> None:
    checks.check_attend_after_past(CPU, dtype, shape, heads, head_dim, window)


@interpreted
@pytest.mark.parametrize(
    ("shape", "reach", "dtype"),
    [
        *(
            (shape, reach, dtype)
            for shape, reach in [((1, 1, 1), 1), ((2, 2, 5), 3), ((3, 8, 6), 6)]
            for dtype in ALL_DTYPES
        ),
        ((2, 3, 1030), 2, torch.bfloat16),  # more columns than a block has
    ],
)
@pytest.mark.parametrize("start", ["zeros", "repeat", "reflect"])
def test_shifted_columns(shape: tuple[int, int, int], reach: int, dtype: torch.dtype, start: Any) -> None:
    if start == "reflect" and shape[1] <= reach:
        pytest.skip("a reflection reads further inputs")
    checks.check_shifted_columns(CPU, dtype, shape, reach, start)


# Numbers that change from call to call while people speak.
CHANGING = {"num_rows", "num_states", "num_queries", "num_keys", "num_steps", "max_pages"}


def test_no_kernel_is_compiled_anew_for_a_number_that_changes_while_people_speak() -> None:
    """Each chunk of another size compiled the codec's attention again, in the middle of a stream."""
    found: set[str] = set()
    for path in Path(dispatch.__file__).parent.glob("*_triton.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or "jit" not in "".join(map(ast.unparse, node.decorator_list)):
                continue
            changing = {argument.arg for argument in node.args.args} & CHANGING
            is_helper = any(isinstance(part, ast.Return) and part.value is not None for part in ast.walk(node))
            if changing and not is_helper:
                (decorator,) = node.decorator_list
                assert isinstance(decorator, ast.Call), f"{path.name}: {node.name}"
                marked = ast.literal_eval(decorator.keywords[0].value)
                assert changing <= set(marked), f"{path.name}: {node.name}"
                found.add(node.name)
    assert {"_attend_in_window", "_attend_after_past", "_shift_columns"} <= found
    assert {"_enter_layers", "_multiply", "_attend_spans"} <= found


# Compiled for GPUs that are not here, though never run on one.

KERNELS = Path(dispatch.__file__).parent
COMPILE = Path(checks.__file__).parent / "compile_kernels.py"

# Shared memory that a program may have, in bytes, by compute capability (CUDA programming guide).
SHARED_LIMIT = {75: 64 * 1024, 80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024}

with_compiler = pytest.mark.skipif(not dispatch.has_triton(), reason="compiling kernels needs Triton")


def compile_all(capability: int, dtype: str, extent: str, cache: Path) -> list[dict[str, Any]]:
    environment = os.environ | {"TRITON_CACHE_DIR": str(cache), "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-W", "error", str(COMPILE), str(capability), dtype, extent]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@with_compiler
def test_every_kernel_compiles(tmp_path: Path) -> None:
    launches = (re.findall(r"^    (_\w+)\[", path.read_text(), re.M) for path in KERNELS.glob("*_triton.py"))
    facts = compile_all(90, "bfloat16", "once", tmp_path)
    assert {fact["kernel"] for fact in facts} == {name for names in launches for name in names}
    assert all(fact["shared"] <= SHARED_LIMIT[90] for fact in facts)


@with_compiler
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("capability", [75, 80, 86, 89, 90])
def test_every_launch_compiles_and_fits(capability: int, dtype: str, tmp_path: Path) -> None:
    facts = compile_all(capability, dtype, "all", tmp_path)
    # Products of kernels want tensor cores of sm_80, float8 those of sm_89.
    assert len(facts) == {75: 12, 80: 37, 86: 37, 89: 49, 90: 49}[capability]
    assert [fact for fact in facts if fact["shared"] > SHARED_LIMIT[capability]] == []
    # Float32 is for the vectors: exact, not fast.
    if dtype != "float32":
        assert [fact for fact in facts if fact["spilled"]] == []


# The plain forms are what the model computes.


def test_rotating_is_that_of_the_layers() -> None:
    projected, angles = torch.randn(5, 6 * 8), torch.randn(5, 4)
    keys, values = torch.zeros(2, 4, 1, 8), torch.zeros(2, 4, 1, 8)
    slots = torch.tensor([1, 7, 2, 4, 5])
    rotation = (angles.cos(), angles.sin())
    query = rotate_and_store((projected[:, :32], projected[:, 32:40], projected[:, 40:]), rotation, slots, keys, values)
    expected = apply_rope(projected.view(5, 6, 8).transpose(0, 1), rotation).transpose(0, 1)
    assert torch.equal(query, expected[:, :4])
    assert torch.equal(keys.flatten(0, 1)[slots], expected[:, 4:5])
    assert torch.equal(values.flatten(0, 1)[slots, 0], projected[:, -8:])


def test_attending_to_pages_is_attending_to_what_they_hold() -> None:
    keys, values, query = torch.randn(4, 3, 2, 8), torch.randn(4, 3, 2, 8), torch.randn(1, 6, 8)
    table = torch.tensor([[2, 0, 3]], dtype=torch.int32)
    mixed = attend_to_pages(query, keys, values, table, torch.tensor([7], dtype=torch.int32))
    for head in range(6):
        key, value = (torch.cat((pages[2], pages[0], pages[3]))[:7, head // 3] for pages in (keys, values))
        expected = (key @ query[0, head] / 8**0.5).softmax(0) @ value
        torch.testing.assert_close(mixed[0, 8 * head : 8 * head + 8], expected)


def test_attention_of_the_flow_is_that_of_its_layers() -> None:
    torch.manual_seed(0)
    config = AcousticConfig(
        input_dim=8,
        dim=8,
        num_layers=1,
        num_heads=4,
        num_kv_heads=2,
        head_dim=6,
        hidden_dim=8,
        norm_eps=1e-5,
        use_biases=False,
    )
    attention = AcousticTransformer(config, CodebookConfig(semantic_size=8, acoustic_size=5, num_acoustic=2)).layers[0]
    x = torch.randn(3, 3, 8)
    mixed = attend_between_tokens(*attention.attention.project(x), head_dim=6)
    torch.testing.assert_close(attention.attention.wo(mixed), attention.attention(x))


class OnGpu(torch.Tensor):
    """Says that it is on a GPU."""

    is_cuda = True


HERE = torch.device("cpu")
FLOAT8 = {"quantize_rows", "float8_product"}


@pytest.fixture
def fresh_kernels() -> Iterator[dispatch.Kernels]:
    """What this process knows of kernels, forgotten before and after."""
    dispatch.KERNELS.forget()
    yield dispatch.KERNELS
    dispatch.KERNELS.forget()


@interpreted
def test_kernels_are_left_alone_where_gradients_are_wanted() -> None:
    weight = torch.ones(2).as_subclass(OnGpu)
    assert dispatch.uses_triton("rotate_and_store", weight, None)
    assert not dispatch.uses_triton("rotate_and_store", weight.requires_grad_(), None)
    with torch.no_grad():
        assert dispatch.uses_triton("rotate_and_store", weight, None)


@interpreted
@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (lambda *given: torch.zeros(2, 16, dtype=torch.float32), "a small launch computes wrong numbers"),
        (lambda *given: {}["gcc"], "KeyError: 'gcc'"),
    ],
)
def test_kernels_that_do_not_work_here_are_not_used(
    broken: Any,
    problem: str,
    fresh_kernels: dispatch.Kernels,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from voxtral.model.kernels import matmul_triton

    monkeypatch.setattr(matmul_triton, "multiply", broken)
    for _ in range(2):
        assert not dispatch.uses_triton("attend_rotating", torch.ones(2).as_subclass(OnGpu), None)
    assert fresh_kernels.problem("quantized_matmul", HERE, torch.float32) == problem
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"Triton kernels are not used on cpu, plain operations are: {problem}"
    ]
    # What multiplies no matrices was tried by itself.
    assert dispatch.uses_triton("rotate_and_store", torch.ones(2).as_subclass(OnGpu), None)


@interpreted
def test_kernels_are_tried_in_the_dtype_that_they_will_compute_in(
    fresh_kernels: dispatch.Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxtral.model.kernels import matmul_triton

    tried: list[torch.dtype] = []
    launch = matmul_triton.multiply
    monkeypatch.setattr(matmul_triton, "multiply", lambda x, *rest: tried.append(x.dtype) or launch(x, *rest))
    for dtype in (torch.float16, torch.float32, torch.float16):
        assert dispatch.uses_triton("attend_rotating", torch.ones(2, dtype=dtype).as_subclass(OnGpu), None)
    assert tried == [torch.float16, torch.float32]


@pytest.mark.parametrize(("capability", "is_used"), [((7, 5), False), ((6, 1), False), ((8, 0), True), ((9, 0), True)])
def test_before_ampere_no_kernel_multiplies_matrices(
    capability: tuple[int, int], is_used: bool, fresh_kernels: dispatch.Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(dispatch, "_try_launch", lambda *given, **named: None)
    device = torch.device("cuda:0")
    for kernel in dispatch.USES_DOT.keys() - FLOAT8:
        assert fresh_kernels.is_on(kernel, device, torch.float16) is (is_used or not dispatch.USES_DOT[kernel]), kernel


@pytest.mark.parametrize(("capability", "is_used"), [((7, 5), False), ((8, 6), False), ((8, 9), True), ((9, 0), True)])
def test_before_ada_no_kernel_takes_float8(
    capability: tuple[int, int], is_used: bool, fresh_kernels: dispatch.Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(dispatch, "_try_launch", lambda *given, **named: None)
    for kernel in FLOAT8:
        assert fresh_kernels.is_on(kernel, torch.device("cuda:0"), torch.float16) is is_used, kernel


@interpreted
def test_float8_is_tried_by_a_product_of_float8(
    fresh_kernels: dispatch.Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxtral.model.kernels import matmul_triton

    values = torch.ones(2).to(torch.float8_e4m3fn)
    assert fresh_kernels.problem("float8_product", HERE, values.dtype) is None
    fresh_kernels.forget()
    monkeypatch.setattr(matmul_triton, "multiply", lambda *given, **named: torch.zeros(2, 16))
    problem = fresh_kernels.problem("float8_product", HERE, values.dtype)
    assert problem == "a small launch computes wrong numbers"


@interpreted
@pytest.mark.parametrize("is_gated", [False, True])
def test_a_product_whose_launch_fails_is_the_plain_one_of_untouched_inputs(
    fresh_kernels: dispatch.Kernels, monkeypatch: pytest.MonkeyPatch, *, is_gated: bool
) -> None:
    from voxtral.model.kernels import matmul_triton

    assert fresh_kernels.is_on("fused_product", HERE, torch.float32)
    monkeypatch.setattr(matmul_triton, "multiply", lambda *given, **named: {}["no such kernel"])
    x, weight = torch.randn(3, 16), torch.randn(8, 16)
    norm, bias, residual = (torch.randn(16), 1e-5), torch.randn(8), torch.randn(3, 4 if is_gated else 8)
    parts = {"norm": norm, "bias": bias, "is_gated": is_gated}
    plain = fused_product(x, (weight,), residual=residual.clone(), use_triton=False, **parts)
    made = fused_product(x.as_subclass(OnGpu), (weight,), residual=residual, **parts)
    # To the bit or nearly: what stands for the product may have its own part of it, the gates, by another kernel.
    assert torch.allclose(torch.Tensor(made), plain, rtol=1e-5, atol=1e-6)
    assert list(fresh_kernels.turned_off(HERE)) == ["fused_product"]


@interpreted
def test_counters_that_programs_share_are_not_made_by_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    from voxtral.model.kernels import launching

    monkeypatch.setattr(launching, "_scratch", threading.local())
    monkeypatch.setattr(launching, "is_capturing", lambda: True)
    with pytest.raises(AssertionError, match="before a capture"):
        launching.arrivals(torch.ones(1))
    monkeypatch.setattr(launching, "is_capturing", lambda: False)
    made = launching.arrivals(torch.ones(1))
    monkeypatch.setattr(launching, "is_capturing", lambda: True)
    assert launching.arrivals(torch.ones(1)) is made


def test_every_operation_asks_for_a_kernel_of_its_own_name() -> None:
    """A name that is not in the table would be found by nobody who has no GPU."""
    asked: set[str] = set()
    for path in Path(dispatch.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                named = {
                    call.args[0].value
                    for call in ast.walk(node)
                    if isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Name)
                    and call.func.id in ("uses_triton", "attempt")
                    and isinstance(call.args[0], ast.Constant)
                }
                assert named <= {node.name}, f"{path.name}: {node.name} asks for {named}"
                asked |= {str(name) for name in named}
    assert asked == set(dispatch.USES_DOT)


@interpreted
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 101376"),
        RuntimeError("Triton Error [CUDA]: device kernel image is invalid"),
        OSError("[Errno 30] Read-only file system: '/root/.triton'"),
        AssertionError("ptxas failed with error code 255"),
    ],
)
def test_a_launch_that_fails_turns_that_kernel_off_and_the_same_call_computes_plainly(
    error: Exception,
    fresh_kernels: dispatch.Kernels,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from voxtral.model.kernels import elementwise_triton

    num_launches = 0

    def fail(*_: Any) -> None:
        nonlocal num_launches
        num_launches += 1
        raise error

    monkeypatch.setattr(elementwise_triton, "silu_multiply", fail)
    x = torch.randn(3, 8)
    for _ in range(3):
        made = silu_multiply(x.as_subclass(OnGpu))
        assert torch.equal(torch.Tensor(made), silu_multiply(x, use_triton=False))
    assert num_launches == 1
    assert list(fresh_kernels.turned_off(HERE)) == ["silu_multiply"]
    assert fresh_kernels.is_on("rotate_and_store", HERE, torch.float32)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the kernel silu_multiply is off on cpu, plain operations compute: ")
    # Chosen explicitly, it tells.
    with pytest.raises(type(error)):
        silu_multiply(x, use_triton=True)


@interpreted
def test_running_out_of_memory_and_captures_are_not_the_fault_of_a_kernel(
    fresh_kernels: dispatch.Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxtral.model.kernels import elementwise_triton

    raised: list[Exception] = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("capture")]

    def fail(*_: Any) -> None:
        raise raised[0]

    monkeypatch.setattr(elementwise_triton, "silu_multiply", fail)
    x = torch.randn(3, 8).as_subclass(OnGpu)
    with pytest.raises(torch.OutOfMemoryError):
        silu_multiply(x)
    del raised[0]
    monkeypatch.setattr(dispatch, "is_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="capture"):
        silu_multiply(x)
    assert not fresh_kernels.turned_off(HERE)


@interpreted
def test_all_kernels_are_forbidden_by_a_variable_or_a_word(
    fresh_kernels: dispatch.Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.ones(2).as_subclass(OnGpu)
    monkeypatch.setenv("VOXTRAL_TRITON", "0")
    assert not dispatch.uses_triton("rotate_and_store", x, None)
    assert fresh_kernels.problem("rotate_and_store", HERE, torch.float32) == "VOXTRAL_TRITON is 0"
    fresh_kernels.forget()
    monkeypatch.delenv("VOXTRAL_TRITON")
    assert dispatch.uses_triton("rotate_and_store", x, None)
    fresh_kernels.forbid("--no-triton was given")
    assert not dispatch.uses_triton("rotate_and_store", x, None)
