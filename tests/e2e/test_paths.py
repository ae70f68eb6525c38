"""Every option that takes a path, given what cannot be used: one line says what is wrong, exit 1, nothing is left."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from voxtral.cli.main import run
from voxtral.errors import TextError
from voxtral.jobs.inputs import read_entries
from voxtral.loading import hub

LONG = "x" * 300
# No model is there, so that whatever names the model was not refused before one was looked for.
NO_MODEL = ("--model", "./no-model")
NOBODY = 65534

Call = Callable[..., list[str]]


@pytest.fixture
def workplace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody may use, with what cannot be used in it."""
    # Those above tmp_path are closed to others.
    folder = Path(tempfile.mkdtemp(prefix="voxtral-paths-"))
    folder.chmod(0o777)
    monkeypatch.chdir(folder)
    for name in ("t.txt", "clip.wav", "closed.txt", "closed.wav", "closed.safetensors", "closed.jsonl"):
        (folder / name).write_text("Hello.")
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere.txt").symlink_to("nothing")
    for name in ("read-only", "closed"):
        (folder / name).mkdir()
    (folder / "closed" / "t.txt").write_text("Hello.")
    (folder / "closed" / "params.json").write_text("{}")
    for path in folder.glob("closed*"):
        path.chmod(0)
    (folder / "read-only").chmod(0o555)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module", autouse=True)
def loaded_modules() -> None:
    """Import what the commands do: where Python lies in root's home, nobody else can."""
    for module in (
        *("speak", "batch", "voices", "codec", "quantize", "serve", "download"),
        *("files", "loading", "options", "progress", "terminal"),
    ):
        importlib.import_module(f"voxtral.cli.{module}")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        Path("t.txt").write_text("Hello.")
        for command in WRITING:
            run([*command, "-o", f"missing/a{WRITING[command]}"])
        for command in (
            ("speak", "Hello.", "-o", "a.wav", *NO_MODEL),
            ("batch", "t.txt", "-o", "book", *NO_MODEL),
            ("batch", "t.txt", "-o", "book", "--reference", "missing", *NO_MODEL),
            ("decode", "missing", "-o", "a.wav", *NO_MODEL),
            ("voices", *NO_MODEL),
            ("serve", *NO_MODEL),
            ("doctor", "--vectors", "missing", "--model", "nano"),
            ("doctor", *NO_MODEL),
        ):
            assert run(list(command)) == 1


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user without rights, which root is not."""
    if not hasattr(os, "seteuid"):
        pytest.skip("this system has no such users")
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if before == 0:
            os.seteuid(0)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], workplace: Path) -> Call:
    """Call a command that must fail, and give its lines."""

    def call(*arguments: str) -> list[str]:
        before = sorted(path.name for path in workplace.iterdir())
        with as_nobody():
            code = run(list(arguments))
        captured = capsys.readouterr()
        assert code == 1, captured.err
        assert "Traceback" not in captured.err
        assert sorted(path.name for path in workplace.iterdir()) == before
        return captured.err.splitlines()

    return call


FOLDERS = {
    f"{LONG}": "File name too long",
    f"{LONG}/a": "File name too long",
    "closed/a": "Permission denied",
    "loop/a": "symbolic links",
}
TARGETS = {
    **FOLDERS,
    "read-only/a": "may not write to read-only",
    "t.txt/a": "its folder must exist",
    "missing/a": "its folder must exist",
}
# Each command that writes, with the extension of what it writes.
WRITING = {
    ("speak", "Hello.", *NO_MODEL): ".wav",
    ("clone", "clip.wav", *NO_MODEL): ".safetensors",
    ("encode", "clip.wav", *NO_MODEL): ".safetensors",
    ("decode", "t.txt", *NO_MODEL): ".wav",
    ("quantize", "nano"): "",
}


@pytest.mark.parametrize("command", WRITING, ids=lambda command: command[0])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target[-12:])
def test_a_target_that_cannot_be_written_is_refused_before_any_work(
    refused: Call, command: tuple[str, ...], target: str
) -> None:
    (line,) = refused(*command, "-o", f"{target}{WRITING[command]}")
    assert line.startswith("error: ")
    assert "cannot be written" in line
    assert TARGETS[target] in line


@pytest.mark.parametrize("target", [*FOLDERS, "read-only/a", "t.txt/a", "loop", "t.txt"], ids=lambda path: path[-12:])
def test_a_folder_of_a_batch_that_cannot_be_made_is_refused(refused: Call, target: str) -> None:
    (line,) = refused("batch", "t.txt", "-o", target, *NO_MODEL)
    assert "cannot be made (" in line


SOURCES = {
    "closed.txt": "Permission denied",
    "closed/t.txt": "Permission denied",
    "loop": "symbolic links",
    "nowhere.txt": "No such file",
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_text_that_may_not_be_read_is_not_spoken_as_its_path(refused: Call, source: str) -> None:
    (line,) = refused("speak", source, "-o", "a.wav", *NO_MODEL)
    assert line.startswith(f"error: {source} cannot be read ({SOURCES[source]}") or SOURCES[source] in line
    assert "cannot be read" in line


@pytest.mark.parametrize("text", [LONG, "and/or", "either \0 or", f"{LONG}.", "t.txt/and more", "  "])
def test_a_text_that_is_no_path_is_a_text(refused: Call, text: str) -> None:
    (line,) = refused("speak", text, "-o", "a.wav", *NO_MODEL)
    assert "no-model does not exist" in line or "the text" in line


@pytest.mark.parametrize("source", ["closed.txt", "closed/t.txt", "closed", "loop", "closed.jsonl", f"{LONG}.txt"])
def test_a_source_of_a_batch_that_may_not_be_read_is_named(refused: Call, source: str) -> None:
    (line,) = refused("batch", source, "-o", "book", *NO_MODEL)
    assert line.startswith(f"error: {source} cannot be read (")


CLIPS = {**SOURCES, f"{LONG}.wav": "File name too long", "missing.wav": "does not exist", "closed.wav": "Permission"}
CLIPS["nowhere.txt"] = "does not exist"


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip[-12:])
def test_a_clip_is_said_to_be_missing_only_if_it_is(refused: Call, clip: str) -> None:
    for command in (
        ("speak", "Hello.", "-o", "a.wav", "--reference", clip),
        ("clone", clip, "-o", "a.safetensors"),
        ("encode", clip, "-o", "a.safetensors"),
    ):
        (line,) = refused(*command, *NO_MODEL)
        assert CLIPS[clip] in line
    if not clip.startswith("closed."):  # a batch finds the permissions of a file when it opens it
        problem, _ = refused("batch", "t.txt", "-o", "book", "--reference", clip, *NO_MODEL)
        assert CLIPS[clip] in problem


MODELS = {
    "./closed/x": "Permission denied",
    "closed/x": "Permission denied",
    "./closed": "Permission denied",
    "./loop": "symbolic links",
    f"./{LONG}": "File name too long",
    "./t.txt": "is not a folder",
    "./missing": "does not exist",
}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model[-12:])
def test_a_model_is_said_to_be_missing_only_if_it_is(refused: Call, model: str) -> None:
    for command in (("speak", "Hello.", "-o", "a.wav"), ("voices",), ("doctor",)):
        line = refused(*command, "--model", model)[-1]
        assert MODELS[model] in line


@pytest.mark.parametrize("codes", ["closed.safetensors", "closed/t.txt", "loop", LONG, "t.txt/x", "read-only"])
def test_codes_that_cannot_be_read_are_named_with_the_reason(refused: Call, codes: str) -> None:
    (line,) = refused("decode", codes, "-o", "a.wav", *NO_MODEL)
    assert line.startswith(f"error: {codes} ")
    assert "No such file" not in line


def test_keys_and_vectors_that_cannot_be_read_are_named_with_the_reason(refused: Call) -> None:
    for path in ("closed.txt", "loop", LONG):
        (line,) = refused("serve", "--api-key-file", path, *NO_MODEL)
        assert "cannot be read" in line
        line = refused("doctor", "--vectors", path, "--model", "nano")[-1]
        assert line.startswith("error: ")


def test_a_name_of_the_greatest_length_is_one(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longest = "n" * 255
    assert run(["quantize", "nano", "-o", longest, "--bits", "int8", "-q"]) == 0, capsys.readouterr().err
    assert (workplace / longest / "params.json").is_file()
    with pytest.raises(TextError, match="Permission denied"), as_nobody():
        read_entries(Path("closed.txt"), None)


@pytest.mark.parametrize("code", ["ENOSPC", "EROFS", "EACCES", "EIO"])
def test_whatever_else_a_disk_refuses_is_a_line(refused: Call, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Also where nobody thought of it: no error of the system ends in a traceback."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), "some/file")

    monkeypatch.setattr(hub, "find_cached", refuse)
    (line,) = refused("voices")
    assert line == (
        f"error: some/file cannot be used ({os.strerror(getattr(errno, code))}); check the path, its permissions and "
        "the disk"
    )
