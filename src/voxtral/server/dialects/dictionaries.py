"""Dictionaries over HTTP: kept by name, and named by requests (`"dictionary": "names"`)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from voxtral.server.body import read_fields
from voxtral.server.dictionary_store import NAME_PATTERN, StoredDictionary
from voxtral.server.openapi import READING, refusals, request_body
from voxtral.server.schema import RuleList, rules_of, validate
from voxtral.server.service import SpeechService


class NewDictionary(BaseModel):
    """A dictionary to keep."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=f"^{NAME_PATTERN}$", description="1 to 64 letters a to z, digits, _ and -.")
    rules: RuleList = Field(description="Rules with written and spoken, or a table of both.")


class DictionaryRules(BaseModel):
    """The rules of a dictionary."""

    model_config = ConfigDict(extra="forbid")

    rules: RuleList = Field(description="Rules with written and spoken, or a table of both.")


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1/dictionaries", tags=["text"])
    store = service.dictionaries

    @router.get("")
    async def list_dictionaries() -> dict[str, Any]:
        """List the dictionaries that are kept, by name."""
        return {"object": "list", "data": [_facts(each) for each in await service.run(store.list)]}

    @router.post("", responses=refusals(*READING, 409), openapi_extra=request_body(NewDictionary, ["application/json"]))
    async def create_dictionary(request: Request) -> dict[str, Any]:
        """Keep a dictionary under a new name."""
        wanted = validate(NewDictionary, await read_fields(request))
        words = rules_of(wanted.rules)
        return _whole(await service.run(lambda: store.put(wanted.name, words, is_new=True)))

    @router.get("/{name}", responses=refusals(400, 404))
    async def get_dictionary(name: str) -> dict[str, Any]:
        """Give a dictionary with its rules."""
        return _whole(await service.run(lambda: store.get(name)))

    @router.put(
        "/{name}",
        responses=refusals(*READING, 409),
        openapi_extra=request_body(DictionaryRules, ["application/json"]),
    )
    async def put_dictionary(request: Request, name: str) -> dict[str, Any]:
        """Keep a dictionary under a name, whatever was there."""
        words = rules_of(validate(DictionaryRules, await read_fields(request)).rules)
        return _whole(await service.run(lambda: store.put(name, words, is_new=False)))

    @router.delete("/{name}", responses=refusals(400, 404))
    async def delete_dictionary(name: str) -> dict[str, Any]:
        """Delete a dictionary."""
        await service.run(lambda: store.delete(name))
        return {"name": name, "deleted": True}

    return router


def _facts(stored: StoredDictionary) -> dict[str, Any]:
    return {"name": stored.name, "num_rules": len(stored.dictionary.aliases), "updated_at": stored.updated_at}


def _whole(stored: StoredDictionary) -> dict[str, Any]:
    rules = [
        {
            "written": alias.written,
            "spoken": alias.spoken,
            "language": alias.language,
            "match": alias.match,
            "case": alias.case,
        }
        for alias in stored.dictionary.aliases
    ]
    return {**_facts(stored), "rules": rules}
