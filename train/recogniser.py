"""Stage 2: a phoneme recogniser, the judge of everything after it.

    python -m train.recogniser build/nano --minutes 20

Trained on the teacher's audio alone, never on what a model makes, with all voices that are not held out. It is
told the language and answers with phonemes of that language only. First it learns which phoneme sounds at each time,
then, by connectionist temporal classification, their sequence: a sixth of them are shorter than two labels. Read
next: `benchmarks.quality`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from train.corpus import SILENCE, Corpus, CorpusError, Part, Phonemes, collapse, open_corpus
from train.data import Item
from train.loop import Clock, World, add_length_options, cosine, group_by_length, run
from train.spectra import mel_filters
from train.texts import LANGUAGES

_WINDOW, _HOP, _BANDS = 1024, 240, 64
_SAMPLES_PER_LABEL = 2 * _HOP
_PADDING = 2400  # samples of silence around an utterance
_WIDTH = 192
_DILATIONS = (1, 1, 2, 2, 4, 4, 8)
_MAX_SECONDS = 6.0
_LABELS_ALONE = 0.6  # share of the time in which only labels are learned
_POOL = 600
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
    """A trained network with the phoneme numbering that it answers in."""

    def __init__(self, network: RecogniserNetwork, phonemes: Phonemes) -> None:
        self.network = network.eval()
        self.phonemes = phonemes
        self._allowed = inventory_mask(phonemes)

    @classmethod
    def load(cls, path: Path) -> Recogniser:
        """Read what `save` wrote."""
        with safe_open(path, framework="pt") as file:
            index = json.loads(file.metadata()["phonemes"])
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        inventories = {language: frozenset(numbers) for language, numbers in index["inventories"].items()}
        phonemes = Phonemes(index["ids"], inventories)
        network = RecogniserNetwork(phonemes.count)
        network.load_state_dict(weights)
        return cls(network, phonemes)

    def save(self, path: Path) -> None:
        """Write weights (half precision) and numbering; a reader never sees half of a file."""
        index = {
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
        return scores.T[_PADDING // _SAMPLES_PER_LABEL :].numpy()

    @torch.inference_mode()
    def _scores(self, samples: np.ndarray, language: str) -> Tensor:
        padded = F.pad(torch.from_numpy(np.ascontiguousarray(samples, np.float32)), (_PADDING, _PADDING))
        number = LANGUAGES.index(language)
        scores = self.network(self.network.features(padded[None]), torch.tensor([number]))[0]
        return scores.masked_fill(~self._allowed[number][:, None], -torch.inf)


@dataclass(frozen=True, eq=False)
class RecogniserBatch:
    """B utterances, padded with silence."""

    samples: Tensor  # [B, S] float32
    labels: Tensor  # [B, T] int64, -100 behind the end
    languages: Tensor  # [B] int64
    sequences: list[Tensor]  # [n] int64 each, phonemes without silence
    lengths: Tensor  # [B] int64, labels up to the end


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


def draw_batches(
    corpus: Corpus, parts: list[Part], rng: random.Random, *, seconds: float = 30.0
) -> Iterator[RecogniserBatch]:
    """Yield batches of utterances of similar length, for ever.

    Args:
        corpus: for its phonemes.
        parts: where the utterances are.
        rng: draws them.
        seconds: of audio in a batch, padding included.
    """
    pool = [(part, item) for part in parts for item in part.items if item.num_samples <= _MAX_SECONDS * 24000]
    while True:
        drawn = sorted((rng.choice(pool) for _ in range(_POOL)), key=lambda pair: pair[1].num_samples)
        groups = group_by_length(drawn, lambda pair: pair[1].num_samples + 2 * _PADDING, 24000 * seconds)
        rng.shuffle(groups)
        for group in groups:
            yield _stack(corpus, group)


def _stack(corpus: Corpus, group: list[tuple[Part, Item]]) -> RecogniserBatch:
    size = max(item.num_samples for _, item in group) + 2 * _PADDING
    samples = torch.zeros(len(group), size)
    labels = torch.full((len(group), -(-(size // _HOP + 1) // 2)), -100)
    for row, (part, item) in enumerate(group):
        piece = part.samples[item.start : item.start + item.num_samples].astype(np.float32) / 32768
        samples[row, _PADDING : _PADDING + len(piece)] = torch.from_numpy(piece)
        wanted = corpus.phonemes.labels(item.phonemes, item.num_samples)
        first = _PADDING // _SAMPLES_PER_LABEL
        labels[row, :first] = SILENCE
        labels[row, first : first + len(wanted)] = torch.from_numpy(wanted.astype(np.int64))
        labels[row, first + len(wanted) : 2 * first + len(wanted)] = SILENCE
    languages = torch.tensor([LANGUAGES.index(item.language) for _, item in group])
    sequences = [torch.tensor(corpus.phonemes.spell(item.phonemes), dtype=torch.int64) for _, item in group]
    lengths = torch.tensor([-(-(item.num_samples + 2 * _PADDING) // _SAMPLES_PER_LABEL) for _, item in group])
    return RecogniserBatch(samples, labels, languages, sequences, lengths)


def train(world: World, folder: Path, options: argparse.Namespace) -> None:
    """Train one process of the stage."""
    torch.manual_seed(options.seed + world.rank)
    corpus = open_corpus(folder / "data")
    parts = corpus.read_parts()
    batches = draw_batches(corpus, parts, random.Random(options.seed + world.rank), seconds=options.batch_seconds)
    path = folder / "recogniser.safetensors"
    skip = options.skip
    if path.is_file():
        loaded = Recogniser.load(path)
        if loaded.phonemes.ids != corpus.phonemes.ids:
            raise CorpusError(f"{path} has other phonemes than this corpus; its numbers would be mixed up; remove it")
        network = loaded.network
        skip = _LABELS_ALONE if skip is None else skip
    else:
        network = RecogniserNetwork(corpus.phonemes.count)
        skip = skip or 0.0
    network.to(world.device).train()
    world.share(network.parameters())
    forbidden = ~inventory_mask(corpus.phonemes).to(world.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=0.01, fused=True)
    clock = Clock(world, options.minutes * 60, options.steps)
    step, right = 0, 0.0
    while (progress := clock.progress()) < 1:
        for group in optimiser.param_groups:
            group["lr"] = options.rate * cosine(progress, step, warmup=50, floor=0.01)
        batch = next(batches)
        samples, labels, languages = (
            tensor.to(world.device) for tensor in (batch.samples, batch.labels, batch.languages)
        )
        bands = distort(network.features(add_noise(samples)))
        with torch.autocast(world.device.type, torch.bfloat16):
            scores = network(bands, languages)
        scores = scores.float()[..., : labels.shape[1]].masked_fill(forbidden[languages][..., None], -30.0)
        loss = F.cross_entropy(scores, labels)
        if skip + (1 - skip) * progress >= _LABELS_ALONE:
            loss = 0.1 * loss + sequence_loss(scores, batch)
        optimiser.zero_grad()
        loss.backward()
        world.average([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        is_label = labels >= 0
        accuracy = float((scores.argmax(1) == labels)[is_label].float().mean())
        right += 0.05 * (accuracy - right)
        if clock.is_time_to_report():
            print(
                f"{clock.elapsed:5.0f} s step {step} loss {loss:.3f} labels right (distorted) {right:.3f}", flush=True
            )
            Recogniser(network, corpus.phonemes).save(path)
            network.train()
    if world.is_first:
        Recogniser(network, corpus.phonemes).save(path)
        print(f"{clock.elapsed:5.0f} s step {step} end: labels right (distorted) {right:.3f}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or go on training."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    add_length_options(parser, minutes=20.0)
    parser.add_argument("--batch-seconds", type=float, default=30.0, help="audio in a batch, for each process")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--skip", type=float, help="share of the training that is behind, 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    run(train, options.processes, options.folder, options)


if __name__ == "__main__":
    main()
