"""Single operations at the sizes of the published shape: each kernel beside its torch form and the library's call.

    python -m benchmarks.kernels --device cuda --json FILE

Times are for one call, inputs in place; on a GPU many calls lie between two waits for the device. GB/s counts what must
be read of weights and caches, once. The difference is the largest, relative to the largest value of the torch form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.options import make_parser, read_numbers, resolve
from benchmarks.report import Report
from benchmarks.subjects import config_of
from benchmarks.timing import time_in_turn
from voxtral.bench import round_figure
from voxtral.config import ModelConfig

_ROWS = (1, 2, 6, 8, 16, 32, 48, 64, 128)


@dataclass(frozen=True, eq=False)
class Case:
    """One operation at one size.

    Attributes:
        operation: its name and size.
        rows: of the activations.
        ways: what to call; the first is the reference of the comparison.
        num_bytes: of weights and caches that a call must read, by way; a way that is not named has none.
    """

    operation: str
    rows: int
    ways: dict[str, Callable[[], Any]]
    num_bytes: dict[str, int]


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.set_defaults(model="4b-random")
    parser.add_argument("--rows", type=read_numbers, default=_ROWS)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.rows, arguments.rounds = (1, 6), 2
    device, precision = resolve(arguments)
    report = Report("kernels", arguments)
    report.note(device=str(device), precision=precision)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    config = config_of(arguments.model)
    with torch.inference_mode():
        for case in all_cases(config, device, dtype, arguments.rows):
            add_case(report, case, device, arguments.rounds)
    report.finish()


def add_case(report: Report, case: Case, device: torch.device, num_rounds: int) -> None:
    """Compare results, then times; a way that fails is reported and costs nobody else."""
    results: dict[str, Tensor] = {}
    for name, way in list(case.ways.items()):
        try:
            results[name] = _first_tensor(way())
        # A kernel that does not compile here must not end the run.
        except Exception as error:  # noqa: BLE001
            report.add(operation=case.operation, rows=case.rows, way=name, failed=f"{type(error).__name__}: {error}")
            del case.ways[name]
    if not results:
        return
    reference = next(iter(results.values())).float()
    scale = float(reference.abs().max()) or 1.0
    for name, spread in time_in_turn(case.ways, device, num_rounds).items():
        num_bytes = case.num_bytes.get(name)
        report.add(
            operation=case.operation,
            rows=case.rows,
            way=name,
            us=spread.to_dict(1e6),
            difference=round_figure(float((results[name].float() - reference).abs().max()) / scale),
            **({"gb_per_s": round_figure(num_bytes / spread.median / 1e9)} if num_bytes else {}),
        )


def _first_tensor(result: Any) -> Tensor:
    return (result[0] if isinstance(result, tuple) else result).clone()


def all_cases(config: ModelConfig, device: torch.device, dtype: torch.dtype, all_rows: Sequence[int]) -> Iterator[Case]:
    """Build the cases one after the other; each may be dropped before the next is built."""
    draw = Inputs(device, dtype)
    for rows in all_rows:
        yield from products(config, draw, rows)


class Inputs:
    """Draws operands on a device; the same ones in every run."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self._generator = torch.Generator(device).manual_seed(0)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Draw normal numbers in the dtype of the activations."""
        drawn = torch.randn(shape, generator=self._generator, device=self.device)
        return drawn.mul_(scale).to(self.dtype)


def matrices(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Name the matrices of a backbone layer, fused, as [N, K]."""
    net = config.backbone
    width, kv_width = net.num_heads * net.head_dim, net.num_kv_heads * net.head_dim
    return {
        "wqkv": (width + 2 * kv_width, net.dim),
        "wo": (net.dim, width),
        "w13": (2 * net.hidden_dim, net.dim),
        "w2": (net.dim, net.hidden_dim),
    }


def products(config: ModelConfig, draw: Inputs, rows: int) -> Iterator[Case]:
    """Activations times each matrix of a layer, in each form of the weights."""
    for name, (num_outputs, num_inputs) in matrices(config).items():
        weight = draw.normal(num_outputs, num_inputs, scale=num_inputs**-0.5)
        x = draw.normal(rows, num_inputs)
        label = str(draw.dtype).removeprefix("torch.")
        ways: dict[str, Callable[[], Any]] = {f"{label}, library": lambda x=x, weight=weight: F.linear(x, weight)}
        yield Case(f"{name} {num_outputs} x {num_inputs}", rows, ways, {f"{label}, library": weight.nbytes})


if __name__ == "__main__":
    main()
