"""One server on the tiny model for all tests of a module; it must not be changed by them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving import Serving, serving
from voxtral.tts import VoxtralTTS


@pytest.fixture(scope="module")
def server(tts: VoxtralTTS) -> Iterator[Serving]:
    """Run the server; its model is the session's own, so that samples can be compared."""
    with serving(tts) as running:
        yield running
