"""Stage 5: the backbone and the acoustic transformer, on the codes of the corpus.

    python -m train.language_model build/nano --minutes 60

A sample is a reference of the same voice, a text, and the frames of that text, laid out as the runtime lays out
its prompt; the loss is on the frames. Two heads of one layer are guided to the letter that sounds, which
aligns in minutes what else takes hours. Goes on where it was stopped, from `language_model-state.safetensors`. Read
next: `train.examples`, `train.export`.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from train.codec_network import PHONEME_CLASSES
from train.crops import LABELS_PER_FRAME
from train.examples import SHORT_REFERENCES, Batch, ExampleSource, lay_out, load_examples, split_examples
from train.loop import (
    RunningMean,
    Standing,
    StepClock,
    World,
    add_length_options,
    add_mean_option,
    load_weights,
    run,
    save_weights,
    trapezoid,
)
from train.shape import NUM_SPECIAL_TOKENS, nano_config
from train.speech import open_speech
from train.state import load_state, restore_optimisers, save_state, take
from train.tokenizer import build_vocabulary
from voxtral.config import NUM_SPECIAL_CODES, ModelConfig
from voxtral.loading.files import WEIGHTS_FILE
from voxtral.loading.inventory import TEXT_EMBEDDINGS
from voxtral.model.acoustic import AcousticLayer, AcousticTransformer, embed_time
from voxtral.model.backbone import Backbone, BackboneLayer
from voxtral.model.layers import rope_rotation, split_heads

_GUIDED_LAYER, _GUIDED_HEADS = 3, 2
_GUIDED_REACH = (-1, 0, 1, 2)  # letters around the right one that count as right

_DROP_HIDDEN = 0.1  # for guidance at inference
_DROP_FRAME = 0.15  # so that the text is listened to, not only the frames before
_JITTER_SHARE = 0.25

_PHONEME_WEIGHT = 0.5

# Parts of the acoustic transformer whose weights stand for the codes of one codec.
_OF_CODES = ("input_projection.", "acoustic_codebook_output.", "semantic_codebook_output.")

_SECONDS_BETWEEN_REPORTS, _SECONDS_BETWEEN_SAVES = 60.0, 150.0


class SpeechModel(nn.Module):
    """What stage 5 trains: the runtime's modules and the two embedding tables."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.backbone.dim
        self.text_embeddings = nn.Embedding(config.backbone.vocab_size, dim)
        self.audio_embeddings = nn.Embedding(config.codebooks.embedding_rows, dim)
        self.backbone = Backbone(config.backbone)
        self.acoustic_transformer = AcousticTransformer(config.acoustic, config.codebooks)
        # Only for training: which phonemes the next frame has. It tells what matters in a semantic code.
        self.phoneme_head = nn.Linear(dim, LABELS_PER_FRAME * PHONEME_CLASSES)
        self.register_buffer("offsets", torch.tensor(config.codebooks.offsets), persistent=False)

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw the weights to start from."""
        layers = self.config.backbone.num_layers
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            scale = parameter.shape[-1] ** -0.5
            if name.endswith(("wo.weight", "w2.weight")):
                scale *= (2 * layers) ** -0.5
            nn.init.normal_(parameter, 0, scale)
        nn.init.normal_(self.text_embeddings.weight, 0, 0.5)
        nn.init.normal_(self.audio_embeddings.weight, 0, 0.06)
        semantic_rows = self.config.codebooks.semantic_vocab
        nn.init.normal_(self.audio_embeddings.weight[:semantic_rows], 0, 0.35)
        nn.init.zeros_(self.acoustic_transformer.acoustic_codebook_output.weight)
        nn.init.normal_(self.acoustic_transformer.semantic_codebook_output.weight, 0, 0.02)

    def embed_frames(self, frames: Tensor) -> Tensor:
        """Sum the embeddings of the K audio tokens of frames: [N, K] to [N, D]."""
        return F.embedding_bag(frames + self.get_buffer("offsets"), self.audio_embeddings.weight, mode="sum")

    def hidden_states(self, embeds: Tensor) -> tuple[Tensor, Tensor]:
        """Run [B, T, D] through the backbone without a cache.

        Returns:
            Hidden states [B, T, D] after the final norm, and the attention [B, heads, T, T] of the guided heads.
        """
        positions = torch.arange(embeds.shape[1], device=embeds.device)
        rotation = torch.complex(*rope_rotation(positions, self.backbone.inverse_frequencies))
        x, guided = embeds, embeds.new_zeros(0)
        for index, layer in enumerate(cast("list[BackboneLayer]", self.backbone.layers)):
            if index == _GUIDED_LAYER:
                x, guided = _run_layer(layer, x, rotation, _GUIDED_HEADS)
            else:
                x, _ = _run_layer(layer, x, rotation, 0)
        return self.backbone.norm(x), guided


def _run_layer(layer: BackboneLayer, x: Tensor, rotation: Tensor, num_guided: int) -> tuple[Tensor, Tensor]:
    """Run a layer over whole sequences; also return the attention of its first heads, [B, n, T, T] float32."""
    attention = layer.attention
    normed = layer.attention_norm(x)
    query = _rotate(split_heads(attention.wq(normed), attention.head_dim), rotation)
    key = _rotate(split_heads(attention.wk(normed), attention.head_dim), rotation)
    value = split_heads(attention.wv(normed), attention.head_dim)
    is_future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
    mixed, weights = _attend(query, key, value, is_future)
    x = x + attention.wo(mixed)
    return x + layer.feed_forward(layer.ffn_norm(x)), weights[:, :num_guided].float()


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the pairs (2i, 2i + 1) of [B, H, T, Dh], as the runtime does, in one operation with a fast gradient."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


def _attend(query: Tensor, key: Tensor, value: Tensor, is_hidden: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attend with grouped heads by plain matrix products.

    On a CPU the fused operation takes three to four times as long forward and backward, at these lengths (docs/LOG.md).

    Args:
        query: [B, H, T, Dh].
        key: [B, Hkv, T, Dh].
        value: [B, Hkv, T, Dh].
        is_hidden: [T, T] bool, or None.

    Returns:
        [B, T, H * Dh] and the weights [B, H, T, T].
    """
    group = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(group, dim=1) for part in (key, value))
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if is_hidden is not None:
        scores = scores.masked_fill(is_hidden, -1e4)
    weights = scores.float().softmax(-1).to(value.dtype)
    return (weights @ value).transpose(1, 2).flatten(2), weights


def predict_velocity(acoustic: AcousticTransformer, state: Tensor, time_tokens: Tensor, llm_tokens: Tensor) -> Tensor:
    """Compute `AcousticTransformer.velocity` for rows with times of their own, faster for many rows.

    Args:
        acoustic: the module.
        state: [N, A].
        time_tokens: [N, D].
        llm_tokens: [N, D].

    Returns:
        [N, A] float32.
    """
    x = torch.stack((acoustic.input_projection(state.to(llm_tokens.dtype)), time_tokens, llm_tokens), dim=1)
    for layer in cast("list[AcousticLayer]", acoustic.layers):
        attention = layer.attention
        normed = layer.attention_norm(x)
        query, key, value = (
            split_heads(matrix(normed), attention.head_dim) for matrix in (attention.wq, attention.wk, attention.wv)
        )
        x = x + attention.wo(_attend(query, key, value, None)[0])
        x = x + layer.feed_forward(layer.ffn_norm(x))
    return acoustic.acoustic_codebook_output(acoustic.norm(x[:, 0])).float()


@dataclass(frozen=True, eq=False)
class Losses:
    """Scalars of one batch."""

    semantic: Tensor  # cross-entropy
    flow: Tensor
    guidance: Tensor
    phonemes: Tensor  # cross-entropy
    accuracy: Tensor


def compute_losses(model: SpeechModel, batch: Batch, *, training: bool) -> Losses:
    """Compare what the model predicts for a batch; see docs/MODEL.md, "Acoustic transformer", for the flow."""
    books = model.config.codebooks
    acoustic = model.acoustic_transformer
    frames = batch.frames[batch.is_frame]  # [N, K]
    if training:
        shift = torch.randint(-2, 3, frames.shape, device=frames.device)
        shift[:, 0] = 0
        moved = (frames + shift).clamp(NUM_SPECIAL_CODES, books.acoustic_vocab - 1)
        is_moved = (torch.rand(frames.shape, device=frames.device) < _JITTER_SHARE) & (frames >= NUM_SPECIAL_CODES)
        is_moved[:, 0] = False
        frames = torch.where(is_moved, moved, frames)
    rows = model.embed_frames(frames)
    if training:
        rows = rows * (torch.rand(len(rows), 1, device=rows.device) > _DROP_FRAME)
    embeds = model.text_embeddings(batch.text_ids)
    embeds = embeds.masked_scatter(batch.is_frame[..., None], rows.to(embeds.dtype))
    hidden, attention = model.hidden_states(embeds)

    is_predicted = batch.semantic_target >= 0
    logits = acoustic.semantic_logits(hidden[is_predicted])[:, : books.semantic_vocab]
    targets = batch.semantic_target[is_predicted]
    semantic = F.cross_entropy(logits, targets)
    accuracy = (logits.argmax(-1) == targets).float().mean()

    speech = hidden[batch.is_speech]  # [N, D]
    scores = model.phoneme_head(speech).unflatten(-1, (-1, PHONEME_CLASSES))
    phonemes = F.cross_entropy(scores.float().flatten(0, 1), batch.labels[batch.is_speech].flatten())
    if training:
        speech = speech * (torch.rand(len(speech), 1, device=speech.device) > _DROP_HIDDEN)
    wanted = batch.acoustic_target[batch.is_speech].float() * 2 / (books.acoustic_size - 1) - 1  # [N, A]
    times = torch.randn(len(speech), device=speech.device).sigmoid() if training else _even_times(speech)
    noise = torch.randn_like(wanted)
    state = (1 - times)[:, None] * noise + times[:, None] * wanted
    time_tokens = acoustic.time_projection(embed_time(times, acoustic.inverse_frequencies).to(speech.dtype))
    velocity = predict_velocity(acoustic, state, time_tokens, acoustic.llm_projection(speech))
    flow = F.mse_loss(velocity, wanted - noise)

    mass = attention.mean(1)[batch.is_speech]  # [N, T]
    places = batch.aligned[batch.is_speech]
    near = [mass.gather(1, (places + step).clamp(0, mass.shape[1] - 1)[:, None])[:, 0] for step in _GUIDED_REACH]
    guidance = -torch.log(torch.stack(near).sum(0) + 1e-4).mean()
    return Losses(semantic, flow, guidance, phonemes, accuracy)


def _even_times(rows: Tensor) -> Tensor:
    return (torch.arange(len(rows), device=rows.device) + 0.5) / len(rows)


class LanguageTraining:
    """One process of the stage.

    Args:
        world: all processes.
        folder: of the run.
        options: as `main` reads them.
    """

    def __init__(self, world: World, folder: Path, options: argparse.Namespace) -> None:
        self.world = world
        self.options = options
        self.weights_path = folder / "language_model.safetensors"
        self.state_path = folder / "language_model-state.safetensors"
        config = nano_config(len(build_vocabulary()) + NUM_SPECIAL_TOKENS)
        self.num_codebooks = config.codebooks.num_codebooks
        examples = load_examples(folder, open_speech(options.data or folder / "data"))
        held, self.examples = split_examples(examples, options.held)
        judge = ExampleSource(self.examples, random.Random(5))
        judged = ((example, judge.reference(example, 40, 60)) for example in held)
        pairs = [(example, reference) for example, reference in judged if reference is not None]
        self.held = lay_out(pairs, self.num_codebooks).to(world.device)
        torch.manual_seed(options.seed)
        self.model, skip = _load_model(self.weights_path, config, options.skip, options.start)
        self.model.to(world.device)
        self.parameters = list(self.model.parameters())
        self.optimiser = _make_optimiser(self.model, options.rate)
        self.mean = RunningMean(self.parameters) if options.mean else None
        self.standing = Standing(skip=skip)
        found = load_state(self.state_path)
        if found is not None:
            self._restore(*found)
        world.share(self.model.parameters())

    # The state.

    def _restore(self, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.standing = Standing(**numbers)
        self.model.load_state_dict(take(tensors, "model."))
        restore_optimisers([self.optimiser], tensors)
        means = take(tensors, "mean.")
        if self.mean is not None and means:
            self.mean.restore([means[str(index)] for index in range(len(means))], self.standing.mean_steps)

    def save(self) -> None:
        """Write the state, and the weights that the next stages read."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.mean is not None:
            tensors |= {f"mean.{index}": value for index, value in enumerate(self.mean.means)}
            self.standing.mean_steps = self.mean.num_steps
        save_state(self.state_path, asdict(self.standing), tensors, [self.optimiser])
        with self._averaged():
            save_weights(self.weights_path, self.model.state_dict())

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.mean is None else self.mean.applied()

    # Steps.

    def step(self, batch: Batch, progress: float) -> str:
        """Make a step; return its figures in words."""
        options, world, number = self.options, self.world, self.standing.step
        torch.manual_seed(int(np.random.SeedSequence([options.seed, world.rank, number]).generate_state(1)[0]))
        scale = trapezoid(0.0 if options.mean else progress, number, decay=options.decay)
        for group in self.optimiser.param_groups:
            group["lr"] = options.rate * scale
        with torch.autocast(world.device.type, torch.bfloat16):
            losses = compute_losses(self.model, batch, training=True)
        total = losses.semantic + losses.flow + options.guided * losses.guidance + _PHONEME_WEIGHT * losses.phonemes
        self.optimiser.zero_grad()
        total.backward()
        world.average([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        if math.isfinite(float(norm)):
            self.optimiser.step()
            if self.mean is not None:
                self.mean.update()
        return f"norm {norm:.2f} {describe(losses)}"

    @torch.no_grad()
    def report(self, figures: str) -> None:
        """Print how the run goes: on the last batch, and on the same examples each time."""
        device = self.world.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []), self._averaged():
            torch.manual_seed(1)
            with torch.autocast(device.type, torch.bfloat16):
                losses = compute_losses(self.model, self.held, training=False)
        standing = self.standing
        print(
            f"{standing.seconds:6.0f} s step {standing.step} {figures} | held: {describe(losses)} "
            f"accuracy {losses.accuracy:.3f}",
            flush=True,
        )

    def run(self) -> None:
        """Train to the end; the first process reports once a minute and saves every few."""
        options, world, standing = self.options, self.world, self.standing
        if world.is_first:
            count = sum(parameter.numel() for parameter in self.parameters) / 1e6
            print(f"{len(self.examples)} examples, {count:.2f} M parameters, from step {standing.step} on", flush=True)
        # A run that goes on draws others than it would have drawn, and none that it has had.
        rng = random.Random(f"{options.seed} {world.rank} {standing.step}")
        clock = StepClock(world, options.minutes * 60, options.steps, standing)
        seen = [standing.skip]
        batches = ExampleSource(self.examples, rng).batches(seen, options.positions)
        figures = "nothing to do"
        while (progress := clock.progress()) < 1:
            seen[0] = standing.skip + (1 - standing.skip) * progress
            figures = self.step(lay_out(next(batches), self.num_codebooks).to(world.device), progress)
            clock.count()
            if world.is_first and clock.is_time("report", _SECONDS_BETWEEN_REPORTS):
                self.report(figures)
            if world.is_first and clock.is_time("save", _SECONDS_BETWEEN_SAVES):
                self.save()
        if world.is_first:
            self.report(f"end {figures}")
            self.save()
            # It is over: another run goes on from the weights, for the whole of its own length.
            self.state_path.unlink()


def train(world: World, folder: Path, options: argparse.Namespace) -> None:
    """Train one process of the stage; see the module."""
    LanguageTraining(world, folder, options).run()


def _load_model(path: Path, config: ModelConfig, skip: float | None, start: Path | None) -> tuple[SpeechModel, float]:
    """Go on from the last weights, or start; also tell which share of the curriculum is behind."""
    model = SpeechModel(config)
    if path.is_file():
        model.load_state_dict(load_weights(path))
        # The curriculum is for the beginning; a run that goes on starts behind it.
        return model, SHORT_REFERENCES if skip is None else skip
    model.initialise()
    if start is not None:
        take_reading(model, load_file(start / WEIGHTS_FILE))
    return model, skip or 0.0


@torch.no_grad()
def take_reading(model: SpeechModel, tensors: Mapping[str, Tensor]) -> None:
    """Begin with what a checkpoint of the same sizes knows of texts.

    What has to do with its codes is left: another codec has others.

    Args:
        model: whose tables of codes stay as they are.
        tensors: of the checkpoint, by its names.

    Raises:
        SystemExit: it has other sizes.
    """
    targets = {TEXT_EMBEDDINGS: model.text_embeddings.weight, **dict(model.backbone.named_parameters())}
    for name, value in model.acoustic_transformer.named_parameters():
        if not name.startswith(_OF_CODES):
            targets[f"acoustic_transformer.{name}"] = value
    for name, target in targets.items():
        if name not in tensors or tensors[name].shape != target.shape:
            raise SystemExit(f"the checkpoint to start from lacks {name} in the size {tuple(target.shape)}")
        target.copy_(tensors[name])


def _make_optimiser(model: SpeechModel, rate: float) -> torch.optim.Optimizer:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embeddings" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embeddings" in name]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def describe(losses: Losses) -> str:
    """Write the losses on a line."""
    parts = ("semantic", "flow", "guidance", "phonemes")
    return " ".join(f"{name} {float(getattr(losses, name).detach()):.3f}" for name in parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or go on training."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help="the corpus; FOLDER/data by default")
    add_length_options(parser, minutes=60.0)
    add_mean_option(parser)
    parser.add_argument("--positions", type=int, default=2500, help="padded positions in a batch, for each process")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--decay", type=float, default=0.4, help="last share of the time in which the rate falls")
    parser.add_argument("--guided", type=float, default=1.0, help="weight of the guided attention")
    parser.add_argument("--skip", type=float, help="share of the curriculum that is behind, 0 to 1")
    parser.add_argument("--start", type=Path, help="a checkpoint of the same sizes that can read, whatever its codec")
    parser.add_argument("--held", type=int, default=128, help="examples to report on, kept from training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    run(train, options.processes, options.folder, options)


if __name__ == "__main__":
    main()
