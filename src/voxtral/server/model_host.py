"""The life of the model inside a server: loading, self-test, readiness, idle unload, restart after a failure, drain.

It hands out the loaded model while it is in use and takes no part in speaking. One instance belongs to one event loop;
what takes long runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voxtral.device import dtype_name, release_memory, resolve_device
from voxtral.engine.options import EngineOptions, default_max_batch
from voxtral.errors import DeviceError, EngineStoppedError, GenerationError, VoxtralError
from voxtral.loading import hub
from voxtral.loading.checkpoint import fingerprint, open_checkpoint
from voxtral.loading.locate import choose_model, locate_model
from voxtral.server.errors import HttpError, busy, shutting_down
from voxtral.server.options import ServerOptions
from voxtral.tts import VoxtralTTS
from voxtral.types import SamplingOptions, SpeechRequest
from voxtral.voices.book import VoiceBook
from voxtral.voices.store import VoiceStore

State = Literal["loading", "ready", "unloaded", "restarting", "draining", "failed"]

_log = logging.getLogger("voxtral.server")

# An engine that fails more often than this within the time is not worth restarting.
_MAX_RESTARTS, _RESTARTS_WITHIN_S = 3, 600.0

_WATCH_S = 0.25

# Frames of the self-test: enough to run every part, prompt to codec.
_TEST_FRAMES = 8

# What a supervisor sees, once streams that break have been told.
_EXIT_CODE = 70
_LAST_WORDS_S = 0.5


@dataclass(frozen=True)
class ModelCard:
    """What is said of a model, also while it is unloaded.

    Attributes:
        id: short name.
        root: what was loaded.
        license: of the weights, where it is known.
        languages: codes.
        encoder: where the codec encoder is from: "checkpoint", or what its file says; None without one.
        voice_licence: of what the encoder makes, where that is known: its own, or that of the weights.
        sample_rate: samples per second.
        num_euler_steps: that the checkpoint asks for.
        description: device and dtype, with the reason for each.
        names: further names under which requests may ask for it.
    """

    id: str
    root: str
    license: str
    languages: tuple[str, ...]
    encoder: str | None
    voice_licence: str
    sample_rate: int
    num_euler_steps: int
    description: str
    names: tuple[str, ...]

    @property
    def has_encoder(self) -> bool:
        """Whether voices can be made from audio at once."""
        return self.encoder is not None


@dataclass(frozen=True)
class LoadedModel:
    """A model that speaks, and its voices."""

    tts: VoxtralTTS
    voices: VoiceBook
    card: ModelCard


class ModelHost:
    """Keeps one model ready.

    Args:
        options: of the server.
        tts: a model that is loaded already; it is never unloaded and not closed.
        announce: gets lines for a person.
    """

    def __init__(
        self, options: ServerOptions, tts: VoxtralTTS | None = None, announce: Callable[[str], None] = _log.info
    ) -> None:
        self._options = options
        self._given = tts
        self._announce = announce
        self._name, self._reason = (tts.name, "it was given") if tts else choose_model(options.model, options.device)
        self._loaded: LoadedModel | None = None
        self._problem: Exception | None = None
        self._loading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._restarts: deque[float] = deque()
        self._num_users = 0
        self._idle_since = time.monotonic()
        self.state: State = "loading"
        self.card: ModelCard | None = None
        self._voices: VoiceBook | None = None
        self.on_restart: Callable[[], None] = lambda: None
        self.on_drain: Callable[[], None] = lambda: None
        self.on_fatal: Callable[[str], None] = _end_process

    async def start(self) -> None:
        """Begin to load; returns at once.

        Raises:
            EngineStoppedError: the model was given, by the parent of this fork.
        """
        if self._given is not None:
            self._given.check_process()  # here, so that a worker ends at its start and not at its first request
        self._begin_loading()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop the engine; what still runs breaks."""
        for task in (self._watching, self._loading):
            if task is not None:
                task.cancel()
        loaded, self._loaded = self._loaded, None
        if loaded is not None and self._given is None:
            await asyncio.to_thread(loaded.tts.close)

    def drain(self) -> None:
        """Take no new requests; what runs goes on."""
        self._set("draining")
        self.on_drain()

    @property
    def is_ready(self) -> bool:
        """Whether a request would be spoken: also while the model is unloaded, for it is loaded again on demand."""
        return self.state in ("ready", "unloaded")

    @property
    def num_rows(self) -> int:
        """Sequences that the engine computes side by side, known before the model is."""
        if self._given is not None:
            return self._given.engine.max_batch
        if self._options.max_batch is not None:
            return self._options.max_batch
        device, _ = resolve_device(self._options.device, count_parameters(self._name))
        return default_max_batch(device.type)

    @property
    def num_active(self) -> int:
        """Sequences that make frames side by side, now."""
        return self._loaded.tts.engine.num_active if self._loaded else 0

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[LoadedModel]:
        """Give the model to somebody, and keep it loaded meanwhile; waits for it a while.

        Raises:
            HttpError: 503, there is no model now.
        """
        self._num_users += 1
        try:
            yield await self._ready()
        finally:
            self._num_users -= 1
            self._idle_since = time.monotonic()

    async def describe(self) -> tuple[ModelCard, VoiceBook]:
        """Say what is known of the model, without loading it again if it was unloaded.

        Raises:
            HttpError: 503, nothing is known yet.
        """
        if self.card is None or self._voices is None:
            loaded = await self._ready()
            return loaded.card, loaded.voices
        return self.card, self._voices

    async def _ready(self) -> LoadedModel:
        deadline = time.monotonic() + self._options.max_wait_s
        while self.state != "ready" or self._loaded is None:
            if self.state == "draining":
                raise shutting_down()
            if self.state == "failed":
                raise HttpError(503, f"the model is not available: {self._problem}", code="model_unavailable")
            if self.state == "unloaded":
                self._begin_loading()
            self._changed.clear()
            try:
                # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the change.
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._changed.wait()
            except TimeoutError:
                raise busy(f"the model is {self.state}", code="model_loading", retry_after_s=5) from None
        return self._loaded

    def _set(self, state: State) -> None:
        if self.state != "draining":
            self.state = state
        self._changed.set()

    def _begin_loading(self) -> None:
        self._set("loading")
        self._loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            self._loaded = await asyncio.to_thread(self._open)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no model
            self._fail(error)
            return
        self.card, self._voices = self._loaded.card, self._loaded.voices
        self._idle_since = time.monotonic()
        self._set("ready")

    def _open(self) -> LoadedModel:
        """Load and try out the model, in a thread."""
        if self._given is not None:
            tts = self._given
        else:
            options = self._options
            self._announce(f"model: {self._name}; {self._reason}")
            tts = VoxtralTTS.from_pretrained(
                self._name,
                device=options.device,
                dtype=options.dtype,
                quantize=options.quantize,
                max_memory=options.max_memory,
                encoder=options.encoder,
                local_files_only=True,  # whoever may be asked has been, before this began
                announce=self._announce,
                options=EngineOptions(
                    max_batch=options.max_batch,
                    batch_invariant=options.batch_invariant,
                    flow_dtype=options.flow_dtype,
                    activations=options.activations,
                ),
            )
        # The first request for word times must not make all others wait.
        tts.alignment.may_calibrate = False
        if tts.alignment.is_unknown:
            self._announce(f"word times are estimated: voxtral align calibrate --model {self._name} finds out more")
        _speak_once(tts)
        return LoadedModel(tts, self._open_voices(tts), _describe(tts, self._name))

    def _open_voices(self, tts: VoxtralTTS) -> VoiceBook:
        # A voice fits the checkpoint that it was made with, and no other.
        folder = self._options.data_dir / "voices" / fingerprint(tts.checkpoint, with_time=False)[:16]
        return VoiceBook(tts.config, tts.voices, VoiceStore(folder, max_voices=self._options.max_voices))

    async def _watch(self) -> None:
        """Look after the engine, and free an idle model."""
        while True:
            await asyncio.sleep(_WATCH_S)
            if self.state == "ready" and self._loaded is not None:
                if self._loaded.tts.engine.failure is not None:
                    await self._restart(self._loaded.tts)
                elif self._is_idle():
                    await self._unload()

    def _is_idle(self) -> bool:
        limit = self._options.unload_after_s
        is_long = limit is not None and time.monotonic() - self._idle_since > limit
        return is_long and not self._num_users and self._given is None

    async def _unload(self) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            await asyncio.to_thread(loaded.tts.close)
        del loaded
        await asyncio.to_thread(release_memory)
        # Not before: whoever comes meanwhile waits, so that there are never two models in memory.
        self._set("unloaded")
        _log.info("the model was idle and has been unloaded; the next request loads it again")

    async def _restart(self, tts: VoxtralTTS) -> None:
        """Start the engine anew, unless the device is gone or it fails again and again."""
        cause = tts.engine.failure
        self._set("restarting")
        now = time.monotonic()
        while self._restarts and now - self._restarts[0] > _RESTARTS_WITHIN_S:
            self._restarts.popleft()
        self._restarts.append(now)
        _log.error("the engine stopped (%s); it is started anew", type(cause).__name__)
        try:
            if len(self._restarts) > _MAX_RESTARTS:
                raise DeviceError(
                    f"the engine failed {len(self._restarts)} times within {_RESTARTS_WITHIN_S:.0f} s; end the process"
                )
            await asyncio.to_thread(tts.restart_engine)
            await asyncio.to_thread(_speak_once, tts)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model cannot be used
            self._fail(error)
            return
        self.on_restart()
        self._set("ready")

    def _fail(self, error: Exception) -> None:
        self._problem = error
        self._set("failed")
        # `on_fatal` says it, once.
        self.on_fatal(str(error) if isinstance(error, VoxtralError) else type(error).__name__)


def count_parameters(name: str) -> int:
    """Count a model's parameters before it is loaded; 0 where it is not here or cannot be opened."""
    try:
        return open_checkpoint(locate_model(name, allow_download=False)).num_parameters
    except VoxtralError:
        return 0  # loading it says what is wrong


def _speak_once(tts: VoxtralTTS) -> None:
    """Speak a word, as a test of every part.

    Raises:
        VoxtralError: it cannot.
    """
    if not tts.voices:
        return
    request = SpeechRequest("Ready.", sampling=SamplingOptions(max_frames=_TEST_FRAMES), seed=0)
    try:
        num_samples = sum(len(chunk) for chunk in tts.submit(request).chunks())
    except GenerationError:
        return  # a silent start is no fault of the machine
    if not num_samples:
        raise EngineStoppedError("the self-test made no audio; load the model again")


def _describe(tts: VoxtralTTS, name: str) -> ModelCard:
    is_published = hub.canonical_id(name) == hub.CANONICAL_ID
    compute, file = tts.compute, tts.checkpoint.encoder
    if is_published:
        short, licence = "voxtral-4b-tts-2603", "CC BY-NC 4.0"
        names = (hub.CANONICAL_ID, *hub.ALIASES, "voxtral-mini-tts-2603", "voxtral-mini-tts-latest")
    else:
        short, names = ("voxtral-nano", ("nano",)) if name == "nano" else (Path(name).name or "voxtral", (name,))
        licence = "Apache-2.0" if name == "nano" else ""
    return ModelCard(
        id=short,
        # Where a folder lies is nobody's business.
        root=hub.CANONICAL_ID if is_published else short if Path(name).is_dir() else name,
        license=licence,
        languages=tuple(tts.config.languages),
        encoder="checkpoint" if file is None and tts.checkpoint.has_encoder else file and file.facts.origin,
        voice_licence=(file and file.facts.licence) or licence,
        sample_rate=tts.sample_rate,
        num_euler_steps=tts.config.generation.num_euler_steps,
        description=(
            f"device {compute.device} ({compute.device_reason}), {dtype_name(compute.dtype)} ({compute.dtype_reason}), "
            f"weights {compute.quantization_reason}"
        ),
        names=names,
    )


def _end_process(message: str) -> None:
    """End the process for a supervisor to start anew, after those who listen have been told."""
    _log.critical("the process ends, because the model cannot be used: %s", message)
    asyncio.get_running_loop().call_later(_LAST_WORDS_S, os._exit, _EXIT_CODE)
