"""Voxtral TTS over HTTP. `voxtral serve` runs it, and so does `uvicorn voxtral.server:app`.

Read next: `application`, which puts the parts together; `service`, from a request to the engine; docs/SERVER.md.
"""

from __future__ import annotations

from functools import cache
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "app":
        return _make_app()
    raise AttributeError(f"module 'voxtral.server' has no attribute {name!r}")


@cache
def _make_app() -> Any:
    # When uvicorn asks for it, and from the VOXTRAL_ variables: importing the package loads nothing.
    from voxtral.server.application import create_app

    return create_app()
