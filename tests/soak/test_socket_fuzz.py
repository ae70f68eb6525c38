"""Sockets under whatever may be sent: wrong orders, types and sizes, binary for text, half frames, silence, floods.

A short form runs with the other tests of the server (`tests/server/test_socket_fuzz.py`), by the same functions.
"""

from __future__ import annotations

import pytest

from socket_fuzz import fuzz
from voxtral.tts import VoxtralTTS


@pytest.mark.slow
def test_20000_messages_leave_a_server_that_speaks(tts: VoxtralTTS) -> None:
    report = fuzz(tts, num_messages=20_000, num_silent=100, seed=1)
    print(report)
    assert report.num_sent >= 20_000
