"""The OpenAPI document: what routes say of their bodies and answers, and what is true of all of them.

A dialect gives its routes `responses={**audio(), **refusals(*READING, *SPEAKING)}` and the like; what the door answers
to anybody is added here, and so is the shape of errors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

Responses = dict[int | str, dict[str, Any]]

_MEANINGS = {
    400: "The request breaks a rule.",
    401: "The API key is missing or unknown.",
    403: "This peer or page may not ask, or this is switched off.",
    404: "There is no model, voice or page of that name.",
    408: "The body came too slowly.",
    409: "The name is taken, or there are too many.",
    413: "The body, the text or the clip is too large.",
    415: "The body is of a kind that is not read here.",
    421: "The Host header names another host.",
    429: "The key has all its streams under way.",
    431: "The request has too many headers.",
    500: "The server or the model failed.",
    503: "There is no room now, or no model.",
    504: "The deadline passed.",
}

# What may be answered before a route is reached, while a body is read, and when something is to be spoken.
DOOR = (401, 403, 421, 431, 500, 503)
READING = (400, 408, 413, 415, 503)
SPEAKING = (400, 404, 413, 429, 503, 504)

_WITH_RETRY_AFTER = ("429", "503")

_AUDIO_TYPES = ("audio/mpeg", "audio/ogg", "audio/aac", "audio/flac", "audio/wav", "audio/pcm")

_AUDIO_HEADERS = {
    "X-Voxtral-Model": "Which model speaks.",
    "X-Voxtral-Voice": "Whose voice it is.",
    "X-Voxtral-Language": "The language that chose what was not named.",
    "X-Voxtral-Language-Source": "What chose the language: given, voice, text or default.",
    "X-Voxtral-Seed": "Makes the same speech again.",
    "X-Voxtral-Sample-Rate": "Samples per second.",
    "X-Voxtral-TTFA": "Seconds from the request to the first audio.",
    "X-Voxtral-Warning": "What the library warns of.",
    "X-Voxtral-Ignored": "Fields that had no effect.",
    "X-Voxtral-Finish-Reason": "Why it ended; where all is made before it is sent, like those that follow.",
    "X-Voxtral-Duration": "Seconds of audio.",
    "X-Voxtral-RTF": "Compute seconds per audio second.",
    "X-Voxtral-Frames": "Frames of 80 ms.",
    "X-Voxtral-Retries": "Parts that were spoken again.",
    "X-Voxtral-Verdict": "Where verify is asked for: ok, suspect, bad or unchecked.",
    "X-Voxtral-Findings": "How many places do not follow the text.",
}

_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}


def refusals(*statuses: int) -> Responses:
    """Describe answers that are errors."""
    return {status: {"description": _MEANINGS[status]} for status in statuses}


def audio(*more_types: str) -> Responses:
    """Describe an answer that is audio, in any format, or of a further media type."""
    return {
        200: {
            "description": "Audio, as it is made.",
            "headers": {name: _header(about) for name, about in _AUDIO_HEADERS.items()},
            "content": {media_type: {} for media_type in (*_AUDIO_TYPES, *more_types)},
        }
    }


def request_body(model: type[BaseModel], kinds: Iterable[str]) -> dict[str, Any]:
    """Describe a body that a route reads by itself, for `openapi_extra`."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}}


def describe(app: FastAPI, public_paths: Collection[str]) -> None:
    """Let an application answer /openapi.json with what is true of it.

    Args:
        app: its routes are complete.
        public_paths: that need no key.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, public_paths)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, public_paths: Collection[str]) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Error"] = _ERROR
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    # A server without keys takes none.
    document["security"] = [{"key": []}, {}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            responses.pop("422", None)  # it is a 400 here
            if path in public_paths:
                operation["security"] = []
                responses.pop("401")
            for content in operation.get("requestBody", {}).get("content", {}).values():
                schemas.update(content["schema"].pop("$defs", {}))
            _complete(responses)
    return document


def _complete(responses: dict[str, Any]) -> None:
    """Say of every answer that it has an id, and of every error how it looks."""
    for status, response in responses.items():
        headers = response.setdefault("headers", {})
        headers["X-Request-Id"] = _header("The client's own, or a new one; it is in the log.")
        if status in _WITH_RETRY_AFTER:
            headers["Retry-After"] = _header("Seconds to wait, where waiting helps.")
        if status.startswith(("4", "5")):
            response["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


def _header(about: str) -> dict[str, Any]:
    return {"description": about, "schema": {"type": "string"}}
