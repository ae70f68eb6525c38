"""Which tests hold for the libraries of constraints.txt alone, because another one lays out what they compare."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def needs_pinned(name: str) -> pytest.MarkDecorator:
    """Skip a test unless that library has the version of the constraints."""
    [version] = re.findall(rf"^{name}==(\S+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    installed = metadata.version(name)
    return pytest.mark.skipif(installed != version, reason=f"compares what {name} {version} lays out, not {installed}")
