"""Stage 5: the backbone and the acoustic transformer, on the codes of the corpus.

    python -m train.language_model build/nano --minutes 60

A sample is a reference of the same voice, a text, and the frames of that text, laid out as the runtime lays out
its prompt; the loss is on the frames. Two heads of one layer are guided to the letter that sounds, which
aligns in minutes what else takes hours. Read next: `train.export`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.codec_network import PHONEME_CLASSES
from train.corpus import open_corpus
from train.crops import LABELS_PER_FRAME
from train.loop import (
    Clock,
    RunningMean,
    World,
    add_length_options,
    add_mean_option,
    group_by_length,
    load_weights,
    run,
    save_weights,
    trapezoid,
)
from train.shape import NUM_SPECIAL_TOKENS, nano_config
from train.tokenizer import LetterTokenizer, build_vocabulary
from voxtral.config import EMPTY_AUDIO, END_AUDIO, NUM_SPECIAL_CODES, ModelConfig
from voxtral.model.acoustic import AcousticLayer, AcousticTransformer, embed_time
from voxtral.model.backbone import Backbone, BackboneLayer
from voxtral.model.layers import rope_rotation, split_heads

_SPACE = NUM_SPECIAL_TOKENS + ord(" ")  # bytes come first in the vocabulary
_BOS, _AUDIO, _BEGIN_AUDIO, _TEXT_TO_AUDIO, _AUDIO_TO_TEXT, _PAD = 1, 24, 25, 36, 35, 11

_GUIDED_LAYER, _GUIDED_HEADS = 3, 2
_GUIDED_REACH = (-1, 0, 1, 2)  # letters around the right one that count as right

_DROP_HIDDEN = 0.1  # for guidance at inference
_DROP_FRAME = 0.15  # so that the text is listened to, not only the frames before
_JITTER_SHARE = 0.25

_PHONEME_WEIGHT = 0.5

_FIRST_FRAMES = 20  # the curriculum begins with items this short
_CURRICULUM = 0.25  # share of the time until all lengths are in
_SHORT_REFERENCES = 0.45  # share of the time in which references stay short, since they cost most
_OTHER_LANGUAGE = 0.1  # references in another language than the text
_LONG_REFERENCES = 0.1
_JOINED_SHARE, _MAX_JOINED = 0.15, 4  # items in a row, since the corpus has few that last as long as a segment may
_MAX_FRAMES = 150
_POOL = 3000


@dataclass(frozen=True, eq=False)
class Example:
    """One item of the corpus as codes; T frames."""

    voice: int
    language: str
    text_ids: list[int]
    codes: np.ndarray  # [T, K] int16, codec alphabet
    aligned: np.ndarray  # [T] int16, text token that sounds
    labels: np.ndarray  # [T, labels per frame] uint8, phonemes

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.codes)


@dataclass(frozen=True, eq=False)
class Batch:
    """B padded sequences of T positions."""

    text_ids: Tensor  # [B, T] int64, PAD where a frame or nothing stands
    frames: Tensor  # [B, T, K] int64 audio tokens; valid where is_frame
    is_frame: Tensor  # [B, T] bool
    semantic_target: Tensor  # [B, T] int64 audio tokens, -100 where nothing is predicted
    acoustic_target: Tensor  # [B, T, A] int64 codes; valid where is_speech
    is_speech: Tensor  # [B, T] bool, where the hidden state makes a frame that is not the end
    aligned: Tensor  # [B, T] int64, position of the text token that sounds
    labels: Tensor  # [B, T, labels per frame] int64 phonemes; valid where is_speech

    def to(self, device: torch.device) -> Batch:
        """Move all of it."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


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


class ExampleSource:
    """Examples of the corpus and references for them."""

    def __init__(self, examples: list[Example], rng: random.Random) -> None:
        self._examples = examples
        self._rng = rng
        self._by_voice: dict[tuple[int, str], list[Example]] = {}
        self._languages: dict[int, set[str]] = {}
        for example in examples:
            self._by_voice.setdefault((example.voice, example.language), []).append(example)
            self._languages.setdefault(example.voice, set()).add(example.language)

    def reference(self, example: Example, low: int, high: int) -> np.ndarray | None:
        """Join other items of the voice into `low` to `high` frames: [N, K] codes; None if it has no others."""
        wanted = self._rng.randint(low, high)
        language = example.language
        if self._rng.random() < _OTHER_LANGUAGE:
            language = self._rng.choice(sorted(self._languages.get(example.voice, {language})))
        pool = self._by_voice.get((example.voice, language), [])
        parts: list[np.ndarray] = []
        for _ in range(12 if pool else 0):
            other = self._rng.choice(pool)
            if other is not example:
                parts.append(other.codes)
            if sum(map(len, parts)) >= wanted:
                break
        if not parts:
            return None
        joined = np.concatenate(parts)
        start = self._rng.randint(0, max(0, len(joined) - wanted))
        return joined[start : start + wanted]

    def lengthen(self, example: Example, limit: int) -> Example:
        """Follow an example with others of its voice and language, up to `limit` frames."""
        parts = [example]
        pool = self._by_voice[(example.voice, example.language)]
        for _ in range(_MAX_JOINED - 1):
            other = self._rng.choice(pool)
            if sum(part.num_frames for part in parts) + other.num_frames <= limit:
                parts.append(other)
        return join_examples(parts)

    def draw(self, progress: float) -> tuple[Example, np.ndarray] | None:
        """Draw an example and a reference as they are due at this progress of the training, 0 to 1."""
        limit = _FIRST_FRAMES + int((_MAX_FRAMES - _FIRST_FRAMES) * min(1.0, progress / _CURRICULUM))
        example = self._rng.choice(self._examples)
        if example.num_frames > limit:
            return None
        if progress >= _CURRICULUM and self._rng.random() < _JOINED_SHARE:
            example = self.lengthen(example, _MAX_FRAMES)
        low, high = (10, 30) if progress < _SHORT_REFERENCES else (25, 80)
        if progress >= _SHORT_REFERENCES and self._rng.random() < _LONG_REFERENCES:
            low, high = 80, 125
        reference = self.reference(example, low, high)
        return None if reference is None else (example, reference)

    def batches(self, clock_progress: list[float], max_positions: int) -> Iterator[list[tuple[Example, np.ndarray]]]:
        """Yield batches of similar length for ever, short items first; `clock_progress[0]` is read as it moves."""
        while True:
            drawn: list[tuple[Example, np.ndarray]] = []
            while len(drawn) < _POOL:
                pair = self.draw(clock_progress[0])
                if pair is not None:
                    drawn.append(pair)
            drawn.sort(key=_length)
            groups = group_by_length(drawn, _length, max_positions)
            self._rng.shuffle(groups)
            # A pool is left early, or the curriculum would lag behind the clock.
            yield from groups[: max(1, len(groups) // 2)]


def join_examples(parts: list[Example]) -> Example:
    """Make one example of several of one voice and language, their texts with a space between."""
    text_ids: list[int] = []
    aligned: list[np.ndarray] = []
    for part in parts:
        if text_ids:
            text_ids.append(_SPACE)
        aligned.append(np.minimum(part.aligned, len(part.text_ids) - 1) + len(text_ids))
        text_ids += part.text_ids
    return Example(
        voice=parts[0].voice,
        language=parts[0].language,
        text_ids=text_ids,
        codes=np.concatenate([part.codes for part in parts]),
        aligned=np.concatenate(aligned),
        labels=np.concatenate([part.labels for part in parts]),
    )


def _length(pair: tuple[Example, np.ndarray]) -> int:
    example, reference = pair
    return len(reference) + len(example.text_ids) + example.num_frames + 7


def lay_out(pairs: list[tuple[Example, np.ndarray]], num_codebooks: int) -> Batch:
    """Write sequences as the runtime's prompt has them, then their frames; see `voxtral.text.prompt`."""
    size = (len(pairs), max(map(_length, pairs)))
    text_ids = np.full(size, _PAD, np.int64)
    frames = np.full((*size, num_codebooks), EMPTY_AUDIO, np.int64)
    is_frame, is_speech = np.zeros(size, bool), np.zeros(size, bool)
    semantic_target = np.full(size, -100, np.int64)
    acoustic_target = np.zeros((*size, num_codebooks - 1), np.int64)
    aligned = np.zeros(size, np.int64)
    labels = np.zeros((*size, LABELS_PER_FRAME), np.int64)
    for row, (example, reference) in enumerate(pairs):
        voice_stop = 2 + len(reference) + 1
        text_start = voice_stop + 1
        text_stop = text_start + len(example.text_ids)
        text_ids[row, :2] = (_BOS, _BEGIN_AUDIO)
        frames[row, 2 : voice_stop - 1] = reference + NUM_SPECIAL_CODES
        frames[row, voice_stop - 1, 0] = END_AUDIO
        is_frame[row, 2:voice_stop] = True
        text_ids[row, voice_stop] = _TEXT_TO_AUDIO
        text_ids[row, text_start:text_stop] = example.text_ids
        text_ids[row, text_stop : text_stop + 2] = (_AUDIO_TO_TEXT, _BEGIN_AUDIO)
        # The last position of the prompt makes frame 0, frame t makes frame t + 1, the last one the end.
        first = text_stop + 1
        speech = slice(first, first + example.num_frames)
        semantic_target[row, speech] = example.codes[:, 0] + NUM_SPECIAL_CODES
        semantic_target[row, first + example.num_frames] = END_AUDIO
        acoustic_target[row, speech] = example.codes[:, 1:]
        is_speech[row, speech] = True
        aligned[row, speech] = text_start + np.minimum(example.aligned, len(example.text_ids) - 1)
        labels[row, speech] = example.labels
        shifted = slice(first + 1, first + 1 + example.num_frames)
        frames[row, shifted] = example.codes + NUM_SPECIAL_CODES
        is_frame[row, shifted] = True
    arrays = (text_ids, frames, is_frame, semantic_target, acoustic_target, is_speech, aligned, labels)
    return Batch(*(torch.from_numpy(array) for array in arrays))


def load_examples(folder: Path) -> list[Example]:
    """Read the codes of the whole corpus."""
    corpus = open_corpus(folder / "data")
    tokenizer = LetterTokenizer(build_vocabulary())
    examples: list[Example] = []
    for part in range(corpus.num_parts):
        arrays = {name: tensor.numpy() for name, tensor in load_weights(folder / f"codes-{part}.safetensors").items()}
        codes = np.concatenate((arrays["semantic"][:, None], arrays["acoustic"].astype(np.int16)), axis=1)
        for index, item in enumerate(corpus.read_items(part)):
            place = slice(arrays["offsets"][index], arrays["offsets"][index + 1])
            ids, _ = tokenizer.encode(item.text)
            if ids:
                examples.append(
                    Example(
                        item.voice, item.language, ids, codes[place], arrays["aligned"][place], arrays["labels"][place]
                    )
                )
    return examples


def split_examples(examples: list[Example], num_held: int) -> tuple[list[Example], list[Example]]:
    """Keep some examples from training, the same ones in every run: those held, and the rest."""
    shuffled = list(examples)
    random.Random(0).shuffle(shuffled)
    return shuffled[:num_held], shuffled[num_held:]


def train(world: World, folder: Path, options: argparse.Namespace) -> None:
    """Train one process of the stage; see the module."""
    torch.manual_seed(options.seed + world.rank)
    rng = random.Random(options.seed + 100 + world.rank)
    config = nano_config(len(build_vocabulary()) + NUM_SPECIAL_TOKENS)
    examples = load_examples(folder)
    held, examples = split_examples(examples, options.held)
    source = ExampleSource(examples, rng)
    judge = ExampleSource(examples, random.Random(5))
    judged = ((example, judge.reference(example, 40, 60)) for example in held)
    pairs = [(example, reference) for example, reference in judged if reference is not None]
    held_batch = lay_out(pairs, config.codebooks.num_codebooks).to(world.device)

    path = folder / "language_model.safetensors"
    model, skip = _load_model(path, config, options.skip)
    model.to(world.device)
    world.share(model.parameters())
    optimiser = _make_optimiser(model, options.rate)
    parameters = list(model.parameters())
    if world.is_first:
        print(f"{len(examples)} examples, {sum(p.numel() for p in parameters) / 1e6:.2f} M parameters", flush=True)

    mean = RunningMean(parameters) if options.mean else None
    clock = Clock(world, options.minutes * 60, options.steps)
    progress_seen = [skip]
    batches = source.batches(progress_seen, options.positions)
    step, positions = 0, 0
    while (progress := clock.progress()) < 1:
        progress_seen[0] = skip + (1 - skip) * progress
        for group in optimiser.param_groups:
            group["lr"] = options.rate * trapezoid(0.0 if options.mean else progress, step, decay=options.decay)
        batch = lay_out(next(batches), config.codebooks.num_codebooks).to(world.device)
        with torch.autocast(world.device.type, torch.bfloat16):
            losses = compute_losses(model, batch, training=True)
        total = losses.semantic + losses.flow + options.guided * losses.guidance + _PHONEME_WEIGHT * losses.phonemes
        optimiser.zero_grad()
        total.backward()
        world.average([parameter.grad for parameter in parameters if parameter.grad is not None])
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if mean is not None:
            mean.update()
        step += 1
        positions += batch.text_ids.numel()
        if clock.is_time_to_report():
            rate = positions * world.size / clock.elapsed
            now = f"{clock.elapsed:5.0f} s step {step} {rate:6.0f} positions/s norm {norm:.2f} {describe(losses)}"
            with mean.applied() if mean is not None else nullcontext():
                _report(model, held_batch, now)
                save_weights(path, model.state_dict())
    if world.is_first:
        with mean.applied() if mean is not None else nullcontext():
            _report(model, held_batch, f"{clock.elapsed:5.0f} s step {step} end")
            save_weights(path, model.state_dict())


def _load_model(path: Path, config: ModelConfig, skip: float | None) -> tuple[SpeechModel, float]:
    """Go on from the last weights, or start; also tell which share of the curriculum is behind."""
    model = SpeechModel(config)
    if path.is_file():
        model.load_state_dict(load_weights(path))
        # The curriculum is for the beginning; a run that goes on starts behind it.
        return model, _SHORT_REFERENCES if skip is None else skip
    model.initialise()
    return model, skip or 0.0


def _make_optimiser(model: SpeechModel, rate: float) -> torch.optim.Optimizer:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embeddings" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embeddings" in name]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


@torch.no_grad()
def _report(model: SpeechModel, held: Batch, head: str) -> None:
    device = held.text_ids.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(1)
        with torch.autocast(device.type, torch.bfloat16):
            losses = compute_losses(model, held, training=False)
    print(f"{head} | held: {describe(losses)} accuracy {losses.accuracy:.3f}", flush=True)


def describe(losses: Losses) -> str:
    """Write the losses on a line."""
    parts = ("semantic", "flow", "guidance", "phonemes")
    return " ".join(f"{name} {float(getattr(losses, name)):.3f}" for name in parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or go on training."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    add_length_options(parser, minutes=60.0)
    add_mean_option(parser)
    parser.add_argument("--positions", type=int, default=2500, help="padded positions in a batch, for each process")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--decay", type=float, default=0.4, help="last share of the time in which the rate falls")
    parser.add_argument("--guided", type=float, default=1.0, help="weight of the guided attention")
    parser.add_argument("--skip", type=float, help="share of the curriculum that is behind, 0 to 1")
    parser.add_argument("--held", type=int, default=128, help="examples to report on, kept from training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    run(train, options.processes, options.folder, options)


if __name__ == "__main__":
    main()
