"""docs/GPU.md: what is chosen for each card is what the code chooses for it; estimates follow from bytes and bandwidth.

`python tests/docs/test_gpu_page.py` writes the tables anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from benchmarks.random_checkpoint import published_params
from benchmarks.roofline import PRECISIONS, Rates, frame_cost
from fake_gpu import FakeGpu
from voxtral.device import ComputePlan, dtype_name, plan_compute
from voxtral.engine.options import EngineOptions, default_max_batch
from voxtral.errors import DeviceError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.memory import choose_quantization, format_bytes, plan_memory
from voxtral.loading.params import parse_config
from voxtral.loading.running import fill_in
from voxtral.quantization.recipes import choose_recipe

PAGE = Path(__file__).parents[2] / "docs" / "GPU.md"
PUBLISHED = parse_config(published_params())
CHECKPOINT = Checkpoint(Path(), PUBLISHED, {}, has_encoder=False)

MIB = 2**20
NO_TRITON = "Triton is not installed"


@dataclass(frozen=True)
class Card:
    """A card as its maker describes it.

    Attributes:
        name: of the card and, where it matters, the system.
        memory_mib: that the driver shows; taken_mib: of it, by the driver and a desktop.
        bandwidth: GB/s, by the data sheet.
        capability: of compute.
        kernel_problem: why Triton does not run, if it does not.
    """

    name: str
    memory_mib: int
    taken_mib: int
    bandwidth: int
    capability: tuple[int, int]
    kernel_problem: str | None = None

    def gpu(self) -> FakeGpu:
        free = (self.memory_mib - self.taken_mib) * MIB
        return FakeGpu(
            total=self.memory_mib * MIB, free=free, capability=self.capability, kernel_problem=self.kernel_problem
        )


CARDS = [
    Card("RTX 3060, 12 GB", 12044, 600, 360, (8, 6)),
    Card("RTX 3090, 24 GB", 24124, 600, 936, (8, 6)),
    Card("RTX 4070, 12 GB", 12002, 600, 504, (8, 9)),
    Card("RTX 4090, 24 GB", 24080, 600, 1008, (8, 9)),
    Card("T4, 16 GB", 15095, 300, 300, (7, 5)),
    Card("RTX 3060 Ti or 3070, 8 GB", 7840, 500, 448, (8, 6)),
    Card("RTX 4060, 8 GB", 7805, 500, 272, (8, 9)),
    Card("RTX 2070, 8 GB", 7820, 500, 448, (7, 5)),
    Card("RTX 4060, 8 GB, Windows without Triton", 8188, 1400, 272, (8, 9), NO_TRITON),
    Card("RTX 3060, 12 GB, Windows without Triton", 12288, 1600, 360, (8, 6), NO_TRITON),
    Card("RTX 3060, 12 GB, WSL", 12288, 1600, 360, (8, 6)),
]


def choose(card: Card, patch: pytest.MonkeyPatch) -> ComputePlan:
    card.gpu().install(patch)
    return choose_quantization(CHECKPOINT, plan_compute("auto", num_parameters=CHECKPOINT.num_parameters))


def name_of(compute: ComputePlan) -> str:
    return compute.quantization.name if compute.quantization else dtype_name(compute.dtype)


def write_cards() -> list[str]:
    lines = [
        "| card | free before | chosen | needed, one stream | streams side by side | bytes a frame "
        "| RTF at all of the bandwidth | at half |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for card in CARDS:
        with pytest.MonkeyPatch.context() as patch:
            try:
                compute = choose(card, patch)
            except DeviceError as error:
                lines.append(f"| {card.name} | {format_bytes(card.gpu().free)} | none: {error} | | | | | |")
                continue
            rows = fill_in(EngineOptions(), compute).max_batch or default_max_batch("cuda")
        precision = PRECISIONS[compute.quantization.name if compute.quantization else "bfloat16"]
        cost = frame_cost(PUBLISHED, precision, num_streams=1, context=600)
        rtf = cost.floor_s(Rates(card.bandwidth * 1e9, float("inf"))) * 12.5
        total = compute.memory.rpartition("together ")[2]
        few = f"{name_of(compute)}, the rest {dtype_name(compute.dtype)}" if compute.quantization else name_of(compute)
        lines.append(
            f"| {card.name} | {format_bytes(card.gpu().free)} | {few} | {total} | {rows} | "
            f"{cost.num_bytes / 1e9:.1f} GB | {rtf:.2f} | {2 * rtf:.2f} |"
        )
    return lines


def write_memory() -> list[str]:
    plans = {
        name: plan_memory(
            PUBLISHED,
            has_encoder=False,
            dtype=torch.bfloat16,
            codec_dtype=torch.bfloat16,
            quantization=None if name == "bfloat16" else choose_recipe(name, PUBLISHED),
            device_type="cuda",
        )
        for name in ("bfloat16", "int8", "int4", "int4-all")
    }
    lines = ["| | " + " | ".join(plans) + " |", "|---" * (1 + len(plans)) + "|"]
    for part in next(iter(plans.values())).parts:
        lines.append(f"| {part} | " + " | ".join(format_bytes(plan.parts[part]) for plan in plans.values()) + " |")
    totals = " | ".join(format_bytes(plan.total) for plan in plans.values())
    return [*lines, f"| together | {totals} |"]


BLOCKS: dict[str, Callable[[], list[str]]] = {"cards": write_cards, "memory": write_memory}


def written(text: str) -> str:
    for name, write in BLOCKS.items():
        block = "\n".join([f"<!-- code:{name} -->", *write(), "<!-- /code -->"])
        text, count = re.subn(rf"<!-- code:{name} -->.*?<!-- /code -->", lambda _, b=block: b, text, flags=re.DOTALL)
        assert count == 1, name
    return text


def test_the_page_says_what_the_code_chooses() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == written(text), "run python tests/docs/test_gpu_page.py"


def test_the_promises_of_the_guide_are_answered() -> None:
    """Each row of its table of GPUs, and what it says of memory."""
    text = PAGE.read_text(encoding="utf-8")
    for card in ("3060", "3090", "4070", "4090"):
        assert f"RTX {card}" in text
    assert "3 GB" in text
    with pytest.MonkeyPatch.context() as patch:
        CARDS[0].gpu().install(patch)
        compute = choose_quantization(
            CHECKPOINT, plan_compute("auto", num_parameters=CHECKPOINT.num_parameters), max_memory="3GB"
        )
        assert name_of(compute) == "int4"


def test_an_estimate_is_called_one() -> None:
    text = PAGE.read_text(encoding="utf-8")
    head = text[: text.index("<!-- code:cards -->")]
    assert "No GPU has run any of it" in head
    assert "estimate" in head


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
