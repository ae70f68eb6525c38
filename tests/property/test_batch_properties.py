"""Names and journals of batches, for any name, any line and any moment of a crash."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from voxtral.errors import TextError, VoiceError
from voxtral.jobs.inputs import Entry, check_name, plan_files, read_entries
from voxtral.jobs.manifest import MANIFEST_FILE, Manifest, caption_file

NAMES = st.one_of(st.text(max_size=12), st.text(alphabet="aA./\\-: \u00e9e\u0301", max_size=6), st.text(min_size=240))


@given(NAMES)
@example("..")
@example("a/../b")
@example("CON")
@example("lpt1.part")
@example("a" * 252)
@example("\ud800")
def test_a_name_that_is_taken_makes_a_visible_file_in_its_folder(name: str) -> None:
    if check_name(name, "wav") is not None:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.wav"
        path.write_bytes(b"x")
        assert [found.name for found in Path(folder).iterdir()] == [f"{name}.wav"]
        assert not name.startswith((".", "-"))
        assert name.split(".")[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt9")


@given(st.lists(NAMES, max_size=6))
def test_planned_files_have_names_that_no_file_system_takes_for_the_same(names: list[str]) -> None:
    entries = [Entry(f"line {number}", name, {"text": "a"}) for number, name in enumerate(names)]
    planned, problems = plan_files(entries, {}, 0, "wav")
    assert len(planned) == len(names)
    if not problems:
        assert len({one.file.casefold() for one in planned}) == len(names)
    assert {problem.where for problem in problems} <= {entry.where for entry in entries}


LINES = st.one_of(
    st.text(max_size=20),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "seed", "x"]), inner),
        max_leaves=5,
    ).map(json.dumps),
)


@given(st.lists(LINES, max_size=4))
@example(["[" * 100_000])
@example(['{"text": "a", "text": "b"}'])
@example(['{"text": "a", "seed": 1' + "0" * 5000 + "}"])
def test_any_line_is_an_entry_or_a_problem_with_its_number(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        try:
            entries, problems = read_entries(path, None)
        except TextError:
            return  # not UTF-8
        wheres = [entry.where for entry in entries] + [problem.where for problem in problems]
        assert len(wheres) == len(set(wheres))
        assert all(isinstance(entry.options["text"], str) for entry in entries)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "made",
                "killed",
                "killed in a line",
                "killed after the line",
                "killed before the captions",
                "failed",
                "edited",
                "removed",
            ]
        ),
        st.sampled_from(["a.wav", "b.wav"]),
        st.integers(1, 3),
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(STEPS)
def test_after_any_crash_the_journal_knows_what_is_whole(steps: list[tuple[str, str, int]]) -> None:
    """Each step is a run that may be killed; the next one looks at what it left, beside a simple model of it."""
    expected: dict[str, tuple[str, str | None]] = {}  # state and digest
    # Waiting for the disk would take most of the time.
    with tempfile.TemporaryDirectory() as name, mock.patch("os.fsync"):
        folder = Path(name)
        for moment, (step, file, number) in enumerate(steps):
            if step == "edited":
                # Of a size that nothing else has; a change that keeps the size is not seen.
                (folder / file).write_bytes(b"x" * (100 + moment))
                expected[file] = ("foreign", None)
            elif step == "removed":
                (folder / file).unlink(missing_ok=True)
                expected[file] = ("new", None)
            else:
                expected[file] = one_run(folder, file, step, number, expected.get(file, ("new", None)))
            with Manifest(folder) as manifest:
                for each, (state, digest) in expected.items():
                    assert manifest.state(each, digest) == state
                    assert manifest.state(each, digest, captions=("srt",)) == state
                    assert state != "done" or manifest.state(each, digest, captions=("vtt",)) == "changed"
                    assert manifest.foreign({each: ("srt",)}) == ([each] if state == "foreign" else [])
                    assert state != "done" or manifest.state(each, "another") == "changed"
            names = {"a.wav", "b.wav", "a.srt", "b.srt", MANIFEST_FILE}
            assert {path.name for path in folder.iterdir()} <= names


def one_run(folder: Path, file: str, step: str, number: int, before: tuple[str, str | None]) -> tuple[str, str | None]:
    """Do what a run does until it is killed, and say what the next one should find."""
    manifest = Manifest(folder).__enter__()
    found = before if before[0] == "new" else ("changed", None)
    manifest.claim({file: ("srt",)})
    part, captions = manifest.part(file), folder / caption_file(file, "srt")
    if step == "failed":
        manifest.fail(file, 1, VoiceError("no voice"))
    else:
        part.write_bytes(b"audio" * number)
        manifest.write_captions(file, "srt", b"srt" * number)
    if step in ("made", "killed after the line", "killed before the captions"):
        manifest.commit(file, str(number), seed=1, duration_s=1.0, captions=["srt"])
        found = ("done", str(number))
    # As if it had not been moved yet.
    if step in ("killed after the line", "killed before the captions"):
        captions.replace(manifest.part(captions.name))
    if step == "killed after the line":
        (folder / file).replace(part)
    if step in ("made", "failed"):
        manifest.__exit__(None, None, None)
        return found
    # A kill: the system closes the file and unlocks it, and nothing is tidied up.
    os.close(manifest._descriptor)
    if step == "killed in a line":
        with (folder / MANIFEST_FILE).open("ab") as journal:
            journal.write(b'{"file": "a.wav", "dig')
    return found
