"""Measure clones of nano without its encoder: python -m benchmarks.quality.cloning WORK --json OUT.

Prepares in WORK what `voxtral evaluate-encoder` needs, and runs it: nano with the tensors of its encoder taken out,
these tensors as an encoder file, and clips of the voices that nano's training never heard. Takes some twenty minutes of
one core, and goes on in WORK where it was stopped. Needs the teacher's speech: espeak-ng, or what the teachers of
shards said (--takes); voices are compared by Resemblyzer where it is installed. `python -m
benchmarks.quality.cloning_page` writes the figures into docs/CLONING.md.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from benchmarks.quality.cases import Studio
from benchmarks.quality.options import (
    add_model_option,
    add_recogniser_option,
    add_teacher_options,
    describe_run,
    keep_settings,
    open_studio,
    require_sound,
)
from train.corpus import CorpusError
from train.recogniser import Recogniser
from train.teacher import TeacherError
from voxtral.cli.main import run
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.encoder_file import EncoderFacts, own_encoder, write_encoder
from voxtral.loading.files import WEIGHTS_FILE
from voxtral.loading.inventory import ENCODER_PREFIXES
from voxtral.loading.locate import locate_model
from voxtral.speech.result import Audio

_RATE = 24000
_CLIPS_OF = "en"


def prepare(work: Path, delivered: Path, studio: Studio) -> tuple[Path, Path, Path]:
    """Make what is compared: nano without its encoder, the encoder as a file, and folders of clips."""
    model = strip_encoder(delivered, work / "nano")
    encoder = work / "encoder.safetensors"
    if not encoder.exists():
        facts = EncoderFacts(origin="official", licence="Apache-2.0")
        write_encoder(encoder, own_encoder(open_checkpoint(delivered)), open_checkpoint(model), facts)
    clips = work / "clips"
    if not clips.exists():
        partial = work / "clips.part"
        shutil.rmtree(partial, ignore_errors=True)
        for voice in studio.strangers_of(_CLIPS_OF):
            folder = partial / voice.name
            folder.mkdir(parents=True)
            clips_of_voice = (clip(_CLIPS_OF, voice.name) for clip in (studio.reference, studio.enrolment))
            for number, samples in enumerate(clips_of_voice):
                Audio(np.asarray(samples, np.float32), _RATE).save(folder / f"{number}.wav")
        partial.rename(clips)
    return model, encoder, clips


def strip_encoder(source: Path, target: Path) -> Path:
    """Copy a checkpoint without its encoder."""
    if not target.exists():
        partial = target.with_name(f"{target.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        kept = {
            name: value
            for name, value in load_file(source / WEIGHTS_FILE).items()
            if not name.startswith(ENCODER_PREFIXES)
        }
        save_file(kept, partial / WEIGHTS_FILE)
        # Made for weights with an encoder, and of no use here.
        (partial / "alignment.json").unlink(missing_ok=True)
        partial.rename(target)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare what is not there, and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder of what is prepared and done")
    add_model_option(parser)
    add_recogniser_option(parser)
    add_teacher_options(parser)
    parser.add_argument("--fast", action="store_true", help="few sentences, and 60 steps from nothing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the result goes")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        keep_settings(options.work / "settings.json", describe_run(options))
        studio = open_studio(options, Recogniser.load(options.recogniser).phonemes, with_word_lists=False)
        require_sound(studio, "measuring clones")
    except (CorpusError, TeacherError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    model, encoder, clips = prepare(options.work, locate_model(options.model, allow_download=False), studio)
    kept = options.work / f"{'fast' if options.fast else 'whole'}-{options.seed}"
    return run(
        [
            *("evaluate-encoder", "--model", str(model), "--encoder", str(encoder), "--clips", str(clips)),
            *("--device", "cpu", "--seed", str(options.seed), "--work", str(kept)),
            *(("--fast",) if options.fast else ()),
            *(() if options.json is None else ("--json", str(options.json))),
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
