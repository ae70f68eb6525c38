"""`voxtral evaluate-encoder`: how good voices of clips are, by an encoder and without one, beside controls."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxtral.cli.files import check_target
from voxtral.cli.loading import (
    DeviceOption,
    DtypeOption,
    EncoderOption,
    LoadOptions,
    ModelOption,
    QuantizeOption,
    open_model,
)
from voxtral.cli.progress import show_line
from voxtral.cli.terminal import say, show
from voxtral.disk import may_use, why, write_whole
from voxtral.errors import AudioError, OptionError
from voxtral.loading import hub
from voxtral.options import MAX_SEED

if TYPE_CHECKING:
    from voxtral.cloning.evaluate import Ways
    from voxtral.loading.encoder_file import EncoderFile
    from voxtral.tts import VoxtralTTS


def evaluate_encoder(  # noqa: PLR0913 - each parameter is an option
    model: ModelOption = None,
    encoder: EncoderOption = None,
    clips: Annotated[
        Path | None,
        typer.Option(
            "--clips",
            metavar="DIR",
            help="Clips of people, DIR/<person>/*.wav: 4 people or more, 2 files or more each; the first is copied. "
            "Default: the presets of the model, decoded, which is easier.",
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", "-l", metavar="LANGUAGE", help="That the people in --clips speak.")
    ] = "en",
    ecapa: Annotated[
        Path | None,
        typer.Option(
            "--ecapa",
            metavar="DIR",
            help="Compare voices with SpeechBrain's ECAPA, whose weights (embedding_model.ckpt of "
            "speechbrain/spkrec-ecapa-voxceleb) are in DIR. Default: Resemblyzer where it is installed, else a "
            "measure that is built in.",
            show_default=False,
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="4 presets and 4 sentences of each voice instead of 8 and 20.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Where the figures go as JSON.", show_default=False)
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Write the JSON into the header of the encoder file as well.")
    ] = False,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="DIR",
            help="Keep what is done in DIR, and go on there after an interruption.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of noise and searches.")] = 0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
) -> None:
    """Judge ways to make voices of clips: this encoder, with a search after it, a search alone, and controls.

    The table has a row for each way. Codes: how they agree with those that presets are made of, which is no goal in
    itself. Copy: what they decode to, beside the clip. Clone: what the voices say; SAME-OTHER is how much nearer it
    is to the speaker than to the others, RIGHT how often the speaker is the nearest. Below it stands which
    differences mean nothing. docs/CLONING.md tells how to read it.

    Without --encoder and an encoder beside the model, the one that the model holds is judged; where there is none, the
    search alone. Nothing is sent anywhere, and no file is written but those that are named.

    Examples:
      voxtral evaluate-encoder --model 4b --encoder codec_encoder.safetensors --fast
      voxtral evaluate-encoder --model 4b --clips people --ecapa ecapa --json clone-4b.json
    """
    from voxtral.text.language import resolve_language

    if not 0 <= seed <= MAX_SEED:
        raise OptionError(f"--seed is {seed}; it must be a number from 0 to {MAX_SEED}; choose another")
    spoken = resolve_language(language)
    if output is not None:
        check_target(output)
    if clips is not None:
        from voxtral.cloning.subjects import find_people

        people = find_people(clips)
    else:
        people = None
    with open_model(model, LoadOptions(device, dtype, quantize, encoder=encoder), say) as loaded:
        _check_store(loaded.checkpoint.encoder, is_wanted=store)
        report = _evaluate(loaded, people, spoken, ecapa, work, fast=fast, seed=seed)
        if store and loaded.checkpoint.encoder is not None:
            from voxtral.loading.encoder_file import store_report

            store_report(loaded.checkpoint.encoder, loaded.checkpoint, json.dumps(report))
            say(f"{loaded.checkpoint.encoder.path}: the figures are in its header")
    if output is not None:
        try:
            write_whole(output, (json.dumps(report, indent=1) + "\n").encode())
        except OSError as error:
            raise AudioError(
                f"{output} cannot be written ({why(error)}); check the folder, its permissions and the disk"
            ) from error
        say(f"{output}: the figures as JSON")
    from voxtral.cloning.report import write_table

    show(write_table(report))


def _check_store(file: EncoderFile | None, *, is_wanted: bool) -> None:
    """Refuse --store before any work where there is no file, or none that may be written."""
    if not is_wanted:
        return
    if file is None:
        raise OptionError(
            "got --store, and the encoder is not in a file of its own; there is no header to write to; name one with "
            "--encoder, or take --json"
        )
    if not may_use(file.path.resolve().parent, os.W_OK | os.X_OK):
        raise OptionError(
            f"got --store, and this user may not write to {file.path.parent}; the file is written anew there; change "
            "its permissions, or take --json"
        )


def _evaluate(
    loaded: VoxtralTTS,
    people: Any,
    language: str,
    ecapa: Path | None,
    work: Path | None,
    *,
    fast: bool,
    seed: int,
) -> dict[str, Any]:
    from voxtral.cloning.evaluate import Evaluation, EvaluationOptions, identity
    from voxtral.cloning.kept import Kept
    from voxtral.cloning.report import make_report
    from voxtral.cloning.speakers import open_measures
    from voxtral.cloning.subjects import read_people
    from voxtral.cloning.talk import Talker
    from voxtral.loading.load import open_tokenizer
    from voxtral.voices.library import VoiceLibrary

    checkpoint = loaded.checkpoint
    measures = open_measures(loaded.sample_rate, ecapa)
    subjects = None if people is None else read_people(people, loaded.sample_rate, language)
    about = _about(loaded)
    options = EvaluationOptions(fast=fast, seed=seed)
    facts = {key: about[key] for key in ("model", "encoder")} | {
        "measures": [measure.name for measure in measures],
        "language": language,
    }
    kept = Kept(work, identity(options, facts, subjects))
    talker = Talker(loaded.config, open_tokenizer(checkpoint), loaded.engine, seed)
    with _shown_progress() as on_progress:
        evaluation = Evaluation(
            talker,
            VoiceLibrary(checkpoint.folder, checkpoint.config),
            _open_encoders(loaded),
            measures,
            options,
            subjects,
            kept,
            on_progress,
        )
        found = evaluation.run()
    return make_report(found, about)


def _open_encoders(loaded: VoxtralTTS) -> Ways:
    """Load the encoder that is judged: that of a file, else the model's own."""
    from voxtral.cloning.evaluate import Ways
    from voxtral.loading.encoder_file import check_decoder
    from voxtral.loading.load import load_encoder

    file = loaded.checkpoint.encoder
    own = loaded.engine.call(lambda model: model.codec_encoder)
    if file is None:
        return Ways(encoder=own, own=None)
    check_decoder(file, loaded.checkpoint)
    device, dtype = loaded.engine.call(lambda model: (model.device, model.codec.dtype))
    return Ways(load_encoder(file, loaded.checkpoint, device=device, dtype=dtype), own)


def _about(loaded: VoxtralTTS) -> dict[str, Any]:
    """Say what was judged, where; without paths, for it is meant to be sent."""
    from dataclasses import asdict

    from voxtral.device import describe_machine, dtype_name
    from voxtral.loading.encoder_file import decoder_digest

    file = loaded.checkpoint.encoder
    encoder: dict[str, Any] | None = None
    if file is not None:
        encoder = {key: value for key, value in asdict(file.facts).items() if key != "report"}
        encoder["digest"] = _digest(file.path)
    elif loaded.checkpoint.has_encoder:
        encoder = {"origin": "checkpoint"}
    name = loaded.name
    is_public = name == "nano" or hub.canonical_id(name) == hub.CANONICAL_ID
    compute = loaded.compute
    return {
        "model": {"name": name if is_public else "a folder", "decoder": decoder_digest(loaded.checkpoint)},
        "encoder": encoder,
        "machine": describe_machine()
        | {
            "device": str(compute.device),
            "dtype": dtype_name(compute.dtype),
            "weights": "plain" if compute.quantization is None else compute.quantization.name,
        },
    }


def _digest(path: Path) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _shown_progress() -> Generator[Callable[[float, str], None]]:
    """Show how far the work is: as a moving line at a terminal, else as a line for each tenth."""
    seen: list[tuple[float, str]] = [(0.0, "")]
    if sys.stderr.isatty():
        with show_line(lambda: seen[-1]):
            yield lambda fraction, what: seen.append((fraction, what))
        return

    def tell(fraction: float, what: str) -> None:
        if int(10 * fraction) > int(10 * seen[-1][0]):
            say(f"{fraction:.0%} ({what})")
        seen[-1] = (fraction, what)

    yield tell
