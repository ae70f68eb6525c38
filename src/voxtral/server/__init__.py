"""Voxtral TTS over HTTP. `voxtral serve` runs it, and so does `uvicorn voxtral.server:app`.

Read next: `app`, which puts the parts together; `service`, the way from a request to the engine; docs/SERVER.md.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # Made when uvicorn asks for it, from the VOXTRAL_ variables: importing the package loads nothing.
    if name == "app":
        from voxtral.server.app import create_app

        return create_app()
    raise AttributeError(f"module 'voxtral.server' has no attribute {name!r}")
