"""Measure clones of nano without its encoder: python -m benchmarks.quality.cloning WORK --json OUT.

Prepares in WORK what `voxtral evaluate-encoder` needs, and runs it: nano with the tensors of its encoder taken out,
these tensors as an encoder file, and clips of the voices that nano's training never heard. Takes some twenty minutes of
one core, and goes on in WORK where it was stopped. Needs the teacher (espeak-ng); voices are compared by Resemblyzer
where it is installed. `python -m benchmarks.quality.cloning_page OUT` writes the figures into docs/CLONING.md.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from benchmarks.quality.cases import Studio
from train.recogniser import Recogniser
from voxtral.cli.main import run
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.encoder_file import EncoderFacts, own_encoder, write_encoder
from voxtral.loading.files import WEIGHTS_FILE
from voxtral.loading.inventory import ENCODER_PREFIXES
from voxtral.speech.result import Audio

_RATE = 24000
_RECOGNISER = Path(__file__).with_name("recogniser.safetensors")
_DELIVERED = Path(__file__).parents[2] / "src" / "voxtral" / "data" / "nano"


def prepare(work: Path) -> tuple[Path, Path, Path]:
    """Make what is compared: nano without its encoder, the encoder as a file, and folders of clips."""
    model = strip_encoder(_DELIVERED, work / "nano")
    encoder = work / "encoder.safetensors"
    if not encoder.exists():
        facts = EncoderFacts(origin="official", licence="Apache-2.0")
        write_encoder(encoder, own_encoder(open_checkpoint(_DELIVERED)), open_checkpoint(model), facts)
    clips = work / "clips"
    if not clips.exists():
        partial = work / "clips.part"
        shutil.rmtree(partial, ignore_errors=True)
        studio = Studio(Recogniser.load(_RECOGNISER).phonemes)
        for voice in studio.held_out:
            folder = partial / voice.name
            folder.mkdir(parents=True)
            for number, samples in enumerate((studio.reference("en", voice.name), studio.enrolment("en", voice.name))):
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
    parser.add_argument("--fast", action="store_true", help="few sentences, and 60 steps from nothing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--distilled", type=Path, help="an encoder file of voxtral train-encoder, to be compared, too")
    parser.add_argument("--systems", nargs="+", help="only these")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    model, encoder, clips = prepare(options.work)
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
