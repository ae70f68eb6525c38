"""Bodies of requests: counted and timed while they arrive, and read as nothing but values."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from voxtral.server.body import BodyLimit, Upload, read_fields, read_json
from voxtral.server.errors import HttpError
from voxtral.server.options import ServerOptions

# The smallest upload that can be set, and so the smallest body.
SMALL = ServerOptions(max_upload_bytes=1024, max_chars=10, body_timeout_s=0.1)
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"


class Sender:
    """A client that sends pieces, and counts how many were taken."""

    def __init__(self, pieces: Iterable[bytes | None], *, is_whole: bool = True) -> None:
        self.num_taken = 0
        self._pieces = iter(pieces)
        self._is_whole = is_whole

    async def receive(self) -> Any:
        self.num_taken += 1
        piece = next(self._pieces, None)
        if piece is None:
            if not self._is_whole:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": piece, "more_body": True}


async def _read_all(scope: Any, receive: Any, send: Any) -> None:
    await Request(scope, receive).body()


def take(limit: BodyLimit, sender: Sender, **headers: str) -> None:
    """Let the application read what a client sends."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "headers": raw}

    async def send(message: Any) -> None:
        raise AssertionError("nothing is sent here")

    asyncio.run(limit(scope, sender.receive, send))


@pytest.mark.parametrize("kind", [JSON, FORM, MULTIPART])
def test_a_body_without_length_is_counted_and_not_read_to_its_end(kind: str) -> None:
    limit = BodyLimit(_read_all, SMALL)
    sender = Sender(b"x" * 1000 for _ in range(10**6))
    with pytest.raises(HttpError) as caught:
        take(limit, sender, content_type=kind)
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")
    assert sender.num_taken <= limit.max_bytes // 1000 + 1
    assert (caught.value.headers or {})["Connection"] == "close"


@pytest.mark.parametrize("length", ["100000000", "9" * 19, "9" * 5000])
def test_a_length_that_is_too_large_is_refused_before_anything_is_read(length: str) -> None:
    sender = Sender([b"x"])
    with pytest.raises(HttpError) as caught:
        take(BodyLimit(_read_all, SMALL), sender, content_length=length)
    assert caught.value.status_code == 413
    assert sender.num_taken == 0


@pytest.mark.parametrize("length", ["", "0", "-5", "many", "٣"])
def test_a_length_that_lies_changes_nothing_about_what_is_counted(length: str) -> None:
    sender = Sender(b"x" * 10_000 for _ in range(10**4))
    with pytest.raises(HttpError) as caught:
        take(BodyLimit(_read_all, SMALL), sender, content_length=length)
    assert caught.value.status_code == 413


def test_a_form_without_clip_may_be_as_long_as_its_text_and_no_longer() -> None:
    limit = BodyLimit(_read_all, ServerOptions(max_chars=10))
    size = limit.max_form_bytes
    assert size < limit.max_bytes
    take(limit, Sender([b"x" * size]), content_type=FORM)
    take(limit, Sender([b"x" * (size + 1)]), content_type=JSON)
    for kind in (FORM, "Application/X-WWW-Form-Urlencoded ; charset=utf-8"):
        with pytest.raises(HttpError, match=str(size)):
            take(limit, Sender([b"x" * (size + 1)]), content_type=kind)


@pytest.mark.parametrize("pieces", [[], [b"x"]])
def test_a_body_that_does_not_end_is_given_up(pieces: list[bytes]) -> None:
    began = time.monotonic()
    with pytest.raises(HttpError) as caught:
        take(BodyLimit(_read_all, SMALL), Sender(pieces, is_whole=False))
    assert (caught.value.status_code, caught.value.code) == (408, "body_too_slow")
    assert (caught.value.headers or {})["Connection"] == "close"
    assert SMALL.body_timeout_s <= time.monotonic() - began < 5


@pytest.mark.parametrize("num_rounds", range(6))
def test_a_cancellation_that_comes_together_with_a_part_of_the_body_is_not_lost(num_rounds: int) -> None:
    """Before Python 3.12 asyncio.wait_for takes the part and forgets that the task was cancelled."""

    async def play() -> None:
        arrived: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done: list[str] = []

        async def receive() -> Any:
            return await arrived

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            done.append("read")
            await asyncio.sleep(60)
            done.append("went on")

        async def send(message: Any) -> None:
            raise AssertionError("nothing is sent here")

        limit = BodyLimit(app, ServerOptions())
        task = asyncio.create_task(limit({"type": "http", "method": "POST", "headers": []}, receive, send))
        for _ in range(3):
            await asyncio.sleep(0)
        arrived.set_result({"type": "http.request", "body": b"x", "more_body": True})
        for _ in range(num_rounds):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled(), done

    asyncio.run(play())


def test_drops_that_keep_coming_do_not_move_the_deadline() -> None:
    class Dripping(Sender):
        async def receive(self) -> Any:
            await asyncio.sleep(0.01)
            return await super().receive()

    with pytest.raises(HttpError) as caught:
        take(BodyLimit(_read_all, SMALL), Dripping(b"x" for _ in range(10**4)))
    assert caught.value.status_code == 408


def test_after_the_body_there_is_no_deadline() -> None:
    """A stream that is being spoken waits for its client's departure."""

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.sleep(0.15)
        assert (await receive())["type"] == "http.request"

    take(BodyLimit(waits, SMALL), Sender([]))


def test_all_bodies_together_have_a_bound_and_are_counted_back() -> None:
    limit = BodyLimit(_read_all, replace(SMALL, body_timeout_s=30))
    size = limit.max_bytes - 1

    async def read_many(num_bodies: int) -> list[Any]:
        num_done = 0
        are_all_read = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            nonlocal num_done
            try:
                await Request(scope, receive).body()
            finally:
                num_done += 1
                if num_done == num_bodies:
                    are_all_read.set()
            await are_all_read.wait()

        limit._app = waits

        async def one() -> None:
            await limit({"type": "http", "method": "POST", "headers": []}, Sender([b"x" * size]).receive, None)  # type: ignore[arg-type]

        tasks = [asyncio.create_task(one()) for _ in range(num_bodies)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    for _ in range(2):
        results = asyncio.run(read_many(20))
        refused = [result for result in results if isinstance(result, HttpError)]
        assert results.count(None) == 16
        assert {(error.status_code, error.code) for error in refused} == {(503, "server_busy")}
    assert asyncio.run(read_many(16)) == [None] * 16


def outcome_of(read: Callable[[], Any]) -> tuple[Any, HttpError | None]:
    """Return what was read, or why it was refused; anything else is raised."""
    try:
        return read(), None
    except HttpError as error:
        return None, error


# JSON.

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.booleans())
def test_every_object_is_read_as_it_was_written(value: dict[str, Any], is_ascii: bool) -> None:
    written = json.dumps(value, ensure_ascii=is_ascii)
    try:
        data = written.encode()
    except UnicodeEncodeError:
        return
    assert read_json(data) == value
    assert read_json(b"\xef\xbb\xbf" + data) == value


@given(st.binary(max_size=80) | st.text(st.sampled_from('{}[]",:\\u0d8 1eE-+.nNaIfty'), max_size=80).map(str.encode))
def test_anything_else_is_refused_and_nothing_worse(data: bytes) -> None:
    value, refusal = outcome_of(lambda: read_json(data))
    assert isinstance(value, dict) if refusal is None else (refusal.status_code, refusal.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 10_000,
        b'{"a":' * 10_000,
        b"[1, 2]",
        b'"text"',
        b'{"a": "\xed\xa0\x80"}',
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_what_is_no_plain_object_is_refused(data: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        read_json(data)
    assert (caught.value.status_code, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":[' + b"[]," * 3_000_000 + b"1]}",
        b'{"a":[' + b"{}," * 3_000_000 + b"1]}",
        b'{"a":[' + b'"",' * 3_000_000 + b"1]}",
        b'{"a":[' + b"1.1," * 2_000_000 + b"1]}",
        b"{" + b'"\\"":1,' * 1_000_000 + b'"a":1}',
        b'"' * 10_000_000,
        b'{"a":"' + b'\\"' * 5_000_000,
        b"\\" * 10_000_000,
    ],
    ids=["lists", "objects", "strings", "numbers", "names", "quotes", "open", "backslashes"],
)
def test_a_body_of_many_values_costs_neither_time_nor_memory(data: bytes) -> None:
    """Parsed, the first of these would be 300 MB of empty lists and stop every stream for a second."""
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(HttpError) as caught:
            read_json(data)
        assert caught.value.code == "invalid_json"
        assert time.process_time() - began < 1
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data) + 2**20
    finally:
        tracemalloc.stop()


@given(st.text('"\\ {}[],:\nx', max_size=50))
def test_long_strings_are_no_crowd_whatever_is_in_them(piece: str) -> None:
    text = piece * (200_000 // max(len(piece), 1))
    assert read_json(json.dumps({"input": text}).encode()) == {"input": text}


# Forms.


def fields_of(data: bytes, kind: str) -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        return await read_fields(
            Request(
                {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]},
                Sender([data]).receive,
            )
        )

    return asyncio.run(read())


def part(name: str, data: bytes, more: str = "") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


def test_forms_give_texts_and_files() -> None:
    assert fields_of(b"text=Gr%C3%BC%C3%9Fe+dich&text=zwei&empty=", FORM) == {"text": "zwei", "empty": ""}
    body = part("text", "Grüße".encode()) + part("clip", b"\0\1", '; filename="../../a\\0.wav"') + b"--x--\r\n"
    assert fields_of(body, MULTIPART) == {"text": "Grüße", "clip": Upload(b"\0\1", "")}
    assert fields_of(b"", JSON) == {}


def test_an_upload_never_reaches_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def roll_over(file: Any) -> None:
        raise AssertionError("the upload was about to be written to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", roll_over)
    clip = bytes(12_000_000)
    fields = fields_of(part("clip", clip, '; filename="a.wav"') + b"--x--\r\n", MULTIPART)
    assert fields == {"clip": Upload(clip, "")}


@pytest.mark.parametrize(
    "charset", ["undefined", "punycode", "idna", "hex", "utf-16", "unicode_escape", "latin-1", "x"]
)
def test_a_form_cannot_choose_among_pythons_codecs(charset: str) -> None:
    """ "undefined" and "idna" raise what Starlette does not expect, "punycode" takes quadratic time."""
    body = part("text", b"a" * 200_000 + b"-" + b"9a" * 100_000) + b"--x--\r\n"
    with pytest.raises(HttpError) as caught:
        fields_of(body, f"{MULTIPART}; charset={charset}")
    assert (caught.value.status_code, caught.value.code) == (400, "invalid_form")
    assert fields_of(part("text", b"a") + b"--x--\r\n", f"{MULTIPART}; charset=UTF-8") == {"text": "a"}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"&".join(b"a%d=1" % number for number in range(100)), FORM),
        (b"text=\xff", FORM),
        (b"text=%FF", FORM),
        (b"text=Zo%EB", FORM),
        (b"%E9=1", FORM),
        (b"text=%ED%A0%80", FORM),
        (part("text", "Zoë".encode("latin-1")) + b"--x--\r\n", MULTIPART),
        (part("text", b"\xed\xa0\x80") + b"--x--\r\n", MULTIPART),
        (part("clip", b"1", '; filename="NAME"').replace(b"NAME", b"Zo\xeb.wav") + b"--x--\r\n", MULTIPART),
        (part("NAME", b"1").replace(b"NAME", b"Zo\xeb") + b"--x--\r\n", MULTIPART),
        (b"".join(part(f"a{number}", b"1") for number in range(100)) + b"--x--\r\n", MULTIPART),
        (part("a", b"1", '; filename="a"') + part("b", b"1", '; filename="b"') + b"--x--\r\n", MULTIPART),
        (b"--x\r\n" + b"X-Header: 1\r\n" * 10_000 + part("a", b"1"), MULTIPART),
        (b"--x\r\nX-Header: " + b"1" * 1_000_000 + b"\r\n\r\n1\r\n--x--\r\n", MULTIPART),
        (b"--x\r\n\r\nno name\r\n--x--\r\n", MULTIPART),
        (b"--y\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--y--\r\n", MULTIPART),
        (part("a", b"1"), "multipart/form-data"),
        (part("a", b"1"), "multipart/form-data; boundary="),
        (part("a", b"1"), "multipart/form-data; boundary=" + "x" * 5000),
        (part("a", b"1") + b"--x--\r\n", "multipart/form-data; boundary*0=x"),
        (b"no form at all", MULTIPART),
        (b"--x", MULTIPART),
        (part("a", b"1"), MULTIPART),
        (part("a", b"1") + part("clip", b"1", '; filename="b"')[:-5], MULTIPART),
    ],
)
def test_a_malformed_form_is_refused_and_nothing_worse(data: bytes, kind: str) -> None:
    with pytest.raises(HttpError) as caught:
        fields_of(data, kind)
    assert (caught.value.status_code, caught.value.code) == (400, "invalid_form")


def test_json_in_another_charset_is_refused() -> None:
    with pytest.raises(HttpError) as caught:
        read_json(b'{"a": "Zo\xeb"}')
    assert (caught.value.status_code, caught.value.code) == (400, "invalid_json")


@given(st.binary(max_size=300), st.sampled_from([MULTIPART, FORM, JSON]), st.booleans())
def test_any_bytes_are_fields_or_refused(data: bytes, kind: str, is_framed: bool) -> None:
    if is_framed and kind == MULTIPART:
        data = b"--x\r\nContent-Disposition: " + data + b"\r\n\r\n" + data + b"\r\n--x--\r\n"
    fields, refusal = outcome_of(lambda: fields_of(data, kind))
    if refusal is None:
        assert all(isinstance(value, (str, Upload)) or kind == JSON for value in fields.values())
    else:
        assert refusal.status_code == 400


@pytest.mark.parametrize("kind", ["text/plain", "audio/wav", "application/octet-stream", "multipart/mixed", "a/b; c=d"])
def test_other_kinds_of_body_are_named_and_refused(kind: str) -> None:
    with pytest.raises(HttpError) as caught:
        fields_of(b"x", kind)
    assert (caught.value.status_code, caught.value.code) == (415, "unsupported_media_type")
