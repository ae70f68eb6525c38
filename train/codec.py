"""Stage 3: the codec, encoder and decoder together, then the decoder alone.

    python -m train.codec build/nano --minutes 45
    python -m train.codec build/nano --minutes 20 --decoder-only

Goes on where it was stopped, whatever stopped it: `codec-state.safetensors` has all that a step depends on, and what a
step draws follows from its number. Whole utterances lose their acoustic codes now and then, so that the semantic code
must carry the words. The pulses of the head are driven by the pitch of the teacher, for harmonics beside those of the
target would teach nothing; late in a run sometimes by that of the codes, as at run time.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from train.codec_network import CodecOutput, TrainableCodec, initialise, take_weights
from train.crops import Crop, Crops
from train.discriminators import Discriminators
from train.loop import (
    RunningMean,
    Standing,
    StepClock,
    World,
    add_length_options,
    add_mean_option,
    run,
    save_weights,
    trapezoid,
)
from train.shape import nano_config
from train.spectra import SpectralLoss
from train.speech import open_speech
from train.state import load_state, restore_optimisers, save_state, take
from voxtral.cloning.spectra import pitch_distance
from voxtral.cloning.start import make_optimisers
from voxtral.loading.files import WEIGHTS_FILE
from voxtral.model.source import Pitch

_FRAMES_PER_CROP = 24
_PITCH_WEIGHT, _VOICING_WEIGHT = 1.0, 0.1
_PHONEME_WEIGHT, _COMMIT_WEIGHT = 0.4, 0.25
_ACOUSTIC_PENALTY = 1e-3
# Share of the batches that the codes' own pitch drives, in the last part of a run.
_OWN_PITCH, _OWN_PITCH_FROM = 0.3, 0.7
# Samples of a crop that the discriminators hear; all of them cost five times all the rest.
_JUDGED_SAMPLES = 9600

_SECONDS_BETWEEN_REPORTS, _SECONDS_BETWEEN_SAVES = 60.0, 150.0
# Parts that are kept from training, to report on: one of so many.
_HELD_SHARE, _PROBE_ROWS = 5, 8
_STEPS_BETWEEN_LOOKS = 200  # for new parts of the corpus


def pitch_losses(output: CodecOutput, pitch: Pitch) -> tuple[Tensor, Tensor]:
    """Compare the pitch of codes with that of the teacher, over the rows that have their codes.

    Returns:
        Octaves of error where it is voiced, and the cross-entropy of voicing in nats.
    """
    counts = output.is_kept[:, None].expand_as(pitch.gate)
    octaves, voicing = pitch_distance(output.pitch, pitch, counts)
    num_rows = output.is_kept.sum().clamp(min=1)
    return octaves.sum() / num_rows, voicing.sum() / num_rows


class CodecTraining:
    """One process of the stage.

    Args:
        world: all processes.
        folder: of the run.
        options: as `main` reads them.
    """

    def __init__(self, world: World, folder: Path, options: argparse.Namespace) -> None:
        self.world = world
        self.options = options
        kind = "decoder" if options.decoder_only else "codec"
        self.weights_path = folder / "codec.safetensors"
        self.state_path = folder / f"{kind}-state.safetensors"
        speech = open_speech(options.data or folder / "data")
        found = load_state(self.state_path)
        names = list(speech.names)
        held = found[0]["held"] if found else names[: len(names) // _HELD_SHARE]
        self.standing = Standing(held=held)
        self.crops = Crops(speech, _FRAMES_PER_CROP, tape=options.tape, without=held)
        probe = Crops(speech, _FRAMES_PER_CROP, only=held or names)
        self.probe = probe.draw(_PROBE_ROWS, [123]).to(world.device)
        self.codec = self._make_codec().to(world.device)
        self.loss = SpectralLoss().to(world.device)
        trained = self.codec.decoder if options.decoder_only else self.codec
        self.parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
        self.optimisers = make_optimisers(trained, options.rate)
        self.judges = Discriminators(world, options.rate) if options.adversarial > 0 else None
        self.mean = RunningMean(self.parameters) if options.mean else None
        if found:
            self._restore(*found)
        world.share([*self.codec.parameters(), *self.codec.buffers()])

    def _make_codec(self) -> TrainableCodec:
        torch.manual_seed(self.options.seed)
        codec = TrainableCodec(nano_config())
        if self.weights_path.is_file():
            codec.load_state_dict(load_file(self.weights_path))
            return codec
        initialise(codec, self.crops.draw(24, [self.options.seed, 5]))
        if self.options.start is not None:
            count = take_weights(codec, load_file(self.options.start / WEIGHTS_FILE))
            if self.world.is_first:
                print(f"{count} tensors of {self.options.start} to begin with", flush=True)
        return codec

    # The state.

    @property
    def _optimisers_of_all(self) -> list[torch.optim.Optimizer]:
        return [*self.optimisers, *([] if self.judges is None else [self.judges.optimiser])]

    def _restore(self, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.standing = Standing(**numbers)
        self.codec.load_state_dict(take(tensors, "codec."))
        judges, means = take(tensors, "judges."), take(tensors, "mean.")
        if self.judges is not None and judges:
            self.judges.load_state_dict(judges)
        if bool(judges) == (self.judges is not None):
            restore_optimisers(self._optimisers_of_all, tensors)
        elif self.world.is_first:
            print("the discriminators are new, or gone: the optimisers begin anew", flush=True)
        if self.mean is not None and means:
            self.mean.restore([means[str(index)] for index in range(len(means))], self.standing.mean_steps)
        if self.world.is_first:
            print(f"going on from step {self.standing.step} after {self.standing.seconds:.0f} s", flush=True)

    def save(self) -> None:
        """Write the state, and the weights that the next stages read."""
        tensors = {f"codec.{name}": value for name, value in self.codec.state_dict().items()}
        if self.judges is not None:
            tensors |= {f"judges.{name}": value for name, value in self.judges.state_dict().items()}
        if self.mean is not None:
            tensors |= {f"mean.{index}": value for index, value in enumerate(self.mean.means)}
            self.standing.mean_steps = self.mean.num_steps
        save_state(self.state_path, asdict(self.standing), tensors, self._optimisers_of_all)
        with self._averaged():
            save_weights(self.weights_path, self.codec.state_dict())

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        if self.mean is None:
            yield
        else:
            with self.mean.applied():
                yield

    # Steps.

    def step(self, progress: float) -> str:
        """Make a step; return its figures in words."""
        options, world, number = self.options, self.world, self.standing.step
        # All that is drawn follows from the number of the step.
        seed = [options.seed, world.rank, number]
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint32)[0]))
        crop = self.crops.draw(options.batch, seed).to(world.device)
        scale = trapezoid(0.0 if options.mean else progress, number, decay=options.decay)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = options.rate * scale
            optimiser.zero_grad()
        is_own = progress >= _OWN_PITCH_FROM and float(torch.rand(())) < _OWN_PITCH
        pitch = None if is_own else crop.pitch
        frozen = options.decoder_only
        with torch.autocast(world.device.type, torch.bfloat16):
            output = self.codec(crop.samples, pitch, number, training=True, is_frozen=frozen)
        total, mel, octaves = self._total(output, crop)
        total.backward()
        world.average([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        norm = nn.utils.clip_grad_norm_(self.parameters, 2.0)
        if math.isfinite(float(norm)):
            for optimiser in self.optimisers:
                optimiser.step()
            if self.mean is not None:
                self.mean.update()
            if not frozen:
                self.codec.codebook.update(output.latent.flatten(0, 1), output.codes.flatten(), world, number)
        return f"loss {total.detach():.3f} norm {norm:.2f} mel {mel:.3f} pitch {12 * octaves.detach():.2f} st"

    def _total(self, output: CodecOutput, crop: Crop) -> tuple[Tensor, Tensor, Tensor]:
        """Add up the losses; also give the log-mel distance and the octaves of pitch error."""
        distance, mel = self.loss(output.samples, crop.target)
        octaves, voicing = pitch_losses(output, crop.pitch)
        total = distance + _PITCH_WEIGHT * octaves + _VOICING_WEIGHT * voicing
        if output.phoneme_logits is not None:
            phonemes = F.cross_entropy(output.phoneme_logits.float().flatten(0, 2), crop.labels.flatten())
            total = total + _PHONEME_WEIGHT * phonemes + _COMMIT_WEIGHT * output.commitment
            total = total + _ACOUSTIC_PENALTY * output.penalty
        if self.judges is not None:
            firsts = torch.randint(output.samples.shape[1] - _JUDGED_SAMPLES, (len(output.samples),)).tolist()
            made, target = (
                torch.stack([row[first : first + _JUDGED_SAMPLES] for row, first in zip(rows, firsts, strict=True)])
                for rows in (output.samples, crop.target)
            )
            total = total + self.options.adversarial * self.judges.generator_loss(made, target)
        return total, mel, octaves

    @torch.no_grad()
    def report(self, figures: str) -> None:
        """Print how the run goes: on the last batch, and on the same crops each time, at the pitch of their codes."""
        codec, probe = self.codec, self.probe
        with self._averaged(), torch.autocast(probe.samples.device.type, torch.bfloat16):
            output = codec(probe.samples, None, 0, training=False)
        distance, mel = self.loss(output.samples, probe.target)
        octaves, voicing = pitch_losses(output, probe.pitch)
        right = float("nan")
        if output.phoneme_logits is not None:
            right = float((output.phoneme_logits.argmax(-1) == probe.labels).float().mean())
        usage = codec.codebook.get_buffer("cluster_usage")
        share = usage / usage.sum()
        bits = -(share * share.clamp(min=1e-9).log2()).sum()
        standing = self.standing
        print(
            f"{standing.seconds:6.0f} s step {standing.step} {figures} hours {self.crops.hours:.1f} | held: "
            f"spectral {distance:.3f} mel {mel:.3f} pitch {12 * octaves:.2f} st voicing {voicing:.3f} "
            f"phonemes {right:.3f} codes {output.codes.unique().numel()} bits {bits:.2f} "
            f"commit {output.commitment:.3f}",
            flush=True,
        )

    def run(self) -> None:
        """Train to the end; the first process reports once a minute and saves every few."""
        options = self.options
        clock = StepClock(self.world, options.minutes * 60, options.steps, self.standing)
        figures = "nothing to do"
        while (progress := clock.progress()) < 1:
            figures = self.step(progress)
            clock.count()
            if self.standing.step % _STEPS_BETWEEN_LOOKS == 0:
                self.crops.refresh()
            if self.world.is_first and clock.is_time("report", _SECONDS_BETWEEN_REPORTS):
                self.report(figures)
            if self.world.is_first and clock.is_time("save", _SECONDS_BETWEEN_SAVES):
                self.save()
        if self.world.is_first:
            self.report(f"end {figures}")
            self.save()
            # It is over: another run goes on from the weights, for the whole of its own length.
            self.state_path.unlink()


def train(world: World, folder: Path, options: argparse.Namespace) -> None:
    """Train one process of the stage; see the module."""
    CodecTraining(world, folder, options).run()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="the corpus; FOLDER/data by default")
    add_length_options(parser, minutes=45.0)
    add_mean_option(parser)
    parser.add_argument("--batch", type=int, default=4, help="crops of 1.92 s for each process")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.3, help="last share of the run in which the rate falls")
    parser.add_argument("--tape", type=float, default=0.3, help="share of the crops at another speed")
    parser.add_argument("--start", type=Path, help="a checkpoint whose codec gives the first weights, where they fit")
    parser.add_argument(
        "--decoder-only", action="store_true", help="freeze the codes, so that models of them stay valid"
    )
    parser.add_argument("--adversarial", type=float, default=0.0, help="weight of the STFT discriminators")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or go on training."""
    options = parse(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    run(train, options.processes, options.folder, options)


if __name__ == "__main__":
    main()
