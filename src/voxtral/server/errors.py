"""What goes wrong, as an HTTP status and the body that OpenAI's clients read.

    {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}

Every answer that is no success has this shape, whatever dialect was spoken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from voxtral.errors import (
    AudioError,
    CancelledError,
    CheckpointError,
    DeadlineError,
    DeviceError,
    DownloadError,
    EncoderMissingError,
    EngineStoppedError,
    GenerationError,
    LanguageError,
    ReferenceAudioError,
    RequestError,
    TextError,
    VoiceError,
    VoiceStoreBusyError,
    VoiceUnreadableError,
    VoxtralError,
)

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

# The first that fits: status, and the parameter to blame.
_STATUSES: tuple[tuple[type[VoxtralError], int, str | None], ...] = (
    (TextError, 400, "input"),
    (VoiceUnreadableError, 503, None),
    (VoiceError, 400, "voice"),
    (LanguageError, 400, "language"),
    (ReferenceAudioError, 400, "reference"),
    (EncoderMissingError, 400, "reference"),
    (RequestError, 400, None),
    (DeadlineError, 504, None),
    (GenerationError, 500, None),
    (EngineStoppedError, 503, None),
    (CancelledError, 503, None),
    (CheckpointError, 503, None),
    (DownloadError, 503, None),
    (DeviceError, 503, None),
    (VoiceStoreBusyError, 503, None),
    (AudioError, 500, None),
)

# Where a client can do nothing but wait, a second is a polite while.
_RETRY_AFTER_S = 1


# What the router says, in other words.
_OF_ROUTING = {
    "Not Found": "nothing is at this address; OpenAI's begin with /v1, such as /v1/audio/speech, and the guide's is "
    "/synthesize; correct the path, or the base address of the client",
    "Method Not Allowed": "this address is not asked in this way; speech is asked for with POST; change the method",
}


class ClientGoneError(Exception):
    """The client has left, or takes nothing; there is nobody to answer."""


class HttpError(HTTPException):
    """A refusal or failure, ready to be sent.

    Args:
        status: of HTTP.
        message: what was got, what the rule is, what to do.
        code: stable, for programs.
        param: the parameter to blame.
        headers: further ones, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers=dict(headers or {}))
        self.code = code
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        kind = _TYPES.get(self.status_code, "server_error" if self.status_code >= 500 else "invalid_request_error")
        return {"error": {"message": self.detail, "type": kind, "param": self.param, "code": self.code}}

    def response(self, body: Mapping[str, Any] | None = None) -> JSONResponse:
        """Make the answer, with the body of a dialect where it has one of its own."""
        return JSONResponse(body or self.body, self.status_code, headers=dict(self.headers or {}))


def as_http_error(error: Exception) -> HttpError:
    """Translate what a route may raise.

    What is no error of this package is a fault of the server: its message, which may quote a text, stays here.
    """
    if isinstance(error, HttpError):
        return error
    if isinstance(error, HTTPException):
        detail = _OF_ROUTING.get(str(error.detail), str(error.detail))
        return HttpError(error.status_code, detail, code=_code_of(error.status_code), headers=error.headers)
    if isinstance(error, VoxtralError):
        for kind, status, param in _STATUSES:
            if isinstance(error, kind):
                headers = {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else None
                return HttpError(status, str(error), code=error.code, param=param, headers=headers)
        return HttpError(500, str(error), code=error.code)
    return HttpError(500, f"the server failed ({type(error).__name__}); please report this", code="internal_error")


def _code_of(status: int) -> str:
    return {400: "invalid_request", 404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")


def busy(message: str, *, code: str, status: int = 503, retry_after_s: float = _RETRY_AFTER_S) -> HttpError:
    """Make the answer of a server that has no room now."""
    seconds = max(1, round(retry_after_s))
    return HttpError(status, f"{message}; try again in {seconds} s", code=code, headers={"Retry-After": str(seconds)})


def needs_events(way_out: str) -> HttpError:
    """Refuse to tell of words in an answer that is nothing but audio."""
    return HttpError(
        400,
        f"timestamps is true, and the answer would be audio alone; the times of words come beside it; {way_out}",
        code="invalid_option",
        param="timestamps",
    )


def client_gone() -> HttpError:
    """Name the end of a request whose client hung up before all of it had come; nobody reads this."""
    return HttpError(499, "the client went away before its request was complete", code="client_gone")


def shutting_down() -> HttpError:
    """Make the answer of a server that finishes what runs and takes no more."""
    return busy("the server is shutting down", code="shutting_down")


def hushed(error: BaseException) -> Exception:
    """Stand in for an error in the log: its frames without its message, which may quote what somebody wants spoken."""
    return RuntimeError("(the message is not logged)").with_traceback(error.__traceback__)
