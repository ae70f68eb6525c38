"""The door, driven without a socket, so that any peer and any header can be played."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import string
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.server.errors import HttpError
from voxtral.server.guard import Guard, RedactPaths, _host_name, _same_host
from voxtral.server.keys import Client, load_keys
from voxtral.server.metrics import Metrics
from voxtral.server.options import ServerOptions

KEY = "0123456789abcdef-first"
OTHER_KEY = "0123456789abcdef-second"
MARKER = "Open Sesame"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error["code"]


async def welcome(scope: Any, receive: Any, send: Any) -> None:
    """Stand behind the door."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def messages_of(
    *,
    app: Any = welcome,
    comes: Any = ({"type": "http.request"},),
    metrics: Metrics | None = None,
    kind: str = "http",
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    server: Any = ("127.0.0.1", 8000),
    host: str | None = "localhost:8000",
    headers: Any = (),
    path: str = "/any",
    method: str = "GET",
    **options: Any,
) -> list[Any]:
    """Ask the door, and return all that it sends; `comes` is what it receives."""
    chosen = ServerOptions(**options)
    guard = Guard(app, chosen, load_keys(chosen), metrics or Metrics(), ["/health"])
    pairs = [("host", host), *headers] if host is not None else list(headers)
    raw = [(name.encode(), value if isinstance(value, bytes) else value.encode("latin-1")) for name, value in pairs]
    scope = {"type": kind, "client": client, "server": server, "headers": raw, "path": path, "query_string": b""}
    if kind == "http":
        scope["method"] = method
    sent: list[Any] = []
    coming = iter(comes)

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    return sent


def ask(**request: Any) -> Answer:
    start, body = messages_of(**request)
    headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], headers, body["body"])


# Peers.


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::1%lo", "::ffff:127.0.0.1"])
def test_this_machine_may_ask_without_a_key(address: str) -> None:
    assert ask(client=(address, 1)).status == 204


@pytest.mark.parametrize(
    "address",
    ["192.168.1.9", "8.8.8.8", "0.0.0.0", "fe80::1%eth0", "::ffff:10.0.0.1", "::127.0.0.1", "localhost", "127.1", ""],
)
def test_another_machine_may_not(address: str) -> None:
    answer = ask(client=(address, 1))
    assert (answer.status, answer.code) == (403, "remote_access_refused")
    assert "VOXTRAL_API_KEY" in answer.body.decode()
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("opened", [{"insecure": True}, {"api_key": KEY, "headers": [("x-api-key", KEY)]}])
def test_another_machine_may_with_a_key_or_where_it_is_meant_so(opened: Any) -> None:
    assert ask(client=("192.168.1.9", 1), **opened).status == 204


@given(st.ip_addresses())
def test_only_loopback_addresses_are_this_machine(address: Any) -> None:
    """The rule once more, in the words of RFC 1122 and 4291."""
    bare = address.ipv4_mapped if isinstance(address, IPv6Address) and address.ipv4_mapped else address
    is_local = str(bare) == "::1" or (bare.version == 4 and bare.packed[0] == 127)
    assert ask(client=(str(address), 1)).status == (204 if is_local else 403)


@pytest.mark.parametrize(
    ("server", "status"), [(("/run/voxtral.sock", None), 204), (("127.0.0.1", 8000), 403), (None, 403)]
)
def test_only_a_unix_socket_may_leave_the_peer_unnamed(server: Any, status: int) -> None:
    assert ask(client=None, server=server).status == status


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_what_a_proxy_passes_on_is_not_this_machine(header: str) -> None:
    """Whom it comes from is a claim; FORWARDED_ALLOW_IPS=* would let anybody make it."""
    passed_on = [(header.lower(), "127.0.0.1")]
    assert ask(headers=passed_on).code == "remote_access_refused"
    assert ask(headers=passed_on, insecure=True).status == 204


def client_of(address: str, **options: Any) -> Client:
    """Ask from an address of which eight streams are a share, and return for whom that is taken."""
    seen: list[Client] = []

    async def note(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"]["visit"].client)

    chosen = ServerOptions(insecure=True, **options)
    scope = {"type": "http", "client": (address, 1), "server": None, "path": "/any", "query_string": b""}
    scope |= {"method": "GET", "headers": [(b"host", b"localhost")]}
    asyncio.run(Guard(note, chosen, load_keys(chosen), Metrics(), [], 8)(scope, None, None))  # type: ignore[arg-type]
    return seen[0]


def test_without_keys_each_address_is_a_client_with_a_share() -> None:
    one, other = client_of("192.0.2.1"), client_of("192.0.2.2")
    assert one.max_streams == other.max_streams == 8
    assert one != other
    assert one == client_of("::ffff:192.0.2.1")
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:2") != client_of("2001:db8:0:1::1")


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("127.0.0.1", {}),
        ("::1", {}),
        ("10.0.0.5", {"proxies": ("10.0.0.5",)}),
        ("10.0.0.5", {"proxies": ("192.0.2.1", "10.0.0.0/8")}),
        ("fd00::7", {"proxies": ("fd00::/8",)}),
    ],
)
def test_this_machine_and_named_proxies_have_no_share(address: str, options: Any) -> None:
    assert client_of(address, **options).max_streams is None


def test_more_headers_than_a_client_has_are_refused() -> None:
    many = [(f"x-{number}", "1") for number in range(126)]
    assert ask(headers=many).status == 204
    assert ask(headers=[*many, ("y", "1"), ("z", "1")]).code == "too_many_headers"


# The Host header.

HOSTS_OF_OURS = [
    "localhost",
    "LocalHost:8000",
    "localhost.",
    "localhost.:8000",
    "a.localhost",
    "127.0.0.1",
    "192.168.1.4:80",
    "[::1]",
    "[2001:DB8::1]:8000",
    "speech.example",
    "SPEECH.Example.:443",
]
HOSTS_OF_OTHERS = [
    "",
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "[::1].evil.example",
    "[::1]evil.example",
    "localhost@evil.example",
    "localhost:80@evil.example",
    "localhost:x",
    "localhost/",
    "evil.example\\.localhost",
    "evil.example#.localhost",
    "speech.example.evil.example",
    "notlocalhost",
    "localhost..",
    "::1",
    "[localhost]",
    "evil.example, localhost",
]


@pytest.mark.parametrize("host", HOSTS_OF_OURS)
def test_own_names_and_addresses_are_known(host: str) -> None:
    assert ask(host=host, allowed_hosts=("speech.example",)).status == 204


@pytest.mark.parametrize("host", HOSTS_OF_OTHERS)
def test_names_of_others_are_refused(host: str) -> None:
    """A page may let its own name point here ("DNS rebinding"); no browser lets it choose the Host header."""
    answer = ask(host=host, allowed_hosts=("speech.example",))
    assert (answer.status, answer.code) == (421, "unknown_host")


def test_a_request_without_host_is_refused() -> None:
    assert ask(host=None).code == "unknown_host"


NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,9}\.){0,3}[A-Za-z0-9]{1,5}", fullmatch=True)


@given(NAMES, st.sampled_from(["", "."]), st.none() | st.integers(0, 65535))
def test_a_name_is_found_in_every_form_of_it(name: str, dot: str, port: int | None) -> None:
    written = name + dot + ("" if port is None else f":{port}")
    assert _host_name(written) == name.lower()


@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_what_is_read_as_a_name_is_all_that_is_there(host: str) -> None:
    """Nothing may hide before or behind what is compared with the list."""
    name = _host_name(host)
    assert set(name) <= set(string.ascii_lowercase + string.digits + "._-:")
    rest = host.strip().lower().replace(name, "", 1)
    assert not name or re.fullmatch(r"(\[\])?\.?(:[0-9]*)?", rest)


# Pages of other sites.


@pytest.mark.parametrize("origin", ["http://localhost:8000", "https://localhost:8000", "HTTP://LOCALHOST:8000"])
def test_the_own_page_may_ask(origin: str) -> None:
    assert ask(method="POST", headers=[("origin", origin)]).status == 204


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:3000",
        "http://localhost",
        "https://127.0.0.1:8000",
        "null",
        "",
        "localhost:8000",
        "http://localhost:8000.evil.example",
        "http://localhost:8000@evil.example",
        "http://evil.example/localhost:8000",
        "http://[x",
        "http://[::1",
        "\xff",
    ],
)
def test_the_page_of_another_site_may_not(origin: str) -> None:
    answer = ask(method="POST", headers=[("origin", origin)])
    assert (answer.status, answer.code) == (403, "cross_site_refused")


def test_a_site_that_was_allowed_may_ask_and_no_other() -> None:
    allowed = {"allowed_origins": ("https://app.example",)}
    assert ask(headers=[("origin", "https://app.example")], **allowed).status == 204
    for origin in ("http://app.example", "https://app.example:8443", "https://a.app.example", "https://app.example.x"):
        assert ask(headers=[("origin", origin)], **allowed).code == "cross_site_refused"


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_page_is_the_own_one_only_by_its_whole_address(origin: str, host: str) -> None:
    assert not _same_host(origin, host) or origin.lower().endswith("://" + host.strip().lower())


@pytest.mark.parametrize(
    ("site", "mode", "method", "status"),
    [
        ("same-origin", "cors", "POST", 204),
        ("none", "navigate", "GET", 204),
        ("cross-site", "navigate", "GET", 204),  # a link leads here
        ("cross-site", "navigate", "POST", 403),  # a form elsewhere
        ("cross-site", "no-cors", "GET", 403),  # an image or a sound elsewhere
        ("same-site", "no-cors", "GET", 403),  # another port of this machine
        ("same-site", "cors", "POST", 403),
    ],
)
def test_browsers_tell_where_a_request_without_origin_comes_from(
    site: str, mode: str, method: str, status: int
) -> None:
    headers = [("sec-fetch-site", site), ("sec-fetch-mode", mode)]
    assert ask(method=method, headers=headers).status == status


# Keys.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", f"Bearer {KEY}"),
        ("authorization", f"bearer  {KEY} "),
        ("authorization", f"Bearer {OTHER_KEY}"),
        ("x-api-key", KEY),
        ("xi-api-key", KEY),
    ],
)
def test_a_key_opens_wherever_clients_send_it(name: str, value: str) -> None:
    assert ask(headers=[(name, value)], api_key=f"{KEY},{OTHER_KEY}").status == 204


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", ""),
        ("authorization", "Bearer"),
        ("authorization", "Bearer "),
        ("authorization", KEY),
        ("authorization", f"Basic {KEY}"),
        ("authorization", f"Bearer {KEY}x"),
        ("authorization", f"Bearer {KEY[:-1]}"),
        ("authorization", f"Bearer {KEY},{OTHER_KEY}"),
        ("authorization", b"Bearer \xff\xfe\xed\xa0\x80"),
        ("x-api-key", ""),
        ("x-api-key", b"\xf0\x9f\x98\x80"),
        ("cookie", KEY),
    ],
)
def test_nothing_else_opens(name: str, value: Any) -> None:
    answer = ask(headers=[(name, value)], api_key=f"{KEY},{OTHER_KEY}")
    assert (answer.status, answer.code) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_with_keys_this_machine_needs_one_too() -> None:
    assert ask(api_key=KEY).status == 401
    assert ask(api_key=KEY, insecure=True).status == 401


def test_a_wrong_bearer_is_not_mended_by_another_header() -> None:
    headers = [("authorization", "Bearer wrong"), ("x-api-key", KEY)]
    assert ask(headers=headers, api_key=KEY).status == 401


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 204), ("/health/", 401), ("//health", 401), ("/HEALTH", 401), ("/healthz", 401)]
)
def test_only_the_paths_that_are_named_public_need_no_key(path: str, status: int) -> None:
    assert ask(path=path, api_key=KEY).status == status


def test_a_browser_asks_without_the_key_whether_it_may_send_it() -> None:
    allowed = {"api_key": KEY, "allowed_origins": ("https://app.example",), "method": "OPTIONS"}
    headers = [("origin", "https://app.example"), ("access-control-request-method", "POST")]
    assert ask(headers=headers, **allowed).status == 204
    assert ask(headers=headers[:1], **allowed).status == 401


@pytest.mark.parametrize("presented", [KEY, OTHER_KEY, "nobody's"])
def test_every_key_is_compared_whole_whichever_fits(monkeypatch: pytest.MonkeyPatch, presented: str) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def note(a: Any, b: Any) -> bool:
        compared.append((a, b))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", note)
    ask(headers=[("x-api-key", presented)], api_key=f"{KEY},{OTHER_KEY},{KEY}-third")
    assert len(compared) == 3
    assert {len(part) for pair in compared for part in pair} == {32}


# WebSockets.


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"client": ("8.8.8.8", 1)}, "remote_access_refused"),
        ({"host": "evil.example"}, "unknown_host"),
        ({"headers": [("origin", "http://evil.example")]}, "cross_site_refused"),
        ({"headers": [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "websocket")]}, "cross_site_refused"),
        ({"api_key": KEY}, "invalid_api_key"),
    ],
)
def test_a_websocket_is_refused_by_the_same_rules(request_: Any, code: str) -> None:
    sent = messages_of(kind="websocket", **request_)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": code}]


def play(*steps: Any) -> Any:
    """Make a websocket application that sends these messages, receives where one is None, and raises errors."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            if step is None:
                await receive()
            else:
                await send(step)

    return app


ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
LEFT = {"type": "websocket.disconnect"}
DENY = {"type": "websocket.http.response.start", "status": 429, "headers": []}
DENIED = {"type": "websocket.http.response.body", "body": b"12345"}
TEXT = {"type": "websocket.send", "text": "é"}
DATA = {"type": "websocket.send", "bytes": b"123"}
REFUSAL = HttpError(404, MARKER, code="model_not_found")


@pytest.mark.parametrize(
    ("app", "comes", "noted"),
    [
        (play(ACCEPT, TEXT, DATA, {**CLOSE, "code": 4000}), [], (101, 4000, 5)),
        (play(ACCEPT, CLOSE), [], (101, 1000, 0)),
        (play(ACCEPT, None), [{**LEFT, "code": 1001}], (101, 1001, 0)),
        (play(ACCEPT, None), [LEFT], (101, 1005, 0)),
        (play(ACCEPT, {**CLOSE, "code": 1000}, None), [{**LEFT, "code": 1006}], (101, 1000, 0)),
        (play(ACCEPT), [], (101, None, 0)),
        (play(CLOSE), [], (403, None, 0)),
        (play(DENY, DENIED), [], (429, None, 5)),
        (play(REFUSAL), [], (404, None, 0)),
        (play(ValueError(MARKER)), [], (500, None, 0)),
        (play(ACCEPT, REFUSAL), [], (101, 1008, 0)),
        (play(None), [{**LEFT, "code": 1006}], (0, 1006, 0)),
    ],
)
def test_a_websocket_is_noted_with_its_status_and_how_it_was_closed(
    app: Any, comes: Any, noted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    messages_of(kind="websocket", app=app, comes=comes, metrics=metrics, path=f"/{MARKER}", log_format="json")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "voxtral.server.access"]
    facts = json.loads(line)
    assert (facts["status"], facts.get("close_code"), facts["bytes"]) == noted
    assert (facts["method"], facts["route"], facts["client"]) == ("WEBSOCKET", "(none)", "local")
    assert MARKER not in caplog.text
    assert f'voxtral_responses_total{{route="(none)",status="{noted[0]}"}} 1.0' in metrics.render().decode()


@pytest.mark.parametrize(
    ("request_", "status"), [({"api_key": KEY}, 401), ({"host": "x.example"}, 421), ({"client": ("8.8.8.8", 1)}, 403)]
)
def test_a_websocket_that_is_refused_is_noted_with_the_status_that_a_request_would_get(
    request_: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    messages_of(kind="websocket", **request_)
    assert f"status={status} seconds" in caplog.text


@pytest.mark.parametrize("accepted", [(), (ACCEPT,)])
def test_a_websocket_that_fails_is_closed_without_its_message(accepted: Any, caplog: pytest.LogCaptureFixture) -> None:
    sent = messages_of(kind="websocket", app=play(*accepted, ValueError(MARKER)))
    assert sent == [*accepted, {"type": "websocket.close", "code": 1008, "reason": "internal_error"}]
    assert MARKER not in caplog.text


@pytest.mark.parametrize("steps", [(CLOSE,), (ACCEPT, CLOSE), (ACCEPT, None), (DENY,), (None,)])
def test_a_websocket_that_fails_when_it_is_over_is_not_closed_again(
    steps: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError) as caught:
        messages_of(kind="websocket", app=play(*steps, ValueError(MARKER)), comes=[LEFT])
    assert MARKER not in str(caught.value)
    assert MARKER not in caplog.text


def test_what_is_no_request_passes() -> None:
    async def started(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})

    assert messages_of(kind="lifespan", app=started) == [{"type": "lifespan.startup.complete"}]


# What every answer has, and what the log has not.


async def fails(scope: Any, receive: Any, send: Any) -> None:
    try:
        raise ValueError(MARKER)
    except ValueError as error:
        raise KeyError(MARKER) from error


async def fails_late(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await fails(scope, receive, send)


async def refuses(scope: Any, receive: Any, send: Any) -> None:
    raise HttpError(413, "too much", code="body_too_large")


@pytest.mark.parametrize(
    ("request_", "status"),
    [({}, 204), ({"app": fails}, 500), ({"app": refuses}, 413), ({"host": "x.example"}, 421), ({"api_key": KEY}, 401)],
)
def test_security_headers_and_an_id_are_on_every_answer(request_: Any, status: int) -> None:
    answer = ask(**request_)
    assert answer.status == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch("req_[0-9a-f]{16}", answer.headers["x-request-id"])


@pytest.mark.parametrize("given_id", ["a", "01J-abc_DEF.9", "x" * 64])
def test_a_harmless_request_id_is_kept(given_id: str) -> None:
    assert ask(headers=[("x-request-id", given_id)]).headers["x-request-id"] == given_id


@pytest.mark.parametrize(
    "given_id", ["", "x" * 65, "a b", "a=b", "a\nstatus=200", "a\r\nX-Evil: 1", "é", "a\x00", "a\n"]
)
def test_any_other_request_id_is_replaced(given_id: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answer = ask(headers=[("x-request-id", given_id)])
    assert answer.headers["x-request-id"].startswith("req_")
    assert not given_id.strip() or given_id not in caplog.text.replace("request_id", "")


def test_a_failure_before_the_answer_is_one_of_ours_and_keeps_its_message(caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(app=fails)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert MARKER not in answer.body.decode()
    assert "in fails" in caplog.text, "the log must say where"
    assert MARKER not in caplog.text


def test_a_failure_after_the_start_breaks_the_answer_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    """What is raised here is written down by uvicorn, with every message that it quotes."""
    with pytest.raises(RuntimeError) as caught:
        ask(app=fails_late)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=caught.value)
    assert "in fails_late" in caplog.text
    assert MARKER not in caplog.text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_log_has_neither_path_nor_query_nor_key(log_format: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    headers = [("authorization", f"Bearer {KEY}"), ("user-agent", MARKER), ("cookie", MARKER)]
    ask(path=f"/{MARKER}", headers=headers, api_key=KEY, log_format=log_format)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "voxtral.server.access"]
    assert "key1" in line
    assert KEY not in caplog.text
    assert MARKER not in caplog.text
    if log_format == "json":
        assert json.loads(line)["status"] == 204


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/synthesize", "/synthesize"),
        ("/synthesize?text=Sesame", "/synthesize?..."),
        ("/synthesize??Sesame", "/synthesize?..."),
        ("/synthesize?a=%3F&text=Sesame", "/synthesize?..."),
        ("/v1/audio/voices/Sesame", "/..."),
        ("/Sesame?Sesame", "/...?..."),
        ("//synthesize", "/..."),
    ],
)
def test_uvicorns_own_access_log_loses_what_somebody_typed(path: str, shown: str) -> None:
    args = ("127.0.0.1:1", "POST", path, "1.1", 200)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', args, None)
    redact = RedactPaths(["/synthesize"])
    assert redact.filter(record)
    assert redact.filter(record), "two applications in one process do no harm"
    assert record.getMessage() == f'127.0.0.1:1 - "POST {shown} HTTP/1.1" 200'
