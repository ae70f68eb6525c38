"""`voxtral batch`: many texts into a folder of files, side by side, to be gone on with after a kill.

First everything that is wrong is told, then the model is loaded, then files are made. `batch_input` reads and checks,
`manifest` remembers, `voxtral.speech.batch` speaks.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxtral.audio.encode import FORMATS
from voxtral.audio.file import AudioFileWriter
from voxtral.cli.loading import (
    DeviceOption,
    DtypeOption,
    LoadOptions,
    MaxMemoryOption,
    ModelOption,
    QuantizeOption,
    open_model,
)
from voxtral.cli.options import (
    GuidanceOption,
    JsonOption,
    LanguageOption,
    MaxFramesOption,
    NoiseOption,
    NormalizeChoice,
    NormalizeOption,
    PauseOption,
    QuietOption,
    ReferenceOption,
    SpeedOption,
    StepsOption,
    VoiceOption,
)
from voxtral.cli.progress import BatchProgress, clock, show_line
from voxtral.cli.terminal import deferred_interrupts, reporter, say
from voxtral.engine.options import EngineOptions
from voxtral.errors import AudioError, EngineStoppedError, RequestError, VoxtralError, VoxtralWarning
from voxtral.jobs.inputs import PlannedFile, Problem, Split, plan_files, read_entries
from voxtral.jobs.manifest import Digests, Manifest
from voxtral.speech.batch import MAX_IN_FLIGHT, Batch, BatchItem, ClonedVoices, default_in_flight
from voxtral.speech.request import check_number, check_options, make_request

if TYPE_CHECKING:
    from voxtral.speech.utterance import SpeechHandle
    from voxtral.tts import VoxtralTTS
    from voxtral.types import SpeechStats

# How many wrong lines, or files in the way, are named.
_MAX_TOLD = 20


def batch(  # noqa: PLR0913 - each parameter is an option
    source: Annotated[
        Path, typer.Argument(metavar="FILE|DIR", help="A .txt file, a .jsonl file, or a folder of .txt files.")
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
    voice: VoiceOption = None,
    language: LanguageOption = None,
    reference: ReferenceOption = None,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="N", help="Each text gets a seed of its own, derived from N and its name."),
    ] = 0,
    speed: SpeedOption = 1.0,
    pause: PauseOption = 0.25,
    normalize: NormalizeOption = NormalizeChoice.OFF,
    guidance: GuidanceOption = None,
    noise: NoiseOption = None,
    steps: StepsOption = None,
    max_frames: MaxFramesOption = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    max_memory: MaxMemoryOption = None,
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make every file again, whatever is there.")] = False,
    as_json: JsonOption = False,
    is_quiet: QuietOption = False,
) -> None:
    """Speak many texts into a folder of files.

    A line of chapter1.txt becomes chapter1_part0001.wav and so on, blank lines do not count. A line of a .jsonl file is
    an object with "text" and, as needed, "name", "voice", "language", "reference_audio", "normalize", "seed", "speed",
    "pause", "guidance_scale", "noise_scale", "num_euler_steps" and "max_frames", which win over the options here.

    All of the input is checked before any of it is spoken. The same command goes on where an earlier one was stopped:
    what is finished is skipped, what was made from another text or with other options is made again. A text that
    fails does not keep the others from being spoken; it is named at the end, and the exit code is 1.

    Examples:
      voxtral batch chapter1.txt -o book
      voxtral batch chapters -o book --format mp3 --voice en_f1
      voxtral batch book.txt -o book --split paragraphs --normalize auto
      voxtral batch lines.jsonl -o lines --in-flight 16 --json
    """
    if format not in FORMATS:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(FORMATS)}", param_hint="--format")
    check_number("in_flight", in_flight, 1, MAX_IN_FLIGHT, whole=True)
    common = {
        "voice": voice,
        "language": language,
        "reference_audio": reference,
        "speed": speed,
        "pause": pause,
        "normalize": normalize.value,
        "guidance_scale": guidance,
        "noise_scale": noise,
        "num_euler_steps": steps,
        "max_frames": max_frames,
    }
    # Once and as themselves, before they are a fault of every line.
    check_options(make_request("", seed=seed, **common))
    files = _read_input(source, split, common, seed, format)
    tell = reporter(is_quiet=is_quiet)
    with _open_folder(output) as manifest:
        _check_folder(manifest, files, output, is_overwriting=overwrite)
        options = EngineOptions(batch_invariant=batch_invariant)
        with open_model(model, LoadOptions(device, dtype, quantize, max_memory), tell, options=options) as loaded:
            run = _Run(loaded, manifest, files, format, is_overwriting=overwrite)
            with run.checked():
                if run.num_changed:
                    tell(f"{output}: of the files that are there {run.num_changed} will be made again")
                is_watched = not (is_quiet or as_json) and sys.stderr.isatty()
                run.speak(in_flight or default_in_flight(loaded.engine.max_batch), is_watched=is_watched)
        left = manifest.others(planned.file for planned in files)
    tell(run.summary(output))
    if left:
        tell(f"{output}: left as they are, their texts are no longer in {source}: {_list(left)}")
    if as_json:
        print(json.dumps(run.report(output)))
    if run.failures:
        for planned, error in run.failures:
            say(f"failed: {planned.file} ({planned.where}): {error}")
        say(f"error: {len(run.failures)} of {len(files)} files were not made; the same command tries them again")
        raise typer.Exit(1)


# Before a model is loaded.


def _read_input(source: Path, split: Split | None, common: dict[str, Any], seed: int, format: str) -> list[PlannedFile]:
    entries, problems = read_entries(source, split)
    files, more = plan_files(entries, common, seed, format)
    _refuse([*problems, *more])
    if not files:
        raise RequestError(f"{source} holds no text; a batch needs one at least; write some")
    return files


def _refuse(problems: list[Problem]) -> None:
    """Tell all that is wrong, the same fault of many texts once, and stop if anything is."""
    if not problems:
        return
    places: dict[str, list[str]] = {}
    for problem in problems:
        places.setdefault(problem.message, []).append(problem.where)
    for message, where in list(places.items())[:_MAX_TOLD]:
        say(f"{where[0]}{f' and {len(where) - 1} more' if len(where) > 1 else ''}: {message}")
    if len(places) > _MAX_TOLD:
        say(f"and {len(places) - _MAX_TOLD} more faults")
    raise RequestError(
        f"of the texts {len(problems)} cannot be taken; all must be right before the first is spoken; correct them and "
        "run it again; nothing was spoken"
    )


@contextmanager
def _open_folder(output: Path) -> Iterator[Manifest]:
    is_new = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(
            f"{output} cannot be made ({error.strerror}); the output is a folder; choose another path"
        ) from error
    try:
        with Manifest(output) as manifest:
            yield manifest
    finally:
        if is_new and not any(output.iterdir()):
            output.rmdir()


def _check_folder(manifest: Manifest, files: list[PlannedFile], output: Path, *, is_overwriting: bool) -> None:
    folders = [planned.file for planned in files if (output / planned.file).is_dir()]
    if folders:
        raise AudioError(f"{output / folders[0]} is a folder; a file of audio is to have that name; move it away")
    foreign = [planned.file for planned in files if manifest.state(planned.file) == "foreign"]
    if foreign and not is_overwriting:
        raise AudioError(
            f"{output} has files that were not made by this command or were changed since ({_list(foreign)}); they are "
            "left alone; choose another folder, or replace them with --overwrite"
        )


def _list(names: list[str]) -> str:
    return ", ".join(names[:_MAX_TOLD]) + (", ..." if len(names) > _MAX_TOLD else "")


# With the model.


class _Run:
    """One run over a folder: what is to be made, and what became of it.

    Attributes:
        num_changed: files that are there and are to be made again.
        failures: files that could not be made.
    """

    def __init__(
        self, loaded: VoxtralTTS, manifest: Manifest, files: list[PlannedFile], format: str, *, is_overwriting: bool
    ) -> None:
        self._loaded = loaded
        self._manifest = manifest
        self._format = format
        self._is_overwriting = is_overwriting
        self._files = files
        self._voices = ClonedVoices(loaded.create_voice)
        self._to_make: list[PlannedFile] = []
        self._digests: dict[str, str] = {}
        self._made: list[tuple[PlannedFile, SpeechStats]] = []
        self._elapsed_s = 0.0
        self._num_chars = 0
        self.num_changed = 0
        self.failures: list[tuple[PlannedFile, VoxtralError]] = []
        digests = Digests(loaded.checkpoint.folder, (voice.name for voice in loaded.voices), format)
        for planned in files:
            digest = digests.of(planned.item.request)
            state = manifest.state(planned.file, digest)
            if is_overwriting or state != "done":
                self.num_changed += state != "new"
                self._to_make.append(planned)
                self._num_chars += len(planned.item.request.text)
                self._digests[planned.file] = digest

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Check every request with the model; tell all that is wrong, and each warning once.

        In the block nothing is warned of again.

        Raises:
            RequestError: something is wrong; nothing was spoken.
        """
        problems: list[Problem] = []
        warned: dict[str, str] = {}
        for planned in self._to_make:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", VoxtralWarning)
                try:
                    self._loaded.check(self._voices.resolve(planned.item.request))
                except RequestError as error:
                    problems.append(Problem(planned.where, str(error)))
            for warning in caught:
                warned.setdefault(str(warning.message), planned.where)
        for message, where in warned.items():
            say(f"warning: {where}: {message}")
        _refuse(problems)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VoxtralWarning)
            yield

    def speak(self, max_in_flight: int, *, is_watched: bool) -> None:
        """Make what is to be made.

        Raises:
            AudioError: the disk refuses.
            EngineStoppedError: the engine is gone.
            KeyboardInterrupt: after Ctrl-C or SIGTERM.
        """
        self._manifest.claim(planned.file for planned in self._to_make)
        batch = Batch(self._loaded.submit, self._write, max_in_flight)
        started = time.perf_counter()
        try:
            with deferred_interrupts(batch.cancel) as check_interrupt, ExitStack() as stack:
                if is_watched:
                    stack.enter_context(show_line(lambda: self._progress(batch, started)))
                for item, outcome in stack.enter_context(closing(batch.run(self._items()))):
                    if isinstance(outcome, VoxtralError):
                        self._fail(self._files[item.index], outcome)
                check_interrupt()
        except (KeyboardInterrupt, VoxtralError):
            num_whole = len(self._files) - len(self._to_make) + len(self._made)
            how = "the same command without --overwrite" if self._is_overwriting else "the same command"
            say(f"{num_whole} of {len(self._files)} files are finished; {how} goes on from there")
            raise
        finally:
            self._elapsed_s = time.perf_counter() - started

    def summary(self, output: Path) -> str:
        """Say in a line what was made."""
        num_there = len(self._files) - len(self._to_make)
        if not self._to_make:
            return f"{output}: all {num_there} files are there already"
        parts = [f"{len(self._made)} made"]
        if num_there:
            parts.append(f"{num_there} there already")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        parts.append(f"{clock(self._duration_s)} of audio in {clock(self._elapsed_s)}")
        if self._duration_s:
            parts.append(f"RTF {self._elapsed_s / self._duration_s:.2f}")
        return f"{output}: {', '.join(parts)}"

    def report(self, output: Path) -> dict[str, Any]:
        """Gather what --json prints; the files themselves are in the manifest."""
        return {
            "output": str(output),
            "model": self._loaded.name,
            "format": self._format,
            "num_files": len(self._files),
            "num_made": len(self._made),
            "num_skipped": len(self._files) - len(self._to_make),
            "duration_s": round(self._duration_s, 4),
            "elapsed_s": round(self._elapsed_s, 4),
            "failures": [
                {"file": planned.file, "where": planned.where, "code": error.code, "message": str(error)}
                for planned, error in self.failures
            ],
        }

    @property
    def _duration_s(self) -> float:
        return sum(stats.duration_s for _, stats in self._made)

    def _items(self) -> Iterator[BatchItem]:
        for planned in self._to_make:
            try:
                yield replace(planned.item, request=self._voices.resolve(planned.item.request))
            except RequestError as error:  # its clip was there when it was checked
                self._fail(planned, error)

    def _write(self, item: BatchItem, handle: SpeechHandle) -> None:
        """Make one file; runs in a thread of the batch."""
        planned = self._files[item.index]
        with AudioFileWriter(self._manifest.part(planned.file), self._loaded.sample_rate, format=self._format) as file:
            for chunk in handle.chunks():
                file.write(chunk.samples)
        stats = handle.stats
        self._manifest.commit(planned.file, self._digests[planned.file], seed=stats.seed, duration_s=stats.duration_s)
        self._made.append((planned, stats))

    def _fail(self, planned: PlannedFile, error: VoxtralError) -> None:
        # Where the disk or the engine is gone, the rest would fail in the same way.
        if isinstance(error, EngineStoppedError) or isinstance(error.__cause__, OSError):
            raise error
        self._manifest.fail(planned.file, planned.item.request.seed, error)
        self.failures.append((planned, error))

    def _progress(self, batch: Batch[None], started: float) -> BatchProgress:
        num_chars = sum(len(planned.item.request.text) for planned, _ in list(self._made))
        num_chars += sum(len(planned.item.request.text) for planned, _ in list(self.failures))
        made_s = self._duration_s
        for item, handle in batch.in_flight:
            segments = handle.segments
            num_chars += segments[-1].text_end if segments else 0
            made_s += handle.stats.num_frames / (self._loaded.config.frame_rate * item.request.speed)
        return BatchProgress(
            num_done=len(self._made),
            num_failed=len(self.failures),
            num_files=len(self._to_make),
            fraction=min(1.0, num_chars / max(1, self._num_chars)),
            made_s=made_s,
            elapsed_s=time.perf_counter() - started,
        )
