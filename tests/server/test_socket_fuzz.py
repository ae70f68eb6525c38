"""A short form of the fuzz of tests/soak/test_socket_fuzz.py."""

from __future__ import annotations

from socket_fuzz import fuzz
from voxtral.tts import VoxtralTTS


def test_a_few_hundred_messages_leave_a_server_that_speaks(tts: VoxtralTTS) -> None:
    assert fuzz(tts, num_messages=200, num_silent=10, seed=2).num_sent >= 200
