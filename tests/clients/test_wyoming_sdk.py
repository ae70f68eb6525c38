"""The reference library of Wyoming, unmodified."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from serving import serving
from voxtral.tts import VoxtralTTS

pytestmark = pytest.mark.clients

TEXT = "Hello there. How are you?"
VOICE = "casual_male"


def test_the_library_reads_what_is_sent(run: Callable[..., Any], tts: VoxtralTTS) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port = found.getsockname()[1]
    with serving(tts, wyoming_port=port):
        heard = run("wyoming_sdk", port, VOICE, TEXT)
    assert heard["program"] == "voxtral"
    assert heard["streams"] is True
    assert VOICE in heard["voices"]
    for name in ("whole", "pieces"):
        num_bytes = len(base64.b64decode(heard[name]))
        assert num_bytes > 0
        assert num_bytes % 2 == 0
