"""The door on real sockets: who is let in, what every answer carries, and what no log ever holds."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from serving import Program, Serving, program, serving, wait_for
from spoken_clips import spoken_file
from voxtral.cli import serve
from voxtral.errors import OptionError
from voxtral.server.application import create_app
from voxtral.server.keys import Client
from voxtral.server.options import ServerOptions
from voxtral.server.service import SpeechService, Utterance
from voxtral.tts import VoxtralTTS

KEY_ONE = "0123456789abcdef-one"
KEY_TWO = "0123456789abcdef-two"
SITE = "https://app.example"

# What somebody types; no log may hold it.
MARKER = "Sesame"

SPEECH: dict[str, Any] = {"input": "Hello", "response_format": "wav", "max_frames": 2}

SECURITY_HEADERS = (
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "cross-origin-resource-policy",
    "content-security-policy",
    "cache-control",
    "x-request-id",
)


@pytest.fixture(scope="module")
def guarded(tts: VoxtralTTS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with two keys, of which one may have one stream, and one site that may use it."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"one {KEY_ONE} 1\ntwo {KEY_TWO}\n", encoding="utf-8")
    with serving(tts, api_key_file=keys, allowed_origins=(SITE,), allowed_hosts=("speech.example",)) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"]


def operations(server: Serving) -> list[tuple[str, str, bool]]:
    """List method, path and whether a key is needed."""
    paths = server.app.openapi()["paths"]
    return [
        (method.upper(), path.format(voice_id="alloy", model_id="tts-1", name="names"), operation.get("security") != [])
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]


# Keys.


def test_every_route_that_is_not_public_needs_a_key(guarded: Serving) -> None:
    asked = operations(guarded)
    assert sum(needs_key for _, _, needs_key in asked) > 8
    with guarded.client() as client:
        for method, path, needs_key in [*asked, ("GET", "/openapi.json", True), ("GET", "/none", True)]:
            for headers in ({}, bearer("0123456789abcdef-six"), bearer("é" * 20)):
                raw = {name: value.encode("latin-1") for name, value in headers.items()}
                answer = client.request(method, path, headers=raw)
                assert (answer.status_code == 401) == needs_key, f"{method} {path}"
            assert client.request(method, path, headers=bearer(KEY_TWO)).status_code != 401


def test_each_key_has_its_own_limit(guarded: Serving) -> None:
    ticket = asyncio.run(guarded.service.admission.enter(Client("one", 1)))
    try:
        with guarded.client() as client:
            answer = client.post("/v1/audio/speech", json=SPEECH, headers=bearer(KEY_ONE))
            assert code_of(answer) == (429, "too_many_requests")
            assert int(answer.headers["retry-after"]) >= 1
            assert client.post("/v1/audio/speech", json=SPEECH, headers=bearer(KEY_TWO)).status_code == 200
    finally:
        ticket.give_back()
    with guarded.client() as client:
        assert client.post("/v1/audio/speech", json=SPEECH, headers=bearer(KEY_ONE)).status_code == 200


# What every answer carries.


def test_security_headers_are_on_every_answer(guarded: Serving) -> None:
    with guarded.client(headers=bearer(KEY_TWO)) as client:
        answers = [client.request(method, path) for method, path, _ in operations(guarded)]
        answers += [
            client.post("/v1/audio/speech", json=SPEECH),
            client.get("/none"),
            client.put("/health"),
            client.get("/"),
            client.get("/health/", follow_redirects=False),
            client.get("/health", headers=bearer("wrong")),
            client.get("/v1/models", headers=bearer("wrong")),
            client.get("/v1/models", headers={"host": "evil.example"}),
            client.get("/health", headers={"origin": "http://evil.example"}),
            client.post("/v1/audio/speech", content=b" " * 16_000_000),
        ]
    assert {answer.status_code for answer in answers} >= {200, 307, 400, 401, 403, 404, 405, 413, 421}
    for answer in answers:
        assert [name for name in SECURITY_HEADERS if name not in answer.headers] == []
        assert "server" not in answer.headers or answer.headers["server"] == "uvicorn"
        if answer.status_code >= 400:
            code_of(answer)


# Names, sites and peers.


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
        (b"GET /health HTTP/1.1\r\nHost: SPEECH.example.:443\r\nConnection: close\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 421),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n\r\n", 421),
        (b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
def test_requests_as_no_browser_sends_them(guarded: Serving, request_: bytes, status: int) -> None:
    answer = talk(guarded.port, request_ if b"HTTP/1" in request_ else request_ + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:100]


# Public DNS can have none of these: neighbours call this machine by them.
LOCAL_NAMES = [
    *(
        "voxtral",
        "VOXTRAL",
        "voxtral.",
        "my_tts-1",
        "gpu",
        "localhost",
        "a.localhost",
        "127.0.0.1",
        "[::1]",
        "10.0.0.7",
    ),
    *("host.docker.internal", "Host.Docker.Internal.", "tts.internal", "raspberrypi.local", "nas.home.arpa"),
    "voxtral.default.svc.cluster.local",
]
# Somebody may have bought these, or what they end in, and let them point here; or they are no names at all.
STRANGE_NAMES = [
    *("evil.example", "internal.example", "host.docker.internal.example", "local.example", "localhost.example"),
    *("voxtral.com", "evilinternal.com", "home.arpa.evil.example", "evil.arpa", "xhome.arpa", "voxtral.internal.co"),
    *(
        "",
        ".",
        "..",
        "voxtral:8000:8000",
        "voxtral,evil.example",
        "voxtral evil.example",
        "evil.example:x@voxtral",
        "[voxtral]",
    ),
    *("127.0.0.1.example", "[::1].example", "voxtral/evil.example", "evil.example#.internal", "évil"),
]


@pytest.mark.parametrize("options", [{}, {"insecure": True}, {"api_key": KEY_ONE}], ids=["plain", "insecure", "key"])
def test_only_names_that_no_stranger_can_point_here_are_let_in(tts: VoxtralTTS, options: dict[str, Any]) -> None:
    """And probes under any, because they have names of their own; of what they are told nothing is secret."""
    with serving(tts, **options) as running, running.client(headers=bearer(KEY_ONE)) as client:
        for path, port in (("/v1/models", ""), ("/v1/models", ":8000"), ("/", "")):
            hosts = {name: {"host": f"{name}{port}".encode("latin-1")} for name in LOCAL_NAMES + STRANGE_NAMES}
            statuses = {name: client.get(path, headers=headers).status_code for name, headers in hosts.items()}
            assert {name for name, status in statuses.items() if status == 200} == set(LOCAL_NAMES)
            assert {name for name, status in statuses.items() if status == 421} == set(STRANGE_NAMES)
        for name in LOCAL_NAMES + STRANGE_NAMES:
            for path in ("/health", "/livez", "/readyz"):
                answer = client.get(path, headers={"host": name.encode("latin-1"), "authorization": ""})
                assert answer.status_code == 200, (path, name)


def test_a_page_that_lets_its_name_point_here_reads_no_more_than_health(server: Serving) -> None:
    """A browser says of what such a page asks that it is the same site, under the name of that page."""
    headers = {"host": "evil.example:8000", "origin": "http://evil.example:8000", "sec-fetch-site": "same-origin"}
    with server.client(headers=headers) as client:
        for method, path, _ in operations(server):
            answer = client.request(method, path)
            assert (answer.status_code == 421) == (path not in ("/health", "/livez", "/readyz")), path
        assert set(client.get("/health").json()) == {"status", "model", "languages", "cloning"}


def talk(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        received = b""
        try:
            connection.sendall(data)
            while piece := connection.recv(65536):
                received += piece
        except ConnectionError:
            pass  # closed upon what was still being sent
        return received


def test_a_refused_client_is_not_listened_to_for_ever(guarded: Serving) -> None:
    """The connection ends; else it could send without end what nobody reads."""
    head = b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = talk(guarded.port, head + b"5\r\nhello\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_without_a_key_nobody_comes_in_through_a_proxy(server: Serving) -> None:
    with server.client() as client:
        for headers in ({"x-forwarded-for": "192.0.2.1"}, {"x-forwarded-for": "127.0.0.1"}, {"via": "1.1 proxy"}):
            assert code_of(client.get("/v1/models", headers=headers)) == (403, "remote_access_refused")
        assert client.get("/v1/models").status_code == 200


def test_pages_of_other_sites_get_nothing(server: Serving) -> None:
    """A form or a script elsewhere, in a browser on this machine."""
    form = {"content-type": "text/plain", "origin": "http://evil.example", "sec-fetch-site": "cross-site"}
    with server.client() as client:
        answer = client.post("/synthesize?text=Hello&max_frames=2", headers=form)
        assert code_of(answer) == (403, "cross_site_refused")
        asked = {"origin": SITE, "access-control-request-method": "POST"}
        assert client.options("/v1/audio/speech", headers=asked).status_code == 403
        for each in (client.get("/v1/models"), answer):
            assert not [name for name in each.headers if name.startswith("access-control")]


def test_a_site_that_is_allowed_may_do_all_and_another_nothing(guarded: Serving) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    with guarded.client() as client:
        allowed = client.options("/v1/audio/speech", headers={"origin": SITE, **asked})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == SITE
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in allowed.headers
        answer = client.post("/v1/audio/speech", json=SPEECH, headers={"origin": SITE, **bearer(KEY_TWO)})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == SITE
        assert answer.headers["access-control-expose-headers"] == "*"
        for origin in ("https://evil.example", "https://app.example.evil.example", "null"):
            refused = client.options("/v1/audio/speech", headers={"origin": origin, **asked})
            assert code_of(refused) == (403, "cross_site_refused")
            assert "access-control-allow-origin" not in refused.headers


def test_a_unix_socket_is_this_machine(tts: VoxtralTTS, tmp_path: Path) -> None:
    app = create_app(ServerOptions(data_dir=tmp_path), tts)
    path = str(tmp_path / "socket")
    server = uvicorn.Server(uvicorn.Config(app, uds=path, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=path), base_url="http://localhost") as client:
            assert client.get("/livez").status_code == 200
            assert client.get("/livez", headers={"x-forwarded-for": "127.0.0.1"}).status_code == 403
    finally:
        server.should_exit = True
        thread.join()


# Logs.


def clip_of(text: str) -> str:
    """A voice, and a part of the file with the text behind it."""
    part = text.encode() * 2
    return base64.b64encode(spoken_file(1.5) + struct.pack("<4sI", b"note", len(part)) + part).decode()


def say_the_marker_everywhere(client: httpx2.Client, key: str | None = None) -> None:
    """Type the marker wherever somebody can type something."""
    if key is not None:
        client.headers.update(bearer(key))
    for text in (MARKER, f"{MARKER} 5 €"):
        client.post("/synthesize", params={"text": text, "language": "en", "max_frames": 2, MARKER: MARKER})
        client.post("/synthesize", data={"text": text, "max_frames": 2, "instructions": MARKER, MARKER: MARKER})
    client.post("/v1/audio/speech", json={**SPEECH, "input": MARKER, MARKER: {MARKER: MARKER}, "instructions": MARKER})
    for field in ("voice", "model", "language", "ref_audio", "response_format", "speed", "seed", "normalize"):
        client.post("/v1/audio/speech", json={**SPEECH, field: MARKER})
        client.post(f"/synthesize?{field}={MARKER}&text={MARKER}&max_frames=2")
    client.post("/v1/audio/speech", json={"input": MARKER * 20_000})
    client.post("/v1/audio/speech", content=f'{{"input": "{MARKER}'.encode(), headers={"content-type": MARKER})
    client.post("/v1/audio/speech", json={**SPEECH, "ref_audio": clip_of(MARKER)})
    client.post("/synthesize", data={"text": MARKER}, files={"reference": (MARKER, MARKER.encode(), f"audio/{MARKER}")})
    client.post(
        "/synthesize", content=MARKER.encode(), headers={"content-type": f"multipart/form-data; boundary={MARKER}"}
    )
    made = {"name": MARKER, "consent": MARKER, "ref_text": MARKER, "language": MARKER, "audio_sample": clip_of(MARKER)}
    client.post("/v1/audio/voices", json=made)
    client.post("/v1/audio/voices", json={**made, "language": "en"})
    for method in ("GET", "PATCH", "DELETE", "PUT", "OPTIONS"):
        client.request(method, f"/v1/audio/voices/{MARKER}", json={"name": MARKER, "description": MARKER})
        client.request(method, f"/{MARKER}/{MARKER}?{MARKER}")
    client.get(f"/v1/audio/voices/{MARKER}/sample")
    client.get(f"/v1/models/{MARKER}")
    client.get(
        "/health", headers={"user-agent": MARKER, "cookie": MARKER, "referer": MARKER, "x-openwebui-user": MARKER}
    )
    client.get("/health", headers={"x-request-id": f"{MARKER} {MARKER}", "accept": MARKER})
    client.get("/v1/models", headers={"authorization": f"Bearer {MARKER}", "host": MARKER})
    client.get("/v1/models", headers={"origin": f"http://{MARKER}"})
    for line in (f"GET /{MARKER} {MARKER}\r\n\r\n", f"GET /?{MARKER} HTTP/1.1\r\n{MARKER}\r\n\r\n"):
        talk(client.base_url.port or 0, line.encode())


@pytest.mark.parametrize("log_format", ["text", pytest.param("json", marks=pytest.mark.slow)])
def test_nothing_that_was_typed_is_in_the_log_of_the_program(log_format: str) -> None:
    environment = {"VOXTRAL_API_KEY": f"{KEY_ONE},{KEY_TWO}", "VOXTRAL_LOG_FORMAT": log_format}
    with program(environment=environment) as running, running.client() as client:
        assert client.get("/v1/models").status_code == 401
        say_the_marker_everywhere(client, KEY_ONE)
        client.get("/none", headers={"x-request-id": "the-last-one"})
        log = log_until(running, "the-last-one")
    assert "/v1/audio/voices/{voice_id}/sample" in log
    assert "client=key1" in log or '"client": "key1"' in log
    assert_unmarked(log)
    if log_format == "json":
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        assert {line["status"] for line in lines} >= {200, 400, 401, 404, 405, 413}


def test_nothing_that_was_typed_is_in_the_log_of_plain_uvicorn() -> None:
    """And its variables, too, close the door: a proxy may be believed, but not that it is this machine."""
    command = ["uvicorn", "voxtral.server:app", "--host", "127.0.0.1", "--port", "0"]
    with program(*command, environment={"FORWARDED_ALLOW_IPS": "*"}) as running, running.client() as client:
        for claim in ("127.0.0.1", "192.0.2.1", "::1, 127.0.0.1"):
            answer = client.get("/v1/models", headers={"x-forwarded-for": claim})
            assert code_of(answer) == (403, "remote_access_refused")
        wait_for(lambda: client.get("/readyz").status_code == 200)
        say_the_marker_everywhere(client)
        client.get("/livez?last")
        log = log_until(running, "/livez?...")
    assert '"POST /synthesize?... HTTP/1.1" 200' in log
    assert '"DELETE /... HTTP/1.1" 200' in log
    assert_unmarked(log)


def log_until(running: Program, last_words: str) -> str:
    wait_for(lambda: last_words in running.log.read_text())
    return running.log.read_text()


def assert_unmarked(log: str) -> None:
    found = [line for line in log.splitlines() if MARKER.lower() in line.lower() or KEY_ONE in line or KEY_TWO in line]
    assert found == []


def fail(*args: Any, **options: Any) -> Any:
    try:
        raise KeyError(f"{MARKER} {KEY_ONE}")
    except KeyError as error:
        raise ValueError(f"{MARKER} {KEY_ONE}") from error


def test_a_fault_of_ours_is_a_500_without_what_was_typed(
    server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(SpeechService, "check", fail)
    with server.client() as client:
        answer = client.post("/v1/audio/speech", json={"input": MARKER})
    assert code_of(answer) == (500, "internal_error")
    assert MARKER not in answer.text
    assert f"request {answer.headers['x-request-id']} failed: ValueError" in caplog.text
    assert_unmarked(said_by_the_server(caplog))


def test_a_fault_in_the_middle_breaks_the_stream_without_what_was_typed(
    server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(Utterance, "read", fail)
    with server.client() as client, pytest.raises(httpx2.RemoteProtocolError):
        client.post("/v1/audio/speech", json={**SPEECH, "input": MARKER})
    wait_for(lambda: "error=internal_error" in caplog.text)
    assert_unmarked(said_by_the_server(caplog))


def said_by_the_server(caplog: pytest.LogCaptureFixture) -> str:
    formatter = logging.Formatter("%(message)s")
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    return "\n".join(formatter.format(record) for record in ours)


# The command.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.4", "speech.example"])
def test_the_command_listens_to_others_only_with_a_key_or_where_it_is_meant_so(host: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="VOXTRAL_API_KEY"):
        serve._check_exposure(ServerOptions(host=host))
    (tmp_path / "keys").write_text(KEY_ONE)
    for opened in ({"insecure": True}, {"api_key": KEY_ONE}, {"api_key_file": tmp_path / "keys"}):
        serve._check_exposure(ServerOptions(host=host, **opened))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_the_command_listens_to_this_machine_without_a_key(host: str) -> None:
    serve._check_exposure(ServerOptions(host=host))
