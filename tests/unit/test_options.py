"""The table of options against every place where an option may be given: none knows more, none less."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from voxtral import VoxtralTTS, options
from voxtral.cli.batch import batch
from voxtral.cli.speak import speak
from voxtral.errors import OptionError
from voxtral.jobs.inputs import KEYS
from voxtral.options import OPTIONS, POSITIONAL, SEED, CommonOptions, Option, SpeechOptions
from voxtral.server.errors import HttpError
from voxtral.server.schema import SpeechFields, validate
from voxtral.speech.request import check_options, make_request
from voxtral.types import SamplingOptions, SpeechRequest

ROOT = Path(__file__).parents[2]
KEYWORDS = {option.name for option in OPTIONS} - {option.name for option in POSITIONAL}
SWITCHES = [option for option in OPTIONS if option.kind == "switch"]
RANGED = [option for option in OPTIONS if option.low is not None and option.high is not None]


def test_the_table_is_consistent() -> None:
    names = [option.name for option in OPTIONS]
    assert len(set(names)) == len(names)
    assert all(option in vars(options).values() for option in OPTIONS)
    for option in OPTIONS:
        assert (option.low is None) == (option.high is None) == (option.kind not in ("number", "whole")), option.name
        assert bool(option.choices) == (option.kind == "choice"), option.name
    request = SpeechRequest("Hello.")
    assert all(option.value_in(request) == option.default for option in OPTIONS)


def test_every_field_of_a_request_is_an_option() -> None:
    places = {option.place or option.name for option in OPTIONS}
    of_request = {field.name for field in fields(SpeechRequest)} - {"text", "sampling"}
    assert places == of_request | {f"sampling.{field.name}" for field in fields(SamplingOptions)}


def test_type_checkers_see_the_same_keywords() -> None:
    assert set(SpeechOptions.__annotations__) == KEYWORDS
    assert set(CommonOptions.__annotations__) == KEYWORDS - {"seed"}
    for method in (VoxtralTTS.synthesize, VoxtralTTS.synthesize_to_file, VoxtralTTS.synthesize_stream):
        assert set(inspect.signature(method).parameters) >= {option.name for option in POSITIONAL}


@pytest.mark.parametrize("command", [speak, batch], ids=lambda command: command.__name__)
def test_the_command_line_has_the_same_options(command: Callable[..., None]) -> None:
    app = typer.Typer()
    app.command()(command)
    declared = {parameter.opts[0]: parameter for parameter in typer.main.get_command(app).params}
    for option in OPTIONS:
        if option.flag is not None:
            found = declared[option.flag.name]
            assert (found.metavar or "") == option.flag.metavar
            if option.kind == "switch":
                # On by itself, and turned off: what is not given is the default.
                assert (found.is_flag, found.default) == (True, False)
                assert option.flag.name.startswith("--no-") == option.default
            # A batch has a seed of its own, from which those of its texts come.
            elif not (command is batch and option is SEED):
                assert found.default == option.default, option.name


def test_http_has_the_same_fields() -> None:
    own = {"stream", "sample_rate"}
    declared = SpeechFields.model_fields
    assert set(declared) - own == {option.name for option in OPTIONS if option.is_field}
    for option in OPTIONS:
        if option.is_field:
            schema = SpeechFields.model_json_schema()["properties"][option.name]
            found: dict[str, Any] = {
                **schema,
                **next((part for part in schema.get("anyOf", []) if "minimum" in part), {}),
            }
            assert (found.get("minimum"), found.get("maximum")) == (option.low, option.high), option.name
            assert schema.get("description") == option.field_help


def test_a_line_of_a_batch_has_the_same_keys() -> None:
    assert set(KEYS) == {"text", "name"} | {option.name for option in OPTIONS if option.is_key}


@pytest.mark.parametrize("page", ["README.md", "docs/SERVER.md", "docs/BATCH.md"])
def test_pages_send_to_the_page_that_is_written_from_the_table(page: str) -> None:
    assert "OPTIONS.md)" in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("option", RANGED, ids=lambda option: option.name)
def test_its_range_is_checked_and_named(option: Option) -> None:
    assert option.low is not None
    assert option.high is not None
    for value in (option.low, option.high):
        check_options(make_request("Hello.", **{option.name: value}))  # type: ignore[arg-type]
    for value in (option.low - 1, option.high * 2 + 1, "seven", True, [1], float("nan")):
        with pytest.raises(
            OptionError, match=f"{option.name} is .*from {option.low} to {option.high}".replace("+", r"\+")
        ):
            check_options(make_request("Hello.", **{option.name: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("option", SWITCHES, ids=lambda option: option.name)
def test_a_switch_is_true_or_false_and_nothing_like_it(option: Option) -> None:
    for value in (True, False, np.True_):
        check_options(make_request("Hello.", **{option.name: value}))  # type: ignore[arg-type]
    for odd in ("true", "no", 1, 0, None, [], 1.0):
        with pytest.raises(OptionError, match=rf"{option.name} is .*; it must be true or false"):
            check_options(make_request("Hello.", **{option.name: odd}))  # type: ignore[arg-type]


@pytest.mark.parametrize("option", SWITCHES, ids=lambda option: option.name)
def test_http_takes_true_and_false_as_they_are_and_as_words(option: Option) -> None:
    for value, meant in ((True, True), (False, False), ("true", True), ("False", False), ("", option.default)):
        assert getattr(SpeechFields.model_validate({option.name: value}), option.name) is meant
    assert getattr(SpeechFields.model_validate({option.name: None}), option.name) is option.default
    for odd in (1, 0, "1", "yes", "on", [], {}, 1.0):
        with pytest.raises(HttpError, match=f"{option.name}: .*it must be true or false"):
            validate(SpeechFields, {option.name: odd})


def test_what_http_asks_for_is_what_the_library_is_asked_for() -> None:
    values: dict[str, Any] = {"timestamps": True, "verify": "retry", "max_attempts": 5, "keep_to_text": False}
    asked = validate(SpeechFields, values).speech_request("Hello.", None, None, "off")
    assert {name: getattr(asked, name) for name in values} == values
    usual = validate(SpeechFields, {}).speech_request("Hello.", None, None, "off")
    assert usual == SpeechRequest("Hello.", normalize="off")


def test_an_unknown_keyword_is_named_with_those_that_there_are() -> None:
    with pytest.raises(OptionError, match="'sped' is unknown") as caught:
        make_request("Hello.", sped=2)  # type: ignore[call-arg]
    assert all(name in str(caught.value) for name in KEYWORDS)
