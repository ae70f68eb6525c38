"""An encoder distilled from nano's own speech: as good as the true one, and made by processes that die at any moment.

tests/unit/cloning guards each part on a few steps. What clones sound like is measured by benchmarks/quality/cloning.py.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from checkpoints import strip_encoder
from spoken_clips import spoken
from voxtral.audio.reference import prepare_reference
from voxtral.cloning.options import RefineOptions
from voxtral.cloning.pairs import read_shard
from voxtral.cloning.search import CodeSearch
from voxtral.cloning.spectra import SpectralDistance
from voxtral.cloning.state import STATE_FILE, load_state
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.encoder_file import (
    EncoderFacts,
    name_tensors,
    open_encoder,
    own_encoder,
    write_encoder,
)
from voxtral.loading.locate import locate_model
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.speech.codec import VoxtralCodec, open_codec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX"),
]

RATE = 24000

# The command, with a state that is written twice a second.
OFTEN = """
import voxtral.cloning.trainer as trainer
import voxtral.cloning.generate as generate
from voxtral.__main__ import main
trainer._SECONDS_BETWEEN_SAVES = generate._SECONDS_BETWEEN_WRITES = 0.5
main()
"""


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nano without its encoder."""
    return strip_encoder(locate_model("nano", allow_download=False), tmp_path_factory.mktemp("model") / "nano")


def options(model: Path, folder: Path, *, hours: float, seen_hours: float) -> list[str]:
    where = ["--model", str(model), "-o", str(folder / "encoder.safetensors"), "--work", str(folder / "work")]
    return ["train-encoder", *where, "--hours", str(hours), "--seen-hours", str(seen_hours), "--device", "cpu"]


def begin(arguments: Sequence[str], program: str = OFTEN) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE, text=True)


def finish(arguments: Sequence[str]) -> str:
    done = subprocess.run([sys.executable, "-m", "voxtral", *arguments], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not is_so() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    assert is_so()


@pytest.fixture(scope="module")
def short(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of pairs and 60 steps, that nothing disturbed."""
    folder = tmp_path_factory.mktemp("short")
    finish([*options(nano, folder, hours=1 / 30, seen_hours=60 * 8 * 24 / 12.5 / 3600), "--phase", "generate"])
    finish([*options(nano, folder, hours=1 / 30, seen_hours=60 * 8 * 24 / 12.5 / 3600), "--phase", "train"])
    return folder


def copy_pairs(source: Path, target: Path) -> None:
    (target / "work").mkdir(parents=True)
    for path in (source / "work").glob("pairs*"):
        (target / "work" / path.name).write_bytes(path.read_bytes())


@pytest.mark.timeout(300)
def test_a_training_that_was_terminated_makes_the_same_encoder(nano: Path, short: Path, tmp_path: Path) -> None:
    copy_pairs(short, tmp_path)
    arguments = options(nano, tmp_path, hours=1 / 30, seen_hours=60 * 8 * 24 / 12.5 / 3600)
    started = begin([*arguments, "--phase", "train"])
    wait_until((tmp_path / "work" / STATE_FILE).exists, started)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 143
    assert "the same command goes on" in said
    found = load_state(tmp_path / "work")
    assert found is not None
    assert 0 < found[0].step < 60
    assert not (tmp_path / "encoder.safetensors").exists()
    finish([*arguments, "--phase", "train"])
    made, whole = (load_file(folder / "encoder.safetensors") for folder in (tmp_path, short))
    assert all(torch.equal(made[name], value) for name, value in whole.items())
    standing = load_state(tmp_path / "work")
    assert standing is not None
    assert standing[0].semantic > 10 / 1024
    assert standing[0].levels < 4.5


@pytest.mark.timeout(600)
def test_processes_that_are_killed_leave_nothing_half(nano: Path, short: Path, tmp_path: Path) -> None:
    arguments = options(nano, tmp_path, hours=1 / 30, seen_hours=60 * 8 * 24 / 12.5 / 3600)
    books = open_checkpoint(nano).config.codebooks
    draw = random.Random(5)
    frames, steps, kills = 0, 0, 0
    for phase, marker, num_kills in (("generate", "pairs-00000.safetensors", 3), ("train", STATE_FILE, 4)):
        for _ in range(num_kills):
            started = begin([*arguments, "--phase", phase])
            before = (tmp_path / "work" / marker).stat().st_mtime_ns if (tmp_path / "work" / marker).exists() else 0

            def is_newer(before: int = before, path: Path = tmp_path / "work" / marker) -> bool:
                return path.exists() and path.stat().st_mtime_ns > before

            wait_until(lambda started=started, is_newer=is_newer: is_newer() or started.poll() == 0, started)
            time.sleep(draw.random())
            started.kill()
            started.communicate()
            kills += 1
            # Whatever has a name that something loads is whole, and nothing is lost of what was there before.
            shard = read_shard(tmp_path / "work", 0, books)
            assert shard is not None
            assert shard.num_frames >= frames
            frames = shard.num_frames
            if (state := load_state(tmp_path / "work")) is not None:
                assert state[0].step >= steps
                steps = state[0].step
            assert not (tmp_path / "encoder.safetensors").exists() or state is not None
    assert kills == 7
    finish([*arguments, "--phase", "generate"])
    finish([*arguments, "--phase", "train"])
    encoder = open_encoder(tmp_path / "encoder.safetensors", open_checkpoint(nano))
    assert encoder.facts.steps == 60
    made, whole = (read_shard(folder / "work", 0, books) for folder in (tmp_path, short))
    assert made is not None
    assert whole is not None
    assert made.num_frames >= 1500
    # How long they are may differ by rounding, for they were said beside others; which items they are does not.
    count = min(len(made.letters), len(whole.letters))
    assert count > 40
    assert torch.equal(made.letters[:count], whole.letters[:count])


@pytest.mark.timeout(300)
def test_a_phase_ends_with_the_command_that_began_it(nano: Path, tmp_path: Path) -> None:
    arguments = options(nano, tmp_path, hours=1.0, seen_hours=8.0)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        started = begin(arguments, "from voxtral.__main__ import main; main()")
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
        wait_until(lambda children=children: bool(children.read_text().strip()), started)
        child = int(children.read_text().split()[0])
        time.sleep(4)
        started.send_signal(number)
        started.wait(timeout=60)
        assert started.returncode == code
        deadline = time.monotonic() + 60
        while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not Path(f"/proc/{child}").exists()
        assert started.stderr is not None
        started.stderr.close()


# How good it is.


def copies(codec: VoxtralCodec, clips: Sequence[np.ndarray], codes: Sequence[Tensor], lateness: int) -> float:
    """Measure how far the sound of codes is from clips."""
    distance, found = SpectralDistance(RATE), []
    for clip, each in zip(clips, codes, strict=True):
        samples = codec.decode(each).samples
        target = np.zeros(len(samples), np.float32)
        late = np.pad(clip, (lateness, 0))[: len(samples)]
        target[: len(late)] = late
        with torch.no_grad():
            made, wanted = torch.as_tensor(samples)[None], torch.as_tensor(target)[None]
            found.append(float(distance(made, distance.spectra(wanted))[0]))
    return fmean(found)


def measure(nano: Path, encoder: Path) -> dict[str, float]:
    """Measure an encoder by the presets, whose codes are true, and by clips that are like no preset."""
    clips = [
        prepare_reference(spoken(2.0, hz=hz, seed=number), RATE, sample_rate=RATE).samples
        for number, hz in enumerate((95, 120, 150, 190, 230))
    ]
    with open_codec(nano, device="cpu", encoder=encoder) as codec:
        search = CodeSearch(codec.run, lambda: [codec.load_voice(voice.name).rows for voice in codec.voices])
        known = search.speechlike
        right, away = [], []
        for true in known.sequences:
            heard = codec.decode(true).samples[known.lateness :]
            found = codec.encode((heard, RATE))[:, : true.shape[1] - 1]
            right.append(float((found[0] == true[0, :-1]).float().mean()))
            away.append(float((found[1:] - true[1:, :-1]).abs().float().mean()))
        codes = [codec.encode((clip, RATE)) for clip in clips]
        refined = search.find([torch.as_tensor(clip) for clip in clips], RefineOptions(steps=25), codes)
        return {
            "semantic": fmean(right),
            "levels": fmean(away),
            "copy": copies(codec, clips, codes, known.lateness),
            "refined": fmean(each.distance for each in refined),
        }


@pytest.mark.timeout(900)
def test_an_encoder_of_three_minutes_is_as_good_as_the_true_one(nano: Path, tmp_path: Path) -> None:
    """Bars of a distillation on one core: 45 s of speaking, 2 minutes of training."""
    checkpoint = open_checkpoint(nano)
    true, drawn = tmp_path / "true.safetensors", tmp_path / "random.safetensors"
    write_encoder(true, own_encoder(open_checkpoint(locate_model("nano", allow_download=False))), checkpoint, FACTS)
    torch.manual_seed(0)
    encoder = CodecEncoder(checkpoint.config.codec)
    for parameter in encoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    write_encoder(drawn, name_tensors(encoder), checkpoint, FACTS)
    said = finish(options(nano, tmp_path, hours=0.3, seen_hours=1.6))
    assert "presets sem" in said
    found = {path.stem: measure(nano, path) for path in (true, drawn, tmp_path / "encoder.safetensors")}
    own, by_chance, distilled = found["true"], found["random"], found["encoder"]
    assert distilled["semantic"] >= 0.8 * own["semantic"], found
    assert distilled["levels"] <= own["levels"] + 0.4, found
    # On voices like no preset's: near the true encoder, and a search from its codes beats that.
    assert distilled["copy"] <= own["copy"] + 0.8, found
    assert distilled["refined"] < own["copy"], found
    # The bars keep out what has learned nothing.
    assert by_chance["semantic"] < 0.05
    assert by_chance["levels"] > own["levels"] + 2
    assert by_chance["refined"] > 2 * own["copy"]


FACTS = EncoderFacts(origin="other")
