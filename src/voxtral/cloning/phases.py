"""The phases of making an encoder, each of which is a process of its own, so that its memory is gone when it ends.

generate: the model speaks, into a folder of pairs. train: an encoder learns from them and is written to a file.
evaluate: a command judges the file, and what it says goes into the file's header. What a phase has done is in the
folder, so each can be stopped and begun again. `voxtral train-encoder` runs them; see docs/CLONING.md.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout

from voxtral.cloning.calibrate import TrainingCost, generation_speed, measure_rows, training_cost
from voxtral.cloning.distil import Distiller, Pairs
from voxtral.cloning.generate import GenerationProgress, ItemSource, ShardMaker, SpeakingModel
from voxtral.cloning.pairs import Manifest, keep_usual, read_shard, settle_manifest
from voxtral.cloning.plan import MemoryNeed, RunSize, choose_rows, disk_bytes, plan_shards
from voxtral.cloning.refine import Speechlike
from voxtral.cloning.search import study_presets
from voxtral.cloning.speech_files import SpeechFiles
from voxtral.cloning.state import Standing
from voxtral.cloning.trainer import Column, Trained, Trainer, TrainingProgress
from voxtral.config import ModelConfig
from voxtral.device import ComputePlan
from voxtral.disk import UnfitFileError, read_regular, temporary_beside, why
from voxtral.errors import TrainingError
from voxtral.loading.checkpoint import Checkpoint, TensorReader, shared_fingerprint
from voxtral.loading.encoder_file import (
    EncoderFacts,
    decoder_digest,
    name_tensors,
    open_encoder,
    read_encoder,
    write_encoder,
)
from voxtral.loading.inventory import CODEBOOK, encoder_tensors
from voxtral.loading.load import load_codec
from voxtral.voices.library import VoiceLibrary

T = TypeVar("T")

# One item of so many is held out; no more of them are looked at.
_HELD_OUT, _MAX_HELD_OUT = 50, 16
# What a training should reach on pairs that were held out; below it more hours are in vain.
_LEAST_SEMANTIC, _MOST_LEVELS = 0.3, 2.0
_LOCK_FILE = "train.lock"
_REPORT_FILE = "report.json"
_MAX_REPORT_BYTES = 2**20
_POLL_S = 0.2
# What a process that was stopped leaves half written is removed after so long: another machine may be writing now.
_LEFTOVER_S = 3600.0
_SPARE_BYTES = 10**8

_PUBLISHED = "CC BY-NC 4.0 (derived from mistralai/Voxtral-4B-TTS-2603)"
_PUBLISHED_PARAMETERS = 10**9
_OWN = "Apache-2.0"
_UNKNOWN = "that of the model which it was distilled from"


@dataclass(frozen=True)
class Work:
    """Where a training lives, and how large it is.

    Attributes:
        folder: of pairs and state.
        output: the encoder file.
        size: of the training.
        seed: of all chance.
    """

    folder: Path
    output: Path
    size: RunSize
    seed: int


def licence_of(checkpoint: Checkpoint, nano: Checkpoint) -> str:
    """Name the licence of an encoder that is distilled from a model.

    Args:
        checkpoint: the model.
        nano: the model of this package.
    """
    if checkpoint.config.codec == nano.config.codec and decoder_digest(checkpoint) == decoder_digest(nano):
        return _OWN
    return _PUBLISHED if checkpoint.num_parameters > _PUBLISHED_PARAMETERS else _UNKNOWN


def encoder_parameters(config: ModelConfig) -> int:
    """Count the parameters of a model's encoder."""
    return sum(
        torch.Size(shape).numel() for name, shape in encoder_tensors(config).items() if not name.endswith("original0")
    )


def prepare_folder(work: Work, config: ModelConfig) -> None:
    """Make the folder of the work, see that there is room, and remove what a killed process left half written.

    Raises:
        TrainingError: it cannot be made, or the disk has no room.
    """
    folder = work.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".voxtral-*.part*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _LEFTOVER_S:
                    path.unlink()
        free = shutil.disk_usage(folder).free
        used = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise TrainingError(f"{folder} cannot be used ({why(error)}); --work must be a folder of your own") from error
    needed = disk_bytes(work.size.hours, config.frame_rate, encoder_parameters(config)) - used
    if needed + _SPARE_BYTES > free:
        raise TrainingError(
            f"{folder} has {free / 1e9:.1f} GB free; this training takes {needed / 1e9:.1f} GB there; make room, or "
            "name another --work"
        )


# Generate.


def make_source(model: SpeakingModel, seed: int) -> ItemSource:
    """Choose what a model says, by its presets."""
    return ItemSource({each.name: each.language for each in model.voices.describe()}, seed, model.config.frame_rate)


def generate(
    model: SpeakingModel,
    checkpoint: Checkpoint,
    work: Work,
    shards: range,
    on_progress: Callable[[GenerationProgress], None],
    should_stop: Callable[[], bool],
) -> bool:
    """Let a model speak until some shards are full; False if it was told to stop before.

    Raises:
        TrainingError: the folder is of another model or seed, a shard is damaged, or the model says nothing of use.
        EngineError: the engine failed.
    """
    plan = plan_shards(work.size.hours, model.config.frame_rate)
    settle_manifest(work.folder, _manifest(checkpoint, work.seed, plan.shard_frames))
    maker = ShardMaker(model, make_source(model, work.seed), work.folder, on_progress, should_stop)
    return all(maker.make(number, plan.frames[number]) for number in shards)


def _manifest(checkpoint: Checkpoint, seed: int, shard_frames: int) -> Manifest:
    return Manifest(shared_fingerprint(checkpoint), seed, shard_frames)


# Train.


def make_distiller(checkpoint: Checkpoint, compute: ComputePlan) -> tuple[Distiller, Speechlike]:
    """Load the decoder of a model to learn from, and find out what its presets tell of it."""
    model = load_codec(checkpoint, device=compute.device, dtype=compute.dtype, codec_dtype=_decoder_dtype(compute))
    library = VoiceLibrary(checkpoint.folder, checkpoint.config)
    rows = [library.load(name).rows[:-1] for name in library.names]
    speechlike = _finish(study_presets(model, rows))
    usage = TensorReader(checkpoint).read(f"{CODEBOOK}cluster_usage").float()
    # On CPUs measured here, bfloat16 is slower than float32 at these sizes.
    is_half = compute.device.type == "cuda"
    return Distiller(checkpoint.config, model.codec, usage, speechlike.lateness, is_half=is_half), speechlike


def _decoder_dtype(compute: ComputePlan) -> torch.dtype:
    return compute.codec_dtype if compute.device.type == "cuda" else torch.float32


def train(  # noqa: PLR0913 - each is a part of its own
    checkpoint: Checkpoint,
    compute: ComputePlan,
    work: Work,
    *,
    licence: str,
    speech: Sequence[Path] = (),
    max_memory: int | None = None,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train an encoder on the pairs of a folder, and write it; nothing is written where it was told to stop.

    Args:
        checkpoint: of the model that the pairs are of.
        compute: where to.
        work: folders and size.
        licence: for the header.
        speech: folders of unlabelled speech.
        max_memory: bytes that it may take.
        on_progress: told of each step.
        should_stop: asked before each step.
        tell: gets lines for a person.

    Raises:
        TrainingError: pairs or state are missing, damaged or of something else; another process trains here; the loss
            was no number too often.
        DeviceError: it does not fit `max_memory`.
        EncoderFileError: the file cannot be written.
    """
    config = checkpoint.config
    files = SpeechFiles(list(speech), config.sample_rate, tell) if speech else None
    plan = plan_shards(work.size.hours, config.frame_rate)
    settle_manifest(work.folder, _manifest(checkpoint, work.seed, plan.shard_frames))
    with _alone(work.folder):
        shards = [read_shard(work.folder, number, config.codebooks) for number in range(len(plan.frames))]
        if missing := [str(number) for number, shard in enumerate(shards) if shard is None]:
            tell(f"shards {', '.join(missing)} are not there; training goes on without them")
        items = keep_usual([shard for shard in shards if shard is not None])
        distiller, speechlike = make_distiller(checkpoint, compute)
        pairs = Pairs([each for number, each in enumerate(items) if number % _HELD_OUT or len(items) == 1])
        held_out = Column.make(distiller, items[::_HELD_OUT][:_MAX_HELD_OUT], work.size.frames)
        presets = Column.make(distiller, speechlike.sequences, work.size.frames)
        if presets is None:
            tell("the presets do not come apart into codes; pairs that are held out judge in their place")
        rows = work.size.rows
        if max_memory is not None:
            rows = choose_rows(measure_rows(distiller, pairs, work.size), rows, max_memory)
        tell(_announce(pairs, config, speechlike, rows, work.size, files))
        standing = Standing(
            decoder_digest(checkpoint), work.seed, work.size.rows, work.size.frames, work.size.steps, pairs.num_frames
        )
        trainer = Trainer(
            distiller,
            pairs,
            work.size,
            standing,
            work.folder,
            held_out=held_out,
            presets=presets,
            speech=files,
            rows_at_once=rows,
        )
        try:
            trained = trainer.run(on_progress, should_stop, lambda message: tell(f"warning: {message}"))
        finally:
            if files is not None:
                files.close()
        if trained.ending != "stopped":
            _write(checkpoint, work, trained, licence, tell)
        return trained


def _announce(
    pairs: Pairs, config: ModelConfig, known: Speechlike, rows: int, size: RunSize, files: SpeechFiles | None
) -> str:
    hours = pairs.num_frames / config.frame_rate / 3600
    aside = "" if rows == size.rows else f", {rows} at a time"
    heard = "" if files is None else f", {len(files)} files of speech"
    return (
        f"{hours:.2f} h of pairs{heard}; {size.steps} steps of {size.rows} x {size.frames} frames{aside}; the decoder "
        f"is {known.lateness} samples late"
    )


def _write(checkpoint: Checkpoint, work: Work, trained: Trained, licence: str, tell: Callable[[str], None]) -> None:
    config, standing = checkpoint.config, trained.standing
    facts = EncoderFacts(
        origin="distilled",
        steps=standing.step,
        hours=round(work.size.hours_of(standing.step, config.frame_rate), 3),
        licence=licence,
    )
    work.output.parent.mkdir(parents=True, exist_ok=True)
    write_encoder(work.output, name_tensors(trained.encoder), checkpoint, facts)
    score = trained.held_out
    if score is not None and (score.semantic < _LEAST_SEMANTIC or score.levels > _MOST_LEVELS):
        tell(
            f"warning: on pairs that were held out {score.semantic:.2f} of the semantic codes are right and levels are "
            f"{score.levels:.2f} off; {_LEAST_SEMANTIC} and {_MOST_LEVELS} are the least to expect; more --hours and "
            "--seen-hours may help"
        )


@contextmanager
def _alone(folder: Path) -> Generator[None, None, None]:
    """Keep other processes from training in a folder; the system lets go when this one dies."""
    lock = FileLock(folder / _LOCK_FILE)
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout as error:
        raise TrainingError(
            f"another process trains in {folder}; one does at a time; wait for it, or name another --work"
        ) from error


def _finish(work: Generator[Any, None, T]) -> T:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


# Evaluate.


def evaluate(
    checkpoint: Checkpoint, work: Work, command: Sequence[str], should_stop: Callable[[], bool]
) -> dict[str, Any] | None:
    """Let a command judge the encoder file, and keep what it says in the header; None if told to stop before.

    Args:
        checkpoint: of the model.
        work: whose output is judged.
        command: without the name of the file that it writes its JSON to, which is added.
        should_stop: asked now and then; the command is ended then.

    Raises:
        EncoderFileError: there is no sound encoder file.
        TrainingError: the command fails, or its report is none; the file is as it was.
    """
    file = open_encoder(work.output, checkpoint)
    target = temporary_beside(work.folder / _REPORT_FILE, ".json")
    try:
        try:
            process = subprocess.Popen([*command, "--json", str(target)], start_new_session=True)
        except OSError as error:
            raise TrainingError(f"{command[0]} cannot be started ({why(error)}); install voxtral-tts again") from error
        if (code := wait_for(process, should_stop)) is None:
            return None
        if code:
            raise TrainingError(
                f"the evaluation ended with exit code {code}; {work.output} is there and was not judged; see above, "
                "and try --phase evaluate"
            )
        try:
            report = json.loads(read_regular(target, max_bytes=_MAX_REPORT_BYTES))
            if not isinstance(report, dict):
                raise ValueError("it is no object")
        except (OSError, UnfitFileError, ValueError) as error:
            raise TrainingError(
                f"the evaluation wrote no report that can be read ({error}); {work.output} was not judged; try --phase "
                "evaluate"
            ) from error
    finally:
        target.unlink(missing_ok=True)
    facts = replace(file.facts, report=json.dumps(report, separators=(",", ":")))
    write_encoder(work.output, read_encoder(file, checkpoint), checkpoint, facts)
    return report


def wait_for(process: subprocess.Popen[Any], should_stop: Callable[[], bool]) -> int | None:
    """Wait for a process; once told to stop, end it as SIGTERM does, and wait for that.

    Returns:
        Its exit code; None if it was told to stop.
    """
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_S)
            if should_stop():
                process.terminate()
                process.wait()
                return None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


# Plan.


def plan_generation(model: SpeakingModel, seed: int, seconds: float) -> float:
    """Measure for some seconds how many frames a second a model makes for pairs."""
    return generation_speed(model, make_source(model, seed), seconds)


def plan_training(
    checkpoint: Checkpoint, compute: ComputePlan, size: RunSize, seconds: float, max_memory: int | None
) -> tuple[TrainingCost, MemoryNeed, int]:
    """Measure for some seconds what a step takes; no pairs are needed.

    Returns:
        Seconds of steps, memory, and the rows that are computed side by side.
    """
    distiller, speechlike = make_distiller(checkpoint, compute)
    books = checkpoint.config.codebooks
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(books.acoustic_size, (books.num_codebooks, 4 * size.frames), generator=generator)
    pairs = Pairs([*speechlike.sequences, drawn])
    need = measure_rows(distiller, pairs, size)
    rows = choose_rows(need, size.rows, max_memory)
    return training_cost(distiller, pairs, size, rows, seconds), need, rows
