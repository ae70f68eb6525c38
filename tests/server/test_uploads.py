"""Hostile uploads: each is refused in words, costs little, leaves nothing behind, and speech goes on as before."""

from __future__ import annotations

import base64
import io
import os
import pickle
import random
import re
import socket
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import numpy as np
import pytest
import soundfile
import torch

from hostile_clips import flac_bomb, opus_bomb, wav
from serving import Program, program, wait_for
from spoken_clips import spoken
from voxtral.audio.encode import encode
from voxtral.audio.pcm import to_int16
from voxtral.server.options import ServerOptions
from voxtral.tts import VoxtralTTS

RATE = 24000
TEXT = "Hello world"

# What an attack, one request after another, may add to the memory of the server, at any moment: a decoded clip may have
# 64 MiB and a body 15, there are up to four copies of a body while it is read, and what is freed is not all given back.
MAX_GROWTH = 160 * 2**20


@pytest.fixture(scope="module")
def server(expected: np.ndarray) -> Iterator[Program]:
    """Run the program itself, so that its memory is its own."""
    with program(environment={"VOXTRAL_BODY_TIMEOUT_S": "0.5", "VOXTRAL_BATCH_INVARIANT": "1"}) as running:
        with running.client() as client:
            as_reference(client, in_format("FLAC"))  # the libraries that read clips are loaded now
            assert np.array_equal(speak(client), expected)
        yield running


@pytest.fixture
def client(server: Program) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def expected(tts: VoxtralTTS) -> np.ndarray:
    return to_int16(tts.synthesize(TEXT, "en", seed=7, max_frames=6).samples)


@pytest.fixture(autouse=True)
def nothing_is_left(server: Program, client: httpx2.Client, expected: np.ndarray) -> Iterator[None]:
    """After each attack: no file, no slot or block in use, no memory to speak of, and the speech of before."""
    forget_peak(server)
    before = memory(server, "VmRSS")
    yield
    grown = memory(server, "VmHWM") - before
    assert grown < MAX_GROWTH, f"{grown / 2**20:.0f} MiB"
    assert np.array_equal(speak(client), expected)
    wait_for(lambda: gauges(client)[:3] == [0, 0, 0])
    # The engine stops when it is idle and a slot or a block is still taken.
    assert gauges(client)[3:] == [1, 0], server.log.read_text()
    assert not [path for path in server.data_dir.rglob("*") if path.is_file() and path.name != ".lock"]


def speak(client: httpx2.Client) -> np.ndarray:
    body = {"input": TEXT, "language": "en", "response_format": "pcm", "seed": 7, "max_frames": 6}
    answer = client.post("/v1/audio/speech", json=body)
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, dtype="<i2")


def gauges(client: httpx2.Client) -> list[float]:
    """Read what is under way, and whether the engine was well."""
    text = client.get("/metrics").text
    names = ["streams", "queue_length", "batch_size", "ready", "engine_restarts_total"]
    found = [re.search(rf"^voxtral_{name} (\S+)$", text, re.MULTILINE) for name in names]
    return [float(match[1]) for match in found if match]


def forget_peak(server: Program) -> None:
    """Begin to measure the peak anew."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


def memory(server: Program, name: str) -> int:
    """Read the resident memory (VmRSS) or its peak (VmHWM), in bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux to measure memory")


def good_clip() -> bytes:
    return wav(to_int16(spoken(1.5)).tobytes())


# Ways to send a clip.


def as_reference(client: httpx2.Client, clip: bytes, filename: str = "a.wav") -> httpx2.Response:
    fields = {"text": TEXT, "seed": "7", "max_frames": "2"}
    return client.post("/synthesize", data=fields, files={"reference": (filename, clip)})


def as_base64(client: httpx2.Client, clip: bytes) -> httpx2.Response:
    body = {"input": TEXT, "max_frames": 2, "ref_audio": base64.b64encode(clip).decode() or "===="}
    return client.post("/v1/audio/speech", json=body)


def as_voice(client: httpx2.Client, clip: bytes, filename: str = "a.wav") -> httpx2.Response:
    return client.post(
        "/v1/audio/voices", data={"name": "Me", "consent": "yes"}, files={"audio_sample": (filename, clip)}
    )


def as_base64_voice(client: httpx2.Client, clip: bytes) -> httpx2.Response:
    body = {"name": "Me", "consent": True, "audio_sample": base64.b64encode(clip).decode()}
    return client.post("/v1/audio/voices", json=body)


Way = Callable[[httpx2.Client, bytes], httpx2.Response]
WAYS: list[Way] = [as_reference, as_base64, as_voice, as_base64_voice]


def refused(answer: httpx2.Response, *codes: str) -> None:
    """Check that an answer is a refusal in OpenAI's shape."""
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert all(error[name] for name in ("message", "type", "code"))
    assert not codes or error["code"] in codes, error


# Clips that are none.


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("../../../tmp/evil", bytes(10**7))
    return file.getvalue()


class Evil:
    """Makes a folder wherever it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._folder),)


def torch_file() -> bytes:
    file = io.BytesIO()
    torch.save({"voice": torch.zeros(4, 4)}, file)
    return file.getvalue()


def array_file() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(RATE, dtype=np.float32))
    return file.getvalue()


def in_format(format: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, spoken(2.0), RATE, format=format, subtype=subtype)
    return file.getvalue()


def long_mp3() -> bytes:
    """Ten minutes of silence: each frame of an MP3 stands alone, so that a minute can be repeated."""
    return encode(np.zeros(60 * RATE, dtype=np.float32), "mp3", RATE) * 10


NO_CLIPS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "zeros": lambda: bytes(10_000),
    "noise": lambda: random.Random(0).randbytes(100_000),
    "text": lambda: b"This is text. " * 1000,
    "html": lambda: b"<!doctype html><script>alert(1)</script>",
    "playlist": lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
    "concat": lambda: b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "zip": archive,
    "torch": torch_file,
    "numpy": array_file,
    "safetensors": lambda: struct.pack("<Q", 2**60) + b'{"a":{"dtype":"F32"}}',
    "png": lambda: b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "elf": lambda: b"\x7fELF" + bytes(1000),
    "header alone": lambda: wav(b""),
    "half a header": lambda: good_clip()[:20],
    "cut wav": lambda: good_clip()[:-1000],
    "cut flac": lambda: in_format("FLAC")[:-1000],
    "cut ogg": lambda: in_format("OGG", "VORBIS")[:-1000],
    "2^31 bytes": lambda: wav(bytes(1000), claimed=2**31 - 1),
    "2^31 Hz": lambda: wav(good_clip()[44:], rate=2**31 - 1),
    "no rate": lambda: wav(good_clip()[44:], rate=0),
    "65535 channels": lambda: wav(good_clip()[44:], channels=65535),
    "no channels": lambda: wav(good_clip()[44:], channels=0),
    "too short": lambda: wav(to_int16(spoken(0.05)).tobytes()),
    "too long": lambda: wav(bytes(2 * 8000 * 100), rate=8000),
    "low rate": lambda: wav(bytes(2 * 4000 * 100), rate=4000),
    "flac bomb": lambda: flac_bomb(0.5),
    "opus bomb": lambda: opus_bomb(5.0),
    "mp3 bomb": long_mp3,
    "not a number": lambda: encode_floats(np.full(2 * RATE, np.nan)),
    "infinite": lambda: encode_floats(np.full(2 * RATE, np.inf)),
}


@cache
def no_clips() -> dict[str, bytes]:
    return {name: make() for name, make in NO_CLIPS.items()}


def encode_floats(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples.astype(np.float32), RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_no_clip_is_refused(client: httpx2.Client, way: Way) -> None:
    for name, clip in no_clips().items():
        answer = way(client, clip)
        assert answer.status_code == 400, f"{name}: {answer.status_code} {answer.text}"
        refused(answer, "invalid_reference_audio")


def test_nothing_is_ever_unpickled(client: httpx2.Client, tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    data = pickle.dumps(Evil(folder))
    pickle.loads(data)
    folder.rmdir()
    for way in WAYS:
        for evil in (data, pickle.dumps({"voice": Evil(folder)}, protocol=2)):
            refused(way(client, evil), "invalid_reference_audio")
    assert not folder.exists()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_clip_that_is_too_large_is_refused(client: httpx2.Client, way: Way) -> None:
    limit = ServerOptions.max_upload_bytes
    refused(way(client, wav(bytes(limit - 44))), "invalid_reference_audio")  # as large as it may be, but minutes long
    refused(way(client, wav(bytes(limit))), "clip_too_large")
    answer = way(client, bytes(2 * limit))
    refused(answer, "body_too_large")
    assert answer.status_code == 413


# Clips that are good, in wrappings that are not.


FILENAMES = [
    "../../etc/passwd",
    "..\\..\\boot.ini",
    "/etc/passwd",
    "a\0b.wav",
    'a"; name="text',
    "a\r\nX-Evil: 1",
    "file:///etc/passwd",
    "http://127.0.0.1:1/a.wav",
    "Größe 😀.wav",
    "CON",
    "." * 255,
]


def test_the_name_of_a_file_means_nothing(client: httpx2.Client) -> None:
    clip = good_clip()
    usual = as_reference(client, clip)
    for filename in FILENAMES:
        answer = as_reference(client, clip, filename)
        assert answer.status_code == 200, answer.text
        assert answer.content == usual.content
        assert filename[:20] not in str(answer.headers)


def test_a_name_of_64_kilobytes_is_refused(client: httpx2.Client) -> None:
    for way in (as_reference, as_voice):
        refused(way(client, good_clip(), "x" * 65536), "invalid_form")


VOICE_NAMES = [
    "../../etc/passwd",
    "..",
    "a/b",
    "a\\b",
    "a\0b",
    "",
    " ",
    "x" * 65,
    "voice_0123456789abcdef",
    "$(id)",
    "<b>",
]


def test_the_name_of_a_voice_is_no_path(client: httpx2.Client) -> None:
    sample = base64.b64encode(good_clip()).decode()
    for name in VOICE_NAMES:
        refused(client.post("/v1/audio/voices", json={"name": name, "consent": True, "audio_sample": sample}))
        refused(client.post("/v1/audio/speech", json={"input": TEXT, "voice": name or "."}), "invalid_voice")
        if name.strip():
            for method in ("GET", "DELETE", "PATCH"):
                answer = client.request(method, f"/v1/audio/voices/{quote(name, safe='')}", json={"name": "You"})
                assert answer.status_code in (404, 405), answer.text


def test_no_address_is_ever_fetched(client: httpx2.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.wav"
        for url in (address, "file:///etc/passwd", "/etc/passwd", "data:audio/wav,abc", f"data:;base64,{address}"):
            refused(client.post("/v1/audio/speech", json={"input": TEXT, "ref_audio": url}), "invalid_reference_audio")
            refused(client.post("/synthesize", data={"text": TEXT, "reference": url}), "invalid_reference_audio")
            fields = {"name": "Me", "consent": "yes", "audio_sample": url}
            refused(client.post("/v1/audio/voices", data=fields), "invalid_reference_audio")
        with pytest.raises(TimeoutError):
            listener.accept()


GARBAGE = [0, 1.5, True, False, [], ["a"], {}, {"a": "b"}, "é", "a" * 7, "====", "A===", "AA=A", " "]


def test_garbage_in_the_place_of_a_clip_is_refused(client: httpx2.Client) -> None:
    for value in GARBAGE:
        refused(client.post("/synthesize", json={"text": TEXT, "reference": value}), "invalid_reference_audio")
        fields = {"name": "Me", "consent": True, "audio_sample": value}
        refused(client.post("/v1/audio/voices", json=fields), "invalid_reference_audio")
        refused(client.post("/v1/audio/speech", json={"input": TEXT, "ref_audio": value}))


MULTIPART = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="reference"; filename="a.wav"\r\n\r\n'


MALFORMED = [
    (PART + b"RIFF", MULTIPART),
    (PART + b"RIFF\r\n--y--\r\n", MULTIPART),
    (PART + b"RIFF\r\n--x--\r\n", "multipart/form-data; boundary=y"),
    (PART + b"RIFF\r\n--x--\r\n", "multipart/form-data"),
    (PART + b"RIFF\r\n--x--\r\n", "multipart/form-data; boundary=x; charset=punycode"),
    (PART * 5000 + b"\r\n--x--\r\n", MULTIPART),
    ((PART + b"1\r\n") * 5000 + b"--x--\r\n", MULTIPART),
    (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 5000 + b"--x--\r\n",
        MULTIPART,
    ),
    (b"--x\r\n" + b"A: b\r\n" * 100_000, MULTIPART),
    (b"&".join(b"a%d=b" % number for number in range(5000)), "application/x-www-form-urlencoded"),
    (b"text=" + b"%41" * 3_000_000, "application/x-www-form-urlencoded"),
    (b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json"),
    (b'{"text": "a", "x": [' + b"[]," * 4_000_000 + b"1]}", "application/json"),
    (b'{"text": "a", "speed": NaN}', "application/json"),
    (b'{"text": "a", "speed": Infinity}', "application/json"),
    (b'{"text": "a", "guidance_scale": 1e999}', "application/json"),
    (b'{"text": "a", "seed": ' + b"9" * 5000 + b"}", "application/json"),
    (b'{"text": "\\ud800"}', "application/json"),
    (b'{"text": "a", "\\udfff": 1}', "application/json"),
    (b'{"text": "a", "voice": "\\ud800"}', "application/json"),
    (b'{"text": "\xed\xa0\x80"}', "application/json"),
    (b'{"text": "a"', "application/json"),
    (b"\x80\x04K\x01.", "application/octet-stream"),
    (b"a", "audio/wav"),
]


def test_a_malformed_body_is_refused(client: httpx2.Client) -> None:
    for data, kind in MALFORMED:
        refused(client.post("/synthesize", params={"max_frames": 1}, content=data, headers={"content-type": kind}))


def test_fields_that_come_twice_are_taken_once(client: httpx2.Client) -> None:
    body = b'{"text": "a", "speed": 9, "speed": 1, "max_frames": 1}'
    assert client.post("/synthesize", content=body, headers={"content-type": "application/json"}).status_code == 200
    refused(client.post("/synthesize?max_frames=1", data={"text": ["a", ""]}), "invalid_text")


# Bodies that do not end.


def talk(server: Program, pieces: Iterable[bytes]) -> bytes:
    """Send pieces on a connection of one's own, and return all that comes until it ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        received = b""
        with suppress(ConnectionError):  # the server may close it upon what is still being sent
            for piece in pieces:
                connection.sendall(piece)
            while data := connection.recv(65536):
                received += data
        return received


HEAD = b"POST /synthesize?text=a&max_frames=1 HTTP/1.1\r\nHost: localhost\r\n"


HALF_BODIES = [
    b"Content-Length: 100\r\n\r\n",
    b"Content-Length: 100\r\n\r\n{",
    b"Transfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    b"Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n--x\r\n\r\n",
]


def test_a_body_that_stops_half_way_is_given_up(server: Program) -> None:
    with ThreadPoolExecutor(len(HALF_BODIES)) as pool:
        for answer in pool.map(lambda body: talk(server, [HEAD + body]), HALF_BODIES):
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'"code":"body_too_slow"' in answer


def test_chunks_without_end_are_cut_off(server: Program) -> None:
    def chunks() -> Iterator[bytes]:
        yield HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        for _ in range(10_000):
            yield b"10000\r\n" + b" " * 65536 + b"\r\n"
        raise AssertionError("it took 600 MB")

    answer = talk(server, chunks())
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")


def test_clients_that_leave_in_the_middle_leave_nothing(server: Program) -> None:
    for number in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(HEAD + b"Content-Length: 5000000\r\n\r\n" + b" " * 1000 * number)


# At random.


def mutate(clip: bytes, chance: random.Random) -> bytes:
    """Damage a clip in one to four ways."""
    data = bytearray(clip)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(min(len(data), chance.choice([16, 64, 1024, len(data)])) or 1) if data else 0
        match chance.randrange(6):
            case 0:
                del data[place:]
            case 1:
                data[place : place + 1] = chance.randbytes(1)
            case 2:
                data[place : place + 4] = chance.choice(
                    [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
                )
            case 3:
                data[place:place] = chance.randbytes(chance.randrange(100))
            case 4:
                del data[place : place + chance.randrange(1000)]
            case _:
                data[place:place] = data[: chance.randrange(2000)]
    return bytes(data)


@pytest.mark.parametrize("num_clips", [40, pytest.param(4000, marks=pytest.mark.slow)])
def test_damaged_clips_are_spoken_with_or_refused(client: httpx2.Client, num_clips: int) -> None:
    chance = random.Random(5)
    kinds = ["wav", "flac", "mp3", "ogg", "opus", "aac", "m4a"]
    clips = [encode(spoken(1.2), kind, RATE) for kind in kinds]
    statuses = set()
    for _ in range(num_clips):
        way = chance.choice([as_reference, as_base64])
        answer = way(client, mutate(chance.choice(clips), chance))
        statuses.add(answer.status_code)
        if answer.status_code != 200:
            refused(answer, "invalid_reference_audio", "invalid_request")
    assert statuses == {200, 400}
