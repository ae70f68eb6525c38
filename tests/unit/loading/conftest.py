"""A hub on loopback, and an empty cache without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback_hub import LoopbackHub, client_of


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    loopback = LoopbackHub()
    with loopback.serve(), client_of(loopback, monkeypatch, tmp_path / "hf"):
        yield loopback


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, offline: whoever asks for the network gets an error."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"
