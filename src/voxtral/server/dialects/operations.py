"""What supervisors and Prometheus look at. Not under /v1: a client there takes readiness for another server's mark."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from voxtral.server.errors import busy
from voxtral.server.metrics import CONTENT_TYPE
from voxtral.server.openapi import refusals
from voxtral.server.service import SpeechService

PUBLIC_PATHS = ("/livez", "/readyz")


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["operations"])

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "ok"}

    @router.get("/readyz", responses=refusals(503))
    async def readyz() -> dict[str, str]:
        """Say whether a request would be spoken: the model has loaded, and has spoken a word as a test."""
        if not service.host.is_ready:
            raise busy(f"the model is {service.host.state}", code="not_ready")
        return {"status": service.host.state}

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"description": "Counters.", "content": {CONTENT_TYPE.split(";")[0]: {}}}},
    )
    async def metrics() -> Response:
        """Give the counters in Prometheus' format."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE)

    return router
