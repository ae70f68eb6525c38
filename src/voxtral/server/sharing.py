"""Addresses that dialects share: headers and fields tell whose a request is, before anything is done.

The dialect that has the route reads the fields, and asks whether another one knows the request for its own:

    claims(service: SpeechService) -> Mapping[str, Claim]    in a dialect, optional; by path

Read next: `voxtral.server.dialects`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """What a dialect does at an address of another one.

    Attributes:
        knows: tells whether a request is for it.
        answer: does what is asked.
    """

    knows: Callable[[Request, Fields], bool]
    answer: Callable[[Request, Fields], Awaitable[Response]]


class SharedAddresses:
    """The claims of all dialects, by path."""

    def __init__(self) -> None:
        self._claims: dict[str, list[Claim]] = {}

    def add(self, claims: Mapping[str, Claim]) -> None:
        """Take in the claims of a dialect."""
        for path, claim in claims.items():
            self._claims.setdefault(path, []).append(claim)

    async def answer(self, path: str, request: Request, fields: Fields) -> Response | None:
        """Let whoever knows a request answer it; None where nobody does.

        Args:
            path: of the route, as the claims name it.
            request: of the client.
            fields: of its body.
        """
        for claim in self._claims.get(path, ()):
            if claim.knows(request, fields):
                return await claim.answer(request, fields)
        return None
