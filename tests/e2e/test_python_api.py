"""The Python API as its users know it, on the tiny model: real tokens, real engine, noise for speech."""

from __future__ import annotations

import asyncio
import gc
import io
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import voxtral
from checkpoints import BRIEF
from spoken_clips import spoken
from voxtral import VoxtralTTS
from voxtral.audio.source import InlineClip
from voxtral.engine.options import EngineOptions
from voxtral.errors import (
    CancelledError,
    DeviceError,
    EncoderMissingError,
    EngineError,
    LanguageError,
    ModelNotFoundError,
    OptionError,
    ReferenceAudioError,
    TextError,
    VoiceError,
    VoxtralWarning,
)
from voxtral.types import SamplingOptions, SegmentInfo, SpeechRequest
from voxtral.voices.prompt import VoicePrompt

LONG = "This is a sentence of a longer text, and it has some words. " * 12


def clip_of(seconds: float, rate: int = 24000) -> np.ndarray:
    return spoken(seconds, rate)


def wav_bytes(samples: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV")
    return buffer.getvalue()


# What comes back.


def test_synthesize_gives_audio_with_everything_about_it(tts: VoxtralTTS) -> None:
    audio = tts.synthesize(text="Hello there, this is a test.", language="en", seed=1)
    assert audio.sample_rate == 24000
    assert audio.numpy().dtype == np.float32
    assert audio.numpy().ndim == 1
    assert np.isfinite(audio.numpy()).all()
    assert audio.duration == len(audio) / 24000
    assert len(audio) % 1920 == 0
    assert audio.stats is not None
    assert audio.stats.num_frames == len(audio) // 1920
    assert audio.stats.ttfa_s > 0
    assert audio.stats.rtf > 0
    assert audio.seed == 1
    assert audio.finish_reason in ("end", "retried")
    (segment,) = audio.segments
    assert (segment.text_start, segment.text_end, segment.start_s) == (0, 28, 0.0)
    assert segment.end_s == pytest.approx(audio.duration)


@pytest.mark.parametrize("extension", ["wav", "flac", "mp3", "opus", "ogg", "WAV"])
def test_audio_saves_by_extension(tts: VoxtralTTS, tmp_path: Path, extension: str) -> None:
    audio = tts.synthesize("Saved.", seed=2, max_frames=12)
    path = tmp_path / f"speech.{extension}"
    audio.save(path)
    samples, rate = soundfile.read(path)
    assert abs(len(samples) / rate - audio.duration) < 0.15
    assert list(tmp_path.iterdir()) == [path]


# Seeds and streams.


@pytest.fixture(scope="module")
def exact(tiny_folder: Path) -> Iterator[VoxtralTTS]:
    """Equal to the bit whatever is computed beside: products of one row and of several round differently."""
    options = EngineOptions(batch_invariant=True, max_batch=4)
    with VoxtralTTS.from_pretrained(tiny_folder, device="cpu", options=options) as model:
        yield model


def test_the_same_seed_gives_the_same_samples_streamed_or_not(exact: VoxtralTTS) -> None:
    whole = exact.synthesize(LONG, seed=11).numpy()
    again = exact.synthesize(LONG, seed=11).numpy()
    streamed = np.concatenate([chunk.numpy() for chunk in exact.synthesize_stream(LONG, seed=11)])
    blocks = np.concatenate([chunk.numpy() for chunk in exact.synthesize_stream(LONG, seed=11, chunk_size=1000)])
    assert np.array_equal(whole, again)
    assert np.array_equal(whole, streamed)
    assert np.array_equal(whole, blocks)
    assert not np.array_equal(whole[:1920], exact.synthesize(LONG, seed=12).numpy()[:1920])


def test_without_a_seed_one_is_drawn_and_reported(tts: VoxtralTTS) -> None:
    first, second = (tts.synthesize("Different each time.") for _ in range(2))
    assert first.seed != second.seed
    assert np.array_equal(first.numpy(), tts.synthesize("Different each time.", seed=first.seed).numpy())


def test_many_threads_get_what_one_thread_gets(exact: VoxtralTTS) -> None:
    text = LONG[: len(LONG) // 3]
    alone = {seed: exact.synthesize(text, seed=seed).numpy() for seed in range(6)}
    together: dict[int, np.ndarray] = {}

    def speak(seed: int) -> None:
        together[seed] = exact.synthesize(text, seed=seed).numpy()

    threads = [threading.Thread(target=speak, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(alone[seed], together[seed]) for seed in alone)


def test_the_first_chunk_is_one_frame_then_they_grow(tts: VoxtralTTS) -> None:
    sizes = [len(chunk) for chunk in tts.synthesize_stream("A stream.", seed=5, max_frames=40)]
    assert sizes[0] == 1920
    assert sum(sizes) % 1920 == 0


@pytest.mark.parametrize("chunk_size", [1, 480, 4096, 10**9])
def test_chunks_have_the_size_that_was_asked_for(tts: VoxtralTTS, chunk_size: int) -> None:
    total = len(tts.synthesize("Chunks.", seed=4, max_frames=3))
    sizes = [len(chunk) for chunk in tts.synthesize_stream("Chunks.", seed=4, max_frames=3, chunk_size=chunk_size)]
    assert sum(sizes) == total
    assert all(size == chunk_size for size in sizes[:-1])
    assert 0 < sizes[-1] <= chunk_size


def test_async_streaming(tts: VoxtralTTS) -> None:
    async def collect() -> list[np.ndarray]:
        stream = tts.synthesize_stream(text="Async.", language="en", chunk_size=4096, seed=9)
        return [chunk.numpy() async for chunk in stream]

    expected = tts.synthesize("Async.", seed=9).numpy()
    assert np.array_equal(np.concatenate(asyncio.run(collect())), expected)


PIECEWISE = "Pay $5 now. Come to Dr. Lee at 14:30. Bye"


def speak_pieces(tts: VoxtralTTS, pieces: Iterable[str]) -> tuple[np.ndarray, tuple[SegmentInfo, ...]]:
    stream = tts.synthesize_stream(pieces, "en", seed=9, max_frames=4, normalize="auto", timestamps=True)
    samples = np.concatenate([chunk.numpy() for chunk in stream])
    assert stream.text == PIECEWISE
    return samples, stream.handle.segments


def test_a_text_in_pieces_sounds_the_same_however_it_was_cut(tts: VoxtralTTS) -> None:
    samples, segments = speak_pieces(tts, [PIECEWISE])
    again, again_segments = speak_pieces(tts, iter(PIECEWISE))
    assert np.array_equal(samples, again)
    assert segments == again_segments
    parts = [PIECEWISE[segment.text_start : segment.text_end] for segment in segments]
    assert parts == ["Pay $5 now.", "Come to Dr. Lee at 14:30.", "Bye"]
    words = [PIECEWISE[word.text_start : word.text_end] for segment in segments for word in segment.words]
    assert words == PIECEWISE.split()

    async def pieces() -> AsyncIterator[str]:
        for word in PIECEWISE.split(" "):
            yield word if word == "Bye" else f"{word} "

    async def collect() -> list[np.ndarray]:
        stream = tts.synthesize_stream(pieces(), "en", seed=9, max_frames=4, normalize="auto")
        with pytest.raises(TextError, match="async for"):
            iter(stream)
        with pytest.raises(EngineError, match="no utterance yet"):
            _ = stream.handle
        return [chunk.numpy() async for chunk in stream]

    assert np.array_equal(np.concatenate(asyncio.run(collect())), samples)


def test_a_text_in_pieces_that_breaks_off_or_is_left_frees_the_engine(tts: VoxtralTTS) -> None:
    def broken() -> Iterator[str]:
        yield "It is heard. And then"
        raise KeyError("lost")

    stream = iter(tts.synthesize_stream(broken(), seed=9, max_frames=4))
    assert len(next(stream)) > 0
    with pytest.raises(KeyError, match="lost"):
        list(stream)

    async def endless() -> AsyncIterator[str]:
        while True:
            yield "It goes on. "

    async def leave() -> None:
        async for _ in tts.synthesize_stream(endless(), seed=9, max_frames=4):
            break

    asyncio.run(leave())
    assert finished(tts)


def test_leaving_an_async_loop_frees_the_engine(tts: VoxtralTTS) -> None:
    async def leave() -> None:
        async for _ in tts.synthesize_stream(LONG * 20, seed=9):
            break

    asyncio.run(leave())
    assert finished(tts)


def finished(tts: VoxtralTTS) -> bool:
    """Tell whether the engine stops to work soon."""
    deadline = threading.Event()
    return any(tts.engine.num_unfinished == 0 or deadline.wait(0.01) for _ in range(500))


def test_a_cancelled_task_cancels_the_speech(tts: VoxtralTTS) -> None:
    async def run() -> None:
        stream = tts.synthesize_stream(LONG * 50, seed=9)

        async def consume() -> None:
            async for _ in stream:
                await asyncio.sleep(0.001)

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.handle is not None

    asyncio.run(run())
    for _ in range(500):
        if tts.engine.num_unfinished == 0:
            return
        threading.Event().wait(0.01)
    pytest.fail("the engine still works for a cancelled task")


def test_submit_gives_a_handle(tts: VoxtralTTS) -> None:
    handle = tts.submit(SpeechRequest(text=LONG, seed=3, sampling=SamplingOptions(max_frames=4)))
    assert handle.seed == 3
    samples = np.concatenate([chunk.samples for chunk in handle.chunks()])
    assert handle.finish_reason in ("length", "end")
    assert handle.stats.duration_s == len(samples) / 24000
    other = tts.submit(SpeechRequest(text=LONG * 10))
    other.cancel()
    with pytest.raises(CancelledError):
        list(other.chunks())


# Long text.


def test_long_text_is_spoken_in_segments_that_cover_it(tts: VoxtralTTS) -> None:
    audio = tts.synthesize(LONG, seed=21)
    assert len(audio.segments) > 1
    spoken = " ".join(LONG[segment.text_start : segment.text_end] for segment in audio.segments)
    assert spoken.split() == LONG.split()
    for before, after in zip(audio.segments, audio.segments[1:], strict=False):
        assert after.start_s - before.end_s == pytest.approx(0.25, abs=0.001)
    assert audio.segments[-1].end_s == pytest.approx(audio.duration, abs=0.001)


def test_a_megabyte_of_text_starts_at_once_and_can_be_left(tts: VoxtralTTS) -> None:
    text = "A sentence with a few words in it. " * 30_000
    with pytest.raises(TextError, match="synthesize_to_file"):
        tts.synthesize(text)
    stream = tts.synthesize_stream(text, seed=1)
    assert len(next(iter(stream))) == 1920
    stream.close()


def test_a_file_is_written_in_one_piece_or_not_at_all(tts: VoxtralTTS, tmp_path: Path) -> None:
    path = tmp_path / "book.flac"
    handle = tts.synthesize_to_file(path, LONG, seed=21)
    samples, _ = soundfile.read(path, dtype="float32")
    expected = tts.synthesize(LONG, seed=21)
    assert len(samples) == len(expected)
    assert handle.segments == expected.segments
    assert np.abs(samples - np.clip(expected.numpy(), -1, 1)).max() < 1e-4
    with pytest.raises(TextError):
        tts.synthesize_to_file(tmp_path / "none.wav", "")
    assert list(tmp_path.iterdir()) == [path]


def test_speed_and_pause(tts: VoxtralTTS) -> None:
    normal = tts.synthesize(LONG, seed=21, max_frames=20)
    quick = tts.synthesize(LONG, seed=21, max_frames=20, speed=2.0)
    spaced = tts.synthesize(LONG, seed=21, max_frames=20, pause=1.0)
    joints = len(normal.segments) - 1
    speech_s = normal.duration - 0.25 * joints
    assert quick.duration == pytest.approx(speech_s / 2 + 0.25 * joints, abs=0.1)
    assert spaced.duration == pytest.approx(speech_s + joints, abs=0.01)


# Voices.


def test_voices_are_listed_and_spoken(tts: VoxtralTTS) -> None:
    assert [voice.name for voice in tts.voices] == ["casual_male", "neutral_female"]
    assert [voice.name for voice in tts.voices if voice.is_default] == ["neutral_female"]
    one, two = (tts.synthesize("Hi.", voice=name, seed=1).numpy() for name in ("casual_male", "neutral_female"))
    assert not np.array_equal(one[:1920], two[:1920])


def test_a_clone_is_a_voice_that_can_be_saved(tts: VoxtralTTS, tmp_path: Path) -> None:
    clip = clip_of(3.5)
    voice = tts.create_voice((clip, 24000), name="me", metadata={"consent": "mine"})
    assert voice.rows.shape == (-(-len(clip) // 1920) + 1, tts.config.backbone.dim)
    assert voice.codes is not None
    assert voice.codes.shape[1] == voice.rows.shape[0] - 1
    path = tmp_path / "me.safetensors"
    voice.save(path)
    loaded = tts.load_voice(path)
    assert (loaded.name, dict(loaded.metadata)) == ("me", {"consent": "mine"})
    assert torch.equal(loaded.rows, voice.rows)
    first = tts.synthesize("The same.", voice=str(path), seed=1).numpy()
    assert np.array_equal(first, tts.synthesize("The same.", voice=voice, seed=1).numpy())
    assert np.array_equal(first, tts.synthesize("The same.", reference_audio=(clip, 24000), seed=1).numpy())


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_reference_audio_of_any_rate_and_channels(tts: VoxtralTTS, tmp_path: Path, rate: int, channels: int) -> None:
    clip = np.repeat(clip_of(3.2, rate)[:, None], channels, axis=1)
    data = wav_bytes(clip, rate)
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    from_bytes = tts.create_voice(data)
    assert from_bytes.rows.shape[0] == 41
    assert torch.equal(from_bytes.rows, tts.create_voice(str(path)).rows)


def test_reference_length_rules(tts: VoxtralTTS) -> None:
    with pytest.raises(ReferenceAudioError, match=r"0\.90 s"):
        tts.create_voice((clip_of(0.9), 24000))
    with pytest.warns(VoxtralWarning, match=r"1\.50 s"):
        tts.create_voice((clip_of(1.5), 24000))
    with pytest.raises(ReferenceAudioError, match="more than 600 s"):
        tts.create_voice((np.zeros(601 * 24000, np.float32), 24000))
    with pytest.raises(ReferenceAudioError, match=r"31\.00 s.*1 to 30 s.*never cut"):
        tts.create_voice(InlineClip(wav_bytes(clip_of(31), 24000)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tts.create_voice((clip_of(3.0), 24000))


def test_codes_and_back(tts: VoxtralTTS) -> None:
    codes = tts.encode((clip_of(2.0), 24000))
    assert codes.shape == (37, 25)
    assert len(tts.decode(codes)) == 25 * 1920
    with pytest.raises(voxtral.errors.RequestError, match="codebook 0"):
        tts.decode(codes + 9000)


# Language.


@pytest.mark.parametrize("spelling", ["en", "EN", "en-US", "English"])
def test_languages_in_any_spelling(tts: VoxtralTTS, spelling: str) -> None:
    assert len(tts.synthesize("Hello.", language=spelling, seed=1)) > 0


def test_japanese_warns_and_speaks(tts: VoxtralTTS) -> None:
    with pytest.warns(VoxtralWarning, match="not trained on Japanese"):
        assert len(tts.synthesize("こんにちは。", language="ja", seed=1)) > 0


def test_a_script_that_does_not_fit_warns_and_speaks(tts: VoxtralTTS) -> None:
    with pytest.warns(VoxtralWarning):
        assert len(tts.synthesize("欢迎来到这里。", language="en", seed=1)) > 0


def test_a_language_nobody_speaks_is_refused(tts: VoxtralTTS) -> None:
    for language in ("zh", "klingon", ""):
        with pytest.raises(LanguageError):
            tts.synthesize("Hello.", language=language)


# Bad input: an error before any work.


@pytest.mark.parametrize("text", ["", "   \n", "🎉🎉🎉", "...!?", "\x00hello", "bell \x07", "\ud800"])
def test_text_that_cannot_be_spoken(tts: VoxtralTTS, text: str) -> None:
    before = tts.engine.num_unfinished
    for speak in (tts.synthesize, tts.synthesize_stream):
        with pytest.raises(TextError):
            speak(text)
    assert tts.engine.num_unfinished == before


def test_text_that_is_no_text(tts: VoxtralTTS) -> None:
    for text in (None, b"bytes", 7, ["a"]):
        with pytest.raises(TextError):
            tts.synthesize(text)  # type: ignore[arg-type]


def test_normalize_rescues_what_can_be_rescued(tts: VoxtralTTS) -> None:
    audio = tts.synthesize("**Bold** \x07 🎉 7 apples", language="en", normalize="auto", seed=1)
    (segment,) = audio.segments
    assert (segment.text_start, segment.text_end) == (2, 21)
    with pytest.raises(TextError):
        tts.synthesize("🎉🎉", normalize="auto")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"speed": 0.1}, "speed"),
        ({"speed": None}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"pause": -1}, "pause"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": 86_401}, "deadline_s"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"guidance_scale": float("inf")}, "guidance_scale"),
        ({"guidance_scale": "1.2"}, "guidance_scale"),
        ({"noise_scale": -0.1}, "noise_scale"),
        ({"num_euler_steps": 0}, "num_euler_steps"),
        ({"max_frames": 0}, "max_frames"),
        ({"max_frames": 10**9}, "max_frames"),
        ({"normalize": "yes"}, "normalize"),
        ({"temperature": 0.7}, "temperature"),
        ({"voice": "casual_male", "reference_audio": "x.wav"}, "voice"),
    ],
)
def test_options_out_of_range(tts: VoxtralTTS, options: dict[str, Any], name: str) -> None:
    with pytest.raises(OptionError, match=name):
        tts.synthesize("Hello.", **options)


@pytest.mark.parametrize("chunk_size", [0, -1, 1.5, "4096"])
def test_chunk_sizes_out_of_range(tts: VoxtralTTS, chunk_size: Any) -> None:
    with pytest.raises(OptionError, match="chunk_size"):
        tts.synthesize_stream("Hello.", chunk_size=chunk_size)


@pytest.mark.parametrize("voice", ["nobody", "../../etc/passwd", "", "casual_male.pt"])
def test_unknown_voices(tts: VoxtralTTS, voice: str) -> None:
    with pytest.raises(VoiceError):
        tts.synthesize("Hello.", voice=voice)


def test_a_voice_of_another_model(tts: VoxtralTTS) -> None:
    with pytest.raises(VoiceError, match="shape"):
        tts.synthesize("Hello.", voice=VoicePrompt(name="big", rows=torch.zeros(20, 3072)))


# Models, devices, dtypes.


def test_ids_are_never_replaced_by_another_model(tmp_path: Path) -> None:
    for name in ("mistralai/Voxtral-TTS", "somebody/else", "4b", "tiny", "nonsense", str(tmp_path / "none")):
        with pytest.raises(ModelNotFoundError):
            VoxtralTTS.from_pretrained(name, local_files_only=True)


@pytest.fixture
def own_tts(tiny_folder: Path) -> Any:
    with VoxtralTTS.from_pretrained(tiny_folder, device="cpu") as model:
        yield model


def test_half_and_back(own_tts: VoxtralTTS) -> None:
    full = own_tts.synthesize("Hello.", seed=1, max_frames=5).numpy()
    assert own_tts.half() is own_tts
    assert own_tts.compute.dtype == torch.float16
    assert own_tts.compute.codec_dtype == torch.float32
    half = own_tts.synthesize("Hello.", seed=1, max_frames=5).numpy()
    assert np.isfinite(half).all()
    assert half[:1920] == pytest.approx(full[:1920], abs=0.05)
    assert own_tts.bfloat16().synthesize("Hello.", seed=1, max_frames=5).numpy().dtype == np.float32
    assert own_tts.float().compute.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_speaks(tiny_folder: Path, dtype: str) -> None:
    with VoxtralTTS.from_pretrained(tiny_folder, device="cpu", dtype=dtype) as model:
        assert np.isfinite(model.synthesize(LONG, seed=1).numpy()).all()


def test_devices_that_are_not_there(own_tts: VoxtralTTS) -> None:
    assert own_tts.to("cpu") is own_tts
    for device in ("cuda:99", "tpu", "xpu"):
        with pytest.raises(DeviceError):
            own_tts.to(device)
    assert len(own_tts.synthesize("Still here.", seed=1)) > 0


def test_the_model_does_not_move_while_it_speaks(own_tts: VoxtralTTS) -> None:
    handle = own_tts.submit(SpeechRequest(text=LONG * 20))
    with pytest.raises(EngineError, match="under way"):
        own_tts.half()
    handle.cancel()


def test_an_open_stream_keeps_the_model_in_its_place(own_tts: VoxtralTTS) -> None:
    stream = own_tts.synthesize_stream("Short.", seed=1)
    chunks = iter(stream)
    next(chunks)
    with pytest.raises(EngineError, match="under way"):
        own_tts.half()
    assert own_tts.to("cpu") is own_tts  # where it is already
    list(chunks)
    assert own_tts.half().compute.dtype == torch.float16


def test_the_model_moves_right_after_a_reader_left(own_tts: VoxtralTTS) -> None:
    for turn in range(20):
        for _ in own_tts.synthesize_stream(LONG * 5, seed=turn):
            break
        own_tts.bfloat16() if turn % 2 else own_tts.float()


def test_the_model_does_not_move_under_a_decode(own_tts: VoxtralTTS) -> None:
    codes = torch.randint(0, 21, (37, 450), generator=torch.Generator().manual_seed(0))
    outcomes: list[int] = []

    def decode() -> None:
        outcomes.extend(len(own_tts.decode(codes)) for _ in range(4))

    thread = threading.Thread(target=decode)
    thread.start()
    refused = 0
    while thread.is_alive():
        try:
            own_tts.bfloat16()
            own_tts.float()
        except EngineError:
            refused += 1
    assert outcomes == [450 * 1920] * 4
    assert refused > 0


def test_warnings_point_at_the_callers_line(tts: VoxtralTTS) -> None:
    for call in (
        lambda: tts.synthesize("こんにちは。", language="ja", seed=1),
        lambda: tts.create_voice((clip_of(1.5), 24000)),
        lambda: tts.synthesize_stream("こんにちは。", language="ja", seed=1).close(),
    ):
        with pytest.warns(VoxtralWarning) as caught:
            call()
        assert caught[0].filename == __file__


def test_a_stream_is_read_once(tts: VoxtralTTS) -> None:
    stream = tts.synthesize_stream("Once.", seed=1)
    assert list(stream)
    with pytest.raises(EngineError, match="once"):
        iter(stream)


def test_weights_that_do_not_fit_half_are_named_and_kept(own_tts: VoxtralTTS) -> None:
    weight = own_tts._running.model.backbone.layers[1].feed_forward.w2.weight
    kept = weight[0, 0].item()
    with torch.no_grad():
        weight[0, 0] = 1e5
    with pytest.raises(DeviceError, match=r"layers\.1\.feed_forward\.w2"):
        own_tts.half()
    assert own_tts.compute.dtype == torch.float32
    assert own_tts._running.model.dtype == torch.float32
    with torch.no_grad():
        weight[0, 0] = kept
    assert len(own_tts.synthesize("Still here.", seed=1)) > 0


def test_many_requests_while_the_model_changes_its_dtype(own_tts: VoxtralTTS) -> None:
    failures: list[BaseException] = []

    def speak() -> None:
        for seed in range(8):
            try:
                own_tts.synthesize("Hello.", seed=seed, voice=own_tts.load_voice("casual_male"))
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

    threads = [threading.Thread(target=speak) for _ in range(4)]
    for thread in threads:
        thread.start()
    changes = 0
    while any(thread.is_alive() for thread in threads):
        try:
            own_tts.bfloat16() if changes % 2 else own_tts.float()
            changes += 1
        except EngineError:
            continue
    assert failures == []


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda tts: tts.synthesize("Hi.", voice=5), VoiceError),
        (lambda tts: tts.synthesize("Hi.", voice=b"casual_male"), VoiceError),
        (lambda tts: tts.synthesize("Hi.", voice="a\0.safetensors"), VoiceError),
        (lambda tts: tts.synthesize("Hi.", language=5), LanguageError),
        (lambda tts: tts.submit(SpeechRequest(text="Hi.", sampling=None)), OptionError),
        (lambda tts: tts.decode(torch.full((37, 2), 3.7)), voxtral.errors.RequestError),
        (lambda tts: tts.decode(np.ones((37, 2), dtype=bool)), voxtral.errors.RequestError),
        (lambda tts: tts.decode(None), voxtral.errors.RequestError),
        (lambda tts: VoxtralTTS.from_pretrained(""), ModelNotFoundError),
        (lambda tts: tts.to(None), DeviceError),
        (lambda tts: VoxtralTTS.from_pretrained(None), ModelNotFoundError),
        (lambda tts: VoxtralTTS.from_pretrained("nano", revision="main"), OptionError),
        (lambda tts: VoxtralTTS.from_pretrained(tts.checkpoint.folder, dtype="int3"), DeviceError),
    ],
)
def test_values_of_a_wrong_kind(tts: VoxtralTTS, call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        call(tts)


def test_decoding_in_steps_gives_the_whole(tts: VoxtralTTS) -> None:
    codes = torch.randint(0, 21, (37, 230), generator=torch.Generator().manual_seed(0))
    whole = tts._running.model.decode_codes(codes).numpy()
    assert np.abs(tts.decode(codes).numpy() - whole).max() < 1e-5
    assert len(tts.decode(np.asarray(codes)[:, :0])) == 0


def test_a_file_that_cannot_be_written_costs_no_work(tts: VoxtralTTS, tmp_path: Path) -> None:
    with pytest.raises(voxtral.errors.AudioError):
        tts.synthesize_to_file(tmp_path / "none" / "x.wav", LONG)
    assert tts.engine.num_unfinished == 0


def test_a_stream_keeps_the_model_that_nobody_else_refers_to(tiny_folder: Path) -> None:
    stream = VoxtralTTS.from_pretrained(tiny_folder, device="cpu").synthesize_stream(LONG, seed=1, max_frames=20)
    chunks = iter(stream)
    next(chunks)
    gc.collect()
    assert list(chunks)


def test_a_checkpoint_without_encoder_says_what_to_do(tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in tiny_folder.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            target = tmp_path / path.relative_to(tiny_folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    tensors = load_file(tiny_folder / "consolidated.safetensors")
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith(("audio_tokenizer.input_proj.", "audio_tokenizer.encoder_blocks."))
    }
    save_file(kept, tmp_path / "consolidated.safetensors")
    with VoxtralTTS.from_pretrained(tmp_path) as model:
        assert not model.has_encoder
        assert len(model.synthesize("Presets work.", seed=1)) > 0
        with pytest.raises(EncoderMissingError, match="casual_male"):
            model.synthesize("Cloning does not.", reference_audio=(clip_of(3), 24000))


# The package.


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, voxtral; print([m for m in ('torch', 'numpy', 'fastapi', 'mistral_common') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented() -> None:
    for name in voxtral.__all__:
        assert getattr(voxtral, name) is not None
        if name not in ("__version__",):
            assert getattr(voxtral, name).__doc__
    assert sorted(voxtral.__all__) == dir(voxtral)
    with pytest.raises(AttributeError):
        _ = voxtral.nonsense


def test_closed_and_dropped_models_leave_no_thread(tiny_folder: Path) -> None:
    # The threads themselves and not their number: one of an earlier test may still be about to end.
    before = set(threading.enumerate())
    for _ in range(5):
        with VoxtralTTS.from_pretrained(tiny_folder) as model:
            model.synthesize("Hi.", max_frames=1, seed=1)
    model = VoxtralTTS.from_pretrained(tiny_folder)
    model.synthesize("Hi.", max_frames=1, seed=1)
    del model
    import gc

    gc.collect()
    deadline = time.monotonic() + 30
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) - before == set()


def test_a_large_model_keeps_its_preset_voices_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxtral.loading.load._KEPT_VOICE_PARAMETERS", 0)
    monkeypatch.setenv("VOXTRAL_CACHE", str(tmp_path / "cache"))
    clip = (clip_of(3.0), 24000)
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu") as model:
        model.synthesize("Cloned.", reference_audio=clip, seed=1, max_frames=2)
        assert not (tmp_path / "cache").exists()
        first = model.synthesize("Kept.", seed=1, max_frames=2).numpy()
    assert len(list((tmp_path / "cache" / "voices").iterdir())) == 1
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu") as model:
        assert np.array_equal(model.synthesize("Kept.", seed=1, max_frames=2).numpy(), first)
    assert len(list((tmp_path / "cache" / "voices").iterdir())) == 1


def test_keeping_voices_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxtral.loading.load._KEPT_VOICE_PARAMETERS", 0)
    monkeypatch.setenv("VOXTRAL_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu") as model:
        model.synthesize("Not kept.", seed=1, max_frames=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_read", [0, 1, None], ids=["not read", "left in the middle", "heard to the end"])
def test_speech_that_is_dropped_is_gone_at_once(tts: VoxtralTTS, num_read: int | None) -> None:
    # What holds itself waits for a collection, and its engine and model with it.
    gc.collect()
    gc.disable()
    try:
        handle = tts.submit(voxtral.SpeechRequest("Some words, and some more.", seed=3))
        for number, _ in enumerate(handle.chunks()):
            if number == num_read:
                break
        gone = weakref.ref(handle)
        del handle
        assert gone() is None
    finally:
        gc.enable()
