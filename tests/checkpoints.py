"""Checkpoints of the tests, by path."""

from __future__ import annotations

from pathlib import Path

# Random weights at small sizes, with encoder; the golden vectors are its numbers.
TINY = Path(__file__).parent / "golden" / "tiny"
