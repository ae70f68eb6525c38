"""A training goes on to the bit, falls back from what is no number, ends when it gets no better, and refuses others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import TINY
from voxtral.cloning import trainer as trainer_module
from voxtral.cloning.distil import Distiller, Pairs, StepResult
from voxtral.cloning.plan import RunSize
from voxtral.cloning.state import STATE_FILE, Standing, load_state
from voxtral.cloning.trainer import Column, Score, Trained, Trainer, TrainingProgress
from voxtral.errors import TrainingError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_codec

SIZE = RunSize(1.0, 1.0, rows=2, frames=2, steps=4, rate=1e-3)
STANDING = Standing("d", 0, 2, 2, 4, 30)


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Pairs, Column]:
    cpu = torch.device("cpu")
    model = load_codec(open_checkpoint(TINY), device=cpu, dtype=torch.float32, codec_dtype=torch.float32)
    books, generator = model.config.codebooks, torch.Generator().manual_seed(0)
    codes = torch.randint(books.acoustic_size, (books.num_codebooks, 30), generator=generator)
    column = Column.make(distiller_of(model), [codes[:, :6], codes[:, 6:8]], 4)
    assert column is not None
    return model, Pairs([codes]), column


def distiller_of(model: Any) -> Distiller:
    return Distiller(model.config, model.codec, torch.ones(8192), 480, is_half=False)


Make = Callable[..., Trainer]


@pytest.fixture(autouse=True)
def as_with_old_torch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use AdamW alone, as before torch 2.9, which takes half the time; one test has both."""
    if "both_optimisers" not in request.fixturenames:
        monkeypatch.delattr(torch.optim, "Muon", raising=False)


@pytest.fixture
def both_optimisers() -> None:
    """Use what this torch has."""


@pytest.fixture
def make(parts: tuple[Any, Pairs, Column]) -> Make:
    model, pairs, _ = parts

    def made(folder: Path, *, size: RunSize = SIZE, standing: Standing = STANDING, **options: Any) -> Trainer:
        folder.mkdir(exist_ok=True)
        return Trainer(distiller_of(model), pairs, size, standing, folder, **options)

    return made


def weights(trained: Trained) -> torch.Tensor:
    return torch.cat([value.flatten() for value in trained.encoder.parameters()])


@pytest.mark.usefixtures("both_optimisers")
def test_a_training_that_is_stopped_goes_on_to_the_bit(make: Make, tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    whole = make(tmp_path / "whole").run(seen.append)
    assert [each.step for each in seen] == [1, 2, 3, 4]
    assert whole.ending == "done"
    assert seen[-1].fraction == 1
    # The last part compares sound, too.
    assert [each.last.sound > 0 for each in seen] == [False] * 3 + [True]
    steps: list[int] = []
    for _ in range(2):  # each does two steps
        before = len(steps)
        part = make(tmp_path / "parts").run(
            lambda progress: steps.append(progress.step), lambda before=before: len(steps) >= before + 2
        )
    assert steps == [1, 2, 3, 4]
    assert torch.equal(weights(part), weights(whole))
    assert replace(part.standing, seconds=0) == replace(whole.standing, seconds=0)
    # Once over it does nothing more.
    assert torch.equal(weights(make(tmp_path / "parts").run(seen.append)), weights(whole))
    assert len(seen) == 4
    assert not list((tmp_path / "parts").glob(".voxtral*"))


def test_a_column_counts_frames_and_no_more(parts: tuple[Any, Pairs, Column]) -> None:
    model, _, column = parts
    assert column.is_frame.sum(1).tolist() == [4, 1]
    distiller = distiller_of(model)
    found = distiller.decoder.quantizer.latent_to_codes(model.codec_encoder(column.samples))
    right = [bool(found[0, 0, n] == column.codes[0, 0, n]) for n in range(4)] + [
        bool(found[1, 0, 0] == column.codes[1, 0, 0])
    ]
    score = column.judge(distiller, model.codec_encoder)
    assert score.semantic == pytest.approx(sum(right) / 5)
    assert 0 < score.levels < 20
    assert Column.make(distiller, [column.codes[0, :, :1]], 4) is None


def test_the_state_is_written_now_and_then(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "_SECONDS_BETWEEN_SAVES", 0.0)
    stood: list[int] = []

    def look(progress: TrainingProgress) -> None:
        found = load_state(tmp_path)
        stood.append(0 if found is None else found[0].step)

    make(tmp_path, size=replace(SIZE, steps=3)).run(look)
    assert stood == [0, 1, 2]


def fail_at(trainer: Trainer, steps: list[int]) -> None:
    """Let some calls of a step find no number."""
    real, calls = trainer._distiller.add_gradients, iter(range(1000))

    def add_gradients(step: Any, rows: int) -> StepResult:
        result = real(step, rows)
        return replace(result, loss=float("nan")) if next(calls) in steps else result

    trainer._distiller.add_gradients = add_gradients  # type: ignore[method-assign]


def test_a_loss_that_is_no_number_goes_back_at_half_the_rate(make: Make, tmp_path: Path) -> None:
    make(tmp_path).run(should_stop=_after(2))
    trainer, said = make(tmp_path), []
    fail_at(trainer, [1, 3])
    trained = trainer.run(warn=said.append)
    assert trained.ending == "done"
    assert (trained.standing.scale, trained.standing.retries) == (0.25, 2)
    assert [message[:20] for message in said] == ["the loss of step 3 i", "the loss of step 3 i"]
    assert "going on from step 2 at 0.5 of the rate" in said[0]


def test_speech_takes_the_place_of_a_quarter_of_the_pairs(make: Make, tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    class Speech:
        def crops(self, seed: int, step: int, count: int, num_samples: int) -> Any:
            asked.append((step, count))
            return torch.randn(count, num_samples, generator=torch.Generator().manual_seed(step)).numpy() * 0.05

    size, standing = replace(SIZE, rows=12), replace(STANDING, rows=12)
    trainer = make(tmp_path, size=size, standing=standing, speech=Speech())
    seen: list[int] = []
    real = trainer._distiller.add_gradients

    def add_gradients(step: Any, rows: int) -> StepResult:
        seen.append(len(step.codes))
        assert len(step.kinds) == len(step.beside) == step.num_sounding + len(step.speech)
        return real(step, rows)

    trainer._distiller.add_gradients = add_gradients  # type: ignore[method-assign]
    assert trainer.run().ending == "done"
    assert seen == [12, 12, 12, 9]
    assert asked == [(3, 3)]


def test_once_too_often_is_an_error_and_the_state_is_sound(make: Make, tmp_path: Path) -> None:
    make(tmp_path).run(should_stop=_after(2))
    good = load_file(tmp_path / STATE_FILE)
    trainer = make(tmp_path)
    fail_at(trainer, list(range(100)))
    with pytest.raises(TrainingError, match=r"no finite number 4 times.*--seed"):
        trainer.run()
    assert all(torch.equal(value, good[name]) for name, value in load_file(tmp_path / STATE_FILE).items())


def test_from_the_beginning_where_nothing_was_written_yet(make: Make, tmp_path: Path) -> None:
    trainer = make(tmp_path)
    fail_at(trainer, [1])
    assert trainer.run(should_stop=_after(3)).standing.scale == 0.5


def test_it_ends_when_the_presets_get_no_better(make: Make, tmp_path: Path, parts: Any) -> None:
    class Stale(Column):
        def judge(self, distiller: Any, encoder: Any) -> Score:
            return Score(0.5, 1.0)

    size = replace(SIZE, steps=10)
    column = Stale(**vars(parts[2]))
    trained = make(tmp_path, size=size, presets=column, standing=replace(STANDING, steps=10)).run()
    assert trained.ending == "no better"
    # First seen at step 1, and a fifth of 10 later.
    assert (trained.standing.best_step, trained.standing.step) == (1, 3)
    assert trained.presets == Score(0.5, 1.0)


@pytest.fixture(scope="module")
def begun(parts: tuple[Any, Pairs, Column], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The state of a training that has made a step, with AdamW alone."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(torch.optim, "Muon", raising=False)
        Trainer(distiller_of(parts[0]), parts[1], SIZE, STANDING, folder).run(should_stop=_after(1))
    return (folder / STATE_FILE).read_bytes()


@pytest.mark.parametrize("field", ["decoder", "seed", "rows", "frames"])
def test_the_state_of_another_training_is_refused(make: Make, begun: bytes, tmp_path: Path, field: str) -> None:
    (tmp_path / STATE_FILE).write_bytes(begun)
    other: Any = "e" if field == "decoder" else 9
    with pytest.raises(TrainingError, match=f"another {field}"):
        make(tmp_path, standing=replace(STANDING, **{field: other})).run()


def test_more_steps_go_on_and_are_said(make: Make, tmp_path: Path) -> None:
    short, long = (replace(SIZE, steps=steps) for steps in (1, 2))
    make(tmp_path, size=short, standing=replace(STANDING, steps=1)).run()
    said: list[str] = []
    trained = make(tmp_path, size=long, standing=replace(STANDING, steps=2)).run(warn=said.append)
    assert (trained.ending, trained.standing.step) == ("done", 2)
    assert said == ["the training was begun for 1 steps and now has 2"]


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a pickle": lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR."),
    "no standing": lambda path: save_file(load_file(path), path, {"format": "voxtral-train-state-1"}),
    "another format": lambda path: save_file(load_file(path), path, {"format": "x", "standing": "{}"}),
    "a standing of other kinds": lambda path: save_file(
        load_file(path), path, {"format": "voxtral-train-state-1", "standing": '{"decoder": 1, "seed": "0"}'}
    ),
    "no weights": lambda path: _drop(path, "encoder."),
    "no mean": lambda path: _drop(path, "mean."),
    "no sharpness": lambda path: _drop(path, "log_sharpness"),
    "half of an optimiser": lambda path: _drop(path, "optimiser.0.3."),
}


def _drop(path: Path, prefix: str) -> None:
    found = load_state(path.parent)
    assert found is not None
    standing, tensors = found
    kept = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    trainer_module.save_state(path.parent, standing, kept)


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_state_is_refused_and_never_unpickled(make: Make, begun: bytes, tmp_path: Path, kind: str) -> None:
    (tmp_path / STATE_FILE).write_bytes(begun)
    DAMAGE[kind](tmp_path / STATE_FILE)
    with pytest.raises(TrainingError):
        make(tmp_path).run()


def test_a_disk_that_is_full_leaves_the_old_state(
    make: Make, begun: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / STATE_FILE).write_bytes(begun)

    def refuse(tensors: Any, path: Path, header: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("voxtral.cloning.state.save_file", refuse)
    with pytest.raises(TrainingError, match="No space left"):
        make(tmp_path).run(should_stop=_after(1))
    assert (tmp_path / STATE_FILE).read_bytes() == begun
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def _after(steps: int) -> Callable[[], bool]:
    calls = iter(range(1000))
    return lambda: next(calls) >= steps
