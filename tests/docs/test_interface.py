"""What clients and scripts rely on: all of it stays, as it was, and only additions are allowed.

`interface/` holds the OpenAPI document and the help texts. `python tests/docs/test_interface.py` writes it anew: for a
change that is meant, and for an addition that is to be held from then on.

Changed in what they say since they were first held, each for its reason:

* `normalize` is "clean" where it is not given, no longer "off": with "off" a no-break space after a full stop cost most
  of the text, silently. What was plain text sounds as it did, and "off" is still there for those who want it.
* The help of `batch` names two more keys of a line, so that the end of that sentence wraps elsewhere.
* A clip that becomes a voice may be 10 minutes long, no longer 30 s, and the best stretch of it is used.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pinned import needs_pinned
from voxtral.server.application import create_app
from voxtral.server.options import ServerOptions

ROOT = Path(__file__).parents[2]
INTERFACE = Path(__file__).parent / "interface"

# What stands below these is named by whoever wrote it, and a new name takes nothing away.
OPEN_MAPS = {"paths", "responses", "headers", "content", "properties", "schemas", "securitySchemes"}

# An object that had none of these may get some: optional parameters, and headers of a response.
OPEN_FIELDS = {"parameters", "headers"}


# The document.


def find_losses(old: Any, new: Any, where: str = "", *, is_map: bool = False) -> list[str]:
    """Compare two OpenAPI documents, or the same part of both, and name what is gone or another.

    Args:
        old: what must still hold.
        new: what is said now.
        where: the path to both.
        is_map: whether the keys are names, of which there may be more.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        lost = [f"{where}/{key} is gone" for key in old if key not in new]
        if not is_map:
            lost += [f"{where}/{key} is new" for key in new.keys() - old.keys() - OPEN_FIELDS]
            lost += find_demands([], new.get("parameters", []), where) if "parameters" not in old else []
        for key in old.keys() & new.keys():
            # A path has methods, by name.
            is_map_below = where == "/paths" or (not is_map and key in OPEN_MAPS)
            lost += find_losses(old[key], new[key], f"{where}/{key}", is_map=is_map_below)
        return lost
    if isinstance(old, list) and isinstance(new, list):
        field = where.rpartition("/")[2]
        if field == "parameters":
            before, after = by_place(old), by_place(new)
            return find_losses(before, after, where, is_map=True) + find_demands(old, new, where)
        if field == "enum":
            return [f"{where} lacks {value!r}" for value in old if value not in new]
        if field == "required" and "/responses/" in where:
            return [f"{where} lacks {value!r}" for value in old if value not in new]
        if len(old) == len(new):
            return [
                loss for index in range(len(old)) for loss in find_losses(old[index], new[index], f"{where}/{index}")
            ]
    return [] if old == new else [f"{where} was {old!r} and is {new!r}"]


def by_place(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {f"{parameter.get('in')} {parameter.get('name')}": parameter for parameter in parameters}


def find_demands(old: list[dict[str, Any]], new: list[dict[str, Any]], where: str) -> list[str]:
    """Name the new parameters without which a request of before would be refused."""
    before = by_place(old)
    return [
        f"{where} demands {key}" for key, value in by_place(new).items() if key not in before and value.get("required")
    ]


# The help texts.


def read_statements(text: str) -> list[str]:
    """Take a help text apart: one statement for each option, argument, command, part of the usage, and other line.

    How wide a column is, and so where lines break, depends on the longest option; statements do not.
    """
    usage, _, rest = text.partition("\n\n")
    optional = r"\[[^]]*\](?!\S)"
    # What may be left out may also be new; a new word that must be given is another usage.
    statements = [*re.findall(optional, usage), " ".join(re.sub(optional, "", usage).split())]
    section = ""
    for line in rest.splitlines():
        indent = len(line) - len(line.lstrip())
        if not line:
            section = ""
        elif indent == 0 and line.endswith(":"):
            section = line
        elif section and indent == 2:
            term, *description = re.split(r"\s{2,}", line.strip(), maxsplit=1)
            statements.append(" ".join((section, term, *description)))
        elif section:
            statements[-1] += f" {line.strip()}"
        else:
            statements.append(line.strip())
    return statements


def find_lost_statements(old: str, new: str) -> list[str]:
    said = read_statements(new)
    return [statement for statement in read_statements(old) if statement not in said]


# What the code says.


def read_document() -> dict[str, Any]:
    document = json.loads(json.dumps(create_app(ServerOptions()).openapi()))
    del document["info"]["version"]  # of the package
    return document


def load_page_writer() -> Any:
    spec = importlib.util.spec_from_file_location("write_cli", ROOT / "docs" / "write_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command_of(file: Path) -> str:
    return "" if file.stem == "voxtral" else file.stem


def write_interface() -> None:
    """Put what the code says now in the place of what it said."""
    document = json.dumps(read_document(), indent=1, ensure_ascii=False)
    (INTERFACE / "openapi.json").write_text(f"{document}\n", encoding="utf-8")
    writer = load_page_writer()
    for command in writer.COMMANDS:
        text = writer.help_text(command).rstrip()
        (INTERFACE / "help" / f"{command or 'voxtral'}.txt").write_text(f"{text}\n", encoding="utf-8")


OLD_DOCUMENT = json.loads((INTERFACE / "openapi.json").read_text(encoding="utf-8"))
OLD_HELP = sorted((INTERFACE / "help").glob("*.txt"))


def test_the_document_still_says_all_that_it_said() -> None:
    assert find_losses(OLD_DOCUMENT, read_document()) == []


@needs_pinned("typer")
def test_every_help_text_still_says_all_that_it_said() -> None:
    writer = load_page_writer()
    assert {command_of(file) for file in OLD_HELP} >= {"", "speak", "serve", "batch", "doctor"}
    for file in OLD_HELP:
        lost = find_lost_statements(file.read_text(encoding="utf-8"), writer.help_text(command_of(file)))
        assert lost == [], f"voxtral {command_of(file)} --help"


# The comparisons themselves.


def sample_document() -> dict[str, Any]:
    """A part of the document that has everything, so that all of it can be taken away in turn."""
    document = copy.deepcopy(OLD_DOCUMENT)
    document["paths"] = {path: document["paths"][path] for path in ("/v1/audio/voices", "/v1/audio/voices/{voice_id}")}
    return document


SAMPLE = sample_document()


def places(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(part[key], (*path, key))


def part_at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def test_nothing_can_be_taken_from_the_document() -> None:
    document = sample_document()
    paths = list(places(document))
    assert {"parameters", "properties", "responses", "headers", "security", "enum", "required", "default"} <= {
        key for path in paths for key in path
    }
    for path in paths:
        holder, key = part_at(document, path[:-1]), path[-1]
        before = copy.copy(holder)
        del holder[key]
        assert find_losses(SAMPLE, document), path
        holder.clear()
        holder.extend(before) if isinstance(holder, list) else holder.update(before)
    assert document == SAMPLE


def test_nothing_can_be_changed_in_the_document() -> None:
    document = sample_document()
    for path in list(places(document)):
        holder, key = part_at(document, path[:-1]), path[-1]
        before = holder[key]
        if isinstance(before, dict | list):
            continue
        holder[key] = f"{before} " if isinstance(before, str) else not before
        assert find_losses(SAMPLE, document), path
        holder[key] = before


VOICES = ("paths", "/v1/audio/voices")


def add(document: dict[str, Any], *path: Any, value: Any) -> None:
    holder = part_at(document, path[:-1])
    holder.append(value) if isinstance(holder, list) else holder.update({path[-1]: value})


def parameter(*, required: bool) -> dict[str, Any]:
    return {"name": "more", "in": "query", "required": required, "schema": {"type": "string"}}


FIELDS = (*VOICES, "post", "requestBody", "content", "multipart/form-data", "schema")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("paths", "/v1/new"), {"get": {}}),
        ((*VOICES, "put"), {"responses": {}}),
        ((*VOICES, "get", "parameters", ...), parameter(required=False)),
        ((*VOICES, "post", "parameters", ...), parameter(required=False)),
        ((*VOICES, "get", "responses", "418"), {"description": "A teapot."}),
        ((*VOICES, "get", "responses", "200", "headers", "X-More"), {"schema": {"type": "string"}}),
        ((*VOICES, "get", "responses", "200", "content", "text/csv"), {}),
        ((*FIELDS, "properties", "more"), {"type": "string"}),
        (("components", "schemas", "More"), {"type": "object"}),
        (("components", "securitySchemes", "more"), {"type": "http"}),
    ],
)
def test_additions_to_the_document_are_no_loss(path: tuple[Any, ...], value: Any) -> None:
    document = sample_document()
    add(document, *path, value=value)
    assert document != SAMPLE
    assert find_losses(SAMPLE, document) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*VOICES, "get", "parameters", ...), parameter(required=True)),
        ((*VOICES, "post", "parameters", ...), parameter(required=True)),
        ((*VOICES, "get", "deprecated"), True),
        ((*VOICES, "get", "security"), []),
        ((*VOICES, "get", "parameters", 0, "schema", "pattern"), "a+"),
        ((*FIELDS, "required", ...), "more"),
        ((*FIELDS, "properties", "name", "maxLength"), 1),
        (("components", "schemas", "VoiceId", "required", ...), "more"),
        (("security", ...), {"key": []}),
    ],
)
def test_additions_that_ask_more_of_a_client_are_a_loss(path: tuple[Any, ...], value: Any) -> None:
    document = sample_document()
    add(document, *path, value=value)
    assert len(find_losses(SAMPLE, document)) == 1


CHANGES: dict[str, Callable[[str], str]] = {
    "gone": lambda line: "",
    "longer": lambda line: f"{line} more",
    "other": lambda line: line.replace("e", "a"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_line_of_a_help_text_can_go_or_change(change: Callable[[str], str]) -> None:
    for file in OLD_HELP:
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines()
        assert find_lost_statements(text, text) == []
        for index, line in enumerate(lines):
            changed = change(line)
            if line and changed != line:
                assert find_lost_statements(text, "\n".join([*lines[:index], changed, *lines[index + 1 :]])), line


def test_a_longer_option_moves_the_others_and_takes_nothing_away() -> None:
    before = (
        "Usage: voxtral x [OPTIONS]\n\n  Do it.\n\nOptions:\n  --to DIR  A folder to fill\n            with files.\n"
    )
    after = (
        "Usage: voxtral x [OPTIONS] [TEXT]\n\n  Do it.\n\n  And more.\n\nOptions:\n"
        "  --another-one X  Longer.\n  --to DIR         A folder to\n                   fill with files.\n"
    )
    assert find_lost_statements(before, after) == []
    assert find_lost_statements(after, before) == ["[TEXT]", "And more.", "Options: --another-one X Longer."]


def test_an_option_that_stands_under_another_heading_is_not_the_same() -> None:
    before = "Usage: x\n\nOptions:\n  --to DIR  A folder.\n\nArguments:\n  NAME  A name.\n"
    after = "Usage: x\n\nArguments:\n  NAME  A name.\n  --to DIR  A folder.\n"
    assert find_lost_statements(before, after) == ["Options: --to DIR A folder."]


if __name__ == "__main__":
    write_interface()
