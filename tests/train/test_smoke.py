"""The whole recipe with a stand-in for the teacher: in few steps, and in as many as it takes to beat random weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from measures import (
    copy_distance,
    make_fresh_speech,
    recogniser_accuracy,
    semantic_cross_entropy,
    silence_distance,
)
from stand_in_teacher import STAND_IN
from train import codec, data, encode, export, language_model, recogniser
from train.corpus import Corpus, open_corpus
from train.teacher import ESPEAK
from voxtral import VoxtralTTS
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_model

ROOT = Path(__file__).parents[2]
NUM_HELD = 16


def run_recipe(folder: Path, *, hours: float, recogniser_steps: int, codec_steps: int, language_steps: int) -> Path:
    """Run all stages as the recipe does, for a fixed number of steps: the same work on every machine."""
    where, alone = str(folder), ("--processes", "1")
    data.main([f"{where}/data", "--hours", str(hours), "--parts", "1", "--no-word-lists"], source=STAND_IN)
    recogniser.main([where, "--steps", str(recogniser_steps), "--batch-seconds", "8", *alone])
    codec.main([where, "--steps", str(codec_steps), "--batch", "2", "--rate", "2e-3", *alone])
    encode.main([where, *alone])
    # No curriculum and little guidance: neither pays within a minute.
    sizes = ("--positions", "600", "--held", str(NUM_HELD), "--skip", "0.3", "--guided", "0.3", "--rate", "6e-3")
    language_model.main([where, "--steps", str(language_steps), *sizes, *alone])
    codec.main([where, "--steps", "1", "--batch", "2", "--decoder-only", "--adversarial", "0.1", *alone])
    export.main([where], source=STAND_IN)
    return folder


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe in few steps: every stage takes what the one before it made."""
    return run_recipe(tmp_path_factory.mktemp("few"), hours=0.03, recogniser_steps=1, codec_steps=1, language_steps=9)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe in as many steps as it takes to beat random weights."""
    folder = tmp_path_factory.mktemp("many")
    run_recipe(folder, hours=0.1, recogniser_steps=60, codec_steps=80, language_steps=70)
    export.main([str(folder), "--untrained", "--output", str(folder / "control")], source=STAND_IN)
    return folder


@pytest.fixture(scope="module")
def fresh(trained: Path) -> Corpus:
    return make_fresh_speech(trained / "fresh", trained, STAND_IN)


def test_the_runtime_loads_the_result_strictly_and_speaks(rehearsed: Path) -> None:
    checkpoint = open_checkpoint(rehearsed / "export")
    assert checkpoint.has_encoder
    load_model(checkpoint, device=torch.device("cpu"), dtype=torch.bfloat16, codec_dtype=torch.float32)
    with VoxtralTTS.from_pretrained(rehearsed / "export", device="cpu") as tts:
        assert len(tts.voices) == 20
        audio = tts.synthesize("Hello there.", "en", seed=1, max_frames=5)
        assert 0 < len(audio) <= 5 * 1920
        assert np.isfinite(audio.numpy()).all()


def test_a_few_steps_teach_something(rehearsed: Path) -> None:
    entropy, _ = semantic_cross_entropy(rehearsed, NUM_HELD)
    assert entropy.trained < entropy.control - 0.5


def test_a_stage_goes_on_where_its_checkpoint_ends(rehearsed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reached = semantic_cross_entropy(rehearsed, NUM_HELD)[0].trained
    before = (rehearsed / "language_model.safetensors").read_bytes()
    corpus_before = (rehearsed / "data" / "items-0.jsonl").stat().st_mtime_ns
    options = ("--positions", "600", "--held", str(NUM_HELD), "--processes", "1", "--rate", "1e-6")
    language_model.main([str(rehearsed), "--steps", "1", *options])
    # From random weights this figure would be that of the control, far above.
    assert abs(float(capsys.readouterr().out.split("held: semantic ")[1].split()[0]) - reached) < 0.1
    assert (rehearsed / "language_model.safetensors").read_bytes() != before
    data.main([f"{rehearsed}/data", "--parts", "1"], source=STAND_IN)
    assert (rehearsed / "data" / "items-0.jsonl").stat().st_mtime_ns == corpus_before


@pytest.mark.slow
def test_the_recogniser_hears_new_texts(trained: Path, fresh: Corpus) -> None:
    accuracy = recogniser_accuracy(trained, fresh)
    assert accuracy.trained > accuracy.control + 0.2


@pytest.mark.slow
def test_the_codec_copies_better_than_random_weights_and_than_silence(trained: Path, fresh: Corpus) -> None:
    distance = copy_distance(trained / "export", fresh)
    assert distance < 0.75 * copy_distance(trained / "control", fresh)
    assert distance < 0.8 * silence_distance(fresh)


@pytest.mark.slow
def test_the_language_model_knows_more_than_how_often_a_code_occurs(trained: Path) -> None:
    entropy, unigram = semantic_cross_entropy(trained, NUM_HELD)
    assert entropy.trained < entropy.control - 2.5
    assert entropy.trained < unigram


@pytest.mark.slow
def test_the_recipe_with_espeak_beats_its_control(tmp_path: Path) -> None:
    """`recipes/nano.sh --smoke`, two minutes of training with the real teacher and the real texts."""
    check = subprocess.run(
        [sys.executable, "-m", "train.data", str(tmp_path), "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if check.returncode:
        pytest.skip(f"the recipe cannot run here: {check.stderr.strip()}")
    output = tmp_path / "nano"
    environment = os.environ | {"OUTPUT": str(output), "PYTHON": sys.executable}
    subprocess.run([str(ROOT / "recipes" / "nano.sh"), "--smoke"], cwd=tmp_path, env=environment, check=True)
    export.main([str(output), "--untrained", "--output", str(output / "control")])
    fresh = make_fresh_speech(output / "fresh", output, ESPEAK)
    accuracy = recogniser_accuracy(output, fresh)
    entropy, unigram = semantic_cross_entropy(output, 64)
    distance, control, silence = (
        copy_distance(output / "export", fresh),
        copy_distance(output / "control", fresh),
        silence_distance(fresh),
    )
    print(f"labels {accuracy}, log-mel {distance:.3f} control {control:.3f} silence {silence:.3f}")
    print(f"semantic {entropy}, by frequency {unigram:.3f}, voices {len(open_corpus(output / 'data').voices)}")
    assert accuracy.trained > accuracy.control + 0.2
    assert distance < 0.8 * min(control, silence)
    assert entropy.trained < entropy.control - 1.5
