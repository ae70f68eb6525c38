"""The server against its own OpenAPI document: what is said there holds for any request, well-formed or not."""

from __future__ import annotations

import base64
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
import schemathesis
from fastapi import routing
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from checkpoints import BRIEF
from serving import Serving, serving
from spoken_clips import spoken_file
from voxtral.engine.options import EngineOptions
from voxtral.tts import VoxtralTTS
from voxtral.types import SpeechRequest

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

_MAX_FRAMES = 3


class BriefTTS(VoxtralTTS):
    """Says three frames of whatever it is asked."""

    def submit(self, request: SpeechRequest, **options: Any) -> Any:
        sampling = replace(request.sampling, max_frames=min(request.sampling.max_frames or _MAX_FRAMES, _MAX_FRAMES))
        return super().submit(replace(request, sampling=sampling), **options)


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    tts = BriefTTS.from_pretrained(BRIEF, device="cpu", options=EngineOptions(max_batch=4))
    with serving(tts, max_chars=300, max_voices=10_000, refine=2) as running:
        yield running
    tts.close()


@pytest.fixture(scope="module")
def clip() -> bytes:
    """A second that a voice can be made from."""
    return spoken_file(1.0)


class Names:
    """Names that exist, for the places where a schema cannot say which there are."""

    def __init__(self, server: Serving, clip: bytes) -> None:
        self._server = server
        self._clip = clip
        self._numbers = itertools.count()

    def put_into(self, case: Case) -> None:
        if "voice_id" in case.path_parameters:
            case.path_parameters["voice_id"] = self._new_voice()
        if "model_id" in case.path_parameters:
            case.path_parameters["model_id"] = "tts-1"
        if case.operation.get_parameter("text", "query"):
            case.query["text"] = "A word"
        for place in (case.query, case.body):
            if isinstance(place, dict):
                self._put_into_fields(place, is_form=case.media_type != "application/json")

    def _put_into_fields(self, fields: dict[str, Any], *, is_form: bool) -> None:
        known = {"language": "en", "voice": "alloy", "model": "tts-1", "name": f"Name {next(self._numbers)}"}
        clip = {"audio_sample": self._clip if is_form else base64.b64encode(self._clip).decode(), "consent": "true"}
        fields.update({name: value for name, value in {**known, **clip}.items() if name in fields})
        for name in ("text", "input"):
            if name in fields:
                fields[name] = f"A word and {fields[name]}"[:60]
        nothing = [name for name, value in fields.items() if value is None and is_form]  # would be sent as "null"
        for name in ("ref_audio", "reference", *nothing):
            fields.pop(name, None)

    def _new_voice(self) -> str:
        fields = {"name": f"Voice {next(self._numbers)}", "consent": "true"}
        with self._server.client() as client:
            made = client.post("/v1/audio/voices", data=fields, files={"audio_sample": ("a.wav", self._clip)})
        return made.json()["id"]


def statuses_of(server: Serving, names: Names, num_examples: int, step: int) -> dict[str, Counter[int]]:
    """Ask every operation in every way, hold each answer to the document, and count the statuses.

    Args:
        names: that exist.
        num_examples: drawn at random for each operation and each way.
        step: of the cases at the bounds of the schemas, every so many.
    """
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", config=SchemathesisConfig())
    statuses: dict[str, Counter[int]] = {}
    session = requests.Session()
    for found in schema.get_all_operations():
        operation = found.ok()
        counts = statuses.setdefault(operation.label, Counter())

        def check(case: Case, counts: Counter[int] = counts) -> None:
            answer = case.call(session=session)
            counts[answer.status_code] += 1
            case.validate_response(answer, checks=_CHECKS)

        def check_known(case: Case, check: Callable[[Case], None] = check) -> None:
            names.put_into(case)
            check(case)

        config = schema.config.generation_for(operation=operation)
        at_bounds = schema.iter_coverage_cases(
            operation, generation_modes=list(GenerationMode), generation_config=config
        )
        for case in itertools.islice(at_bounds, 0, None, step):
            check(case)
        draw_cases(operation.as_strategy(generation_mode=GenerationMode.POSITIVE), check, num_examples)
        draw_cases(operation.as_strategy(generation_mode=GenerationMode.POSITIVE), check_known, num_examples)
        if operation.body or operation.query:  # nothing else can be wrong
            draw_cases(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), check, num_examples)
    session.close()
    return statuses


def draw_cases(cases: Any, check: Callable[[Case], None], num_examples: int) -> None:
    @settings(
        max_examples=num_examples,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def run(case: Case) -> None:
        check(case)

    run()


@pytest.mark.parametrize(("num_examples", "step"), [(4, 5), pytest.param(150, 1, marks=pytest.mark.slow)])
def test_no_request_gets_a_server_error_or_what_the_document_does_not_say(
    server: Serving, clip: bytes, num_examples: int, step: int
) -> None:
    statuses = statuses_of(server, Names(server, clip), num_examples, step)
    assert {"POST /synthesize", "POST /v1/audio/speech", "POST /v1/audio/voices", "GET /metrics"} <= set(statuses)
    for label, counts in statuses.items():
        assert counts[200], f"no request to {label} was a good one: {dict(counts)}"
        print(f"{label}: {dict(sorted(counts.items()))}")
    server.wait_until_idle()


def test_every_body_is_read_by_what_bounds_it(server: Serving) -> None:
    """A body that FastAPI parses is not looked at before: see `read_json`."""
    # Where an application does not hold its routers' routes itself.
    contexts = getattr(routing, "iter_route_contexts", None)
    routes = [context.original_route for context in contexts(server.app.routes)] if contexts else server.app.routes
    routes = [route for route in routes if isinstance(route, APIRoute)]
    assert len(routes) > 10
    assert [route.path for route in routes if route.body_field is not None] == []


def test_the_document_says_who_needs_a_key_and_how_errors_look(server: Serving) -> None:
    document = server.app.openapi()
    assert document["paths"]["/health"]["get"]["security"] == []
    assert "401" not in document["paths"]["/health"]["get"]["responses"]
    speech = document["paths"]["/v1/audio/speech"]["post"]
    assert "security" not in speech
    assert speech["responses"]["503"]["headers"].keys() >= {"Retry-After", "X-Request-Id"}
    assert "X-Voxtral-Seed" in speech["responses"]["200"]["headers"]
    assert not any(
        "422" in operation["responses"] for path in document["paths"].values() for operation in path.values()
    )
    with server.client() as client:
        error = client.get("/v1/models/none").json()
    assert set(error["error"]) == set(document["components"]["schemas"]["Error"]["properties"]["error"]["properties"])
