"""POST /v1/text/normalize: what would be said for a text, without saying it; the page underlines it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from voxtral.server.body import read_fields
from voxtral.server.openapi import READING, refusals, request_body
from voxtral.server.schema import TextFields, unknown_fields, validate
from voxtral.server.service import SpeechService
from voxtral.text.clean import clean
from voxtral.text.dictionary import joined, user_dictionary
from voxtral.text.guess import guess_language
from voxtral.text.preview import normalize_text


class PreviewBody(TextFields):
    """A text, and by which rules it is to be read; unknown fields are named in the answer."""

    model_config = ConfigDict(extra="allow")

    text: str = Field(description="What would be spoken.")


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1/text", tags=["text"])

    @router.post(
        "/normalize", responses=refusals(*READING), openapi_extra=request_body(PreviewBody, ["application/json"])
    )
    async def normalize(request: Request) -> dict[str, Any]:
        """Say what would be said for a text: every edit with its place, and what may be said wrong."""
        body = validate(PreviewBody, await read_fields(request))
        service.check_length(body.text)
        level = body.normalize or service.options.normalize
        words = joined(body.dictionary_given(service.dictionaries), user_dictionary())

        def preview() -> dict[str, Any]:
            language = body.language or guess_language(clean(body.text).text) or "en"
            found = normalize_text(
                body.text, language, normalize=level, dictionary=words, ssml=body.ssml or None, emoji=body.emoji
            )
            return found.to_dict(body.text)

        return {**await service.run(preview), "ignored": list(unknown_fields(body))}

    return router
