"""The codec as it is trained: encoder, quantisers with straight-through gradients, decoder, and what it starts from.

The networks are the runtime's own classes. What comes first and last starts from the level that each band of frequency
has in speech, because from random weights it takes several times as long (docs/LOG.md). Read next: `train.codec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.crops import LABELS_PER_FRAME, Crop
from train.loop import World
from voxtral.cloning.start import initialise_input, initialise_layers
from voxtral.config import ModelConfig
from voxtral.loading.inventory import CODEBOOK, CODEC_PREFIX, DIRECTION, GAIN
from voxtral.model.codec import CodecDecoder, CodecState
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.model.layers import last
from voxtral.model.source import MIDDLE_PITCH, NoisePlace, Pitch, draw_source_noise
from voxtral.model.source_filter import PitchOutput, SourceFilterProjection

PHONEME_CLASSES = 256  # phonemes, generously

_DROP_ACOUSTIC = 0.25
_DECODER_DROP_ACOUSTIC = 0.15  # when the semantic code carries the words already
_CODEBOOK_DECAY, _DEAD_USAGE = 0.98, 0.05
_STEPS_BETWEEN_RESEEDS = 20
# Of the head's filters at first: how far weights move them, and how much quieter noise is than pulses, in nepers.
_FIRST_SPREAD, _NOISE_BELOW = 0.3, 1.5
_SILENCE = 1e-4


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
    pitch: PitchOutput  # [B, steps]
    is_kept: Tensor  # [B] bool, rows that have acoustic values
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
    def head(self) -> SourceFilterProjection:
        """What makes the samples: nano has a source-filter head (train/shape.py)."""
        return cast("SourceFilterProjection", self.decoder.output_proj)

    def encode(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, S] to the semantic latent [B, T, C_sem] and the acoustic values in (-1, 1) [B, T, A], float32."""
        latent = self.encoder(samples).float().transpose(1, 2)
        size = self.config.codec.semantic_dim
        return latent[..., :size], latent[..., size:]

    def decode(self, semantic: Tensor, acoustic: Tensor, pitch: Pitch | None, noise_seed: int) -> Tensor:
        """Make samples of quantised values.

        Args:
            semantic: [B, T, C_sem].
            acoustic: [B, T, A].
            pitch: drives the pulses; None lets the codes do so.
            noise_seed: each row has noise of its own.

        Returns:
            [B, S] float32.
        """
        hidden, num_rows, num_frames = self.hidden_states(semantic, acoustic), *semantic.shape[:2]
        latent = torch.cat((semantic, acoustic), dim=-1).transpose(1, 2).detach()
        places = [NoisePlace((noise_seed, row)) for row in range(num_rows)]
        noise = draw_source_noise(places, num_frames, self.config.codec.samples_per_frame).to(hidden.device)
        # The runtime's head is float32 whatever the rest is.
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head(hidden, latent, noise, self.head.fresh(num_rows), pitch)[0]

    def predict_pitch(self, semantic: Tensor, acoustic: Tensor) -> PitchOutput:
        """Tell the pitch from quantised values; the gradient goes to the acoustic ones, which are to carry it."""
        return self.head.predict_pitch(torch.cat((semantic.detach(), acoustic), dim=-1).transpose(1, 2))

    def hidden_states(self, semantic: Tensor, acoustic: Tensor) -> Tensor:
        """Map quantised values as `decode` takes them to what the waveform head reads, [B, D, steps]."""
        latent = torch.cat((semantic, acoustic), dim=-1).transpose(1, 2)
        return last(self.decoder.block_outputs(latent, CodecState.fresh(self.decoder)))

    def quantise_acoustic(self, values: Tensor) -> Tensor:
        """Round values in (-1, 1) to the levels, with the gradient of the identity."""
        rounded = torch.round(values * self.half_levels) / self.half_levels
        return values + (rounded - values).detach()

    def disturb(self, values: Tensor, drop: float) -> tuple[Tensor, Tensor]:
        """Quantise half of the utterances, disturb a quarter more, leave a quarter; a share `drop` loses everything.

        What the flow draws later is never exact, so the decoder must bear errors.

        Returns:
            Values as given, and which rows still have theirs, [B] bool.
        """
        rows = (len(values), 1, 1)
        kind = torch.rand(rows, device=values.device)
        noisy = self.quantise_acoustic(values) + torch.randn_like(values) * 0.15
        uniform = values + (torch.rand_like(values) * 2 - 1) / (2 * self.half_levels)
        mixed = torch.where(kind < 0.5, self.quantise_acoustic(values), torch.where(kind < 0.75, noisy, uniform))
        is_kept = torch.rand(rows, device=values.device) > drop
        return mixed * is_kept, is_kept[:, 0, 0]

    def forward(
        self, samples: Tensor, pitch: Pitch | None, noise_seed: int, *, training: bool, is_frozen: bool = False
    ) -> CodecOutput:
        """Run a whole training step's computation on [B, S].

        Args:
            samples: what the encoder hears.
            pitch: drives the pulses; None lets the codes do so.
            noise_seed: of the noise of the head.
            training: disturb what the decoder reads.
            is_frozen: the codes are final, and nothing of them is to be learned.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_frozen):
            latent, acoustic = self.encode(samples)
            codes = self.codebook.nearest(latent.detach())
            entries = F.embedding(codes, self.codebook.table)
            values = torch.tanh(acoustic)
        semantic = entries if is_frozen else latent + (entries - latent).detach()
        is_kept = torch.ones(len(samples), dtype=torch.bool, device=samples.device)
        if not training:
            values = self.quantise_acoustic(values)
        elif is_frozen:
            values, is_kept = self.disturb(self.quantise_acoustic(values), _DECODER_DROP_ACOUSTIC)
        else:
            keep = torch.rand(len(latent), 1, 1, device=latent.device) < 0.25
            semantic = torch.where(keep, latent, semantic)
            values, is_kept = self.disturb(values, _DROP_ACOUSTIC)
        logits = None
        if not is_frozen:
            logits = self.phoneme_head(semantic).unflatten(-1, (LABELS_PER_FRAME, PHONEME_CLASSES))
        return CodecOutput(
            samples=self.decode(semantic, values, pitch, noise_seed),
            pitch=self.predict_pitch(semantic, values),
            is_kept=is_kept,
            phoneme_logits=logits,
            commitment=F.mse_loss(latent, entries.detach()),
            penalty=acoustic.pow(2).mean(),
            latent=latent.detach(),
            codes=codes,
        )


@torch.no_grad()
def initialise(codec: TrainableCodec, crop: Crop) -> None:
    """Start from known transforms, scaled by what a crop holds in each band, and from its mean pitch."""
    initialise_layers(codec, (codec.encoder.encoder_blocks, codec.decoder.decoder_blocks))
    initialise_input(codec.encoder, crop.samples, codec.config.sample_rate)
    initialise_output(codec, crop)


@torch.no_grad()
def initialise_output(codec: TrainableCodec, crop: Crop) -> None:
    """Start the head at the mean level that each frequency has in a crop, and at its mean pitch."""
    head = codec.head
    size = 2 * head.hop
    window = torch.hann_window(size)
    spectrum = torch.stft(crop.target, size, head.hop, window=window, return_complex=True).abs()
    # The same window of white noise of unit variance has this magnitude.
    level = (spectrum / window.pow(2).sum().sqrt() + _SILENCE).log().mean((0, 2))
    level = F.interpolate(level[None, None], head.num_bins, mode="linear", align_corners=True)[0, 0]
    knots: list[Tensor] = []
    for table, below in ((head.harmonic_table, 0.0), (head.noise_table, _NOISE_BELOW)):
        shares = table[:, : head.num_bins]
        knots.append((shares @ level) / shares.sum(1).clamp(min=1e-3) - below)
    hidden = codec.hidden_states(*codec.encode(crop.samples)).float()
    length = float(hidden.pow(2).mean().sqrt()) * hidden.shape[1] ** 0.5
    nn.init.normal_(head.linear.weight, 0, _FIRST_SPREAD / length)
    head.linear.bias.copy_(torch.cat(knots).repeat(2))
    nn.init.zeros_(head.pitch_out.weight)
    nn.init.zeros_(head.pitch_out.bias)
    is_voiced = crop.pitch.gate > 0.5
    octaves = torch.log2(crop.pitch.f0 / MIDDLE_PITCH)
    head.pitch_out.bias[: codec.config.codec.steps_per_frame] = octaves[is_voiced].mean() if is_voiced.any() else 0.0


@torch.no_grad()
def take_weights(codec: TrainableCodec, tensors: Mapping[str, Tensor]) -> int:
    """Begin with the weights of a checkpoint wherever their names and shapes are those of the codec.

    Args:
        codec: whose other weights stay.
        tensors: of a checkpoint, by its names.

    Returns:
        How many tensors were taken.
    """
    targets: dict[str, Tensor] = {}
    for network in (codec.encoder, codec.decoder):
        targets |= {f"{CODEC_PREFIX}{name}": value for name, value in network.named_parameters()}
    targets |= {f"{CODEBOOK}{name}": value for name, value in codec.codebook.named_buffers()}
    count = 0
    for name, target in targets.items():
        stem = name.removesuffix(".weight")
        source = tensors.get(name)
        if source is None and f"{stem}{DIRECTION}" in tensors:
            direction, gain = tensors[f"{stem}{DIRECTION}"].float(), tensors[f"{stem}{GAIN}"].float()
            source = direction * (gain / direction.flatten(1).norm(dim=1)[:, None, None])
        if source is not None and source.shape == target.shape:
            target.copy_(source)
            count += 1
    return count
