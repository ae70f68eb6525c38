"""The phases of making an encoder: what each leaves, what it refuses, and what a command's judgement becomes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from checkpoints import TINY, strip_encoder
from voxtral.cloning import phases
from voxtral.cloning.pairs import Shard, settle_manifest, write_shard
from voxtral.cloning.phases import Work, encoder_parameters, evaluate, licence_of, prepare_folder, train, wait_for
from voxtral.cloning.plan import RunSize, plan_shards
from voxtral.cloning.refine import Speechlike
from voxtral.device import plan_compute
from voxtral.errors import DeviceError, TrainingError
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.encoder_file import EncoderFacts, find_encoder, open_encoder, own_encoder, write_encoder
from voxtral.loading.locate import locate_model
from voxtral.speech.codec import open_codec

SIZE = RunSize(0.001, 0.001, rows=2, frames=4, steps=2, rate=1e-3)


@pytest.fixture(scope="module")
def stripped(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Tiny without its encoder."""
    return open_checkpoint(strip_encoder(TINY, tmp_path_factory.mktemp("stripped") / "tiny"))


@pytest.fixture(autouse=True)
def unstudied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the presets of tiny, which are no sums of embeddings, tell nothing at once; tests/soak studies nano's."""

    def study(model: Any, rows: Any) -> Generator[None, None, Speechlike]:
        yield
        return Speechlike((), None, 0, 0.0)

    monkeypatch.setattr(phases, "study_presets", study)


def with_pairs(checkpoint: Checkpoint, tmp_path: Path) -> Work:
    work = Work(tmp_path / "work", tmp_path / "encoder.safetensors", SIZE, 0)
    prepare_folder(work, checkpoint.config)
    settle_manifest(work.folder, phases._manifest(checkpoint, 0, plan_shards(1.0, 12.5).shard_frames))
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(21, (37, 45), generator=generator)
    shard = Shard.empty(36, ("a",)).with_items(list(codes.split(15, dim=1)), [0, 0, 0], [20, 20, 20], 3)
    write_shard(work.folder, 0, shard)
    return work


def run_train(checkpoint: Checkpoint, work: Work, **options: Any) -> Any:
    compute = plan_compute("cpu", num_parameters=checkpoint.num_parameters)
    return train(checkpoint, compute, work, licence="Apache-2.0", **options)


def test_a_trained_encoder_is_one_that_the_model_takes(stripped: Checkpoint, tmp_path: Path) -> None:
    work, said = with_pairs(stripped, tmp_path), []
    trained = run_train(stripped, work, tell=said.append)
    assert trained.ending == "done"
    file = find_encoder(stripped, work.output)
    assert file is not None
    assert (file.facts.origin, file.facts.steps, file.facts.licence) == ("distilled", 2, "Apache-2.0")
    assert file.facts.hours == round(2 * 2 * 4 / 12.5 / 3600, 3)
    assert any("presets do not come apart" in line for line in said)
    assert any(line.startswith("warning: on pairs that were held out") for line in said)
    with open_codec(stripped.folder, device="cpu", encoder=work.output) as codec:
        assert codec.encoder_origin == "distilled"
        assert codec.encode((torch.randn(4800).numpy() * 0.1, 24000)).shape == (37, 3)


def test_nothing_is_written_where_it_was_stopped(stripped: Checkpoint, tmp_path: Path) -> None:
    work = with_pairs(stripped, tmp_path)
    assert run_train(stripped, work, should_stop=lambda: True).ending == "stopped"
    assert not work.output.exists()


def test_one_process_trains_in_a_folder(stripped: Checkpoint, tmp_path: Path) -> None:
    work = with_pairs(stripped, tmp_path)
    with FileLock(work.folder / "train.lock"), pytest.raises(TrainingError, match="another process trains"):
        run_train(stripped, work)


def test_a_budget_that_is_too_small_is_refused_before_a_step(stripped: Checkpoint, tmp_path: Path) -> None:
    work = with_pairs(stripped, tmp_path)
    with pytest.raises(DeviceError, match="a single row"):
        run_train(stripped, work, max_memory=10**6)
    said: list[str] = []
    need = phases.plan_training(stripped, plan_compute("cpu"), SIZE, 0.0, None)[1]
    run_train(stripped, work, max_memory=need.total(1), tell=said.append)
    assert any("1 at a time" in line for line in said)


def test_missing_shards_are_said_and_none_are_an_error(stripped: Checkpoint, tmp_path: Path) -> None:
    work = Work(tmp_path / "work", tmp_path / "encoder.safetensors", SIZE, 0)
    prepare_folder(work, stripped.config)
    with pytest.raises(TrainingError, match="--phase generate"):
        run_train(stripped, work)


def test_a_folder_of_another_model_is_refused(stripped: Checkpoint, tmp_path: Path) -> None:
    work = with_pairs(stripped, tmp_path)
    other = open_checkpoint(locate_model("nano", allow_download=False))
    with pytest.raises(TrainingError, match="another checkpoint"):
        run_train(other, work)


def test_what_a_killed_process_left_is_removed_later(stripped: Checkpoint, tmp_path: Path) -> None:
    import os

    work = with_pairs(stripped, tmp_path)
    old, new = work.folder / ".voxtral-0.part", work.folder / ".voxtral-1.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    prepare_folder(work, stripped.config)
    assert not old.exists()
    assert new.exists()


def test_a_disk_without_room_is_refused_before_any_work(
    stripped: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(phases.shutil, "disk_usage", lambda path: usage(10**12, 0, 10**6))
    with pytest.raises(TrainingError, match=r"0\.0 GB free"):
        prepare_folder(Work(tmp_path / "w", tmp_path / "e.safetensors", SIZE, 0), stripped.config)


def test_the_licence_is_that_of_the_model(stripped: Checkpoint, tmp_path: Path) -> None:
    nano = open_checkpoint(locate_model("nano", allow_download=False))
    assert licence_of(nano, nano) == "Apache-2.0"
    assert licence_of(open_checkpoint(strip_encoder(nano.folder, tmp_path / "nano")), nano) == "Apache-2.0"
    assert "Apache" not in licence_of(stripped, nano)

    class Large(Checkpoint):
        num_parameters = 4 * 10**9  # type: ignore[assignment]

    assert licence_of(Large(**vars(stripped)), nano).startswith("CC BY-NC 4.0 (derived from mistralai/")


def test_the_encoder_of_nano_has_as_many_parameters_as_its_class(stripped: Checkpoint) -> None:
    from voxtral.model.codec_encoder import CodecEncoder

    counted = sum(each.numel() for each in CodecEncoder(stripped.config.codec).parameters())
    assert encoder_parameters(stripped.config) == counted


# Evaluate.

STAND_IN = """
import json, pathlib, sys, time
arguments = sys.argv[1:]
target = pathlib.Path(arguments[arguments.index("--json") + 1])
content, code, seconds = arguments[0], int(arguments[1]), float(arguments[2])
time.sleep(seconds)
if content:
    target.write_text(content)
sys.exit(code)
"""


@pytest.fixture
def judged(stripped: Checkpoint, tmp_path: Path) -> Work:
    work = Work(tmp_path, tmp_path / "encoder.safetensors", SIZE, 0)
    facts = EncoderFacts(origin="distilled", steps=9, licence="Apache-2.0")
    write_encoder(work.output, own_encoder(open_checkpoint(TINY)), stripped, facts)
    return work


def stand_in(content: str, code: int = 0, seconds: float = 0.0) -> Sequence[str]:
    return [sys.executable, "-S", "-c", STAND_IN, content, str(code), str(seconds)]


def test_a_report_goes_into_the_header_and_changes_nothing_else(stripped: Checkpoint, judged: Work) -> None:
    before = open_encoder(judged.output, stripped)
    data = judged.output.read_bytes()[before.tensors[min(before.tensors)].start :]
    report = {"presets": {"semantic": 0.59}}
    assert evaluate(stripped, judged, stand_in(json.dumps(report)), lambda: False) == report
    after = open_encoder(judged.output, stripped)
    assert json.loads(after.facts.report) == report
    assert (after.facts.steps, after.decoder) == (9, before.decoder)
    assert judged.output.read_bytes().endswith(data[-1000:])
    assert sorted(path.name for path in judged.folder.iterdir()) == [judged.output.name]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [("{}", 3, "exit code 3"), ("", 0, "no report"), ("[]", 0, "no report"), ("{", 0, "no report")],
)
def test_a_judge_that_fails_leaves_the_file(
    stripped: Checkpoint, judged: Work, content: str, code: int, message: str
) -> None:
    before = judged.output.read_bytes()
    with pytest.raises(TrainingError, match=message):
        evaluate(stripped, judged, stand_in(content, code), lambda: False)
    assert judged.output.read_bytes() == before


def test_a_judge_that_is_not_there_is_an_error(stripped: Checkpoint, judged: Work) -> None:
    with pytest.raises(TrainingError, match="cannot be started"):
        evaluate(stripped, judged, ["/no/such/program"], lambda: False)


def test_a_judge_is_ended_when_told_to_stop(stripped: Checkpoint, judged: Work) -> None:
    assert evaluate(stripped, judged, stand_in("{}", seconds=60), lambda: True) is None
    assert open_encoder(judged.output, stripped).facts.report == ""


def test_a_process_is_not_left_alone() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])

    def fail() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for(process, fail)
    assert process.poll() is not None
