"""What a client is told where the router knows no more than that it has no such address."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from voxtral.server.errors import as_http_error


def test_an_address_that_is_not_there_is_told_with_what_is() -> None:
    error = as_http_error(HTTPException(404))
    assert (error.status_code, error.code) == (404, "not_found")
    assert "/v1/audio/speech" in error.detail
    error = as_http_error(HTTPException(405, headers={"Allow": "POST"}))
    assert (error.status_code, error.code, error.headers) == (405, "method_not_allowed", {"Allow": "POST"})
    assert "POST" in error.detail


def test_what_a_route_says_itself_is_left_as_it_is() -> None:
    assert (
        as_http_error(HTTPException(404, "there is no voice of this name")).detail == "there is no voice of this name"
    )
