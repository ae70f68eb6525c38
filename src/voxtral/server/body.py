"""Reading the bodies of requests: counted while they arrive, timed, never on disk, and never at the cost of others.

`BodyLimit` wraps the application, so that nothing in it can read more than is allowed; `read_fields` turns a
form or a JSON object into plain values. What takes long to decode is decoded in a thread, one body after the other, by
calls that are short each: a call into C keeps the event loop out for as long as it lasts, in whatever thread it is.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voxtral.errors import quoted
from voxtral.server.errors import HttpError, busy, client_gone
from voxtral.server.options import ServerOptions

# A character in JSON is at most \uXXXX twice, base64 makes 4 bytes of 3; the rest is for the other fields.
_BYTES_PER_CHAR = 12
_OTHER_BYTES = 65536

# Bodies in memory at one time, of all requests together, in units of the largest one.
_BODIES_AT_ONCE = 16

_MAX_FIELDS = 64
_MAX_JSON_STRINGS = 4096

_URLENCODED = "application/x-www-form-urlencoded"

# A part of a string in JSON, or nothing at its end. It never goes back, and stops after a megabyte or 4096 escapes.
_JSON_STRING_PART = re.compile(rb'(?:[^"\\]{1,256}+|\\.){0,4096}+', re.DOTALL)

# Stands for the longest value of a JSON object while the rest is parsed.
_LONG_VALUE = "\0 the long value"

# What is decoded on the event loop itself, and how much a thread decodes in one call, in bytes.
_MAX_AT_ONCE = 4096
_PIECE = 2**13

T = TypeVar("T")


@dataclass(frozen=True)
class Upload:
    """A file that came with a form."""

    data: bytes
    content_type: str


@dataclass(frozen=True)
class Decoding:
    """How the bodies of an application are decoded; found as scope["state"]["decoding"].

    Attributes:
        thread: that decodes, one body at a time; None takes those of the event loop.
        max_text_bytes: of a body without its clip.
    """

    thread: Executor | None = None
    max_text_bytes: int = ServerOptions.max_chars * _BYTES_PER_CHAR + _OTHER_BYTES

    @classmethod
    def of(cls, request: HTTPConnection) -> Decoding:
        """Find that of a request, or of a web socket."""
        return request.scope.get("state", {}).get("decoding") or cls()

    async def run(self, function: Callable[[], T], num_bytes: int) -> T:
        """Decode so many bytes: here, or in the thread if that may take long."""
        if num_bytes <= _MAX_AT_ONCE:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self.thread, function)


class BodyLimit:
    """Middleware that bounds the size of each body, of all bodies together, and the time that one may take.

    What breaks a bound is raised from `receive` as an HttpError, inside whatever was reading; so is the departure of a
    client in the middle of its body.
    """

    def __init__(self, app: ASGIApp, options: ServerOptions) -> None:
        self._app = app
        self._timeout_s = options.body_timeout_s
        # A urlencoded form holds no clip, and a large one would take long to decode.
        self.max_form_bytes = options.max_chars * _BYTES_PER_CHAR + _OTHER_BYTES
        self.max_bytes = options.max_upload_bytes * 4 // 3 + self.max_form_bytes
        self._decoding = Decoding(ThreadPoolExecutor(1, thread_name_prefix="voxtral-body"), self.max_form_bytes)
        self._num_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose body stays within its bounds."""
        if scope["type"] in ("http", "websocket"):
            scope.setdefault("state", {})["decoding"] = self._decoding
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        max_bytes = self.max_form_bytes if _kind_of(headers) == _URLENCODED else self.max_bytes
        body = _Body(self, receive, max_bytes, time.monotonic() + self._timeout_s)
        try:
            _check_query(scope.get("query_string", b""))
            _check_coding(headers.get("content-encoding", ""))
            self._check_length(headers.get("content-length", ""), max_bytes)
            await self._app(scope, body.receive, send)
        finally:
            self._num_bytes -= body.num_bytes

    def _check_length(self, length: str, max_bytes: int) -> None:
        # What is too long to be a number is too large as well.
        if len(length) > 20 or (length.isdecimal() and int(length) > max_bytes):
            raise self._too_large(f"{length[:20]} bytes", max_bytes)

    def count(self, body: _Body, num_bytes: int) -> None:
        """Take note of bytes that have arrived."""
        body.num_bytes += num_bytes
        self._num_bytes += num_bytes
        if body.num_bytes > body.max_bytes:
            raise self._too_large(f"more than {body.max_bytes} bytes", body.max_bytes)
        if self._num_bytes > _BODIES_AT_ONCE * self.max_bytes:
            raise busy("too many large requests are being received", code="server_busy")

    def _too_large(self, got: str, max_bytes: int) -> HttpError:
        return HttpError(
            413,
            f"the body has {got}; this server takes {max_bytes}; send less",
            code="body_too_large",
            headers={"Connection": "close"},
        )

    async def in_time(self, receive: Receive, deadline: float) -> Message:
        """Wait for the next part of a body."""
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the message.
            async with asyncio.timeout(deadline - time.monotonic()):
                return await receive()
        except TimeoutError:
            raise HttpError(
                408,
                f"the body was not complete within {self._timeout_s:g} s; send it faster",
                code="body_too_slow",
                headers={"Connection": "close"},
            ) from None


def _check_coding(coding: str) -> None:
    """Refuse a body that was packed, which would else be read as damaged."""
    if coding.strip().lower() not in ("", "identity"):
        raise HttpError(
            415,
            f"the body is sent with Content-Encoding {quoted(coding)}; bodies are read as they are; send it unpacked",
            code="unsupported_content_encoding",
        )


def _check_query(query: bytes) -> None:
    if query.count(b"&") >= _MAX_FIELDS:
        raise HttpError(
            400, f"the query has more than {_MAX_FIELDS} fields; leave out what has no effect", code="invalid_request"
        )


class _Body:
    """The body of one request."""

    def __init__(self, limit: BodyLimit, receive: Receive, max_bytes: int, deadline: float) -> None:
        self.num_bytes = 0
        self.max_bytes = max_bytes
        self._limit = limit
        self._receive = receive
        self._deadline = deadline
        self._is_complete = False

    async def receive(self) -> Message:
        # After the body there is only the end of the connection to wait for, and that has no deadline.
        if self._is_complete:
            return await self._receive()
        message = await self._limit.in_time(self._receive, self._deadline)
        if message["type"] == "http.disconnect":
            raise client_gone()
        self._is_complete = not message.get("more_body", False)
        self._limit.count(self, len(message.get("body", b"")))
        return message


class _MemoryFormParser(MultiPartParser):
    # Nothing that was sent along is written to disk, not even to an unnamed file; BodyLimit bounds the size.
    spool_max_size = 2**62

    _is_whole = False

    def on_end(self) -> None:
        """Take note of the last boundary."""
        self._is_whole = True

    def on_header_end(self) -> None:
        """Refuse names that are not UTF-8, which would be read as another charset."""
        _check_utf8(self._current_partial_header_value)
        super().on_header_end()

    def on_part_end(self) -> None:
        """Refuse a text that is not UTF-8; the content of a file is its own."""
        if self._current_part.file is None:
            _check_utf8(self._current_part.data)
        super().on_part_end()

    async def parse(self) -> FormData:
        """Read the form; one that is cut short would be without its last part."""
        form = await super().parse()
        if not self._is_whole:
            for file in self._files_to_close_on_error:
                file.close()
            raise MultiPartException("its end is missing")
        return form


def _check_utf8(data: bytes | bytearray) -> None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MultiPartException("its names and texts must be UTF-8") from error


async def read_fields(request: Request) -> dict[str, Any]:
    """Read a body as named values: a JSON object, or a form, whose files become Uploads. No body has no fields.

    Raises:
        HttpError: 400, it is malformed; 415, it is of another kind.
    """
    kind = _kind_of(request.headers)
    if kind == "multipart/form-data":
        return await _read_multipart(request)
    data = await request.body()
    if not data:
        return {}
    decoding = Decoding.of(request)
    if kind == _URLENCODED:
        return await decoding.run(lambda: _read_urlencoded(data), len(data))
    if kind not in ("application/json", ""):
        raise HttpError(
            415,
            f"the body is {quoted(kind)}; it must be application/json, multipart/form-data or a urlencoded form",
            code="unsupported_media_type",
        )
    return await decoding.run(lambda: read_json(data, decoding.max_text_bytes), len(data))


def _kind_of(headers: Headers) -> str:
    return headers.get("content-type", "").split(";")[0].strip().lower()


def read_json(data: bytes, max_text_bytes: int = Decoding.max_text_bytes, what: str = "the body") -> dict[str, Any]:
    """Read a JSON object.

    Args:
        data: of a body, or of a message to a socket.
        max_text_bytes: of one without its longest value; in a larger one that can only be a clip in base64.
        what: it is, for what is said of it.

    Raises:
        HttpError: 400, it is none, or has too many values; 413, it is too large for one without a clip.
    """
    start, end = _find_longest_string(data, what)
    long_value = None
    if len(data) > max_text_bytes:
        long_value = _read_long_value(memoryview(data)[start + 1 : end - 1], max_text_bytes, what)
        data = data[:start] + json.dumps(_LONG_VALUE).encode() + data[end:]
        if len(data) > max_text_bytes:
            raise _too_much_text(f"{what} has {len(data)} bytes besides its longest value", max_text_bytes)
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise _no_object(f"{what} is not UTF-8, in which JSON is sent") from error
    except (ValueError, RecursionError) as error:
        raise _no_object(f"{what} is no JSON") from error
    if not isinstance(value, dict):
        raise _no_object(f"{what} is no JSON object")
    fields = cast(dict[str, Any], value)
    if long_value is None:
        return fields
    if _LONG_VALUE not in fields.values():
        raise _no_object(f"{what} has more than {max_text_bytes} bytes in what is no value of a field")
    return {name: long_value if value == _LONG_VALUE else value for name, value in fields.items()}


def _no_object(what: str) -> HttpError:
    return HttpError(400, f"{what}; it must be an object of fields", code="invalid_json")


def _too_much_text(what: str, max_text_bytes: int) -> HttpError:
    return HttpError(
        413,
        f"{what}; this server takes {max_text_bytes} of whatever is no clip in base64; send less",
        code="body_too_large",
    )


def _find_longest_string(data: bytes, what: str) -> tuple[int, int]:
    """Find the longest string of JSON with its quotes, and refuse more values than a request has.

    An empty list is three bytes here and sixty in memory.
    """
    longest = (0, 0)
    num_other_bytes = len(data)
    for number, (start, end) in enumerate(_strings_of(data, what)):
        if number > _MAX_JSON_STRINGS:
            raise _no_object(f"{what} has too many values, or numbers of too many digits")
        num_other_bytes -= end - start
        if end - start > longest[1] - longest[0]:
            longest = (start, end)
    if num_other_bytes > _OTHER_BYTES:
        raise _no_object(f"{what} has too many values, or numbers of too many digits")
    return longest


def _strings_of(data: bytes, what: str) -> Iterator[tuple[int, int]]:
    """Give where each string begins and ends, with its quotes."""
    start = data.find(b'"')
    while start >= 0:
        end = start + 1
        while (found := _JSON_STRING_PART.match(data, end)) and found.end() > end:
            end = found.end()
        if data[end : end + 1] != b'"':
            raise _no_object(f"{what} is no JSON")
        end += 1
        yield start, end
        start = data.find(b'"', end)


def _read_long_value(written: memoryview, max_text_bytes: int, what: str) -> str:
    """Read a string of JSON that is base64, whose only escape is that of the slash."""
    pieces: list[str] = []
    rest = ""
    for start in range(0, len(written), 4 * _PIECE):
        try:
            piece = rest + str(written[start : start + 4 * _PIECE], "ascii")
        except UnicodeDecodeError:
            piece = "\\."
        rest = "\\" if piece.endswith("\\") else ""
        pieces.append(piece.removesuffix(rest).replace("\\/", "/"))
        if "\\" in pieces[-1]:
            raise _too_much_text(f"a text of {what} has {len(written)} bytes", max_text_bytes)
    return "".join(pieces)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _read_urlencoded(data: bytes) -> dict[str, Any]:
    if data.lstrip()[:1] == b"{":
        # What curl says of a body where nobody says otherwise.
        raise _malformed("it looks like JSON, which is sent with the header Content-Type: application/json")
    if data.count(b"&") >= _MAX_FIELDS:
        raise _malformed(f"it must have {_MAX_FIELDS} fields at most")
    try:
        pairs = (field.partition(b"=") for field in data.split(b"&") if field)
        return {_unquote(name): _unquote(value) for name, _, value in pairs}
    except UnicodeDecodeError as error:
        raise _malformed("it must be UTF-8") from error


def _unquote(data: bytes) -> str:
    """Decode what a form has in percent signs; UnicodeDecodeError where it is not UTF-8.

    >>> _unquote(b"Gr%C3%BC%C3%9Fe+100%")
    'Grüße 100%'
    """
    data = data.replace(b"+", b" ")
    decoded = bytearray()
    start = 0
    while start < len(data):
        end = start + _PIECE
        if end < len(data) and (cut := data.rfind(b"%", end - 2, end)) >= 0:
            end = cut  # not within a percent sign and its two digits
        decoded += unquote_to_bytes(data[start:end])
        start = end
    return decoded.decode("utf-8")


async def _read_multipart(request: Request) -> dict[str, Any]:
    charset = parse_options_header(request.headers["content-type"])[1].get(b"charset", b"utf-8")
    if charset.lower() != b"utf-8":
        # Some of Python's codecs raise what the parser does not expect, others take quadratic time.
        raise _malformed("its charset must be utf-8")
    parser = _MemoryFormParser(
        request.headers, _in_pieces(request.stream()), max_files=1, max_fields=_MAX_FIELDS, max_part_size=2**62
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _malformed(error.message) from error
    except FormParserError as error:
        # Starlette 1.3 passes on as it is what the parser below it says of bytes that are no form at all.
        raise _malformed(str(error)) from error
    try:
        return {name: await _value(value) for name, value in form.multi_items()}
    finally:
        await form.close()


async def _in_pieces(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Cut a body into pieces that are parsed in no time, and let others go on after each."""
    async for chunk in chunks:
        for start in range(0, len(chunk), _PIECE):
            yield chunk[start : start + _PIECE]
            await asyncio.sleep(0)


def _malformed(why: str) -> HttpError:
    return HttpError(400, f"the form is malformed ({why}); send it as curl -F does", code="invalid_form")


async def _value(value: str | UploadFile) -> str | Upload:
    if isinstance(value, str):
        return value
    return Upload(await value.read(), value.content_type or "")


async def read_clip(request: Request, value: Any, max_bytes: int, param: str) -> Upload:
    """Read a clip that came as a file of a form, or as text: base64 or a data: URL. No address is fetched.

    Args:
        request: that it came with.
        value: of the field.
        max_bytes: more are refused, before they are decoded.
        param: name of the field.

    Raises:
        HttpError: 400, it is no clip; 413, it is too large.
    """
    if isinstance(value, Upload):
        _check_clip_size(len(value.data), max_bytes, param)
        return value
    if not isinstance(value, str):
        raise _no_clip(param)
    return await Decoding.of(request).run(lambda: decode_clip(value, max_bytes, param), len(value))


def decode_clip(text: str, max_bytes: int, param: str) -> Upload:
    """Read a clip that came as text: base64 or a data: URL. No address is fetched.

    Raises:
        HttpError: 400, it is no clip; 413, it is too large.
    """
    head = ""
    if text.startswith("data:"):
        head, _, text = text.partition(",")
    _check_clip_size(len(text.rstrip("=")) * 3 // 4, max_bytes, param)
    data = bytearray()
    try:
        if 0 <= text.find("=") < len(text) - 2:
            raise ValueError("padding in the middle")
        for start in range(0, len(text), 4 * _PIECE):
            data += base64.b64decode(text[start : start + 4 * _PIECE], validate=True)
    except ValueError as error:
        raise _no_clip(param) from error
    return Upload(bytes(data), head.removeprefix("data:").partition(";")[0])


def _check_clip_size(num_bytes: int, max_bytes: int, param: str) -> None:
    if num_bytes > max_bytes:
        raise HttpError(
            413,
            f"{param} has {num_bytes} bytes; this server takes {max_bytes}; send a shorter clip",
            code="clip_too_large",
            param=param,
        )


def _no_clip(param: str) -> HttpError:
    return HttpError(
        400,
        f"{param} is no audio file; it must be a file of a form, as curl -F {param}=@clip.wav sends, or base64; "
        "addresses are not fetched",
        code="invalid_reference_audio",
        param=param,
    )
