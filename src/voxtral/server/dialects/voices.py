"""Voices over HTTP: list, create from a clip, hear, rename, delete.

One answer has the fields of all who have such a list: Open WebUI and Kokoro (`voices`), mlx-audio (`data`), Mistral
(`items` with pages) and vLLM-Omni (`uploaded_voices`). The audio of a clip is not kept, only the voice made from it.
A voice that is searched for is answered with 202, and looked at by its id until it is ready; no list has it before.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query, Request
from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from voxtral.cloning.options import MAX_STEPS
from voxtral.server.body import Upload, read_clip, read_fields
from voxtral.server.errors import HttpError
from voxtral.server.openapi import READING, SPEAKING, Responses, audio, refusals, request_body
from voxtral.server.schema import AudioFormat, unknown_fields, validate
from voxtral.server.service import SpeechOrder, SpeechService
from voxtral.server.stream import SpeechResponse, visit_of
from voxtral.server.voice_jobs import VoiceJob, VoiceJobs
from voxtral.server.voice_service import VoiceService
from voxtral.text.language import LANGUAGES, sample_sentence
from voxtral.types import SpeechRequest
from voxtral.voices.book import gender_of
from voxtral.voices.facts import StoredVoice, VoiceFacts, check_name
from voxtral.voices.presets import VoiceInfo

# What clients call the clip; the first that is there is taken.
_CLIP_FIELDS = ("audio_sample", "file", "audio", "sample_audio")

# An hour, in which the longest search of a large model on a CPU ends.
_MAX_WAIT_S = 3600

_CONSENT_HEADER = "X-Voxtral-Consent"
_NO_CONSENT = ("", "false", "0", "no", "off", "none", "null")

# What Mistral's clients call each kind.
_MISTRAL_TYPES = {"preset": "preset", "uploaded": "custom"}


def _consent(value: Any) -> str:
    """Take any text that is no refusal, as it was given."""
    text = "true" if value is True else value
    if not isinstance(text, str) or text.strip().lower() in _NO_CONSENT:
        raise ValueError("it must be true, or say how the speaker agreed; only voices whose owners agree may be made")
    return text


def _refine(value: Any) -> bool | int | None:
    """Take true, false or steps, in JSON as they are and in forms as words; what is empty is false."""
    if value is None or isinstance(value, bool | int):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word in ("", "true", "false"):
        return word == "true"
    if word is None or not re.fullmatch("[0-9]{1,9}", word):
        raise ValueError("it must be true, false, or a number of steps")
    return int(word)


def _steps(value: bool | int | None) -> bool | int | None:
    # Not by `in` or `==`, for which True is 1 and False is 0.
    if value is not None and not isinstance(value, bool) and not 1 <= value <= MAX_STEPS:
        raise ValueError(f"it must be true, false, or a number of steps from 1 to {MAX_STEPS}")
    return value


_Name = Annotated[str, Field(max_length=256), AfterValidator(check_name)]
_Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
_Description = AliasChoices("description", "speaker_description")


class NewVoice(BaseModel):
    """What a voice is made with, besides the clip; unknown fields are named in the answer."""

    model_config = ConfigDict(extra="allow")

    name: _Name = Field(description="Letters, digits, spaces and ._- of any script, 1 to 64 characters.")
    consent: Annotated[str, BeforeValidator(_consent)] = Field(
        max_length=1000, description="true, or how the speaker agreed; it is kept with the voice."
    )
    language: _Text = Field("", max_length=64, description="That the voice speaks.")
    description: _Text = Field("", max_length=1000, validation_alias=_Description)
    ref_text: _Text = Field("", max_length=4000, description="What is said in the clip; kept, and without effect.")
    refine: Annotated[bool | int | None, BeforeValidator(_refine), AfterValidator(_steps)] = Field(
        None,
        description="true, or steps: search for the voice, which needs no encoder and takes a while; the answer is a "
        "202. For servers that were started with --refine.",
    )

    @property
    def facts(self) -> VoiceFacts:
        """What is kept of it."""
        return VoiceFacts(
            name=self.name,
            consent=self.consent,
            language=self.language,
            description=self.description,
            ref_text=self.ref_text,
        )


class VoiceChanges(BaseModel):
    """What is to change of a voice; empty texts clear, and unknown fields are named in the answer."""

    model_config = ConfigDict(extra="allow")

    name: _Name | None = None
    language: str | None = Field(None, max_length=64)
    description: str | None = Field(None, max_length=1000, validation_alias=_Description)


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1/audio/voices", tags=["voices"])
    voices = VoiceService(service)

    @router.get("", responses=refusals(400, 503))
    async def list_voices(
        limit: Annotated[int, Query(ge=1, le=1000, description="Length of a page of `items`.")] = 100,
        offset: Annotated[int, Query(ge=0, description="Where the page begins.")] = 0,
        type: Annotated[Literal["all", "preset", "custom"], Query(description="Which voices are in `items`.")] = "all",
        legacy: Annotated[bool, Query(description="`voices` as plain names.")] = False,
    ) -> dict[str, Any]:
        """List presets, then the voices that were added, the oldest first."""
        presets, stored = await voices.list()
        items = [_item(voice) for voice in (*presets, *stored)]
        return {
            "object": "list",
            "voices": [item["name"] for item in items] if legacy else items,
            "data": items,
            **_page([item for item in items if type in ("all", _MISTRAL_TYPES[item["kind"]])], limit, offset),
            "uploaded_voices": [_clip_facts(voice) for voice in stored],
        }

    @router.post("", responses={**_made(), **refusals(*READING, 409, 429)}, openapi_extra=_request_body())
    async def create_voice(
        request: Request,
        response: Response,
        wait: Annotated[
            float, Query(ge=0, le=_MAX_WAIT_S, allow_inf_nan=False, description="Seconds to wait for a search to end.")
        ] = 0,
    ) -> dict[str, Any]:
        """Make a voice from a clip of 1 second to 10 minutes, and keep the voice, not the clip."""
        fields = await read_fields(request)
        clip = await _take_clip(request, fields, service.options.max_upload_bytes)
        wanted = validate(NewVoice, _with_one_language(_with_consent(fields, request)))
        client = visit_of(request).client
        ignored = list(unknown_fields(wanted))
        if not wanted.refine:
            stored, warnings = await voices.create(clip, wanted.facts, client)
            return _answer(_details(stored, service.jobs), stored, warnings, ignored)
        job, warnings = await voices.search(clip, wanted.facts, wanted.refine, client)
        del clip, fields  # for as long as somebody waits
        if wait:
            await _wait(request, job, wait)
        made = job.result()
        response.status_code = 202 if made is None else 201
        return _answer(_details(made or job, service.jobs), made or job.voice, warnings, ignored)

    @router.get("/{voice_id}", responses=refusals(404, 503))
    async def get_voice(voice_id: str) -> dict[str, Any]:
        """Describe a voice, by its name or id."""
        return _details(await voices.find(voice_id), service.jobs)

    @router.get("/{voice_id}/sample", response_class=Response, responses={**audio(), **refusals(*SPEAKING, 409)})
    async def sample_voice(
        request: Request, voice_id: str, response_format: Annotated[AudioFormat, Query()] = "wav"
    ) -> Response:
        """Hear a voice say one sentence in its language, always the same way."""
        order = SpeechOrder(_sample_request(await voices.find_ready(voice_id)), format=response_format)
        return SpeechResponse(service, order, request)

    @router.patch(
        "/{voice_id}",
        responses=refusals(*READING, 404, 409),
        openapi_extra=request_body(VoiceChanges, ["application/json"]),
    )
    async def change_voice(voice_id: str, request: Request) -> dict[str, Any]:
        """Change name, language or description of a voice that was added."""
        changes = validate(VoiceChanges, _with_one_language(await read_fields(request)))
        stored = await voices.find_stored(voice_id)
        if all(value is None for value in (changes.name, changes.language, changes.description)):
            raise HttpError(400, "nothing is to change; send name, language or description", code="invalid_request")
        changed = await voices.change(
            stored.id, name=changes.name, language=changes.language, description=changes.description
        )
        return {**_details(changed, service.jobs), "ignored": list(unknown_fields(changes))}

    @router.delete("/{voice_id}", responses=refusals(404, 503))
    async def delete_voice(voice_id: str) -> dict[str, Any]:
        """Delete a voice that was added."""
        voice = await voices.find_deletable(voice_id)
        await voices.delete(voice)
        if isinstance(voice, VoiceJob):
            return {**_item(voice.voice), "status": "cancelled", "deleted": True, "success": True}
        return {**_item(voice), "deleted": True, "success": True}

    return router


def _answer(details: dict[str, Any], voice: StoredVoice, warnings: list[str], ignored: list[str]) -> dict[str, Any]:
    """Answer an upload."""
    return {**details, "success": True, "voice": _clip_facts(voice), "warnings": warnings, "ignored": ignored}


async def _wait(request: Request, job: VoiceJob, seconds: float) -> None:
    """Wait for a job to end, a while, and no longer than its client does; it goes on in any case."""

    async def departure() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    waiting = [asyncio.create_task(job.ended.wait()), asyncio.create_task(departure())]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def _take_clip(request: Request, fields: dict[str, Any], max_bytes: int) -> Upload:
    """Take the clip out of the fields.

    Raises:
        HttpError: 400, there is none; 413, it is too large.
    """
    for name in _CLIP_FIELDS:
        if name in fields:
            return await read_clip(request, fields.pop(name), max_bytes, name)
    raise HttpError(
        400,
        "audio_sample is missing; it must be a clip of 1 second to 10 minutes, a file of a form or base64 in JSON",
        code="invalid_reference_audio",
        param="audio_sample",
    )


def _with_consent(fields: dict[str, Any], request: Request) -> dict[str, Any]:
    """Take the consent from a header where no field has it: Mistral's clients have none, and no way to add one.

    Raises:
        HttpError: 400, it is nowhere.
    """
    if "consent" in fields:
        return fields
    if _CONSENT_HEADER not in request.headers:
        raise HttpError(
            400,
            "consent is missing; it must be true, or say how the speaker agreed, because only voices whose owners "
            f"agree may be made; send it as a field, or as the header {_CONSENT_HEADER}",
            code="invalid_request",
            param="consent",
        )
    return {**fields, "consent": request.headers[_CONSENT_HEADER]}


def _with_one_language(fields: dict[str, Any]) -> dict[str, Any]:
    """Take the first of the languages that Mistral's clients name."""
    languages = fields.get("languages")
    if "language" in fields or not isinstance(languages, list) or not languages:
        return fields
    first = cast("list[Any]", languages)[0]
    return {name: value for name, value in fields.items() if name != "languages"} | {"language": first}


def _sample_request(voice: VoiceInfo | StoredVoice) -> SpeechRequest:
    """Let a voice speak its sentence."""
    language = voice.language if voice.language in LANGUAGES else None
    name = voice.id if isinstance(voice, StoredVoice) else voice.name
    return SpeechRequest(sample_sentence(language or "en"), language=language, voice=name, seed=0)


def _page(items: list[dict[str, Any]], limit: int, offset: int) -> dict[str, Any]:
    """Take a page out of a list, as Mistral does."""
    return {
        "items": items[offset : offset + limit],
        "total": len(items),
        "page": offset // limit + 1,
        "page_size": limit,
        "total_pages": -(-len(items) // limit),
    }


def _item(voice: VoiceInfo | StoredVoice) -> dict[str, Any]:
    """Describe a voice in a list."""
    is_stored = isinstance(voice, StoredVoice)
    return {
        "id": voice.id if is_stored else voice.name,
        "object": "voice",
        "name": voice.name,
        "slug": voice.id if is_stored else voice.name,
        "language": voice.language,
        "languages": [voice.language] if voice.language else [],
        "gender": "" if is_stored else gender_of(voice.name),
        "age": None,
        "tags": [],
        "description": voice.description,
        "is_default": False if is_stored else voice.is_default,
        "kind": "uploaded" if is_stored else "preset",
        "type": _MISTRAL_TYPES["uploaded" if is_stored else "preset"],
        "user_id": None,
        "status": "ready",
        "created_at": voice.created_at if is_stored else 0,
    }


def _clip_facts(voice: StoredVoice) -> dict[str, Any]:
    """Describe a voice as vLLM-Omni does."""
    return {
        "name": voice.name,
        "consent": voice.consent,
        "created_at": voice.created_at,
        "file_size": voice.file_size,
        "mime_type": voice.mime_type,
        "duration_s": voice.duration_s,
        "ref_text": voice.ref_text or None,
        "speaker_description": voice.description or None,
    }


def _details(voice: VoiceInfo | StoredVoice | VoiceJob, jobs: VoiceJobs) -> dict[str, Any]:
    """Describe one voice, with all that is kept of it, and how far it is."""
    if isinstance(voice, VoiceJob):
        return {**_item(voice.voice), **_clip_facts(voice.voice), **_state(voice, jobs.count_ahead(voice))}
    return {**_item(voice), **_clip_facts(voice)} if isinstance(voice, StoredVoice) else _item(voice)


def _state(job: VoiceJob, num_ahead: int) -> dict[str, Any]:
    """Say how far a voice is that is being made, or why it could not be."""
    return {
        "status": "failed" if job.error else "processing",
        "progress": round(job.progress, 4),
        "steps": job.steps,
        "jobs_ahead": num_ahead,
        "left_s": None if job.left_s is None or job.error else round(job.left_s, 1),
        **({"error": job.error.body["error"]} if job.error else {}),
    }


def _made() -> Responses:
    """Describe the answers to an upload that is searched for."""
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        201: {"description": "The voice that was searched for, within the time that was waited.", "content": content},
        202: {"description": "The voice is searched for; its id tells how far it is.", "content": content},
    }


def _request_body() -> dict[str, Any]:
    schema = NewVoice.model_json_schema()
    clip = {"type": "string", "description": "The clip; a file of a form, or base64 in JSON."}
    with_text, with_file = (
        {
            **schema,
            "properties": {**schema["properties"], "audio_sample": {**clip, "format": form}},
            "required": [*schema["required"], "audio_sample"],
        }
        for form in ("byte", "binary")
    )
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": with_file},
                "application/json": {"schema": with_text},
            },
        }
    }
