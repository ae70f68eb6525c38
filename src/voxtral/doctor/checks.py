"""Checks of a checkpoint that comes without golden vectors: what its first owner wants to know.

The published weights have no vectors, but they have structure: an exact inventory, voices that are
sums of table rows, a closing END_AUDIO row, a finite codec and speech of plausible length.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from voxtral.config import EMPTY_AUDIO, END_AUDIO, CodebookConfig
from voxtral.device import plan_compute
from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.sequence import GenerationRequest
from voxtral.errors import CheckpointError, TokenizerMissingError, VoiceError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.files import TOKENIZER_FILE
from voxtral.loading.inventory import expected_tensors
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import build_prompt
from voxtral.text.tokenizer import SpeechTokenizer, load_tokenizer
from voxtral.voices.presets import default_voice, list_presets
from voxtral.voices.prompt import load_voice

Status = Literal["ok", "warning", "failed", "skipped"]

# bfloat16 keeps 8 bits: a row of a voice is off by about 0.3 % from the sum that made it.
_ROW_TOLERANCE = 0.02

# Tensors and bytes of mistralai/Voxtral-4B-TTS-2603 (docs/MODEL.md, "Checkpoint").
_PUBLISHED_INVENTORY = (386, 8_004_706_784)

_SENTENCE = "The quick brown fox jumps over the lazy dog near the quiet river bank."
# Seconds that a character of plain English may take (docs/MODEL.md, "Habits": about 0.08).
_PLAUSIBLE_S_PER_CHAR = (0.03, 0.25)


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    status: Status
    detail: str


def check_model(checkpoint: Checkpoint, model: VoxtralModel, paths: Paths | None = None) -> Iterator[Check]:
    """Look at a loaded checkpoint from all sides, speaking by open paths; yields findings as they come."""
    yield check_tensors(checkpoint)
    try:
        tokenizer, no_tokenizer = load_tokenizer(checkpoint.folder / TOKENIZER_FILE), ""
        yield Check("tokenizer", "ok", f"{len(tokenizer.encode(_SENTENCE))} tokens for a test sentence")
    except TokenizerMissingError as error:
        tokenizer, no_tokenizer = None, str(error)
        yield Check("tokenizer", "skipped", no_tokenizer)
    except CheckpointError as error:
        tokenizer, no_tokenizer = None, str(error)
        yield Check("tokenizer", "failed", no_tokenizer)
    yield from check_voices(checkpoint, model, tokenizer)
    yield _guarded("codec", lambda: check_codec(model))
    if tokenizer is None:
        yield Check("speech", "skipped", no_tokenizer)
    else:
        yield _guarded("speech", lambda: check_speech(checkpoint, model, tokenizer, paths))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """Turn whatever a check raises into a finding, so that the other findings are not lost."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001
        return Check(name, "failed", f"{type(error).__name__}: {error}")


def check_tensors(checkpoint: Checkpoint) -> Check:
    """State the inventory, which opening the checkpoint has compared already."""
    quantization = checkpoint.config.quantization
    plain = expected_tensors(checkpoint.config, with_encoder=checkpoint.has_encoder)
    count = len(plain) if quantization is None else len(checkpoint.tensors)
    dtypes = ", ".join(sorted({entry.dtype for entry in checkpoint.tensors.values()}))
    is_published = (count, checkpoint.data_bytes) == _PUBLISHED_INVENTORY
    origin = "the published inventory" if is_published else "not the sizes of the published 4B"
    if quantization is not None:
        origin = f"quantised to {quantization.name}"
    encoder = "with codec encoder" if checkpoint.has_encoder else "without codec encoder: presets only, no cloning"
    return Check(
        "tensors",
        "ok",
        f"{count} as params.json implies, {checkpoint.num_parameters:,} parameters, {checkpoint.data_bytes:,} bytes of "
        f"{dtypes}, {origin}, {encoder}",
    )


def check_voices(checkpoint: Checkpoint, model: VoxtralModel, tokenizer: SpeechTokenizer | None) -> Iterator[Check]:
    """Check each preset: shape, rows as the tokenizer states, an END_AUDIO row, sums of table rows."""
    presets = list_presets(checkpoint.folder)
    absent = sorted(set(checkpoint.config.voices) - set(presets))
    if absent:
        yield Check("voices", "warning", f"params.json lists {', '.join(absent)}, and there is no file for it")
    if not presets:
        yield Check("voices", "warning", "there are none; only saved voices and reference audio can speak")
        return
    books = checkpoint.config.codebooks
    table = model.audio_embeddings.weight.detach().float().cpu()
    decomposer = RowDecomposer(table, books) if table.shape[1] > books.acoustic_vocab * books.num_acoustic else None
    for name, path in presets.items():
        try:
            rows = load_voice(path, checkpoint.config).rows.float()
        except VoiceError as error:
            yield Check(f"voice {name}", "failed", str(error))
            continue
        stated = tokenizer.voice_rows.get(name) if tokenizer else None
        judged = functools.partial(_judge_voice, name, rows, stated, table, books, decomposer)
        yield _guarded(f"voice {name}", judged)


def _judge_voice(
    name: str, rows: Tensor, stated: int | None, table: Tensor, books: CodebookConfig, decomposer: RowDecomposer | None
) -> Check:
    notes = [f"{rows.shape[0]} rows"]
    status: Status = "ok"
    if stated is not None and stated != rows.shape[0]:
        status = "warning"
        notes.append(f"the tokenizer states {stated}; the rows count")
    end = end_row(table, books)
    distance = float((rows[-1] - end).norm() / end.norm().clamp(min=1e-12))
    if distance > _ROW_TOLERANCE:
        status = "warning"
        notes.append(f"the last row is not END_AUDIO ({distance:.1%} off)")
    else:
        notes.append("closes with END_AUDIO")
    if decomposer is None:
        notes.append(f"width {table.shape[1]} is too small to find its codes")
        return Check(f"voice {name}", status, ", ".join(notes))
    _, residual = decomposer.solve(rows[:-1])
    worst = float(residual.max()) if residual.numel() else 0.0
    if worst > _ROW_TOLERANCE:
        status = "warning"
        notes.append(f"some rows are no sum of code embeddings ({worst:.1%} off)")
    else:
        notes.append(f"every row is a sum of code embeddings (at most {worst:.2%} off)")
    return Check(f"voice {name}", status, ", ".join(notes))


def end_row(table: Tensor, books: CodebookConfig) -> Tensor:
    """Sum the embeddings of the frame that closes a reference: END_AUDIO, then EMPTY_AUDIO."""
    rows = [offset + (EMPTY_AUDIO if codebook else END_AUDIO) for codebook, offset in enumerate(books.offsets)]
    return table[rows].sum(dim=0)


class RowDecomposer:
    """Finds the audio tokens whose embeddings add up to each row of a voice.

    The factorisation is done once for all voices of a checkpoint.

    Args:
        table: [rows, D] float32, the audio embeddings; wider than it has acoustic rows, so that their sums can be
            told apart.
        books: the alphabets.

    Source: docs/MODEL.md, "Voices", says why the decomposition exists.
    """

    def __init__(self, table: Tensor, books: CodebookConfig) -> None:
        self._books = books
        self._semantic = table[: books.semantic_vocab]
        self._acoustic = table[books.semantic_vocab : books.semantic_vocab + books.acoustic_vocab * books.num_acoustic]
        # Outside the span of the acoustic rows only the semantic row is left of a sum.
        self._basis, self._triangle = torch.linalg.qr(self._acoustic.T.double())
        self._semantic_rest = self._outside(self._semantic)

    def _outside(self, rows: Tensor) -> Tensor:
        rows = rows.double()
        return rows - (rows @ self._basis) @ self._basis.T

    def solve(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Take rows [N, D] float32 apart.

        Returns:
            (audio tokens [N, K] int64, distance of each row to their sum, relative to its norm [N]).
        """
        semantic = torch.cdist(self._outside(rows), self._semantic_rest).argmin(dim=1)
        rest = (rows - self._semantic[semantic]).double()
        # A small ridge keeps table rows that training never moved from blowing up the solution.
        right = self._triangle.T @ (rest @ self._basis).T
        normal = self._triangle.T @ self._triangle
        ridge = 1e-9 * normal.diagonal().mean() * torch.eye(normal.shape[0], dtype=normal.dtype)
        weights = torch.linalg.solve(normal + ridge, right).T  # [N, A * acoustic_vocab]
        acoustic = weights.unflatten(1, (self._books.num_acoustic, self._books.acoustic_vocab)).argmax(dim=2)
        offsets = torch.arange(self._books.num_acoustic) * self._books.acoustic_vocab
        rebuilt = self._semantic[semantic] + self._acoustic[acoustic + offsets].sum(dim=1)
        residual = (rows - rebuilt).norm(dim=1) / rows.norm(dim=1).clamp(min=1e-12)
        return torch.cat((semantic[:, None], acoustic), dim=1), residual


def check_codec(model: VoxtralModel) -> Check:
    """Decode every acoustic level and spread semantic codes; the samples must be finite."""
    books = model.config.codebooks
    generator = torch.Generator().manual_seed(0)
    acoustic = torch.randint(books.acoustic_size, (books.num_acoustic, 50), generator=generator)
    semantic = torch.randint(books.semantic_size, (1, 50), generator=generator)
    samples = model.decode_codes(torch.cat((semantic, acoustic)))
    if not torch.isfinite(samples).all():
        return Check("codec", "failed", "random codes decode to values that are not finite")
    peak, rms = float(samples.abs().max()), float(samples.square().mean().sqrt())
    codec = model.config.codec
    head = "" if not codec.spectral_head else " through a spectral head"
    head = head if codec.source_filter_head is None else " through a source-filter head"
    return Check("codec", "ok", f"random codes decode to finite samples{head}, peak {peak:.2f}, rms {rms:.3f}")


def check_speech(
    checkpoint: Checkpoint, model: VoxtralModel, tokenizer: SpeechTokenizer, paths: Paths | None = None
) -> Check:
    """Speak one sentence in the default voice; it should end by itself, in plausible time."""
    config = checkpoint.config
    try:
        presets = list_presets(checkpoint.folder)
        name = default_voice(presets, config.languages, "en")
        rows = load_voice(presets[name], config).rows
    except VoiceError as error:
        return Check("speech", "skipped", str(error))
    budget = math.ceil(2 * _PLAUSIBLE_S_PER_CHAR[1] * len(_SENTENCE) * config.frame_rate)
    request = GenerationRequest(
        prompt=build_prompt(tokenizer, _SENTENCE, rows.shape[0]),
        voice_rows=rows,
        noise=SeededNoise(0, 0, config.codebooks.num_acoustic),
        noise_key=(0, 0),
        guidance_scale=config.generation.guidance_scale,
        noise_scale=config.generation.noise_scale,
        num_euler_steps=config.generation.num_euler_steps,
        max_frames=budget,
    )
    # With the threads that it would speak with.
    plan = plan_compute(model.device, model.dtype, num_parameters=checkpoint.num_parameters)
    engine = Engine(model, EngineOptions(num_threads=plan.num_threads), paths=paths)
    try:
        handle = engine.submit(request)
        num_samples = sum(len(chunk) for chunk in handle.chunks())
    finally:
        engine.close()
    seconds = num_samples / config.sample_rate
    per_char = seconds / len(_SENTENCE)
    rtf = handle.stats.compute_s / seconds if seconds else math.inf
    detail = f"{len(_SENTENCE)} characters by {name}: {seconds:.2f} s of audio, RTF {rtf:.2f}"
    if handle.stop == "length":
        return Check("speech", "warning", f"{detail}, no end within {budget} frames")
    low, high = _PLAUSIBLE_S_PER_CHAR
    if not low <= per_char <= high:
        return Check(
            "speech", "warning", f"{detail}; plausible are {low * 70:.1f} to {high * 70:.1f} s; random weights?"
        )
    return Check("speech", "ok", f"{detail}, ended by itself")
