"""Many texts into a folder of files, for Python: what `voxtral batch` does, as a function.

It joins `inputs`, `manifest` and `run` as the command does, and raises where that prints. docs/BATCH.md is the page
for users.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from voxtral.audio import encode
from voxtral.audio.join import join_audio
from voxtral.captions.formats import FORMATS
from voxtral.errors import AudioError, OptionError, RequestError, TextError, quoted
from voxtral.jobs.inputs import (
    BatchFile,
    Entry,
    Problem,
    Split,
    choose_split,
    describe_problems,
    list_entries,
    name_files,
    plan_files,
    read_entries,
)
from voxtral.jobs.manifest import Manifest, open_folder
from voxtral.jobs.run import BatchProgress, BatchReport, BatchRun, LocalSpeaker, describe_cleaned
from voxtral.options import OPTIONS, PAUSE
from voxtral.speech.batch import MAX_IN_FLIGHT, check_texts
from voxtral.speech.planner import Warn
from voxtral.speech.request import check_number, check_options, make_request
from voxtral.speech.speaker import BatchText

# The command line has these as floats, and 2 and 2.0 would be told apart as something that a file was made from.
_REALS = tuple(option.name for option in OPTIONS if option.is_key and option.kind == "number")

Texts = str | os.PathLike[str] | Iterable[BatchText]


def synthesize_files(  # noqa: PLR0913 - each is an option of its own
    speaker: LocalSpeaker,
    texts: Texts,
    folder: str | os.PathLike[str],
    *,
    format: str = "wav",
    split: str | None = None,
    seed: int = 0,
    max_in_flight: int | None = None,
    overwrite: bool = False,
    join: str | os.PathLike[str] | None = None,
    captions: Sequence[str] = (),
    on_progress: Callable[[BatchProgress], None] | None = None,
    warn: Warn,
    common: Mapping[str, Any],
) -> BatchReport:
    """Speak many texts into a folder of files, going on where an earlier call or `voxtral batch` was stopped.

    All texts are checked before the first is spoken. Files appear whole or not at all, and `batch.jsonl` in the folder
    says what each was made from: what is finished is skipped, what was made from another text or with other options
    is made again. A text that fails does not keep the others from being spoken; it is in the report.

    Args:
        speaker: the model.
        texts: the path of a .txt file, a .jsonl file or a folder of .txt files, as `voxtral batch` takes them; or
            items, each a str, a dict of "text", "name" and any keyword of `synthesize`, or a SpeechRequest, which
            takes a seed of the common options and nothing else. A name becomes that of a file; an item without one is
            called part0001, part0002 and so on, by its place.
        folder: made if it is not there.
        format: wav, flac, mp3, opus, ogg, aac, m4a or pcm.
        split: "lines", "paragraphs" or "none": what of a .txt becomes a file of audio; by default lines of a file
            (paragraphs of wrapped text with blank lines), whole texts of a folder. For paths only.
        seed: a text without a seed of its own gets one that is derived from this and its name.
        max_in_flight: texts under way at a time, 1 to 512; a few more than the engine computes together by default.
        overwrite: make every file again, whatever is there.
        join: a file for all of the audio in the order of the texts, written when all is made and nothing failed; its
            extension chooses the format. Between two texts is the common `pause`.
        captions: formats of captions beside each file: any of srt, vtt, json and lrc.
        on_progress: is called after each file with the numbers so far. What it raises ends the call; what is finished
            is kept.
        warn: gets each thing that the caller should know and that does not stop the work, once.
        common: keywords of `synthesize` for texts that do not say otherwise.

    Returns:
        What was made, what was there already, what failed and why, and how long it is and took.

    Raises:
        RequestError: texts or options break a rule; the message names them, and nothing was spoken.
        AudioError: the folder is in use, has files of others, or its disk refuses; what is finished is kept.
        EngineStoppedError: the engine is gone; what is finished is kept.
    """
    if format not in encode.FORMATS:
        raise OptionError(f"format is {format!r}; it must be one of {', '.join(encode.FORMATS)}; choose one")
    check_captions(captions)
    check_number("max_in_flight", max_in_flight, 1, MAX_IN_FLIGHT, whole=True)
    # Once and as themselves, before they are a fault of every text.
    check_options(make_request("", seed=seed, **common))
    reals = {key: float(common[key]) for key in _REALS if common.get(key) is not None}
    cut = _choose(texts, split, warn)
    files = _plan(texts, cut, {**common, **reals}, seed, (format, *captions))
    if join is not None:
        encode.format_for_path(join)
    with open_folder(Path(folder)) as manifest:
        _check_folder(manifest, files, overwrite=overwrite)
        run = BatchRun(
            speaker,
            manifest,
            files,
            format,
            split=cut,
            overwrite=overwrite,
            max_in_flight=max_in_flight,
        )
        problems, warnings = run.check()
        for told in warnings:
            warn(f"{told.where}: {told.message}")
        _refuse(problems)
        if run.num_cleaned:
            warn(
                f"{manifest.folder}: of the files that are there {run.num_changed} are made again, "
                f'{describe_cleaned(run.num_cleaned)}; normalize="off" keeps them'
            )
        if run.replaced and not overwrite:
            raise AudioError(
                f"{manifest.folder} has {len(run.replaced)} finished files of texts that were cut another way "
                f"({name_files(run.replaced)}); they are left alone; choose another folder or the same split, or "
                "replace them with overwrite=True"
            )
        with closing(run.make()) as results:
            for _ in results:
                if on_progress is not None:
                    on_progress(run.progress)
        report = run.report()
        if join is not None and not report.failed:
            pause_s = float(common.get("pause", PAUSE.default))
            parts = [manifest.folder / planned.file for planned in files]
            join_audio(parts, join, pause_s=pause_s, raw_rate=speaker.sample_rate)
        return report


def _choose(texts: Texts, split: str | None, warn: Warn) -> Split | None:
    """Choose how texts are cut, and say what a person should know of it only where it is likely wrong."""
    if split is not None and split not in list(Split):
        raise OptionError(f"split is {split!r}; it must be one of {', '.join(Split)}; choose one")
    said = None if split is None else Split(split)
    if not isinstance(texts, str | os.PathLike) or not os.path.exists(texts):
        return said
    chosen, note = choose_split(Path(texts), said)
    if note is not None and note.startswith("warning: "):
        warn(note.removeprefix("warning: "))
    return chosen


def check_captions(formats: Sequence[str]) -> None:
    """Refuse formats of captions that there are not.

    Raises:
        OptionError: one is unknown or there twice, or they are no list.
    """
    shown: Any = formats
    if isinstance(formats, str) or any(formats.count(format) != 1 or format not in FORMATS for format in formats):
        shown = shown if isinstance(shown, str) else list(shown)
        raise OptionError(
            f"captions is {quoted(shown)}; it must be some of {', '.join(FORMATS)}, each once; choose among them"
        )


def _plan(
    texts: Texts, split: Split | None, common: Mapping[str, Any], seed: int, extensions: Sequence[str]
) -> list[BatchFile]:
    entries, problems = _read(texts, split)
    files, more = plan_files(entries, common, seed, extensions[0], extensions[1:])
    _refuse([*problems, *more])
    if not files:
        raise RequestError("there is no text; a folder of files needs one at least; give some")
    return files


def _read(texts: Texts, split: Split | None) -> tuple[list[Entry], list[Problem]]:
    if isinstance(texts, str | os.PathLike):
        # Not whatever else a path may say: a text may have been passed in its place.
        if not os.path.exists(texts):
            shown = os.fspath(texts)
            shown = shown if len(shown) <= 60 else shown[:60] + "..."
            raise TextError(
                f"{shown!r} does not exist; texts are a .txt file, a .jsonl file, a folder of .txt files, or items; "
                "name one that is there, or put a single text in a list"
            )
        return read_entries(Path(texts), split)
    check_texts(texts)
    if split is not None:
        raise OptionError(f"split is {split.value!r}, and the texts are no path; items are texts already; leave it out")
    return list_entries(texts)


def _check_folder(manifest: Manifest, files: list[BatchFile], *, overwrite: bool) -> None:
    foreign = manifest.foreign({planned.file: planned.captions for planned in files})
    if foreign and not overwrite:
        raise AudioError(
            f"{manifest.folder} has files that no batch has made or that were changed since ({name_files(foreign)}); "
            "they are left alone; choose another folder, or replace them with overwrite=True"
        )


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise RequestError(
            f"of the texts {len(problems)} cannot be taken: {'; '.join(describe_problems(problems))}; nothing was "
            "spoken; correct them and call again"
        )
