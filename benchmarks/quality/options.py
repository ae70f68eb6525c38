"""Options that judges share: which model, which recogniser, and where its teachers are."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality.cases import Studio
from benchmarks.quality.references import ReferenceSpeaker
from benchmarks.quality.takes import Takes
from benchmarks.quality.teachers import CorpusSpeaker, EspeakSpeaker, Teacher
from train.corpus import MNEMONICS, CorpusError, Phonemes
from voxtral.loading.checkpoint import fingerprint, open_checkpoint
from voxtral.loading.locate import locate_model

RECOGNISER = Path(__file__).with_name("recogniser.safetensors")


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Add which nano is judged."""
    parser.add_argument("--model", default="nano", help="name or folder of a checkpoint")


def add_recogniser_option(parser: argparse.ArgumentParser) -> None:
    """Add who hears."""
    parser.add_argument("--recogniser", type=Path, default=RECOGNISER, help="made by train.recogniser")


def add_teacher_options(parser: argparse.ArgumentParser) -> None:
    """Add where the teachers are; a recogniser of espeak-ng's mnemonics needs espeak-ng and none of these."""
    parser.add_argument("--teachers", type=Path, help="what train.packages made: the corpus' teachers, to speak here")
    parser.add_argument("--takes", type=Path, help="what they said already (benchmarks.quality.takes)")


def open_teacher(options: argparse.Namespace, phonemes: Phonemes) -> Teacher:
    """Find who speaks as the teacher of a recogniser does.

    Returns:
        espeak-ng, the corpus' teachers or what they said; where neither is given, their phonemes alone.

    Raises:
        CorpusError: teachers are given that the recogniser does not know.
        TeacherError: a teacher is not there.
    """
    if phonemes.alphabet == MNEMONICS:
        if options.teachers is not None or options.takes is not None:
            raise CorpusError(
                "--teachers and --takes are for a recogniser that learned from shards; this one hears espeak-ng's "
                f"{MNEMONICS}, and espeak-ng is its teacher; leave them out, or give another --recogniser"
            )
        return EspeakSpeaker()
    live = None if options.teachers is None else CorpusSpeaker(options.teachers)
    if options.takes is not None:
        return Takes(options.takes, live)
    return live or ReferenceSpeaker()


def open_studio(options: argparse.Namespace, phonemes: Phonemes, *, with_word_lists: bool = True) -> Studio:
    """Set up who says what is to be said; see `open_teacher`."""
    return Studio(phonemes, open_teacher(options, phonemes), with_word_lists=with_word_lists)


def describe_run(options: argparse.Namespace) -> dict[str, str]:
    """Say what a run is of, so that it is not mixed with another: the model, its weights, and who hears.

    Raises:
        CheckpointError: the model cannot be read.
    """
    checkpoint = open_checkpoint(locate_model(options.model, allow_download=False))
    heard_by = hashlib.sha256(options.recogniser.read_bytes()).hexdigest()
    weights = fingerprint(checkpoint, with_time=False)
    return {"model": str(options.model), "weights": weights[:12], "recogniser": heard_by[:12]}


def keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write down what a run is of, or refuse to mix it with another.

    Raises:
        ValueError: the folder is of a run with other settings.
    """
    if not path.is_file():
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    elif (kept := json.loads(path.read_text(encoding="utf-8"))) != settings:
        raise ValueError(
            f"{path.parent} is of a run with {kept}, this one has {settings}; results of both would be mixed; use "
            "another folder"
        )


def require_sound(studio: Studio, what: str) -> None:
    """Refuse to go on with phonemes alone.

    Raises:
        CorpusError: the teacher cannot be heard.
    """
    if not studio.has_sound:
        raise CorpusError(
            f"{what} needs the teachers' speech, and this recogniser's teachers are not here; give --takes (made by "
            "benchmarks.quality.takes), or --teachers where their tools are installed"
        )
