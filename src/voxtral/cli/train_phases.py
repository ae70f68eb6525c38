"""One phase of `voxtral train-encoder` in this process: what was asked for, its lines, its bar, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxtral.cli.loading import LoadOptions, open_model
from voxtral.cli.main import has_command
from voxtral.cli.progress import clock, show_line
from voxtral.cli.terminal import deferred_interrupts, reporter, say, show
from voxtral.errors import OptionError, TrainingError
from voxtral.loading.locate import locate_model

if TYPE_CHECKING:
    from voxtral.cloning.generate import GenerationProgress, SpeakingModel
    from voxtral.cloning.phases import Work
    from voxtral.cloning.trainer import Score, TrainingProgress
    from voxtral.device import ComputePlan
    from voxtral.loading.checkpoint import Checkpoint
    from voxtral.tts import VoxtralTTS

PHASES = ("generate", "train", "evaluate")

_SECONDS_BETWEEN_LINES = 30.0
# Of a dry run, for each of two phases.
_MEASURED_S = 9.0
# A model below this is quicker with more rows than an engine has on a CPU by itself.
_SMALL_PARAMETERS, _MANY_ROWS = 50_000_000, 64
_MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Asked:
    """What the command was asked for, but for the model and where the result goes."""

    hours: float | None
    seen_hours: float | None
    fast: bool
    speech: tuple[Path, ...]
    phase: str
    shards: str | None
    seed: int
    device: str
    max_memory: str | None


def check_asked(asked: Asked) -> None:
    """Refuse what can never be right, before a model is looked at.

    Raises:
        OptionError: an option breaks a rule.
        TrainingError: a folder of speech is none.
    """
    if asked.phase not in (*PHASES, "all"):
        raise OptionError(f"--phase is {asked.phase!r}; it must be one of {', '.join(PHASES)} or all")
    if asked.shards is not None and asked.phase != "generate":
        raise OptionError("--shards is of --phase generate alone: the other phases need all of them; leave it out")
    if not 0 <= asked.seed <= _MAX_SEED:
        raise OptionError(f"--seed is {asked.seed}; it must be a whole number from 0 to {_MAX_SEED}")
    for folder in asked.speech:
        if not folder.is_dir():
            raise TrainingError(f"{folder} is no folder; --speech must be a folder of audio files; check the path")


@dataclass(frozen=True, eq=False)
class Job:
    """A training of one model.

    Attributes:
        name: of the model, as it was asked for.
        asked: options.
        checkpoint: of the model.
        work: folders and size.
        licence: of the result.
        shards: of the pairs that are meant.
        max_memory: bytes; None for no limit.
    """

    name: str
    asked: Asked
    checkpoint: Checkpoint
    work: Work
    licence: str
    shards: range
    max_memory: int | None

    def describe(self) -> dict[str, Any]:
        """Say what is to be done, as JSON."""
        from voxtral.cloning.phases import encoder_parameters
        from voxtral.cloning.plan import disk_bytes

        size, config = self.work.size, self.checkpoint.config
        return {
            "model": self.name,
            "file": str(self.work.output),
            "work": str(self.work.folder),
            "licence": self.licence,
            "hours": size.hours,
            "seen_hours": size.seen_hours,
            "steps": size.steps,
            "rows": size.rows,
            "disk_bytes": disk_bytes(size.hours, config.frame_rate, encoder_parameters(config)),
            "free_bytes": shutil.disk_usage(self.work.folder).free,
        }

    def describe_result(self) -> dict[str, Any]:
        """Say what was made, as JSON: the header of the file."""
        from dataclasses import asdict

        from voxtral.loading.encoder_file import open_encoder

        file = open_encoder(self.work.output, self.checkpoint)
        facts = asdict(file.facts)
        facts["report"] = json.loads(file.facts.report) if file.facts.report else None
        return {"file": str(self.work.output), "model": self.name, "decoder": file.decoder, **facts}


def open_job(name: str, asked: Asked, output: Path | None, folder: Path | None) -> Job:
    """Look at the model, and settle the size of its training and where things go; the folder of the work is made.

    Raises:
        CheckpointError: the model is damaged.
        OptionError: an option breaks a rule.
        TrainingError: the folder cannot be used, or the disk has no room.
    """
    from voxtral.cloning.phases import Work, encoder_parameters, licence_of, prepare_folder
    from voxtral.cloning.plan import choose_size, parse_shards, plan_shards
    from voxtral.loading.checkpoint import open_checkpoint
    from voxtral.loading.encoder_file import stored_encoder
    from voxtral.loading.memory import parse_memory

    checkpoint = open_checkpoint(locate_model(name, allow_download=False))
    config = checkpoint.config
    size = choose_size(
        encoder_parameters(config),
        config.frame_rate,
        is_fast=asked.fast,
        hours=asked.hours,
        seen_hours=asked.seen_hours,
    )
    target = output or stored_encoder(checkpoint)
    beside = target.with_name(f"{target.name.removesuffix('.safetensors')}.work")
    work = Work(folder or beside, target, size, asked.seed)
    shards = parse_shards(asked.shards, len(plan_shards(size.hours, config.frame_rate).frames))
    max_memory = None if asked.max_memory is None else parse_memory(asked.max_memory)
    nano = open_checkpoint(locate_model("nano", allow_download=False))
    prepare_folder(work, config)
    return Job(name, asked, checkpoint, work, licence_of(checkpoint, nano), shards, max_memory)


def evaluator(job: Job) -> list[str] | None:
    """Name the command that judges an encoder; None where this version has none."""
    if not has_command("evaluate-encoder"):
        return None
    judge = [sys.executable, "-m", "voxtral", "evaluate-encoder", "--fast"]
    return [*judge, "--model", job.name, "--encoder", str(job.work.output)]


def run_phase(job: Job, *, parent: int, is_dry: bool, as_json: bool, is_quiet: bool) -> None:
    """Do one phase in this process; SIGTERM and Ctrl-C end it at the next place, with all of it kept.

    Args:
        job: what is trained.
        parent: process whose end ends this one, too; 0 for none.
        is_dry: only measure.
        as_json: print a JSON object at the end.
        is_quiet: no lines about progress.

    Raises:
        VoxtralError: as `voxtral.cloning.phases`.
    """
    stopped = threading.Event()

    def should_stop() -> bool:
        return stopped.is_set() or (parent != 0 and os.getppid() != parent)

    tell = reporter(is_quiet=is_quiet)
    with deferred_interrupts(stopped.set) as check_interrupt:
        phase = {"generate": _generate, "train": _train, "evaluate": _evaluate}[job.asked.phase]
        result = _measure(job) if is_dry else phase(job, should_stop, tell, is_quiet=is_quiet)
        check_interrupt()
    if as_json or is_dry:
        show(json.dumps(result))


def _generate(
    job: Job, should_stop: Callable[[], bool], tell: Callable[[str], None], *, is_quiet: bool
) -> dict[str, Any]:
    from voxtral.cloning.pairs import read_manifest
    from voxtral.cloning.phases import generate
    from voxtral.cloning.plan import plan_shards

    frame_rate = job.checkpoint.config.frame_rate
    planned = plan_shards(job.work.size.hours, frame_rate).frames
    wanted = sum(planned[number] for number in job.shards)
    there = _frames_there(job)
    if all(count >= planned[number] for number, count in there.items()) and read_manifest(job.work.folder):
        return {"done": True, "frames": sum(there.values())}
    with _opened(job) as (loaded, model), _shown(is_quiet=is_quiet) as look:
        before = sum(there.values())
        line = _Lines(tell)

        def on_progress(progress: GenerationProgress) -> None:
            made = before + progress.made
            speed = progress.made / max(progress.elapsed_s, 1e-9)
            left = (wanted - made) / max(speed, 1e-9)
            text = (
                f"{made / frame_rate / 3600:.2f} of {wanted / frame_rate / 3600:.2f} h of pairs, "
                f"{speed / frame_rate:.1f} times real time, {progress.refused} refused, {clock(max(0.0, left))} left"
            )
            look(min(1.0, made / wanted), text)
            line.say(f"{progress.elapsed_s:.0f} s shard {progress.shard} {text}")

        is_done = generate(model, loaded.checkpoint, job.work, job.shards, on_progress, should_stop)
    if not is_done:
        tell("stopped; the same command goes on")
    return {"done": is_done, "frames": sum(_frames_there(job).values())}


def _frames_there(job: Job) -> dict[int, int]:
    """Count the frames of each shard that is meant."""
    from voxtral.cloning.pairs import read_shard

    books = job.checkpoint.config.codebooks
    found = {number: read_shard(job.work.folder, number, books) for number in job.shards}
    return {number: 0 if shard is None else shard.num_frames for number, shard in found.items()}


def _train(job: Job, should_stop: Callable[[], bool], tell: Callable[[str], None], *, is_quiet: bool) -> dict[str, Any]:
    from voxtral.cloning.phases import train

    line = _Lines(tell)
    with _for_training(job) as compute, _shown(is_quiet=is_quiet) as look:

        def on_progress(progress: TrainingProgress) -> None:
            text = _training_line(progress)
            look(progress.fraction, text)
            line.say(text)

        trained = train(
            job.checkpoint,
            compute,
            job.work,
            licence=job.licence,
            speech=job.asked.speech,
            max_memory=job.max_memory,
            on_progress=on_progress,
            should_stop=should_stop,
            tell=lambda text: (say if text.startswith("warning:") else tell)(text),
        )
    standing = trained.standing
    if trained.ending == "stopped":
        tell(f"stopped at step {standing.step} of {standing.steps}; the same command goes on")
    else:
        why = "" if trained.ending == "done" else f"; no better since step {standing.best_step}"
        scores = _score_text("held-out pairs", trained.held_out) + _score_text("presets", trained.presets)
        say(f"{job.work.output}: {standing.step} steps{why}{scores}; licence: {job.licence}")
        if job.checkpoint.has_encoder:
            tell("the checkpoint holds an encoder itself, which comes first; this one is used where --encoder names it")
    return {"ending": trained.ending, "step": standing.step, "steps": standing.steps, "seconds": standing.seconds}


def _training_line(progress: TrainingProgress) -> str:
    """Say how far a training is.

    >>> from voxtral.cloning.distil import StepResult
    >>> from voxtral.cloning.trainer import Score, TrainingProgress
    >>> last = StepResult(2.5, 1.92, 0.61, 1.21, 0.0)
    >>> _training_line(TrainingProgress(2100, 20000, 312.4, 84.0, last, None, Score(0.49, 1.44)))
    '312 s step 2100 (84 h seen) ce 1.92 sem .61 levels 1.21 | presets sem .49 levels 1.44'
    """
    last = progress.last
    sound = f" sound {last.sound:.2f}" if last.sound else ""
    head = f"{progress.seconds:.0f} s step {progress.step} ({progress.seen_hours:.3g} h seen) ce {last.entropy:.2f}"
    mine = f" sem {_share(last.semantic)} levels {last.levels:.2f}{sound}"
    return head + mine + _score_text("held-out pairs", progress.held_out) + _score_text("presets", progress.presets)


def _score_text(name: str, score: Score | None) -> str:
    return "" if score is None else f" | {name} sem {_share(score.semantic)} levels {score.levels:.2f}"


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def _evaluate(
    job: Job, should_stop: Callable[[], bool], tell: Callable[[str], None], *, is_quiet: bool
) -> dict[str, Any]:
    from voxtral.cloning.phases import evaluate

    command = evaluator(job)
    if command is None:
        raise TrainingError(
            "voxtral evaluate-encoder is no part of this version, and judges an encoder; use a newer version, or "
            "python -m benchmarks.quality.cloning"
        )
    report = evaluate(job.checkpoint, job.work, command, should_stop)
    if report is not None:
        tell(f"{job.work.output}: the report is in its header")
    return {"done": report is not None}


def _measure(job: Job) -> dict[str, Any]:
    """Measure a phase for some seconds."""
    from voxtral.cloning.phases import plan_generation, plan_training

    size, config = job.work.size, job.checkpoint.config
    if job.asked.phase == "generate":
        with _opened(job) as (_, model):
            speed = plan_generation(model, job.asked.seed, _MEASURED_S)
        return {"frames_per_s": speed, "generate_s": size.hours * 3600 * config.frame_rate / max(speed, 1e-9)}
    if job.asked.phase == "train":
        with _for_training(job) as compute:
            cost, need, rows = plan_training(job.checkpoint, compute, size, _MEASURED_S, job.max_memory)
        total = cost.total(size.steps)
        return {
            "train_s": total,
            "step_s": total / size.steps,
            "rows_at_once": rows,
            "train_bytes": need.total(rows),
        }
    return {}


@contextmanager
def _opened(job: Job) -> Generator[tuple[VoxtralTTS, SpeakingModel], None, None]:
    """Load the model to speak."""
    from voxtral.cloning.generate import SpeakingModel
    from voxtral.engine.options import EngineOptions
    from voxtral.loading.load import open_tokenizer
    from voxtral.voices.library import VoiceLibrary

    is_small = job.checkpoint.num_parameters < _SMALL_PARAMETERS
    options = EngineOptions(max_batch=_MANY_ROWS if is_small else None)
    load = LoadOptions(job.asked.device, max_memory=job.asked.max_memory)
    with open_model(job.name, load, lambda _: None, options=options) as loaded:
        checkpoint = loaded.checkpoint
        library = VoiceLibrary(checkpoint.folder, checkpoint.config)
        yield loaded, SpeakingModel(checkpoint.config, open_tokenizer(checkpoint), library, loaded.engine)


@contextmanager
def _for_training(job: Job) -> Generator[ComputePlan, None, None]:
    """Choose where to train, and set torch up for it while the block runs."""
    import warnings

    import torch

    from voxtral.device import plan_compute

    compute = plan_compute(job.asked.device, num_parameters=job.checkpoint.num_parameters)
    if compute.device.type == "mps":
        raise OptionError("--device is mps, on which nothing can be trained here; use cpu or cuda")
    num_threads = torch.get_num_threads()
    with warnings.catch_warnings():
        # Digital silence makes denormals, which are a hundred times slower; numpy notices that they are flushed.
        warnings.filterwarnings("ignore", message="The value of the smallest subnormal")
        # Autocast keeps the gains of norms in float32, as it should; torch says that it has no fused kernel for it.
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        torch.set_flush_denormal(True)
        if compute.num_threads is not None:
            torch.set_num_threads(compute.num_threads)
        try:
            yield compute
        finally:
            torch.set_flush_denormal(False)
            torch.set_num_threads(num_threads)


class _Lines:
    """Says a line now and then.

    Args:
        tell: gets the lines.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Say it if the last one was long ago."""
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._tell(text)


@contextmanager
def _shown(*, is_quiet: bool) -> Generator[Callable[[float, str], None], None, None]:
    """Show a bar while the block runs, where somebody looks at a terminal."""
    if is_quiet or not sys.stderr.isatty():
        yield lambda fraction, text: None
        return
    last = [(0.0, "")]

    def note(fraction: float, text: str) -> None:
        last[0] = fraction, text

    with show_line(lambda: last[0]):
        yield note
