"""Stage 2: a phoneme recogniser, the judge of everything after it.

    python -m train.recogniser build/nano --minutes 20
    python -m train.recogniser build/nano --data build/nano4/data --minutes 30

Trained on the teachers' audio alone, never on what a model makes, with all voices that are not held out. It is
told the language and answers with phonemes of that language only: espeak-ng's mnemonics where that is the one teacher,
else the sounds of `train.sounds`. Its file has the numbering in it, so that who reads it knows which. First it learns
which phoneme sounds at each time, then, by connectionist temporal classification, their sequence: a sixth of them are
shorter than two labels. Read next: `train.hearing`, `benchmarks.quality`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from train.corpus import MNEMONICS, SAMPLES_PER_LABEL, SILENCE, CorpusError, Phonemes, collapse
from train.hearing import (
    PADDING,
    Held,
    RecogniserBatch,
    choose_held,
    draw_batches,
    find_inventories,
    read_training,
)
from train.loop import Standing, StepClock, World, add_length_options, cosine, run
from train.sounds import IPA, Sounds
from train.spectra import mel_filters
from train.speech import Speech, open_speech
from train.state import load_state, restore_optimisers, save_state, take
from train.texts import LANGUAGES

_WINDOW, _BANDS = 1024, 64
_HOP = SAMPLES_PER_LABEL // 2
_WIDTH = 192
_DILATIONS = (1, 1, 2, 2, 4, 4, 8)
_LABELS_ALONE = 0.6  # share of the time in which only labels are learned
_SECONDS_BETWEEN_REPORTS, _SECONDS_BETWEEN_SAVES = 60.0, 150.0
_NUMBERINGS = {MNEMONICS: Phonemes, IPA: Sounds}
_MAX_BAND_NOISE = 0.8  # nepers


class RecogniserNetwork(nn.Module):
    """Log-mel bands to phoneme scores every 20 ms, by dilated convolutions over two seconds."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(_WINDOW), persistent=False)
        self.register_buffer("filters", mel_filters(_BANDS, _WINDOW, low=50.0, high=8000.0), persistent=False)
        self.languages = nn.Embedding(len(LANGUAGES), _WIDTH)
        self.entry = nn.Conv1d(_BANDS, _WIDTH, 5, stride=2, padding=2)
        self.layers = nn.ModuleList(
            nn.Conv1d(_WIDTH, _WIDTH, 5, padding=2 * dilation, dilation=dilation) for dilation in _DILATIONS
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, _WIDTH) for _ in _DILATIONS)
        self.exit = nn.Conv1d(_WIDTH, num_classes, 1)

    def features(self, samples: Tensor) -> Tensor:
        """Compute log-mel bands without the mean level: [B, S] to [B, bands, T]."""
        shape = self.get_buffer("window")
        spectrum = torch.stft(samples, _WINDOW, _HOP, window=shape, return_complex=True).abs()
        bands = torch.log(self.get_buffer("filters") @ spectrum + 1e-3)
        return bands - bands.mean((1, 2), keepdim=True)

    def forward(self, bands: Tensor, languages: Tensor) -> Tensor:
        """Score [B, bands, T] in languages [B]: [B, classes, ceil(T / 2)]."""
        x = F.gelu(self.entry(bands)) + self.languages(languages)[..., None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + F.gelu(layer(norm(x)))
        return self.exit(x)


def distort(bands: Tensor) -> Tensor:
    """Change timbre, level and vocal tract of log-mel bands [B, bands, T], so that unseen voices are understood."""
    rows, count = bands.shape[:2]
    device = bands.device
    stretch = 1 + 0.24 * (torch.rand(rows, 1, device=device) - 0.5)
    shift = 4 * (torch.rand(rows, 1, device=device) - 0.5)
    centre = (torch.arange(count, device=device) - count / 2) * stretch + count / 2 + shift
    low = centre.floor().clamp(0, count - 2).long()
    share = (centre - low).clamp(0, 1)[..., None]
    index = low[..., None].expand(-1, -1, bands.shape[2])
    bands = bands.gather(1, index) * (1 - share) + bands.gather(1, index + 1) * share
    tilt = torch.randn(rows, 1, 1, device=device) * torch.linspace(-1, 1, count, device=device)[:, None] * 0.7
    knots = torch.randn(rows, 1, 9, device=device) * 0.4
    curve = F.interpolate(knots, count, mode="linear", align_corners=True).transpose(1, 2)
    noise = torch.randn_like(bands) * torch.rand(rows, 1, 1, device=device) * _MAX_BAND_NOISE
    return bands + tilt + curve + noise


def add_noise(samples: Tensor) -> Tensor:
    """Add noise, dark or bright, 5 to 45 dB below the mean level of each row of [B, S]."""
    rows, device = len(samples), samples.device
    level = samples.pow(2).mean(1, keepdim=True).sqrt()
    decibels = 5 + 40 * torch.rand(rows, 1, device=device)
    colour = 1.8 * torch.rand(rows, 1, device=device) - 0.9
    noise = torch.randn_like(samples)
    noise = (noise + colour * noise.roll(1, dims=1)) / (1 + colour**2).sqrt()
    return samples + noise * level * 10 ** (-decibels / 20)


class Recogniser:
    """A trained network with the phoneme numbering that it answers in.

    Args:
        network: trained.
        phonemes: the numbering, with what each language has.
        held: what it was not trained on.
    """

    def __init__(self, network: RecogniserNetwork, phonemes: Phonemes, held: Held | None = None) -> None:
        self.network = network.eval()
        self.phonemes = phonemes
        self.held = held or Held()
        self._allowed = inventory_mask(phonemes)

    @classmethod
    def load(cls, path: Path) -> Recogniser:
        """Read what `save` wrote.

        Raises:
            CorpusError: it is no recogniser, or of an alphabet that is unknown here.
        """
        with safe_open(path, framework="pt") as file:
            index = json.loads((file.metadata() or {}).get("phonemes", "{}"))
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        # The first recognisers knew one alphabet and did not name it.
        alphabet = index.get("alphabet", MNEMONICS)
        if "ids" not in index or alphabet not in _NUMBERINGS:
            raise CorpusError(
                f"{path} is no recogniser of phonemes in {' or '.join(_NUMBERINGS)}; train.recogniser makes one"
            )
        inventories = {language: frozenset(numbers) for language, numbers in index["inventories"].items()}
        phonemes = _NUMBERINGS[alphabet](index["ids"], inventories)
        network = RecogniserNetwork(phonemes.count)
        network.load_state_dict(weights)
        held = {name: tuple(names) for name, names in index.get("held", {}).items()}
        return cls(network, phonemes, Held(**held))

    def save(self, path: Path) -> None:
        """Write weights (half precision) and numbering; a reader never sees half of a file."""
        index = {
            "alphabet": self.phonemes.alphabet,
            "held": asdict(self.held),
            "ids": self.phonemes.ids,
            "inventories": {language: sorted(numbers) for language, numbers in self.phonemes.inventories.items()},
        }
        weights = {name: tensor.half().contiguous().cpu() for name, tensor in self.network.state_dict().items()}
        partial = path.with_suffix(".partial")
        save_file(weights, partial, metadata={"phonemes": json.dumps(index)})
        os.replace(partial, path)

    def transcribe(self, samples: np.ndarray, language: str) -> list[int]:
        """Hear phonemes: [S] float32 at 24 kHz to numbers, silence left out and neighbours merged."""
        return collapse(self._scores(samples, language).argmax(0).tolist(), min_run=1)

    def log_probabilities(self, samples: np.ndarray, language: str) -> np.ndarray:
        """Hear without deciding: [S] float32 at 24 kHz to [T, classes], one row for each 20 ms from the first sample.

        What the language does not have is nearly, but not quite, impossible.
        """
        scores = self._scores(samples, language).clamp(min=-30.0).log_softmax(0)
        return scores.T[PADDING // SAMPLES_PER_LABEL :].numpy()

    @torch.inference_mode()
    def _scores(self, samples: np.ndarray, language: str) -> Tensor:
        padded = F.pad(torch.from_numpy(np.ascontiguousarray(samples, np.float32)), (PADDING, PADDING))
        number = LANGUAGES.index(language)
        scores = self.network(self.network.features(padded[None]), torch.tensor([number]))[0]
        return scores.masked_fill(~self._allowed[number][:, None], -torch.inf)


def sequence_loss(scores: Tensor, batch: RecogniserBatch) -> Tensor:
    """Score the phoneme sequences by connectionist temporal classification, silence as the blank.

    Args:
        scores: [B, classes, T] float32.
        batch: what they are of.
    """
    logs = scores.log_softmax(1).permute(2, 0, 1)  # [T, B, classes]
    sizes = torch.tensor([len(sequence) for sequence in batch.sequences])
    lengths = batch.lengths.clamp(max=len(logs))
    targets = torch.cat(batch.sequences).to(scores.device)
    return F.ctc_loss(logs, targets, lengths, sizes, blank=SILENCE, zero_infinity=True)


def inventory_mask(phonemes: Phonemes) -> Tensor:
    """Mark the phonemes of each language: [languages, classes] bool."""
    mask = torch.zeros(len(LANGUAGES), phonemes.count, dtype=torch.bool)
    for row, language in enumerate(LANGUAGES):
        mask[row, sorted(phonemes.inventories[language])] = True
    return mask


class RecogniserTraining:
    """One process of the stage.

    Args:
        world: all processes.
        folder: of the run.
        options: as `main` reads them.

    Raises:
        CorpusError: the corpus is empty, or other phonemes than its own are in the file to go on from.
    """

    def __init__(self, world: World, folder: Path, options: argparse.Namespace) -> None:
        self.world, self.options = world, options
        self.path, self.state_path = folder / "recogniser.safetensors", folder / "recogniser-state.safetensors"
        torch.manual_seed(options.seed)
        data = options.data or folder / "data"
        speech = open_speech(data)
        begun, is_there = self._begin(speech)
        utterances = read_training(speech, begun.phonemes, begun.held)
        if not utterances:
            raise CorpusError(f"{data} has no speech to learn from; make more of it")
        # A corpus may have grown since.
        found = find_inventories(utterances)
        inventories = {name: begun.phonemes.inventories[name] | found[name] for name in LANGUAGES}
        self.held, self.phonemes = begun.held, replace(begun.phonemes, inventories=inventories)
        self.network = begun.network.to(world.device).train()
        self.forbidden = ~inventory_mask(self.phonemes).to(world.device)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=options.rate, weight_decay=0.01, fused=True)
        skip = (_LABELS_ALONE if is_there else 0.0) if options.skip is None else options.skip
        self.standing = Standing(skip=skip)
        if state := load_state(self.state_path):
            self._restore(*state)
        world.share(self.network.parameters())
        rng = random.Random(f"{options.seed}-{world.rank}-{self.standing.step}")
        torch.manual_seed(rng.getrandbits(31))
        self.batches = draw_batches(utterances, rng, seconds=options.batch_seconds)
        self.right = 0.0

    def _begin(self, speech: Speech) -> tuple[Recogniser, bool]:
        """Read what to go on from, or make one that knows nothing; say whether it was there."""
        heard = speech.heard
        if not self.path.is_file():
            nothing = dict.fromkeys(LANGUAGES, frozenset({SILENCE}))
            fresh = replace(heard, inventories=nothing)
            return Recogniser(RecogniserNetwork(heard.count), fresh, choose_held(speech)), False
        loaded = Recogniser.load(self.path)
        if (loaded.phonemes.alphabet, loaded.phonemes.ids) != (heard.alphabet, heard.ids):
            raise CorpusError(
                f"{self.path} has other phonemes than this corpus; its numbers would be mixed up; remove it"
            )
        return loaded, True

    def _restore(self, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.standing = Standing(**numbers)
        self.network.load_state_dict(take(tensors, "network."))
        restore_optimisers([self.optimiser], tensors)
        if self.world.is_first:
            print(f"going on from step {self.standing.step} after {self.standing.seconds:.0f} s", flush=True)

    def save(self) -> None:
        """Write the state, and the recogniser as it is."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        save_state(self.state_path, asdict(self.standing), tensors, [self.optimiser])
        Recogniser(self.network, self.phonemes, self.held).save(self.path)
        self.network.train()

    def step(self, progress: float) -> str:
        """Make a step; return its figures in words."""
        world, network = self.world, self.network
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.rate * cosine(progress, self.standing.step, warmup=50, floor=0.01)
        batch = next(self.batches)
        samples, labels, languages = (
            tensor.to(world.device) for tensor in (batch.samples, batch.labels, batch.languages)
        )
        bands = distort(network.features(add_noise(samples)))
        with torch.autocast(world.device.type, torch.bfloat16):
            scores = network(bands, languages)
        scores = scores.float()[..., : labels.shape[1]].masked_fill(self.forbidden[languages][..., None], -30.0)
        loss = F.cross_entropy(scores, labels)
        if self.standing.skip + (1 - self.standing.skip) * progress >= _LABELS_ALONE:
            loss = 0.1 * loss + sequence_loss(scores, batch)
        self.optimiser.zero_grad()
        loss.backward()
        world.average([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        self.optimiser.step()
        is_label = labels >= 0
        accuracy = float((scores.argmax(1) == labels)[is_label].float().mean())
        self.right += 0.05 * (accuracy - self.right)
        return f"loss {loss.detach():.3f} labels right (distorted) {self.right:.3f}"

    def run(self) -> None:
        """Train to the end; the first process reports once a minute and saves every few."""
        clock = StepClock(self.world, self.options.minutes * 60, self.options.steps, self.standing)
        figures = "nothing to do"
        while (progress := clock.progress()) < 1:
            figures = self.step(progress)
            clock.count()
            if self.world.is_first and clock.is_time("report", _SECONDS_BETWEEN_REPORTS):
                self._report(figures)
            if self.world.is_first and clock.is_time("save", _SECONDS_BETWEEN_SAVES):
                self.save()
        if self.world.is_first:
            self._report(f"end {figures}")
            self.save()
            # It is over: another run goes on from the weights, for the whole of its own length.
            self.state_path.unlink()

    def _report(self, figures: str) -> None:
        print(f"{self.standing.seconds:5.0f} s step {self.standing.step} {figures}", flush=True)


def train(world: World, folder: Path, options: argparse.Namespace) -> None:
    """Train one process of the stage; see the module."""
    RecogniserTraining(world, folder, options).run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or go on training."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="the corpus, of either kind; FOLDER/data by default")
    add_length_options(parser, minutes=20.0)
    parser.add_argument("--batch-seconds", type=float, default=30.0, help="audio in a batch, for each process")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--skip", type=float, help="share of the training that is behind, 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    run(train, options.processes, options.folder, options)


if __name__ == "__main__":
    main()
