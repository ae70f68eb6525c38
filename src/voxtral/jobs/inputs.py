"""The texts of a batch, from text files, JSON lines, a folder or items of Python, as named, checked requests.

Everything that needs no model is checked here, and everything that is wrong is told at once, with its file and line.
It knows no output folder; read next: `voxtral.jobs.run`, which makes the files.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from voxtral.disk import UnfitFileError, is_file, is_folder, look, may_use, open_regular, why
from voxtral.errors import RequestError, TextError
from voxtral.options import OPTIONS
from voxtral.speech.batch import BatchItem, item_options, item_seed, merge_options, own_name
from voxtral.speech.request import check_options, make_request
from voxtral.text.clean import check_early
from voxtral.text.files import read_text, unreadable
from voxtral.text.graphemes import find_invisible
from voxtral.text.language import resolve_language
from voxtral.types import SpeechRequest

_KEYS = [option for option in OPTIONS if option.is_key]
_OTHERS = ("number", "whole", "switch")
_STRINGS = ("text", "name", *(option.name for option in _KEYS if option.kind not in _OTHERS))
KEYS = (*_STRINGS, *(option.name for option in _KEYS if option.kind in _OTHERS))
"""What a line of JSON may have; whatever is no string is checked like any option."""

# Longest name of a file in bytes, and what Windows, FAT and shells make trouble with: audio is copied to all of them.
_MAX_NAME_BYTES = 255
_UNSAFE = frozenset('/\\<>:"|?*')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)

# How a line ends that ends a sentence.
_ENDS = tuple(".!?…:;।॥。！？؟")
_CLOSERS = "\"'”’“»«›‹)]}」』_* "

# How many faults, or names of files, one message holds.
_MAX_TOLD = 20


class Split(StrEnum):
    """The values of --split: what of a text file becomes a file of audio."""

    LINES = "lines"
    PARAGRAPHS = "paragraphs"
    NONE = "none"


@dataclass(frozen=True)
class Entry:
    """One text as it was read.

    Attributes:
        where: file and line, or its place among items, for people.
        name: what it is called; not checked yet.
        options: keywords of `synthesize`, the text among them; or a whole request, to which no common option applies.
    """

    where: str
    name: str
    options: Mapping[str, Any] | SpeechRequest


@dataclass(frozen=True)
class Problem:
    """What is wrong with one text, or should be known of it.

    Attributes:
        where: as of the entry.
        message: what was got, what the rule is, what to do.
    """

    where: str
    message: str


@dataclass(frozen=True)
class BatchFile:
    """One file of audio of a batch, to be made or made already.

    Attributes:
        item: name, request and place in the input.
        where: as of the entry.
        file: its name in the output folder.
        captions: formats of the captions beside it.
    """

    item: BatchItem
    where: str
    file: str
    captions: tuple[str, ...] = ()


def choose_split(source: Path, split: Split | None) -> tuple[Split | None, str | None]:
    """Choose how the texts of a source are cut where nobody says it.

    Args:
        source: as of `read_entries`.
        split: what is said.

    Returns:
        The way; None for what is not cut. And what a person should know of it, with the numbers of files.

    Raises:
        TextError: it may not be read.
    """
    _check_readable(source)
    if source.is_dir():
        return split or Split.NONE, None
    if split is not None or source.suffix.lower() != ".txt":
        return split, None
    try:
        lines = [line for _, line in _lines(source)]
        paragraphs = [text for _, text in _paragraphs(source)]
    except TextError:
        return Split.LINES, None  # told when it is read
    if len(paragraphs) == len(lines):
        return Split.LINES, None
    # Within paragraphs: a line that is followed by another, and whether it leaves a sentence open.
    inner = [line for text in paragraphs for line in text.split("\n")[:-1]]
    is_wrapped = len(inner) > 1 and 2 * sum(not line.rstrip(_CLOSERS).endswith(_ENDS) for line in inner) >= len(inner)
    if len(paragraphs) == 1 and not is_wrapped:
        return Split.LINES, None
    both = f"{len(lines)} lines in {len(paragraphs)} paragraphs"
    if is_wrapped and len(paragraphs) > 1:
        return Split.PARAGRAPHS, f"{source.name} is wrapped text, {both}: each paragraph is a file; see --split"
    if is_wrapped:
        return Split.LINES, (
            f"warning: {source.name} has {len(lines)} lines, and most end inside of a sentence; each becomes a file; "
            "with --split none all become one"
        )
    return Split.LINES, f"{source.name} has {both}: each line is a file; see --split"


def read_entries(source: Path, split: Split | None) -> tuple[list[Entry], list[Problem]]:
    """Read a .txt file, a .jsonl file or a folder of .txt files.

    Args:
        source: the file or folder.
        split: how texts are cut; None for what `choose_split` says.

    Returns:
        The entries in order, and what is wrong with the input.

    Raises:
        TextError: there is no such input, or it is of no kind that is known.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    _check_readable(source)
    try:
        texts = sorted(path for path in source.iterdir() if _is_text(path)) if is_folder(source) else None
        is_there = look(source) is not None
    except OSError as error:
        raise unreadable(str(source), error) from error
    if texts is not None:
        if not texts:
            raise TextError(f"the folder {source} holds no .txt file; each text is a file of its own; add some")
        for path in texts:
            try:
                entries += _read_txt(path, split or Split.NONE)
            except TextError as error:
                problems.append(Problem(path.name, str(error)))
        return entries, problems
    kind = source.suffix.lower()
    if not is_there or kind not in (".txt", ".jsonl"):
        what = f"is a {kind or 'file without an extension'}" if is_there else "does not exist"
        raise TextError(f"{source} {what}; a batch is a .txt file, a .jsonl file or a folder of .txt files; name one")
    if kind == ".txt":
        return list(_read_txt(source, split or choose_split(source, split)[0] or Split.LINES)), problems
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


def list_entries(texts: Iterable[Any]) -> tuple[list[Entry], list[Problem]]:
    """Take items of Python as `read_entries` takes files.

    Args:
        texts: each a str, a dict or a SpeechRequest; one without a name is called part0001, part0002 and so on, by its
            place.

    Returns:
        The entries in order, and what is wrong with the items.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    for index, given in enumerate(texts):
        where = f"item {index}"
        try:
            name = own_name(given) or f"part{index + 1:04d}"
            entries.append(Entry(where, name, given if isinstance(given, SpeechRequest) else item_options(given)))
        except RequestError as error:
            problems.append(Problem(where, str(error)))
    return entries, problems


def plan_files(
    entries: list[Entry], common: Mapping[str, Any], seed: int, extension: str, captions: Sequence[str] = ()
) -> tuple[list[BatchFile], list[Problem]]:
    """Turn entries into files to be made, and say what is wrong with them.

    Args:
        entries: as read.
        common: keywords of `synthesize` for entries that do not say otherwise.
        seed: of the batch; see `item_seed`.
        extension: of the files, without a dot.
        captions: formats of captions beside each; one whose times of words are wanted has json, too.
    """
    planned: list[BatchFile] = []
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
            beside = _beside(request, captions)
            problem = problem or next((found for kind in beside if (found := check_name(entry.name, kind))), None)
            request = replace(request, timestamps=bool(beside))
            planned.append(BatchFile(BatchItem(index, entry.name, request), entry.where, file, beside))
        if problem is not None:
            problems.append(Problem(entry.where, problem))
    return planned, problems


def _beside(request: SpeechRequest, captions: Iterable[str]) -> tuple[str, ...]:
    """List the formats of the captions of one text."""
    formats = tuple(captions)
    return (*formats, "json") if request.timestamps and "json" not in formats else formats


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
    if invisible := find_invisible(name):
        return f"the name {shown!r} holds {invisible!a}, which nobody sees; {rule}"
    if not name or name != name.strip() or name[0] in ".-":
        return f"the name {shown!r} is empty, begins with a dot or dash, or has spaces around it; {rule}"
    if _RESERVED.fullmatch(name):
        return f"the name {shown!r} is reserved on Windows; {rule}"
    if len(f"{name}.{extension}".encode()) > _MAX_NAME_BYTES:
        return f"the name {shown!r} has more than {_MAX_NAME_BYTES} bytes with its extension; {rule}"
    return None


def describe_problems(problems: Iterable[Problem]) -> list[str]:
    """Write each fault as a line: the same fault of many texts once, and no more faults than are read.

    >>> describe_problems([Problem("a:1", "no voice"), Problem("a:2", "no text"), Problem("a:3", "no voice")])
    ['a:1 and 1 more: no voice', 'a:2: no text']
    """
    places: dict[str, list[str]] = {}
    for problem in problems:
        places.setdefault(problem.message, []).append(problem.where)
    lines = [
        f"{where[0]}{f' and {len(where) - 1} more' if len(where) > 1 else ''}: {message}"
        for message, where in list(places.items())[:_MAX_TOLD]
    ]
    return lines + ([f"and {len(places) - _MAX_TOLD} more faults"] if len(places) > _MAX_TOLD else [])


def name_files(files: Sequence[str]) -> str:
    """Name files in a message, the first of many only.

    >>> name_files(["a.wav", "b.wav"])
    'a.wav, b.wav'
    """
    return ", ".join(files[:_MAX_TOLD]) + (", ..." if len(files) > _MAX_TOLD else "")


def _check_readable(source: Path) -> None:
    """Refuse what is there and may not be read, or cannot be looked at; what is not there is no matter here.

    Raises:
        TextError: why it cannot be read.
    """
    try:
        mode = source.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise unreadable(str(source), error) from error
    wanted = os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)
    if not may_use(source, wanted):
        raise unreadable(str(source), PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _is_text(path: Path) -> bool:
    return path.suffix.lower() == ".txt" and not path.name.startswith(".") and is_file(path)


def _read_regular_text(path: Path) -> str:
    """Read a text that a later run can read again; errors as in `read_text`, and what is no regular file is refused."""
    try:
        open_regular(path).close()
    except UnfitFileError as error:
        raise TextError(f"{path} {error}; a batch reads its texts again when it goes on; name a file") from error
    except OSError as error:
        raise unreadable(str(path), error) from error
    return read_text(path)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give the lines that are not blank, with their numbers."""
    # Not splitlines: a form feed or U+2028 may stand inside a text.
    for number, line in enumerate(_read_regular_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def _paragraphs(path: Path) -> Iterator[tuple[int, str]]:
    """Give what stands between blank lines, with the number of its first line."""
    lines: list[str] = []
    for number, line in enumerate([*_read_regular_text(path).split("\n"), ""], start=1):
        if line.strip():
            lines.append(line.rstrip())
        elif lines:
            yield number - len(lines), "\n".join(lines)
            lines = []


def _read_txt(path: Path, split: Split) -> Iterator[Entry]:
    if split is Split.NONE:
        yield Entry(path.name, path.stem, {"text": _read_regular_text(path)})
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
    found = cast("dict[str, Any]", found)
    if unknown := next((key for key in found if key not in KEYS), None):
        raise ValueError(f"the key {unknown!r} is unknown; known are {', '.join(KEYS)}")
    given: dict[str, Any] = {key: value for key, value in found.items() if value is not None}
    if wrong := next((key for key in _STRINGS if not isinstance(given.get(key, ""), str)), None):
        raise ValueError(f"{wrong} is {given[wrong]!r}; it must be a string")
    if "text" not in given:
        raise ValueError("there is no text; every line needs the key `text`")
    return given


def _make_checked(common: Mapping[str, Any], own: Mapping[str, Any] | SpeechRequest) -> SpeechRequest:
    request = own if isinstance(own, SpeechRequest) else make_request(**merge_options(common, own))
    check_options(request)
    # What a program passes may be of any kind; the model's own check refuses texts and languages that are no str.
    text, language = cast(Any, request.text), cast(Any, request.language)
    if isinstance(language, str):
        resolve_language(language)
    if isinstance(text, str) and request.emoji == "off":
        check_early(text, request.normalize)
    _check_clip(request.reference_audio)
    return request


def _check_clip(clip: Any) -> None:
    if isinstance(clip, str | os.PathLike):
        path = os.fspath(cast("str | os.PathLike[str]", clip))
        try:
            os.stat(path)
        except FileNotFoundError as error:
            raise RequestError(f"the clip {path!r} does not exist; name an audio file to clone from") from error
        except (OSError, ValueError) as error:
            raise RequestError(
                f"the clip {path!r} cannot be read ({why(error)}); a voice is cloned from an audio file; check the "
                "path and its permissions"
            ) from error
    elif clip is not None and not isinstance(clip, bytes | bytearray | memoryview | tuple):
        raise RequestError(
            f"reference_audio is a {type(clip).__name__}; it must be a path, bytes or (samples, rate), which can be "
            "compared in a later run; read an open file first"
        )
