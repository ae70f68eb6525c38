"""A model in a forked child, a pickle or a copy: refused at once and in one sentence, whatever was locked meanwhile."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import BRIEF
from spoken_clips import spoken
from voxtral import VoxtralTTS
from voxtral.errors import EngineStoppedError
from voxtral.server.application import create_app
from voxtral.server.options import ServerOptions
from voxtral.types import SpeechRequest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

TEXT = "Hello there, this is a test."
CLIP = (spoken(2.0), 24000)
ADVICE = "load the model in the child"
TIMEOUT_S = 20


@contextmanager
def held(*locks: Any) -> Iterator[None]:
    """Have another thread hold locks."""
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            is_held.set()
            may_end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    try:
        yield
    finally:
        may_end.set()
        thread.join()


def in_child(doors: dict[str, Callable[[], object]]) -> dict[str, str]:
    """Fork, try each door, and give what came of it: the name of an error with its message, or "returned"."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of what is tested here
        child = os.fork()
    if child == 0:
        signal.alarm(TIMEOUT_S)  # ends a child that hangs
        try:
            for name, door in doors.items():
                try:
                    door()
                    outcome = "returned"
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
                    outcome = f"{type(error).__name__}: {error}"
                os.write(writer, json.dumps([name, outcome]).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as told:
        outcomes = dict(json.loads(line) for line in told)
    _, status = os.waitpid(child, 0)
    assert set(outcomes) == set(doors), f"status {status}: hung at {[name for name in doors if name not in outcomes]}"
    return outcomes


def locks_of(tts: VoxtralTTS) -> list[Any]:
    parts = (tts, tts._running, tts._coder, tts._library, tts.engine)
    return [part._lock for part in parts] + [tts._running._restarting]


async def read(stream: Any) -> None:
    async for _ in stream:
        pass


def test_every_way_of_speaking_is_refused_at_once_in_a_forked_child(tts: VoxtralTTS, tmp_path: Path) -> None:
    begun = tts.submit(SpeechRequest(TEXT * 20, seed=1))
    half_read = begun.chunks()
    next(half_read)
    stream, other_stream = tts.synthesize_stream(TEXT), tts.synthesize_stream(TEXT)
    voice = tts.load_voice("casual_male")
    request = SpeechRequest(TEXT)
    doors: dict[str, Callable[[], object]] = {
        "synthesize": lambda: tts.synthesize(TEXT),
        "synthesize with a voice at hand": lambda: tts.synthesize(TEXT, voice=voice),
        "synthesize_to_file": lambda: tts.synthesize_to_file(tmp_path / "a.wav", TEXT),
        "synthesize_stream": lambda: tts.synthesize_stream(TEXT),
        "submit": lambda: tts.submit(request),
        "check": lambda: tts.check(request),
        "batch": lambda: tts.synthesize_batch([TEXT]),
        "batch_iter": lambda: list(tts.synthesize_batch_iter([TEXT])),
        "files": lambda: tts.synthesize_files([TEXT], tmp_path / "made"),
        "encode": lambda: tts.encode(CLIP),
        "create_voice": lambda: tts.create_voice(CLIP),
        "decode": lambda: tts.decode(torch.ones(37, 3, dtype=torch.int64)),
        "load_voice": lambda: tts.load_voice("neutral_female"),
        "half": tts.half,
        "restart": tts.restart_engine,
        "engine": lambda: tts.engine,
        "a stream that was begun": lambda: next(half_read),
        "a stream that was asked for": lambda: next(iter(stream)),
        "a stream in an event loop": lambda: asyncio.run(read(other_stream)),
        "the chunks of a handle": lambda: begun.chunks(),
        "pickle in the child": lambda: pickle.dumps(tts),
    }
    with held(*locks_of(tts)):
        outcomes = in_child(doors)
    stream.cancel()
    other_stream.cancel()
    assert not (tmp_path / "made").exists()
    for name, outcome in outcomes.items():
        assert outcome.startswith("EngineStoppedError: "), f"{name}: {outcome}"
        assert ADVICE in outcome, f"{name}: {outcome}"
    # The parent knows nothing of it, and goes on where it was.
    assert sum(len(chunk) for chunk in half_read) > 0
    assert begun.segments


def test_a_child_can_end_what_its_parent_began(tts: VoxtralTTS) -> None:
    begun = [tts.submit(SpeechRequest(TEXT))]
    with held(*locks_of(tts)):
        outcomes = in_child({"close": tts.close, "cancel": begun[0].cancel, "forget": begun.clear})
    assert set(outcomes.values()) == {"returned"}
    assert sum(len(chunk) for chunk in begun[0].chunks()) > 0


def test_an_application_of_the_parent_is_refused_when_a_worker_starts_it(tts: VoxtralTTS, tmp_path: Path) -> None:
    """As gunicorn --preload does."""
    app = create_app(ServerOptions(data_dir=tmp_path), tts=tts)

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pass

    with held(*locks_of(tts)):
        (outcome,) = in_child({"start": lambda: asyncio.run(start())}).values()
    assert outcome.startswith("EngineStoppedError: ")
    assert ADVICE in outcome


def test_a_child_that_loads_the_model_itself_speaks(tts: VoxtralTTS) -> None:
    expected = len(tts.synthesize(TEXT, seed=1).samples)

    def load_and_speak() -> None:
        with VoxtralTTS.from_pretrained(BRIEF, device="cpu") as own:
            assert len(own.synthesize(TEXT, seed=1).samples) == expected

    with held(*locks_of(tts)):
        assert in_child({"own": load_and_speak}) == {"own": "returned"}


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy, lambda thing: pickle.dumps([thing], 0)])
def test_no_copy_of_a_loaded_model_is_made(tts: VoxtralTTS, copying: Callable[[object], object]) -> None:
    handle = tts.submit(SpeechRequest(TEXT))
    handle.cancel()
    for thing in (tts, tts.engine, handle):
        with pytest.raises(EngineStoppedError, match=rf"{type(thing).__name__} was to be copied.*{ADVICE}"):
            copying(thing)
