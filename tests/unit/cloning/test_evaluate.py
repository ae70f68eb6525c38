"""The comparison of ways to make voices: its rows, going on after a stop, and what the report says and keeps to itself.

Codec and search are real, at the sizes of tiny; who speaks is a fake that says what a voice's rows were made of.
`tests/soak/test_clone_bars.py` holds the figures of nano.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from checkpoints import TINY, tiny_tensors
from spoken_clips import RATE, spoken_file
from train.texts import LANGUAGES
from voxtral.audio.reference import LEVEL_DB
from voxtral.cloning import evaluate as evaluate_module
from voxtral.cloning.codes import codes_of_rows
from voxtral.cloning.evaluate import Evaluation, EvaluationOptions, Ways, identity, random_encoder
from voxtral.cloning.kept import Kept
from voxtral.cloning.report import (
    ANOTHER,
    ENCODER,
    FORMAT,
    INVERSION,
    NEAREST,
    ONE_FRAME,
    OWN,
    RANDOM,
    REFINED,
    TRUE,
    make_report,
    write_table,
)
from voxtral.cloning.subjects import Subject, find_people, read_people
from voxtral.cloning.survey import JITTERS, RANDOM_SEMANTICS, count_entries, look_at_rows, measure_level, try_tolerance
from voxtral.cloning.talk import Talker, sentences_for
from voxtral.doctor.cloning import judge_lateness, judge_level, judge_rows, judge_semantics, judge_tolerance
from voxtral.errors import NumericsError, OptionError, ReferenceAudioError, VoiceError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_codec, open_tokenizer
from voxtral.model.voxtral import CodecModel
from voxtral.types import AudioChunk
from voxtral.voices.presets import VoiceInfo
from voxtral.voices.prompt import VoicePrompt

CPU = torch.device("cpu")
LEARNED = Path(__file__).parents[3] / "src" / "voxtral" / "cloning" / "texts"
NUM_PRESETS, NUM_FRAMES = 6, 5


@pytest.fixture(scope="module")
def model() -> CodecModel:
    loaded = load_codec(open_checkpoint(TINY), device=CPU, dtype=torch.float32, codec_dtype=torch.float32)
    # Rows of the width of tiny are too short to come apart into so many codes.
    width, num_rows = 256, len(loaded.audio_embeddings.weight)
    table = torch.randn(num_rows, width, generator=torch.Generator().manual_seed(0))
    loaded.audio_embeddings.weight = torch.nn.Parameter(table, requires_grad=False)
    return loaded


class Handle:
    """A generation that is done: chunks and how it stopped."""

    def __init__(self, samples: np.ndarray, stop: str | None) -> None:
        self.stop = stop
        self._samples = samples

    def chunks(self) -> Iterator[AudioChunk]:
        yield AudioChunk(self._samples, RATE)
        if self.stop is None:
            raise NumericsError("a value is not finite")

    def cancel(self) -> None:
        pass


class Engine:
    """Says whatever the rows of a voice decode to."""

    max_batch = 3

    def __init__(self, model: CodecModel) -> None:
        self._model = model
        self.num_said = 0
        self.stops: list[str | None] = ["end"]
        self._codes: dict[str, Tensor] = {}

    def submit(self, request: Any, *, trace: Any = None) -> Handle:
        self.num_said += 1
        if request.voice_key not in self._codes:
            self._codes[request.voice_key] = codes_of_rows(request.voice_rows[:-1], self._model)[0]
        codes = self._codes[request.voice_key]
        if trace is not None:
            trace.audio_tokens += [*(codes.T + 2), torch.ones(len(codes), dtype=torch.int64)]
        return Handle(self._model.decode_codes(codes).numpy(), self.stops[self.num_said % len(self.stops)])

    def call(self, function: Callable[[CodecModel], Any]) -> Any:
        with torch.inference_mode():
            return function(self._model)


class Bands:
    """A measure that costs nothing: the power in a few bands."""

    name = "bands"

    def embed(self, samples: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(samples[:4096], 4096))[1:] ** 2
        return np.log(power.reshape(16, -1).mean(1) + 1e-6)

    def likeness(self, first: np.ndarray, second: np.ndarray) -> float:
        return 1.0 / (1.0 + float(np.linalg.norm(first - second)))


class Library:
    """Presets of random codes, whose rows come apart."""

    def __init__(self, model: CodecModel, count: int = NUM_PRESETS, noise: float = 0.0) -> None:
        self._voices: dict[str, VoicePrompt] = {}
        for number in range(count):
            codes = draw_codes(model, NUM_FRAMES, number)
            rows = model.embed_codes(codes)
            rows = rows + noise * torch.randn(rows.shape, generator=torch.Generator().manual_seed(number))
            self._voices[f"v{number}"] = VoicePrompt(f"v{number}", rows)

    def describe(self) -> tuple[VoiceInfo, ...]:
        return tuple(VoiceInfo(name, "en", is_default=False) for name in self._voices)

    def load(self, voice: Any) -> VoicePrompt:
        return self._voices[voice]


def draw_codes(model: CodecModel, num_frames: int, seed: int) -> Tensor:
    books, generator = model.config.codebooks, torch.Generator().manual_seed(seed)
    semantic = torch.randint(books.semantic_size, (1, num_frames), generator=generator)
    # Near a place of its own, so that each sounds like somebody.
    place = torch.randint(books.acoustic_size, (books.num_acoustic, 1), generator=generator)
    acoustic = place + torch.randint(-2, 3, (books.num_acoustic, num_frames), generator=generator)
    return torch.cat((semantic, acoustic.clamp(0, books.acoustic_size - 1)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence and one step."""
    monkeypatch.setattr(evaluate_module, "_FAST", (4, 1, 1))
    monkeypatch.setattr(evaluate_module, "STEPS_FROM_ENCODER", 1)


def talker_of(model: CodecModel, engine: Engine) -> Talker:
    return Talker(model.config, open_tokenizer(open_checkpoint(TINY)), cast(Any, engine))


def evaluate(
    model: CodecModel,
    *,
    engine: Engine | None = None,
    library: Library | None = None,
    ways: Ways | None = None,
    people: list[Subject] | None = None,
    kept: Kept | None = None,
    told: list[tuple[float, str]] | None = None,
) -> dict[str, Any]:
    talker = talker_of(model, engine or Engine(model))
    evaluation = Evaluation(
        talker,
        cast(Any, library or Library(model)),
        ways or Ways(model.codec_encoder, None),
        [Bands()],
        EvaluationOptions(fast=True),
        people,
        kept or Kept(None, {}),
        (lambda fraction, what: None) if told is None else (lambda fraction, what: told.append((fraction, what))),
    )
    return make_report(evaluation.run(), {"model": {"name": "tiny"}})


def make_people(folder: Path, count: int = 4) -> Path:
    for number in range(count):
        person = folder / f"Secret Name {number}"
        person.mkdir(parents=True)
        for clip in range(2):
            data = spoken_file(1.2, hz=100.0 + 30 * number, seed=clip)
            (person / f"{clip}.wav").write_bytes(data)
    return folder


def test_controls_of_presets_are_what_they_are_known_to_be(model: CodecModel, small: None) -> None:
    told: list[tuple[float, str]] = []
    report = evaluate(model, told=told)
    rows = report["rows"]
    assert list(rows) == [ENCODER, REFINED, INVERSION, TRUE, NEAREST, ANOTHER, ONE_FRAME, RANDOM]
    assert rows[TRUE]["agreement"] == {"semantic": 1.0, "levels": 0.0, "mahalanobis": 1.0, "row_norm": 1.0}
    assert rows[RANDOM]["agreement"]["semantic"] < 0.1
    assert rows[NEAREST]["agreement"] == {}
    assert rows[TRUE]["copy"]["distance"] < min(
        rows[row]["copy"]["distance"] for row in (NEAREST, ANOTHER, ONE_FRAME, RANDOM)
    )
    # Who says what the true rows decode to is the voice itself.
    assert rows[TRUE]["clone"]["right"] == {"bands": 1.0}
    assert rows[TRUE]["clone"]["n"] == report["n"] == 4
    assert rows[NEAREST]["clone"]["right"]["bands"] <= 0.5
    assert rows[RANDOM]["clone"] is None
    assert rows[TRUE]["clone"]["ended"] == 1.0
    assert rows[TRUE]["ms_per_s"] is None
    assert rows[INVERSION]["ms_per_s"] > 0
    assert any("people are harder" in remark for remark in report["remarks"])
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    table = write_table(json.loads(json.dumps(report, allow_nan=False)))
    assert "SAME-OTHER" in table
    assert "differences below these mean nothing" in table
    assert [line.split("  ")[0] for line in table.splitlines()[2:10]] == list(rows)


def test_people_are_read_and_never_named(model: CodecModel, small: None, tmp_path: Path) -> None:
    people = read_people(find_people(make_people(tmp_path / "people")), RATE, "en")
    report = evaluate(model, people=people, ways=Ways(random_encoder(model, 5), model.codec_encoder))
    assert TRUE not in report["rows"]
    # One that has learned nothing agrees with nothing, and the one that the model holds has a row of its own.
    assert report["rows"][ENCODER]["agreement"]["semantic"] < 0.1
    assert OWN in report["rows"]
    assert report["setting"]["of"] == "people"
    assert report["setting"]["voices"] == 4
    text = json.dumps(report) + write_table(report)
    assert "Secret" not in text
    assert str(tmp_path) not in text
    assert not any("harder" in remark for remark in report["remarks"])
    # Codes are still compared on presets, whose true codes are known.
    assert report["rows"][ENCODER]["agreement"]["row_norm"] > 0


def test_what_does_not_end_or_breaks_the_model_is_a_finding(model: CodecModel, small: None) -> None:
    engine = Engine(model)
    # A budget that ran out, a value that is not finite, and two that are well.
    engine.stops = ["length", None, "end", "end"]
    report = evaluate(model, engine=engine, ways=Ways(None, None))
    assert report["rows"][TRUE]["clone"]["ended"] == 0.5
    assert report["rows"][TRUE]["clone"]["length"] is not None


def test_presets_that_do_not_come_apart_say_a_sentence_instead(model: CodecModel, small: None) -> None:
    report = evaluate(model, library=Library(model, 4, noise=0.3), ways=Ways(None, None))
    assert any("do not come apart" in remark for remark in report["remarks"])
    assert any("the search knows their codes" in remark for remark in report["remarks"])
    assert report["rows"][TRUE]["agreement"]["semantic"] == 1.0


def test_too_few_presets_are_refused(model: CodecModel) -> None:
    with pytest.raises(VoiceError, match="it must have 4; name clips"):
        evaluate(model, library=Library(model, 3))


def test_it_goes_on_where_it_was_stopped(model: CodecModel, small: None, tmp_path: Path) -> None:
    facts = identity(EvaluationOptions(fast=True), {"model": "tiny"}, None)
    first, second = Engine(model), Engine(model)
    report = evaluate(model, engine=first, ways=Ways(None, None), kept=Kept(tmp_path / "work", facts))
    # Without an encoder the search and the controls are left.
    assert list(report["rows"]) == [INVERSION, TRUE, NEAREST, ANOTHER, ONE_FRAME, RANDOM]
    assert report["not_told_from"]["row"] == INVERSION
    assert report["level_followed"] is None
    assert report["format"] == FORMAT
    (tmp_path / "work").joinpath(next(tmp_path.glob("work/clones--true*")).name).unlink()
    again = evaluate(model, engine=second, ways=Ways(None, None), kept=Kept(tmp_path / "work", facts))
    assert again == report
    # What the voices are known by, and the sentence that was lost.
    assert second.num_said == 4 * 2 + 1 < first.num_said
    with pytest.raises(OptionError, match="parts of another evaluation \\(other in seed\\)"):
        Kept(tmp_path / "work", facts | {"seed": 1})


@pytest.mark.parametrize("damage", ["folder", "codes", "facts", "identity", "file"])
def test_a_folder_that_cannot_be_used_is_refused(damage: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    kept = Kept(work, {})
    kept.codes("a", lambda: ({"x": torch.zeros(1, 1)}, 1.0))
    kept.facts("b", lambda: 1)
    codes, facts = next(work.glob("*.safetensors")), next(work.glob("b*.json"))
    match damage:
        case "folder":
            facts.unlink()
            facts.mkdir()
        case "codes":
            codes.write_bytes(codes.read_bytes()[:-3])
        case "facts":
            facts.write_text("{")
        case "identity":
            (work / "identity.json").write_text("[")
        case _:
            work = tmp_path / "file"
            work.write_text("")

    def use() -> None:
        again = Kept(work, {})
        again.codes("a", lambda: ({}, 0.0))
        again.facts("b", lambda: 2)

    with pytest.raises(OptionError, match=r"--work: .* cannot be used"):
        use()


def test_clips_that_are_no_people_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be listed"):
        find_people(tmp_path / "none")
    with pytest.raises(OptionError, match="cannot be listed"):
        find_people(Path("a\0b"))
    few = make_people(tmp_path / "few", 3)
    (few / "alone").mkdir()
    (few / "alone" / "1.wav").write_bytes(spoken_file(1.2))
    (few / ".hidden").mkdir()
    with pytest.raises(OptionError, match=r"has 3 folders with 2 clips or more .* of 4 folders; it must have 4 people"):
        find_people(few)
    (few / "alone" / "2.wav").write_bytes(b"no audio")
    with pytest.raises(ReferenceAudioError, match=r"--clips: .*alone/2\.wav"):
        read_people(find_people(few), RATE, "en")


def test_sentences_are_there_for_every_language_and_were_never_learned() -> None:
    for language in LANGUAGES:
        sentences = sentences_for(language)
        assert sentences.language == language
        assert len(set(sentences.said)) == 20
        assert len(set(sentences.known) - set(sentences.said)) == 2
        learned = "\n".join(path.read_text(encoding="utf-8") for path in LEARNED.glob(f"{language}*"))
        assert learned
        assert not any(text in learned for text in (*sentences.said, *sentences.known))
    assert sentences_for("xx").language == "en"


# What `voxtral doctor --cloning` looks at.


def test_the_survey_finds_what_was_put_there(model: CodecModel) -> None:
    library, engine = Library(model), Engine(model)
    talker = talker_of(model, engine)
    rows = look_at_rows(model, library.load("v0"))
    assert (rows.frames, rows.share) == (NUM_FRAMES, 1.0)
    assert rows.residual < 0.01
    assert rows.end == pytest.approx(1.0)
    noisy = look_at_rows(model, Library(model, noise=0.3).load("v0"))
    assert noisy.share < 0.5
    presets = evaluate_module.read_presets(talker, cast(Any, library))
    found = [tolerance for tolerance, _ in try_tolerance(talker, presets, Bands())]
    assert [each.change for each in found] == [*(f"{jitter} levels" for jitter in JITTERS), RANDOM_SEMANTICS]
    assert found[0].length == found[0].ended == 1.0
    # Who is moved by five levels is another.
    assert found[3].same_minus_other < found[0].same_minus_other
    level = measure_level(presets, RATE)
    assert level.lowest <= level.mean <= level.highest
    entries = count_entries(open_checkpoint(TINY), [preset.codes for preset in presets])
    usage = tiny_tensors()["audio_tokenizer.quantizer.semantic_codebook.cluster_usage"]
    assert (entries.total, entries.unused) == (len(usage), int((usage < 1e-3).sum()))
    assert entries.heard == len(torch.cat([preset.codes[0] for preset in presets]).unique())


def test_the_doctor_says_what_figures_mean(model: CodecModel) -> None:
    rows = look_at_rows(model, Library(model).load("v0"))
    noisy = look_at_rows(model, Library(model, noise=0.3).load("v0"))
    assert judge_rows([rows]).status == "ok"
    assert judge_rows([noisy]).status == "warning"
    statuses = [judge_lateness(samples, told, 1920).status for samples, told in ((480, 0.6), (961, 0.6), (0, 0.0))]
    assert statuses == ["ok", "warning", "warning"]
    assert [judge_semantics(share).status for share in (0.3, 0.04)] == ["ok", "warning"]
    assert [judge_level(LEVEL_DB + off, 0, 0, 0).status for off in (3, 7, -7)] == ["ok", "warning", "warning"]


def test_the_doctor_says_how_exact_codes_must_be() -> None:
    from voxtral.cloning.survey import Tolerance

    good = Tolerance("0 levels", 8, 1.0, 1.0, 0.3)
    near, off = Tolerance("1 levels", 8, 1.0, 1.0, 0.28), Tolerance("5 levels", 8, 2.5, 0.4, 0.1)
    check = judge_tolerance([good, near, off], "x")
    assert (check.status, check.detail.rpartition("borne: ")[2]) == ("ok", "1 levels")
    assert judge_tolerance([good, off], "x").status == "warning"
    unsound = Tolerance("0 levels", 8, 1.0, 0.5, 0.3)
    assert judge_tolerance([unsound, near], "x").status == "warning"
