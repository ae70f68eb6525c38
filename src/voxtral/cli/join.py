"""`voxtral join`: finished files of audio into one, of any length, in the order of their texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from voxtral.audio.encode import FORMATS, MAX_RATE, MIN_RATE, format_for_path
from voxtral.audio.join import Joined, join_audio
from voxtral.cli.files import check_target
from voxtral.cli.options import JsonOption, QuietOption
from voxtral.cli.progress import clock
from voxtral.cli.terminal import deferred_interrupts, reporter, show
from voxtral.errors import AudioError
from voxtral.jobs.inputs import name_files
from voxtral.jobs.manifest import MANIFEST_FILE, Manifest
from voxtral.options import PAUSE
from voxtral.speech.request import check_number, check_option


def join(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILE|DIR...", help="The output folder of a batch, or files of audio.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Its extension chooses the format.")],
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", help="wav, flac, mp3, opus, ogg, aac, m4a or pcm.", show_default=False
        ),
    ] = None,
    pause: Annotated[float, typer.Option("--pause", metavar="S", help="Seconds of silence between two files.")] = (
        PAUSE.default
    ),
    rate: Annotated[
        int | None,
        typer.Option("--rate", metavar="HZ", help="Of files in pcm, which do not say it.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Join finished files of audio into one.

    Of a folder, the files that the last `voxtral batch` into it was to make are taken, in the order of its texts; if
    one of them is missing, nothing is joined. Files are taken in the order in which they are named. The rate is that of
    the first; files of another rate are resampled. It needs no model, and no more memory for a long book than for a
    sentence.

    Examples:
      voxtral join book -o book.mp3
      voxtral join book -o book.m4a --pause 0.8
      voxtral join intro.wav book outro.flac -o all.opus
    """
    if format is not None and format not in FORMATS:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(FORMATS)}", param_hint="--format")
    check_option(PAUSE, pause)
    check_number("rate", rate, MIN_RATE, MAX_RATE, whole=True)
    if format is None:
        format_for_path(output)
    check_target(output)
    tell = reporter(is_quiet=is_quiet)
    parts = [part for source in sources for part in (_parts_of(source, tell) if source.is_dir() else [source])]
    with deferred_interrupts(_nothing) as check_interrupt:
        joined = join_audio(parts, output, pause_s=pause, format=format, raw_rate=rate, check=check_interrupt)
    tell(describe_joined(joined))
    if as_json:
        result = {
            "path": str(joined.path),
            "num_files": joined.num_files,
            "duration_s": round(joined.duration_s, 4),
            "sample_rate": joined.sample_rate,
            "num_resampled": joined.num_resampled,
        }
        show(json.dumps(result))


def _parts_of(folder: Path, tell: Callable[[str], None]) -> list[Path]:
    """Find the finished files of a batch's folder, in the order of the texts."""
    if not (folder / MANIFEST_FILE).is_file():
        raise AudioError(
            f"{folder} has no {MANIFEST_FILE}; only the output folder of a batch says which of its files belong "
            "together; name the files in their order instead"
        )
    with Manifest(folder) as manifest:
        whole, missing = manifest.finished()
        others = manifest.others(whole)
    if missing:
        raise AudioError(
            f"{folder} lacks {len(missing)} of {len(whole) + len(missing)} files ({name_files(missing)}); a whole is "
            "joined of whole parts; run the batch again, or name files"
        )
    if others:
        tell(f"{folder}: left out, not of the last batch: {name_files(others)}")
    return [folder / name for name in whole]


def describe_joined(joined: Joined) -> str:
    """Say what was joined."""
    resampled = f", {joined.num_resampled} resampled to {joined.sample_rate} Hz" if joined.num_resampled else ""
    return f"{joined.path}: {clock(joined.duration_s)} of audio from {joined.num_files} files{resampled}"


def _nothing() -> None:
    """Cancel nothing: the work asks between two blocks whether it is to stop."""
