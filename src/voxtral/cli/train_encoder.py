"""`voxtral train-encoder`: an encoder for a model that lacks one, distilled from the model's own speech.

Each phase is a process of its own, this command with `--phase`, so that the memory of one is gone before the next.
Read next: `voxtral.cli.train_phases`, which runs one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from voxtral.cli.files import check_safetensors_target
from voxtral.cli.loading import DeviceOption, ModelOption, fetch_if_agreed, resolve_model_name
from voxtral.cli.options import JsonOption, QuietOption
from voxtral.cli.terminal import deferred_interrupts, reporter, say, show
from voxtral.cli.train_phases import PHASES, Asked, check_asked, evaluator, open_job, run_phase
from voxtral.errors import TrainingError


def train_encoder(  # noqa: PLR0913 - each parameter is an option
    model: ModelOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The encoder, a .safetensors file. Default: the data folder of the user, where a model finds its own.",
            show_default=False,
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option("--hours", metavar="H", help="Of pairs. Default: 40; for nano 1.", show_default=False),
    ] = None,
    seen_hours: Annotated[
        float | None,
        typer.Option(
            "--seen-hours",
            metavar="H",
            help="Of sound that is learned from. Default: 700; for nano 8.",
            show_default=False,
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="4 and 60 hours, for nano 0.4 and 2.5: is it worth going on?")
    ] = False,
    speech: Annotated[
        list[Path] | None,
        typer.Option("--speech", metavar="FOLDER", help="Speech of people to learn from besides; may be given again."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="FOLDER",
            help="Pairs and the state of the training. Default: the name of the output, with .work.",
            show_default=False,
        ),
    ] = None,
    phase: Annotated[str, typer.Option("--phase", metavar="PHASE", help="generate, train, evaluate or all.")] = "all",
    shards: Annotated[
        str | None,
        typer.Option(
            "--shards",
            metavar="A-B",
            help="With --phase generate: only these hours of pairs, counted from 0, so that machines share a folder.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of all chance.")] = 0,
    device: DeviceOption = "auto",
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory",
            metavar="SIZE",
            help="A budget such as 11GB: fewer bits for the model that speaks, fewer rows at a time in training.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure for 20 seconds, say what it would take, and stop.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    parent: Annotated[int, typer.Option("--parent", hidden=True)] = 0,
) -> None:
    """Learn the codec encoder that a model lacks, from the model's own speech; then clips are cloned in milliseconds.

    The model speaks texts of this package in its presets (generate), an encoder learns to find the codes again (train),
    and is judged (evaluate). A run that was stopped or killed goes on when the same command is given again; it loses
    five minutes at most.

    What is made of the published 4B weights is under their licence, CC BY-NC 4.0. docs/CLONING.md has costs, risks and
    what to expect.

    Examples:
      voxtral train-encoder --model 4b --dry-run
      voxtral train-encoder --model 4b --fast
      voxtral train-encoder --model 4b -o codec_encoder.safetensors --speech ~/LibriTTS-R
      voxtral clone me.wav -o me.safetensors --model 4b
    """
    asked = Asked(hours, seen_hours, fast, tuple(speech or ()), phase, shards, seed, device, max_memory)
    check_asked(asked)
    if output is not None:
        check_safetensors_target(output)
    name = resolve_model_name(model, say, device)
    fetch_if_agreed(name)
    job = open_job(name, asked, output, work)
    tell = reporter(is_quiet=quiet)
    if phase != "all":
        run_phase(job, parent=parent, is_dry=dry_run, as_json=as_json, is_quiet=quiet)
        return
    tell(f"encoder for {name}: {job.work.output}; work in {job.work.folder}; licence of the result: {job.licence}")
    command = [
        sys.executable,
        "-m",
        "voxtral",
        "train-encoder",
        "--model",
        name,
        *_arguments(job.work.output, job.work.folder, asked, quiet),
    ]
    if dry_run:
        _show_plan(job.describe(), [_measured(command, each) for each in PHASES[:2]], as_json=as_json)
        return
    for each in PHASES:
        if each == "evaluate" and evaluator(job) is None:
            say("voxtral evaluate-encoder is no part of this version; the encoder was not judged")
            continue
        _run(command, each)
    if as_json:
        show(json.dumps(job.describe_result()))
    how = "the model finds it there" if output is None else f"use it with --encoder {job.work.output}"
    say(f"{job.work.output}: an encoder for {name}; {how}")


def _arguments(output: Path, folder: Path, asked: Asked, quiet: bool) -> list[str]:
    """Give the options of a run to a process that does a phase of it."""
    options: dict[str, Any] = {
        "--output": output,
        "--work": folder,
        "--hours": asked.hours,
        "--seen-hours": asked.seen_hours,
        "--seed": asked.seed,
        "--device": asked.device,
        "--max-memory": asked.max_memory,
        "--parent": os.getpid(),
    }
    given = [text for option, value in options.items() if value is not None for text in (option, str(value))]
    given += [text for folder in asked.speech for text in ("--speech", str(folder))]
    return given + ["--fast"] * asked.fast + ["--quiet"] * quiet


def _run(command: list[str], phase: str) -> None:
    """Do a phase in a process of its own; a signal that ends this one ends it as SIGTERM does.

    Raises:
        typer.Exit: it failed, with its exit code.
    """
    from voxtral.cloning.phases import wait_for

    stopped = threading.Event()
    with deferred_interrupts(stopped.set) as check_interrupt:
        # In a session of its own, so that Ctrl-C comes to it once, from here.
        process = subprocess.Popen([*command, "--phase", phase], start_new_session=True)
        code = wait_for(process, stopped.is_set)
        check_interrupt()
    if code:
        raise typer.Exit(code if code > 0 else 128 - code)


def _measured(command: list[str], phase: str) -> dict[str, Any]:
    """Let a process measure a phase."""
    from voxtral.cloning.phases import wait_for

    stopped = threading.Event()
    with deferred_interrupts(stopped.set) as check_interrupt:
        arguments = [*command, "--phase", phase, "--dry-run", "--json"]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True)
        code = wait_for(process, stopped.is_set)
        check_interrupt()
    if code or process.stdout is None:
        raise typer.Exit(code or 1)
    with process.stdout as output:
        try:
            return json.loads(output.read())
        except ValueError as error:
            raise TrainingError(
                f"the measurement of the phase {phase} said nothing; try --phase {phase} --dry-run"
            ) from error


def _show_plan(whole: dict[str, Any], phases: list[dict[str, Any]], *, as_json: bool) -> None:
    plan = whole | {key: value for each in phases for key, value in each.items()}
    if as_json:
        show(json.dumps(plan))
        return
    from voxtral.cli.progress import clock
    from voxtral.loading.memory import format_bytes

    total = plan["generate_s"] + plan["train_s"]
    show(
        f"pairs:    {plan['hours']:g} h, {clock(plan['generate_s'])} at {plan['frames_per_s']:.0f} frames a second\n"
        f"training: {plan['seen_hours']:g} h seen in {plan['steps']} steps, {clock(plan['train_s'])} at "
        f"{plan['step_s']:.2f} s a step, {plan['rows_at_once']} of {plan['rows']} rows at a time\n"
        f"together: {clock(total)}, and the evaluation\n"
        f"memory:   {format_bytes(plan['train_bytes'])} for the training\n"
        f"disk:     {format_bytes(plan['disk_bytes'])} of {format_bytes(plan['free_bytes'])} that are free"
    )
