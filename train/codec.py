"""Stage 3: the codec, encoder and decoder together, then the decoder alone.

    python -m train.codec build/nano --minutes 45
    python -m train.codec build/nano --minutes 20 --decoder-only

The networks are the runtime's own classes. Both waveform heads start from what is known, because
from random weights they take several times as long (docs/LOG.md): `input_proj` from a bank of waves in
quadrature, of which the first feed-forward layer makes energies, `output_proj`, a spectral head, from the
level of each frequency.
Whole utterances lose their acoustic codes now and then, so that the semantic code must carry the words.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.corpus import SAMPLES_PER_LABEL, Part, open_corpus
from train.discriminators import Discriminators
from train.loop import (
    Clock,
    RunningMean,
    World,
    add_length_options,
    add_mean_option,
    cosine,
    load_weights,
    run,
    save_weights,
)
from train.shape import nano_config
from train.spectra import SpectralLoss
from voxtral.cloning.start import initialise_input, initialise_layers, make_optimisers
from voxtral.config import ModelConfig
from voxtral.model.codec import (
    CodecDecoder,
    CodecState,
    SpectralProjection,
    pad_reflect_left,
)
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.model.layers import last

_FRAMES_PER_CROP = 24
# Samples by which the decoder is late. A wave of the spectral head begins with its own step and is loudest two patches
# later; without the delay the last steps of a frame would have to guess the next frame.
DELAY = 480
LABELS_PER_FRAME = 4
PHONEME_CLASSES = 256  # phonemes, generously

_DROP_ACOUSTIC = 0.35
_DECODER_DROP_ACOUSTIC = 0.15  # when the semantic code carries the words already
_PHONEME_WEIGHT, _COMMIT_WEIGHT = 0.4, 0.25
_ACOUSTIC_PENALTY = 1e-3
_CODEBOOK_DECAY, _DEAD_USAGE = 0.98, 0.05
_STEPS_BETWEEN_RESEEDS = 20


class SemanticCodebook(nn.Module):
    """Vector quantisation by running means; what the checkpoint stores are the sums and the usage."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        # Usage starts at 0, so that every entry is taken from data at once; from 1 the codebook collapses.
        self.register_buffer("embedding_sum", torch.zeros(size, dim))
        self.register_buffer("cluster_usage", torch.zeros(size))

    @property
    def table(self) -> Tensor:
        """[V, C] float32."""
        return self.get_buffer("embedding_sum") / self.get_buffer("cluster_usage").clamp(min=1e-5)[:, None]

    def nearest(self, latent: Tensor) -> Tensor:
        """Find the nearest entry (Euclidean): [B, T, C] to [B, T] int64."""
        table = self.table
        scores = latent @ table.T - 0.5 * table.pow(2).sum(-1)
        return scores.argmax(-1)

    @torch.no_grad()
    def update(self, latent: Tensor, codes: Tensor, world: World, step: int) -> None:
        """Move the running sums towards [N, C] latents with codes [N], and give dead entries new data."""
        sums, usage = self.get_buffer("embedding_sum"), self.get_buffer("cluster_usage")
        batch_sums = torch.zeros_like(sums).index_add_(0, codes, latent)
        batch_usage = torch.bincount(codes, minlength=len(usage)).float()
        world.average([batch_sums, batch_usage])
        sums.mul_(_CODEBOOK_DECAY).add_(batch_sums, alpha=1 - _CODEBOOK_DECAY)
        usage.mul_(_CODEBOOK_DECAY).add_(batch_usage, alpha=1 - _CODEBOOK_DECAY)
        if step % _STEPS_BETWEEN_RESEEDS:
            return
        dead = usage < _DEAD_USAGE
        rows = latent[torch.randint(len(latent), (len(usage),), device=latent.device)]
        world.share([rows])
        sums[dead] = rows[dead] * 2 * _DEAD_USAGE
        usage[dead] = 2 * _DEAD_USAGE


@dataclass(frozen=True, eq=False)
class CodecOutput:
    """What a training step compares; T frames."""

    samples: Tensor  # [B, S] float32
    phoneme_logits: Tensor | None  # [B, T, labels per frame, classes]; None from the decoder alone
    commitment: Tensor  # scalar
    penalty: Tensor  # scalar
    latent: Tensor  # [B, T, C_sem]
    codes: Tensor  # [B, T] semantic


class TrainableCodec(nn.Module):
    """Encoder, quantisers with straight-through gradients, decoder, and a phoneme classifier to train by."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = CodecEncoder(config.codec)
        self.decoder = CodecDecoder(config.codec, config.codebooks)
        self.codebook = SemanticCodebook(config.codebooks.semantic_size, config.codec.semantic_dim)
        self.phoneme_head = nn.Linear(config.codec.semantic_dim, LABELS_PER_FRAME * PHONEME_CLASSES)
        self.half_levels = (config.codebooks.acoustic_size - 1) / 2

    @property
    def head(self) -> SpectralProjection:
        """What makes the samples: nano has a spectral head (train/shape.py)."""
        return cast("SpectralProjection", self.decoder.output_proj)

    def encode(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, S] to the semantic latent [B, T, C_sem] and the acoustic values in (-1, 1) [B, T, A], float32."""
        latent = self.encoder(samples).float().transpose(1, 2)
        size = self.config.codec.semantic_dim
        return latent[..., :size], latent[..., size:]

    def decode(self, semantic: Tensor, acoustic: Tensor) -> Tensor:
        """Map quantised values [B, T, C_sem] and [B, T, A] to samples [B, S] float32."""
        padded = pad_reflect_left(self.hidden_states(semantic, acoustic), self.config.codec.patch_kernel - 1)
        # The runtime's head is float32 whatever the rest is.
        with torch.autocast(padded.device.type, enabled=False):
            return self.head(padded).transpose(1, 2).flatten(1)

    def hidden_states(self, semantic: Tensor, acoustic: Tensor) -> Tensor:
        """Map quantised values as `decode` takes them to what the waveform head reads, [B, D, steps]."""
        latent = torch.cat((semantic, acoustic), dim=-1).transpose(1, 2)
        return last(self.decoder.block_outputs(latent, CodecState.fresh(self.decoder)))

    def quantise_acoustic(self, values: Tensor) -> Tensor:
        """Round values in (-1, 1) to the levels, with the gradient of the identity."""
        rounded = torch.round(values * self.half_levels) / self.half_levels
        return values + (rounded - values).detach()

    def disturb(self, values: Tensor, drop: float) -> Tensor:
        """Quantise half of the utterances, disturb a quarter more, leave a quarter; a share `drop` loses everything.

        What the flow draws later is never exact, so the decoder must bear errors.
        """
        rows = (len(values), 1, 1)
        kind = torch.rand(rows, device=values.device)
        noisy = self.quantise_acoustic(values) + torch.randn_like(values) * 0.15
        uniform = values + (torch.rand_like(values) * 2 - 1) / (2 * self.half_levels)
        mixed = torch.where(kind < 0.5, self.quantise_acoustic(values), torch.where(kind < 0.75, noisy, uniform))
        return mixed * (torch.rand(rows, device=values.device) > drop)

    def forward(self, samples: Tensor, *, training: bool) -> CodecOutput:
        """Run a whole training step's computation on [B, S]."""
        latent, acoustic = self.encode(samples)
        codes = self.codebook.nearest(latent.detach())
        entries = F.embedding(codes, self.codebook.table)
        semantic = latent + (entries - latent).detach()
        values = torch.tanh(acoustic)
        if training:
            keep = torch.rand(len(latent), 1, 1, device=latent.device) < 0.25
            semantic = torch.where(keep, latent, semantic)
            disturbed = self.disturb(values, _DROP_ACOUSTIC)
        else:
            disturbed = self.quantise_acoustic(values)
        logits = self.phoneme_head(semantic).unflatten(-1, (LABELS_PER_FRAME, PHONEME_CLASSES))
        return CodecOutput(
            samples=self.decode(semantic, disturbed),
            phoneme_logits=logits,
            commitment=F.mse_loss(latent, entries.detach()),
            penalty=acoustic.pow(2).mean(),
            latent=latent.detach(),
            codes=codes,
        )


@dataclass(frozen=True, eq=False)
class Crop:
    """B pieces of the corpus, S samples or T frames each."""

    samples: Tensor  # [B, S] float32, what the encoder hears
    target: Tensor  # [B, S] float32, what the decoder has to say: the same, later
    labels: Tensor  # [B, T, labels per frame] int64


class Crops:
    """Random pieces of the corpus, across the borders of utterances."""

    def __init__(self, parts: list[Part], seed: int) -> None:
        self._parts = parts
        self._rng = np.random.default_rng(seed)

    def draw(self, count: int, device: torch.device) -> Crop:
        """Cut B = `count` pieces."""
        size = _FRAMES_PER_CROP * 1920
        pieces, labels = [], []
        for _ in range(count):
            part = self._parts[self._rng.integers(len(self._parts))]
            # One label from the start at least, so that the delay has samples to take.
            first = 1 + int(self._rng.integers((len(part.samples) - size) // SAMPLES_PER_LABEL - 1))
            start = first * SAMPLES_PER_LABEL
            pieces.append(part.samples[start - DELAY : start + size])
            labels.append(part.labels[first : first + _FRAMES_PER_CROP * LABELS_PER_FRAME])
        audio = torch.from_numpy(np.stack(pieces).astype(np.float32) / 32768).to(device)
        targets = torch.from_numpy(np.stack(labels).astype(np.int64)).unflatten(1, (-1, LABELS_PER_FRAME))
        return Crop(audio[:, DELAY:], audio[:, :-DELAY], targets.to(device))


@torch.no_grad()
def initialise(codec: TrainableCodec, samples: Tensor) -> None:
    """Start from known transforms, scaled by what the samples [B, S] hold in each band."""
    initialise_layers(codec, (codec.encoder.encoder_blocks, codec.decoder.decoder_blocks))
    initialise_input(codec.encoder, samples, codec.config.sample_rate)
    initialise_output(codec, samples)


@torch.no_grad()
def initialise_output(codec: TrainableCodec, samples: Tensor) -> None:
    """Start the spectral head at the mean level that each frequency has in the samples [B, S], at any phase."""
    head = codec.head
    length, hop = head.config.synthesis_window, head.config.patch_size
    spectrum = torch.stft(samples, length, hop, window=torch.hann_window(length), return_complex=True)
    level = (spectrum.abs() + 1e-3).log().mean((0, 2))  # [bins]
    hidden = codec.hidden_states(*codec.encode(samples)).float()
    scale = hidden.pow(2).mean((0, 2), keepdim=True).sqrt().mean() * hidden.shape[1] ** 0.5
    nn.init.normal_(head.linear.weight[: len(level)], 0, 0.3 / float(scale))
    nn.init.normal_(head.linear.weight[len(level) :], 0, 2.0 / float(scale))
    head.linear.bias[: len(level)] = level
    nn.init.uniform_(head.linear.bias[len(level) :], -math.pi, math.pi)


def train(world: World, folder: Path, options: argparse.Namespace) -> None:
    """Train one process of the stage; see the module."""
    torch.manual_seed(options.seed + world.rank)
    config = nano_config()
    parts = open_corpus(folder / "data").read_parts()
    crops = Crops(parts, options.seed + 10 + world.rank)
    probe = Crops(parts, 123).draw(16, world.device)
    codec = TrainableCodec(config)
    path = folder / "codec.safetensors"
    if path.is_file():
        codec.load_state_dict(load_weights(path))
    else:
        initialise(codec, Crops(parts, 5).draw(64, torch.device("cpu")).samples)
    codec.to(world.device)
    world.share([*codec.parameters(), *codec.buffers()])
    loss = SpectralLoss().to(world.device)
    trained = codec.decoder if options.decoder_only else codec
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    judges = Discriminators(world, options.rate) if options.adversarial > 0 else None
    optimisers = make_optimisers(trained, options.rate)
    mean = RunningMean(parameters) if options.mean else None
    clock = Clock(world, options.minutes * 60, options.steps)
    step = 0
    while (progress := clock.progress()) < 1:
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = options.rate * cosine(0.0 if options.mean else progress, step)
            optimiser.zero_grad()
        crop = crops.draw(options.batch, world.device)
        with torch.autocast(world.device.type, torch.bfloat16):
            output = _decode_only(codec, crop.samples) if options.decoder_only else codec(crop.samples, training=True)
        distance, mel = loss(output.samples, crop.target)
        total = distance
        if output.phoneme_logits is not None:
            phonemes = F.cross_entropy(output.phoneme_logits.float().flatten(0, 2), crop.labels.flatten())
            total = total + _PHONEME_WEIGHT * phonemes + _COMMIT_WEIGHT * output.commitment
            total = total + _ACOUSTIC_PENALTY * output.penalty
        if judges is not None:
            total = total + options.adversarial * judges.generator_loss(output.samples, crop.target)
        total.backward()
        world.average([parameter.grad for parameter in parameters if parameter.grad is not None])
        norm = nn.utils.clip_grad_norm_(parameters, 2.0)
        for optimiser in optimisers:
            optimiser.step()
        if mean is not None:
            mean.update()
        if not options.decoder_only:
            codec.codebook.update(output.latent.flatten(0, 1), output.codes.flatten(), world, step)
        step += 1
        if clock.is_time_to_report():
            head = f"{clock.elapsed:5.0f} s step {step} loss {total:.3f} norm {norm:.2f} mel {mel:.3f}"
            _report_and_save(path, codec, mean, loss, probe, head)
    if world.is_first:
        _report_and_save(path, codec, mean, loss, probe, f"{clock.elapsed:5.0f} s step {step} end")


def _decode_only(codec: TrainableCodec, samples: Tensor) -> CodecOutput:
    with torch.no_grad():
        latent, acoustic = codec.encode(samples)
        codes = codec.codebook.nearest(latent)
        semantic = F.embedding(codes, codec.codebook.table)
        values = codec.disturb(codec.quantise_acoustic(torch.tanh(acoustic)), _DECODER_DROP_ACOUSTIC)
    zero = samples.new_zeros(())
    return CodecOutput(codec.decode(semantic, values), None, zero, zero, latent, codes)


def _report_and_save(
    path: Path,
    codec: TrainableCodec,
    mean: RunningMean | None,
    loss: SpectralLoss,
    probe: Crop,
    head: str,
) -> None:
    with mean.applied() if mean is not None else nullcontext():
        _report(codec, loss, probe, head)
        save_weights(path, codec.state_dict())


@torch.no_grad()
def _report(codec: TrainableCodec, loss: SpectralLoss, probe: Crop, head: str) -> None:
    with torch.autocast(probe.samples.device.type, torch.bfloat16):
        output = codec(probe.samples, training=False)
    distance, mel = loss(output.samples, probe.target)
    right = float("nan")
    if output.phoneme_logits is not None:
        right = float((output.phoneme_logits.argmax(-1) == probe.labels).float().mean())
    usage = codec.codebook.get_buffer("cluster_usage")
    share = usage / usage.sum()
    bits = -(share * share.clamp(min=1e-9).log2()).sum()
    print(
        f"{head} | same crops: spectral {distance:.3f} mel {mel:.3f} phonemes {right:.3f} "
        f"codes {output.codes.unique().numel()} bits {bits:.2f} commit {output.commitment:.3f}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or go on training."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    add_length_options(parser, minutes=45.0)
    add_mean_option(parser)
    parser.add_argument("--batch", type=int, default=6, help="crops of 1.92 s for each process")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument(
        "--decoder-only", action="store_true", help="freeze the codes, so that models of them stay valid"
    )
    parser.add_argument("--adversarial", type=float, default=0.0, help="weight of the STFT discriminators")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    run(train, options.processes, options.folder, options)


if __name__ == "__main__":
    main()
