"""Reading the bodies of requests: counted while they arrive, timed, and never on disk.

`BodyLimit` wraps the application, so that nothing in it can read more than is allowed; `read_fields` turns a
form or a JSON object into plain values.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
import time
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voxtral.server.errors import HttpError, busy
from voxtral.server.options import ServerOptions

# A character in JSON is at most \uXXXX twice, base64 makes 4 bytes of 3; the rest is for the other fields.
_BYTES_PER_CHAR = 12
_OTHER_BYTES = 65536

# Bodies in memory at one time, of all requests together, in units of the largest one.
_BODIES_AT_ONCE = 16

_MAX_FIELDS = 64
_MAX_JSON_STRINGS = 4096

_URLENCODED = "application/x-www-form-urlencoded"

# A string in JSON, to its end or to that of the body; it never goes back, so that no input takes it longer.
_JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


@dataclass(frozen=True)
class Upload:
    """A file that came with a form."""

    data: bytes
    content_type: str


class BodyLimit:
    """Middleware that bounds the size of each body, of all bodies together, and the time that one may take.

    What breaks a bound is raised from `receive` as an HttpError, inside whatever was reading.
    """

    def __init__(self, app: ASGIApp, options: ServerOptions) -> None:
        self._app = app
        self._timeout_s = options.body_timeout_s
        # A urlencoded form holds no clip, and a large one would take long to decode.
        self.max_form_bytes = options.max_chars * _BYTES_PER_CHAR + _OTHER_BYTES
        self.max_bytes = options.max_upload_bytes * 4 // 3 + self.max_form_bytes
        self._num_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose body stays within its bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        max_bytes = self.max_form_bytes if _kind_of(headers) == _URLENCODED else self.max_bytes
        body = _Body(self, receive, max_bytes, time.monotonic() + self._timeout_s)
        try:
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

    async def parse(self) -> FormData:
        """Read the form; one that is cut short would be without its last part."""
        form = await super().parse()
        if not self._is_whole:
            for file in self._files_to_close_on_error:
                file.close()
            raise MultiPartException("its end is missing")
        return form


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
    if kind == _URLENCODED:
        return _read_urlencoded(data)
    if kind not in ("application/json", ""):
        raise HttpError(
            415,
            f"the body is {kind}; it must be application/json, multipart/form-data or a urlencoded form",
            code="unsupported_media_type",
        )
    return read_json(data)


def _kind_of(headers: Headers) -> str:
    return headers.get("content-type", "").split(";")[0].strip().lower()


def read_json(data: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        HttpError: 400, it is none, or has too many values.
    """
    try:
        text = data.decode("utf-8-sig")
        if _is_crowded(data):
            raise HttpError(400, "the body has too many values; it must be an object of fields", code="invalid_json")
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise HttpError(400, "the body is no JSON; it must be an object of fields", code="invalid_json") from error
    if not isinstance(value, dict):
        raise HttpError(400, "the body is no JSON object; it must be an object of fields", code="invalid_json")
    return cast(dict[str, Any], value)


def _is_crowded(data: bytes) -> bool:
    """Tell whether JSON holds more values than a request has: an empty list is three bytes here and sixty in memory."""
    num_bytes = len(data)
    for number, string in enumerate(_JSON_STRING.finditer(data)):
        if number > _MAX_JSON_STRINGS:
            return True
        num_bytes -= string.end() - string.start()
    return num_bytes > _OTHER_BYTES


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _read_urlencoded(data: bytes) -> dict[str, Any]:
    try:
        return dict(parse_qsl(data.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise _malformed("it must be UTF-8 and have few fields") from error


async def _read_multipart(request: Request) -> dict[str, Any]:
    charset = parse_options_header(request.headers["content-type"])[1].get(b"charset", b"utf-8")
    if charset.lower() != b"utf-8":
        # Some of Python's codecs raise what the parser does not expect, others take quadratic time.
        raise _malformed("its charset must be utf-8")
    parser = _MemoryFormParser(
        request.headers, request.stream(), max_files=1, max_fields=_MAX_FIELDS, max_part_size=2**62
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


def _malformed(why: str) -> HttpError:
    return HttpError(400, f"the form is malformed ({why}); send it as curl -F does", code="invalid_form")


async def _value(value: str | UploadFile) -> str | Upload:
    if isinstance(value, str):
        return value
    return Upload(await value.read(), value.content_type or "")


def read_clip(value: Any, max_bytes: int, param: str) -> Upload:
    """Read a clip that came as a file of a form, or as text: base64 or a data: URL. No address is fetched.

    Args:
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
    head, text = "", value
    if value.startswith("data:"):
        head, _, text = value.partition(",")
    _check_clip_size(len(text.rstrip("=")) * 3 // 4, max_bytes, param)
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _no_clip(param) from error
    return Upload(data, head.removeprefix("data:").partition(";")[0])


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
