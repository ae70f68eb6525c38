"""Several texts in one request, each a file of its own."""

from __future__ import annotations

import asyncio
import base64
import uuid
from typing import Any

from fastapi import APIRouter, Request

from voxtral.errors import VoxtralError
from voxtral.server.body import read_fields
from voxtral.server.collect import collect
from voxtral.server.dialects.vllm_omni.fields import BatchFields, OmniFields
from voxtral.server.errors import HttpError, as_http_error
from voxtral.server.openapi import READING, SPEAKING, refusals, request_body
from voxtral.server.schema import validate
from voxtral.server.service import MAX_HELD_CHARS, SpeechService
from voxtral.server.stream import visit_of

_ITEMS_AT_ONCE = 4
_MAX_CHARS = 2 * MAX_HELD_CHARS


def add_routes(router: APIRouter, service: SpeechService) -> None:
    """Make the route."""

    @router.post(
        "/batch",
        responses=refusals(*READING, *SPEAKING),
        openapi_extra=request_body(BatchFields, ["application/json"]),
    )
    async def batch(request: Request) -> dict[str, Any]:
        """Speak up to 32 texts, each into a file; one that fails does not fail the rest."""
        fields = await read_fields(request)
        wanted = validate(BatchFields, fields)
        service.check_model(wanted.model)
        texts = [item.get("input") for item in wanted.items]
        num_chars = sum(len(text) for text in texts if isinstance(text, str))
        if num_chars > _MAX_CHARS:
            raise HttpError(
                413,
                f"the items have {num_chars} characters; a batch may have {_MAX_CHARS} at most; send fewer",
                code="text_too_long",
                param="items",
            )
        common = {name: value for name, value in fields.items() if name not in ("items", "model")}
        places = asyncio.Semaphore(_ITEMS_AT_ONCE)

        async def speak(index: int, item: dict[str, Any]) -> dict[str, Any]:
            async with places:
                return await _speak_item(service, request, index, {**common, **item})

        results = await asyncio.gather(*(speak(index, item) for index, item in enumerate(wanted.items)))
        succeeded = sum(result["status"] == "success" for result in results)
        return {
            "id": f"speech-batch-{uuid.uuid4().hex}",
            "results": results,
            "total": len(results),
            "succeeded": succeeded,
            "failed": len(results) - succeeded,
        }


async def _speak_item(service: SpeechService, request: Request, index: int, fields: dict[str, Any]) -> dict[str, Any]:
    try:
        text = fields.pop("input", None)
        if not isinstance(text, str):
            raise HttpError(
                400, "input is missing; it must be the text to speak", code="invalid_request", param="input"
            )
        order = validate(OmniFields, fields).order(service, text, is_held=True)
        opening, data, closing = await collect(service, order, visit_of(request), request.receive)
    except (HttpError, VoxtralError) as error:
        return {"index": index, "status": "error", "error": as_http_error(error).detail}
    num_in, num_out = closing.num_prompt_tokens, closing.stats.num_frames
    return {
        "index": index,
        "status": "success",
        "audio_data": base64.b64encode(data).decode(),
        "media_type": opening.content_type,
        "usage": {"input_tokens": num_in, "output_tokens": num_out, "total_tokens": num_in + num_out},
    }
