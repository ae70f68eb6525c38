"""`voxtral evaluate-encoder` and `voxtral doctor --cloning` as their users know them, on the tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import BRIEF, strip_encoder
from spoken_clips import spoken_file
from voxtral.cli.main import run
from voxtral.cloning import evaluate as evaluate_module
from voxtral.cloning import talk
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.encoder_file import EncoderFacts, open_encoder, own_encoder, read_encoder, write_encoder

ON_BRIEF = ("--model", str(BRIEF), "--device", "cpu")

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run a command line where nothing of the person who runs the tests is found: exit code, output, errors."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def brief_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence of six frames and one step: random weights never end by themselves."""
    monkeypatch.setattr(talk, "_BASE_S", 0.48)
    monkeypatch.setattr(talk, "_PER_CHAR_S", 0.0)
    monkeypatch.setattr(evaluate_module, "_FAST", (4, 1, 1))
    monkeypatch.setattr(evaluate_module, "STEPS_FROM_ENCODER", 1)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    for number in range(4):
        folder = tmp_path / "people" / f"person {number}"
        folder.mkdir(parents=True)
        for clip in range(2):
            (folder / f"{clip}.wav").write_bytes(spoken_file(1.1, hz=100.0 + 25 * number, seed=clip))
    return tmp_path / "people"


@pytest.mark.slow
def test_an_encoder_of_a_file_is_judged_and_its_header_written_when_asked(
    cli: Cli, brief_speech: None, people: Path, tmp_path: Path
) -> None:
    model = strip_encoder(BRIEF, tmp_path / "model")
    checkpoint = open_checkpoint(model)
    encoder, out = tmp_path / "encoder.safetensors", tmp_path / "out.json"
    write_encoder(encoder, own_encoder(open_checkpoint(BRIEF)), checkpoint, EncoderFacts(origin="distilled", steps=7))
    before, tensors = encoder.read_bytes(), read_encoder(open_encoder(encoder, checkpoint), checkpoint)
    asked = ("evaluate-encoder", "--model", model, "--device", "cpu", "--encoder", encoder, "--clips", people, "--fast")
    code, shown, told = cli(*asked, "--json", out, "--work", tmp_path / "work")
    assert code == 0, told
    assert "this encoder + " in shown
    assert "100%" in told
    report = json.loads(out.read_text())
    assert report["encoder"]["origin"] == "distilled"
    assert report["encoder"]["steps"] == 7
    assert report["model"]["name"] == "a folder"
    assert str(tmp_path) not in out.read_text()
    # Nothing is written to a file unasked.
    assert encoder.read_bytes() == before
    code, again, told = cli(*asked, "--store", "--work", tmp_path / "work")
    assert code == 0, told
    assert again == shown
    stored = open_encoder(encoder, checkpoint)
    # The machine has other memory free by now.
    assert json.loads(stored.facts.report) | {"machine": None} == report | {"machine": None}
    assert (stored.facts.origin, stored.facts.steps) == ("distilled", 7)
    assert all(value.equal(tensors[name]) for name, value in read_encoder(stored, checkpoint).items())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--clips", "nowhere"), "--clips: nowhere cannot be listed"),
        (("--clips", "."), "it must have 4 people or more"),
        (("--json", "nowhere/out.json"), "its folder must exist"),
        (("--seed", "-1"), "--seed is -1"),
        (("--language", "klingon"), "klingon"),
        (("--encoder", "none.safetensors"), "none.safetensors is missing"),
        (("--store",), "got --store, and the encoder is not in a file of its own"),
        (("--ecapa", "nowhere"), "embedding_model.ckpt is missing"),
        ((), "the model has 2 presets that can be copied; it must have 4"),
    ],
    ids=["clips", "people", "json", "seed", "language", "encoder", "store", "ecapa", "presets"],
)
def test_what_cannot_be_done_is_said_in_a_line(
    cli: Cli, brief_speech: None, here: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, shown, told = cli("evaluate-encoder", *ON_BRIEF, *arguments)
    assert (code, shown) == (1, "")
    assert message in told.splitlines()[-1]
    assert list(here.iterdir()) == []


def test_the_doctor_looks_at_what_cloning_depends_on(cli: Cli, brief_speech: None) -> None:
    code, shown, _ = cli("doctor", *ON_BRIEF, "--cloning", "--json")
    assert code == 0
    lines = shown.splitlines()
    found = json.loads(lines[-1])
    # Rows as short as those of tiny do not come apart, and that is said.
    by_name = {check["name"]: check["status"] for check in found["checks"]}
    assert by_name["cloning, rows"] == "warning"
    names = ("rows", "lateness", "semantics", "level", "entries", "tolerance")
    assert {f"cloning, {name}" for name in names} <= set(by_name)
    assert set(found["cloning"]) == set(names)
    assert [row["change"] for row in found["cloning"]["tolerance"]][-1] == "random semantics"
    assert any(line.startswith("CODES OFF BY") for line in lines)


def test_a_look_that_fails_is_a_finding_and_not_the_end(
    cli: Cli, brief_speech: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no space")

    monkeypatch.setattr("voxtral.doctor.cloning.weigh_semantics", fail)
    code, shown, _ = cli("doctor", *ON_BRIEF, "--cloning", "--json")
    assert code == 1
    found = json.loads(shown.splitlines()[-1])
    assert {"name": "cloning", "status": "failed", "detail": "RuntimeError: no space"} in found["checks"]
    assert "rows" in found["cloning"]
    assert found["report"]
