"""What the smoke tests measure of a trained folder, on speech that no stage has heard."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from train.corpus import Corpus, open_corpus
from train.data import make_part
from train.examples import ExampleSource, lay_out, load_examples, split_examples
from train.hearing import Held, draw_batches, read_training
from train.language_model import SpeechModel, compute_losses
from train.loop import load_weights
from train.recogniser import Recogniser
from train.shape import NUM_SPECIAL_TOKENS, nano_config
from train.spectra import SpectralLoss
from train.speech import SingleTeacherSpeech, open_speech
from train.teacher import TeacherSource
from train.tokenizer import build_vocabulary
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_model

_FRESH_SEED = 77
_COPIED_SECONDS = 10


@dataclass(frozen=True)
class Compared:
    """A figure of the trained model beside that of its control."""

    trained: float
    control: float


def make_fresh_speech(folder: Path, trained: Path, source: TeacherSource) -> Corpus:
    """Let the teacher say 30 s of new texts, and number its phonemes as the trained folder does."""
    folder.mkdir()
    make_part(folder, 0, 30 / 3600, _FRESH_SEED, source=source, with_word_lists=False)
    corpus = open_corpus(trained / "data")
    return Corpus(folder, corpus.voices, corpus.phonemes, num_parts=1)


@torch.inference_mode()
def recogniser_accuracy(trained: Path, fresh: Corpus) -> Compared:
    """Share of 20 ms labels that are right; the control always says the most frequent one."""
    network = Recogniser.load(trained / "recogniser.safetensors").network
    utterances = read_training(SingleTeacherSpeech(fresh), fresh.phonemes, Held())
    batch = next(draw_batches(utterances, random.Random(0), seconds=20))
    labels = batch.labels
    scores = network(network.features(batch.samples), batch.languages)[..., : labels.shape[1]]
    is_label = labels >= 0
    (_, most_frequent), *_ = Counter(labels[is_label].tolist()).most_common(1)
    right = (scores.argmax(1) == labels)[is_label].float().mean()
    return Compared(float(right), most_frequent / int(is_label.sum()))


@torch.inference_mode()
def copy_distance(checkpoint: Path, fresh: Corpus) -> float:
    """Log-mel distance of a clip to its copy through the encoder and decoder of the runtime."""
    samples = _clip(fresh)
    device, dtype = torch.device("cpu"), torch.float32
    model = load_model(open_checkpoint(checkpoint), device=device, dtype=dtype, codec_dtype=dtype)
    copy = model.decode_codes(model.encode_audio(samples))[: len(samples)]
    return float(SpectralLoss()(copy[None], samples[None])[1])


@torch.inference_mode()
def silence_distance(fresh: Corpus) -> float:
    """Log-mel distance of a clip to silence, which a codec that learned nothing may well make."""
    samples = _clip(fresh)
    return float(SpectralLoss()(torch.zeros_like(samples)[None], samples[None])[1])


def _clip(fresh: Corpus) -> torch.Tensor:
    samples = fresh.read_part(0).samples[: _COPIED_SECONDS * 24000]
    return torch.from_numpy(np.asarray(samples, np.float32) / 32768)


@torch.inference_mode()
def semantic_cross_entropy(trained: Path, num_held: int) -> tuple[Compared, float]:
    """Cross-entropy in nats of the semantic codes of examples that were kept from training.

    Returns:
        Trained and untrained model, and what knowing the frequency of each code alone would give.
    """
    config = nano_config(len(build_vocabulary()) + NUM_SPECIAL_TOKENS)
    held, rest = split_examples(load_examples(trained, open_speech(trained / "data")), num_held)
    references = ExampleSource(rest, random.Random(1))
    pairs = [(example, references.reference(example, 40, 60)) for example in held]
    batch = lay_out(pairs, config.codebooks.num_codebooks)
    torch.manual_seed(0)
    model = SpeechModel(config)
    model.initialise()
    control = float(compute_losses(model, batch, training=False).semantic)
    model.load_state_dict(load_weights(trained / "language_model.safetensors"))
    result = float(compute_losses(model, batch, training=False).semantic)
    return Compared(result, control), _unigram_cross_entropy(held, rest, config.codebooks.semantic_size)


def _unigram_cross_entropy(held: list, rest: list, size: int) -> float:
    seen = np.concatenate([example.codes[:, 0] for example in rest])
    counts = np.bincount(seen, minlength=size) + 0.1
    wanted = np.concatenate([example.codes[:, 0] for example in held])
    return float(-np.log(counts / counts.sum())[wanted].mean())
