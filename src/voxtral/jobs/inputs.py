"""What `voxtral batch` reads: lines, paragraphs, JSON lines or a folder of texts, turned into named, checked requests.

Everything that needs no model is checked here, and everything that is wrong is told at once, with its file and line.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from voxtral.errors import RequestError, TextError
from voxtral.options import OPTIONS
from voxtral.speech.batch import BatchItem, item_seed, merge_options
from voxtral.speech.request import check_options, make_request
from voxtral.text.files import read_text
from voxtral.text.language import check_speakable, resolve_language

_KEYS = [option for option in OPTIONS if option.is_key]
_STRINGS = ("text", "name", *(option.name for option in _KEYS if option.low is None))
KEYS = (*_STRINGS, *(option.name for option in _KEYS if option.low is not None))
"""What a line of JSON may have; whatever is a number is checked like any option."""

# Longest name of a file in bytes, and what Windows, FAT and shells make trouble with: audio is copied to all of them.
_MAX_NAME_BYTES = 255
_UNSAFE = frozenset('/\\<>:"|?*')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


class Split(StrEnum):
    """The values of --split: what of a text file becomes a file of audio."""

    LINES = "lines"
    PARAGRAPHS = "paragraphs"
    NONE = "none"


@dataclass(frozen=True)
class Entry:
    """One text as it was read.

    Attributes:
        where: file and line, for people.
        name: what it is called; not checked yet.
        options: keywords of `synthesize`, the text among them.
    """

    where: str
    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """What is wrong with one text.

    Attributes:
        where: file and line, for people.
        message: what was got, what the rule is, what to do.
    """

    where: str
    message: str


@dataclass(frozen=True)
class PlannedFile:
    """One file of audio to be made.

    Attributes:
        item: name, request and place in the input.
        where: file and line of the text, for people.
        file: its name in the output folder.
    """

    item: BatchItem
    where: str
    file: str


def read_entries(source: Path, split: Split | None) -> tuple[list[Entry], list[Problem]]:
    """Read a .txt file, a .jsonl file or a folder of .txt files.

    Args:
        source: the file or folder.
        split: how texts are cut; None for lines of a file, whole files of a folder.

    Returns:
        The entries in order, and what is wrong with the input.

    Raises:
        TextError: there is no such input, or it is of no kind that is known.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    if source.is_dir():
        texts = sorted(path for path in source.iterdir() if _is_text(path))
        if not texts:
            raise TextError(f"the folder {source} holds no .txt file; each text is a file of its own; add some")
        for path in texts:
            try:
                entries += _read_txt(path, split or Split.NONE)
            except TextError as error:
                problems.append(Problem(path.name, str(error)))
        return entries, problems
    kind = source.suffix.lower()
    if not source.exists() or kind not in (".txt", ".jsonl"):
        what = f"is a {kind or 'file without an extension'}" if source.exists() else "does not exist"
        raise TextError(f"{source} {what}; a batch is a .txt file, a .jsonl file or a folder of .txt files; name one")
    if kind == ".txt":
        return list(_read_txt(source, split or Split.LINES)), problems
    if split is not None:
        raise TextError(f"{source} is .jsonl, whose lines are texts already; --split is for .txt; leave it out")
    for number, line in _lines(source):
        where = f"{source.name}:{number}"
        try:
            options = _parse(line)
        except ValueError as error:
            problems.append(Problem(where, str(error)))
            continue
        name = options.pop("name", None) or _part_name(source, len(entries) + len(problems) + 1)
        entries.append(Entry(where, name, options))
    return entries, problems


def plan_files(
    entries: list[Entry], common: Mapping[str, Any], seed: int, extension: str
) -> tuple[list[PlannedFile], list[Problem]]:
    """Turn entries into files to be made, and say what is wrong with them.

    Args:
        entries: as read.
        common: keywords of `synthesize` for entries that do not say otherwise.
        seed: of the batch; see `item_seed`.
        extension: of the files, without a dot.
    """
    planned: list[PlannedFile] = []
    problems: list[Problem] = []
    taken: dict[str, str] = {}
    for index, entry in enumerate(entries):
        file = f"{entry.name}.{extension}"
        problem = check_name(entry.name, extension)
        # Some file systems take names for the same that differ in case or in how an accent is written.
        owner = taken.setdefault(unicodedata.normalize("NFC", file).casefold(), entry.where)
        if problem is None and owner != entry.where:
            problem = f"the name {entry.name!r} is taken by {owner}; every text needs a name of its own; change one"
        try:
            request = _make_checked(common, entry.options)
        except RequestError as error:
            problem = problem or str(error)
        else:
            if request.seed is None:
                request = replace(request, seed=item_seed(seed, entry.name))
            planned.append(PlannedFile(BatchItem(index, entry.name, request), entry.where, file))
        if problem is not None:
            problems.append(Problem(entry.where, problem))
    return planned, problems


def check_name(name: str, extension: str) -> str | None:
    r"""Say what is wrong with a name for a file, or None.

    >>> check_name("chapter1_part0001", "wav")
    >>> check_name("../etc/passwd", "wav")
    "the name '../etc/passwd' holds '/'; it becomes the name of a file on any system; change it"
    """
    rule = "it becomes the name of a file on any system; change it"
    shown = name if len(name) <= 60 else name[:60] + "..."
    if odd := next((character for character in name if character in _UNSAFE or not character.isprintable()), None):
        return f"the name {shown!r} holds {odd!r}; {rule}"
    if not name or name != name.strip() or name[0] in ".-":
        return f"the name {shown!r} is empty, begins with a dot or dash, or has spaces around it; {rule}"
    if _RESERVED.fullmatch(name):
        return f"the name {shown!r} is reserved on Windows; {rule}"
    if len(f"{name}.{extension}".encode()) > _MAX_NAME_BYTES:
        return f"the name {shown!r} has more than {_MAX_NAME_BYTES} bytes with its extension; {rule}"
    return None


def _is_text(path: Path) -> bool:
    return path.suffix.lower() == ".txt" and not path.name.startswith(".") and path.is_file()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give the lines that are not blank, with their numbers."""
    # Not splitlines: a form feed or U+2028 may stand inside a text.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def _paragraphs(path: Path) -> Iterator[tuple[int, str]]:
    """Give what stands between blank lines, with the number of its first line."""
    lines: list[str] = []
    for number, line in enumerate([*read_text(path).split("\n"), ""], start=1):
        if line.strip():
            lines.append(line.rstrip())
        elif lines:
            yield number - len(lines), "\n".join(lines)
            lines = []


def _read_txt(path: Path, split: Split) -> Iterator[Entry]:
    if split is Split.NONE:
        yield Entry(path.name, path.stem, {"text": read_text(path)})
        return
    parts = _lines(path) if split is Split.LINES else _paragraphs(path)
    for part, (number, text) in enumerate(parts, start=1):
        yield Entry(f"{path.name}:{number}", _part_name(path, part), {"text": text})


def _part_name(path: Path, part: int) -> str:
    return f"{path.stem}_part{part:04d}"


def _parse(line: str) -> dict[str, Any]:
    """Read one line of JSON.

    Raises:
        ValueError: it is no object of the known keys with values of their kinds.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise ValueError(f"the key {twice!r} is there twice; leave one out")
        return dict(pairs)

    try:
        found: Any = json.loads(line, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg} at character {error.pos + 1}); a line is one JSON object") from error
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply; a line is one flat JSON object") from error
    if not isinstance(found, dict):
        raise ValueError(f"a JSON {type(found).__name__}; a line is one JSON object")
    if unknown := next((key for key in found if key not in KEYS), None):
        raise ValueError(f"the key {unknown!r} is unknown; known are {', '.join(KEYS)}")
    given: dict[str, Any] = {key: value for key, value in found.items() if value is not None}
    if wrong := next((key for key in _STRINGS if not isinstance(given.get(key, ""), str)), None):
        raise ValueError(f"{wrong} is {given[wrong]!r}; it must be a string")
    if "text" not in given:
        raise ValueError("there is no text; every line needs the key `text`")
    return given


def _make_checked(common: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    request = make_request(**merge_options(common, own))
    check_options(request)
    if request.language is not None:
        resolve_language(request.language)
    if request.normalize == "off":
        check_speakable(request.text)
    if isinstance(request.reference_audio, str) and not os.path.exists(request.reference_audio):
        raise RequestError(f"the clip {request.reference_audio!r} does not exist; name an audio file to clone from")
    return request
