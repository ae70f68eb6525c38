"""What is there to be read by Prometheus: names that dashboards rely on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from voxtral.server.metrics import Metrics

ROOT = Path(__file__).parents[3]


def numbers_of(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_every_metric_is_in_the_documentation() -> None:
    told = set(re.findall(r"voxtral_\w+", (ROOT / "docs" / "SERVER.md").read_text(encoding="utf-8")))
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", Metrics().render().decode(), re.MULTILINE)
    names = {name for name, _ in kinds if not name.endswith("_created")}
    assert names <= told


def test_the_memory_is_that_of_this_process() -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system does not tell")
    found = numbers_of(Metrics())["voxtral_memory_bytes"]
    match = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
    assert match is not None
    assert found == pytest.approx(1024 * int(match[1]), rel=0.2)
