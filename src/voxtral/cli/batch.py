"""`voxtral batch`: many texts into a folder of files, side by side, to be gone on with after a kill.

Options, lines for a person and exit codes; the work is done by `voxtral.jobs`. First everything that is wrong is told,
then the model is loaded, then files are made.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from voxtral.audio.encode import FORMATS, format_for_path
from voxtral.audio.join import Joined, join_audio
from voxtral.cli.files import check_target
from voxtral.cli.join import describe_joined
from voxtral.cli.loading import (
    ActivationsOption,
    DeviceOption,
    DtypeOption,
    FlowDtypeOption,
    LoadOptions,
    MaxMemoryOption,
    ModelOption,
    QuantizeOption,
    open_model,
)
from voxtral.cli.options import JsonOption, QuietOption, with_speech_options
from voxtral.cli.progress import batch_line, clock, show_line
from voxtral.cli.terminal import deferred_interrupts, reporter, say, show
from voxtral.engine.options import EngineOptions, parse_activations, parse_flow_dtype
from voxtral.errors import AudioError, RequestError, VoxtralError
from voxtral.jobs.inputs import (
    KEYS,
    BatchFile,
    Problem,
    Split,
    choose_split,
    describe_problems,
    name_files,
    plan_files,
    read_entries,
)
from voxtral.jobs.manifest import Manifest, open_folder
from voxtral.jobs.run import BatchReport, BatchRun, describe_cleaned
from voxtral.jobs.synthesize import check_captions
from voxtral.options import SEED, Flag
from voxtral.speech.batch import MAX_IN_FLIGHT
from voxtral.speech.request import check_number, check_options, make_request
from voxtral.text.language import LANGUAGES

# An option of all texts together, from which each gets its own.
_SEED = replace(
    SEED, default=0, flag=Flag("--seed", "N", "Each text gets a seed of its own, derived from N and its name.")
)


@with_speech_options(changed=[_SEED])
def batch(  # noqa: PLR0913 - each parameter is an option
    *,
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE|DIR", help="A .txt file, a .jsonl file, or a folder of .txt files."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A folder; made if it is not there.")],
    split: Annotated[
        Split | None,
        typer.Option(
            "--split",
            metavar="lines|paragraphs|none",
            help="What of a .txt becomes a file of audio. Default: lines of a FILE, none (whole texts) of a DIR.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="wav, flac, mp3, opus, ogg, aac, m4a or pcm.")
    ] = "wav",
    options: dict[str, Any],
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    max_memory: MaxMemoryOption = None,
    flow_dtype: FlowDtypeOption = "model",
    activations: ActivationsOption = "exact",
    in_flight: Annotated[
        int | None,
        typer.Option(
            "--in-flight",
            metavar="N",
            help="Texts under way at a time. Default: a few more than the engine computes together.",
            min=1,
            show_default=False,
        ),
    ] = None,
    batch_invariant: Annotated[
        bool,
        typer.Option("--batch-invariant", help="Make each file the same to the bit whatever is beside it; slower."),
    ] = False,
    join: Annotated[
        Path | None,
        typer.Option(
            "--join",
            metavar="FILE",
            help="When all is made, also write it as one file, whose extension chooses the format.",
            show_default=False,
        ),
    ] = None,
    captions: Annotated[
        str | None,
        typer.Option(
            "--captions",
            metavar="FORMATS",
            help="Also write captions beside each file: some of srt, vtt, json and lrc, with commas between.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make every file again, whatever is there.")] = False,
    as_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Speak many texts into a folder of files.

    A line of chapter1.txt becomes chapter1_part0001.wav and so on, blank lines do not count. A line of a .jsonl file is
    an object with "text" and, as needed, KEYS, which win over the options here.

    All of the input is checked before any of it is spoken. The same command goes on where an earlier one was stopped:
    what is finished is skipped, what was made from another text or with other options is made again. A text that
    fails does not keep the others from being spoken; it is named at the end, and the exit code is 1.

    Wrapped text with blank lines is cut at these, unless --split says something else. What was finished from texts that
    were cut another way is not replaced without --overwrite. The audio of all can be joined now (--join) or later
    (voxtral join).

    Examples:
      voxtral batch chapter1.txt -o book
      voxtral batch chapters -o book --format mp3 --voice en_f1
      voxtral batch book.txt -o book --split paragraphs --normalize auto
      voxtral batch book.txt -o book --join book.mp3
      voxtral batch lines.jsonl -o lines --in-flight 16 --json
      voxtral batch chapters -o book --captions srt,vtt
    """
    if format not in FORMATS:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(FORMATS)}", param_hint="--format")
    beside = () if captions is None else tuple(captions.split(","))
    check_captions(beside)
    check_number("in_flight", in_flight, 1, MAX_IN_FLIGHT, whole=True)
    seed = options.pop("seed")
    # Once and as themselves, before they are a fault of every line.
    check_options(make_request("", seed=seed, **options))
    tell = reporter(is_quiet=is_quiet)
    split, note = choose_split(source, split)
    files = _read_input(source, split, options, seed, (format, *beside))
    if note is not None:
        (say if note.startswith("warning") else tell)(note)
    if join is not None:
        _check_join(join, output, files)
    # Twice, so that nothing is there to be undone while the model is loaded: a signal then ends the process at once.
    with deferred_interrupts(lambda: None) as check_interrupt, open_folder(output) as manifest:
        _check_folder(manifest, files, is_overwriting=overwrite)
        check_interrupt()
    engine = EngineOptions(
        batch_invariant=batch_invariant,
        flow_dtype=parse_flow_dtype(flow_dtype),
        activations=parse_activations(activations),
    )
    load = LoadOptions(device, dtype, quantize, max_memory)
    with open_model(model, load, tell, options=engine) as loaded, ExitStack() as stack:
        cancel = _Cancel()
        check_interrupt = stack.enter_context(deferred_interrupts(cancel))
        manifest = stack.enter_context(open_folder(output))
        _check_folder(manifest, files, is_overwriting=overwrite)
        run = BatchRun(
            loaded,
            manifest,
            files,
            format,
            split=split,
            overwrite=overwrite,
            max_in_flight=in_flight,
        )
        cancel.run = run
        check_interrupt()
        _check(run)
        _check_replaced(run, output, is_overwriting=overwrite)
        if run.num_changed:
            tell(f"{output}: of the files that are there {run.num_changed} will be made again")
        if run.num_cleaned:
            tell(f"{output}: {describe_cleaned(run.num_cleaned)}; --normalize off keeps them")
        is_watched = not (is_quiet or as_json) and sys.stderr.isatty()
        _make(run, check_interrupt, is_watched=is_watched, is_overwriting=overwrite)
        report = run.report()
        joined = None
        if join is not None and not report.failed:
            parts = [output / planned.file for planned in files]
            joined = join_audio(
                parts, join, pause_s=options["pause"], raw_rate=loaded.sample_rate, check=check_interrupt
            )
    _tell(tell, report, joined, source, output)
    if as_json:
        result = _as_json(report, loaded.name, format) | ({} if join is None else {"joined": joined and str(join)})
        show(json.dumps(result))
    if report.failed:
        for failed in report.failed:
            say(f"failed: {failed.file} ({failed.where}): {failed.error}")
        unjoined = "" if join is None else f" and writes {join}"
        say(
            f"error: {len(report.failed)} of {len(files)} files were not made; the same command "
            f"tries them again{unjoined}"
        )
        raise typer.Exit(1)


_KEYS = [f'"{key}"' for key in KEYS if key != "text"]
batch.__doc__ = (batch.__doc__ or "").replace("KEYS", f"{', '.join(_KEYS[:-1])} and {_KEYS[-1]}")


def _read_input(
    source: Path, split: Split | None, common: dict[str, Any], seed: int, extensions: Sequence[str]
) -> list[BatchFile]:
    entries, problems = read_entries(source, split)
    files, more = plan_files(entries, common, seed, extensions[0], extensions[1:])
    _refuse([*problems, *more])
    if not files:
        raise RequestError(f"{source} holds no text; a batch needs one at least; write some")
    return files


def _refuse(problems: list[Problem]) -> None:
    """Tell all that is wrong, and stop if anything is."""
    if not problems:
        return
    for line in describe_problems(problems):
        say(line)
    raise RequestError(
        f"of the texts {len(problems)} cannot be taken; all must be right before the first is spoken; correct them and "
        "run it again; nothing was spoken"
    )


def _check_folder(manifest: Manifest, files: list[BatchFile], *, is_overwriting: bool) -> None:
    foreign = manifest.foreign({planned.file: planned.captions for planned in files})
    if foreign and not is_overwriting:
        raise AudioError(
            f"{manifest.folder} has files that were not made by this command or were changed since "
            f"({name_files(foreign)}); they are left alone; choose another folder, or replace them with --overwrite"
        )


def _check(run: BatchRun) -> None:
    problems, warnings = run.check()
    for warned in warnings:
        say(f"warning: {warned.where}: {warned.message}")
    _refuse(problems)


def _check_replaced(run: BatchRun, output: Path, *, is_overwriting: bool) -> None:
    if run.replaced and not is_overwriting:
        raise AudioError(
            f"{output} has {len(run.replaced)} finished files of texts that were cut another way "
            f"({name_files(run.replaced)}); "
            "they are left alone; choose another folder or the same --split, or replace them with --overwrite"
        )


def _check_join(target: Path, output: Path, files: list[BatchFile]) -> None:
    """Refuse a place where the joined file cannot be, before anything is spoken."""
    format_for_path(target)
    # The folder of the parts is made by then.
    if target.parent.resolve() != output.resolve() or target.is_dir():
        check_target(target)
    if target.resolve() in {(output / planned.file).resolve() for planned in files}:
        raise AudioError(
            f"{target} is one of the files to be made; the joined file needs a name of its own; choose one"
        )


def _tell(tell: Callable[[str], None], report: BatchReport, joined: Joined | None, source: Path, output: Path) -> None:
    """Say what was made."""
    tell(_summary(report))
    if odd := [f"{made.file} ({made.verdict})" for made in report.made if made.verdict not in (None, "ok")]:
        tell(f"{output}: checks found something in {len(odd)} of {len(report.made)} files: {name_files(odd)}")
    if languages := _languages(report):
        tell(f"{output}: languages by the texts: {languages}; --language chooses another")
    if joined is not None:
        tell(describe_joined(joined))
    if report.left:
        tell(f"{output}: left as they are, their texts are no longer in {source}: {name_files(report.left)}")


def _languages(report: BatchReport) -> str:
    """Count the files whose language was guessed; English is what stands anyway."""
    codes = Counter(made.language.code for made in report.made if made.language.source == "text")
    del codes["en"]
    return ", ".join(f"{LANGUAGES[code]} {count}" for code, count in codes.most_common())


class _Cancel:
    """Ends a run, once there is one."""

    run: BatchRun | None = None

    def __call__(self) -> None:
        if self.run is not None:
            self.run.cancel()


def _make(run: BatchRun, check_interrupt: Callable[[], None], *, is_watched: bool, is_overwriting: bool) -> None:
    """Make the files; after an interruption say how far it went and how to go on."""
    try:
        with ExitStack() as stack:
            if is_watched:
                stack.enter_context(show_line(lambda: batch_line(run.progress)))
            for _ in stack.enter_context(closing(run.make())):
                pass  # what failed is told at the end
            check_interrupt()
    except (KeyboardInterrupt, VoxtralError):
        report = run.report()
        num_whole = len(report.made) + len(report.skipped)
        how = "the same command without --overwrite" if is_overwriting else "the same command"
        say(f"{num_whole} of {run.num_files} files are finished; {how} goes on from there")
        raise


def _summary(report: BatchReport) -> str:
    if not (report.made or report.failed):
        return f"{report.folder}: all {len(report.skipped)} files are there already"
    parts = [f"{len(report.made)} made"]
    if report.skipped:
        parts.append(f"{len(report.skipped)} there already")
    if report.failed:
        parts.append(f"{len(report.failed)} failed")
    parts.append(f"{clock(report.duration_s)} of audio in {clock(report.elapsed_s)}")
    if report.duration_s:
        parts.append(f"RTF {report.elapsed_s / report.duration_s:.2f}")
    return f"{report.folder}: {', '.join(parts)}"


def _as_json(report: BatchReport, model: str, format: str) -> dict[str, Any]:
    """Gather what --json prints; the files themselves are in the journal."""
    return {
        "output": str(report.folder),
        "model": model,
        "format": format,
        "num_files": len(report.made) + len(report.skipped) + len(report.failed),
        "num_made": len(report.made),
        "num_skipped": len(report.skipped),
        "duration_s": round(report.duration_s, 4),
        "elapsed_s": round(report.elapsed_s, 4),
        **_verdicts(report),
        "failures": [
            {"file": failed.file, "where": failed.where, "code": failed.error.code, "message": str(failed.error)}
            for failed in report.failed
        ],
    }


def _verdicts(report: BatchReport) -> dict[str, Any]:
    """Gather the verdicts on the files that were made now and checked; what was found is in the journal."""
    verdicts = {made.file: made.verdict for made in report.made if made.verdict is not None}
    return {"verdicts": verdicts} if verdicts else {}
