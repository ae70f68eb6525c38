"""The search for codes: through the decoder as it is, in slices, the same every time, and over when it should be."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from checkpoints import TINY, strip_encoder
from spoken_clips import spoken
from voxtral.audio.reference import read_reference
from voxtral.cloning import search as search_module
from voxtral.cloning.codes import codes_of_rows
from voxtral.cloning.lateness import find_lateness
from voxtral.cloning.options import RefineOptions, RefineProgress, parse_refine
from voxtral.cloning.pitch import measure_pitch, places_of_steps
from voxtral.cloning.prior import CodePrior, as_levels
from voxtral.cloning.refine import Refined, Speechlike, refine_codes
from voxtral.cloning.search import CodeSearch, study_presets
from voxtral.cloning.spectra import SpectralDistance, pitch_distance
from voxtral.errors import EncoderMissingError, NumericsError, OptionError, ReferenceAudioError
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.load import load_codec
from voxtral.model.source import Pitch
from voxtral.model.voxtral import CodecModel
from voxtral.speech.codec import open_codec

T = TypeVar("T")

CPU = torch.device("cpu")
LEVELS = 21


@pytest.fixture(scope="module")
def model() -> CodecModel:
    return load_codec(open_checkpoint(TINY), device=CPU, dtype=torch.float32, codec_dtype=torch.float32)


@pytest.fixture(scope="module")
def source_model(source_filter_checkpoint: Checkpoint) -> CodecModel:
    dtype = torch.float32
    return load_codec(source_filter_checkpoint, device=CPU, dtype=dtype, codec_dtype=dtype)


def draw_codes(model: CodecModel, num_frames: int, seed: int = 0) -> Tensor:
    books, generator = model.config.codebooks, torch.Generator().manual_seed(seed)
    semantic = torch.randint(books.semantic_size, (1, num_frames), generator=generator)
    acoustic = torch.randint(books.acoustic_size, (books.num_acoustic, num_frames), generator=generator)
    return torch.cat((semantic, acoustic))


def result_of(work: Generator[Any, None, T]) -> T:
    """Run a generator to its end."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def run(
    model: CodecModel, clips: Sequence[Tensor], *, codes: Sequence[Tensor] | None = None, **options: Any
) -> list[Refined]:
    known = Speechlike((draw_codes(model, 30, seed=5),), None, 0, 0.0)
    known = replace(known, prior=CodePrior.fit(known.sequences, LEVELS))
    chosen = RefineOptions(**options)
    return result_of(refine_codes(model.codec, clips, known, chosen, chosen.steps or 10, codes))


def test_the_latent_decodes_to_the_samples_of_its_codes_and_has_a_gradient(model: CodecModel) -> None:
    codes = draw_codes(model, 30)[None]
    codec = model.codec
    latent = codec.quantizer.codes_to_latent(codes, codec.dtype).clone().requires_grad_(True)
    samples = codec.decode_latent(latent)
    assert torch.equal(samples.detach(), codec.decode(codes))
    samples.pow(2).sum().backward()
    assert latent.grad is not None
    direction = 1e-2 * torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ahead, behind = (codec.decode_latent(latent + sign * direction).double().pow(2).sum() for sign in (1, -1))
    slope = float((latent.grad * direction).sum())
    assert slope == pytest.approx(float(ahead - behind) / 2, rel=0.05)


def test_it_finds_its_way_back_to_codes_that_were_disturbed(model: CodecModel) -> None:
    true = draw_codes(model, 4)
    clip = model.decode_codes(true)
    noise = torch.randint(-3, 4, true.shape, generator=torch.Generator().manual_seed(2))
    noise[0] = 0
    start = (true + noise).clamp(min=0)
    start[1:] = start[1:].clamp(max=LEVELS - 1)
    (found,) = run(model, [clip], codes=[start], steps=25, pull=0.0, prior=0.0)
    assert found.distance < 0.75 * found.first
    assert torch.equal(found.codes[0], start[0])
    # What is told of the codes is true of them.
    distance = SpectralDistance(model.config.sample_rate)
    said, _ = distance(model.decode_codes(found.codes)[None], distance.spectra(clip[None]))
    assert float(said) == pytest.approx(found.distance, rel=1e-4)


def test_a_source_filter_head_is_searched_at_the_pitch_of_the_clip(source_model: CodecModel) -> None:
    clip = torch.from_numpy(spoken(0.5)).float()
    start = draw_codes(source_model, -(-len(clip) // 1920))
    codec = source_model.codec

    def off(codes: Tensor) -> float:
        """Give the octaves between what codes say and what the clip is."""
        said = codec.predict_pitch(codec.quantizer.codes_to_latent(codes[None], torch.float32))
        assert said is not None
        f0, gate = measure_pitch(clip.numpy(), 24000).at(places_of_steps(said.octaves.shape[1], 240))
        wanted = Pitch(torch.from_numpy(f0)[None].float(), torch.from_numpy(gate)[None].float())
        return float(pitch_distance(said, wanted, torch.ones_like(wanted.gate, dtype=torch.bool))[0])

    (found,) = run(source_model, [clip], codes=[start], steps=30, pull=0.0, prior=0.0)
    assert found.distance < found.first
    assert off(found.codes) < 0.8 * off(start)


def test_a_clip_of_a_source_gets_the_same_codes_whatever_lies_beside_it(source_model: CodecModel) -> None:
    clips = [source_model.decode_codes(draw_codes(source_model, frames, frames))[:-700] for frames in (4, 3)]
    together = run(source_model, clips, steps=4)
    for clip, found in zip(clips, together, strict=True):
        (alone,) = run(source_model, [clip], steps=4)
        assert (alone.codes == found.codes).float().mean() > 0.99
        assert alone.distance == pytest.approx(found.distance, rel=1e-3)


def test_a_search_on_an_engine_measures_the_pitch_of_its_clips(source_model: CodecModel) -> None:
    clip = source_model.decode_codes(draw_codes(source_model, 2))
    search = CodeSearch(Engine(source_model).call, list)
    (found,) = search.find([clip], RefineOptions(steps=2))
    assert found.codes.shape == (37, 2)
    (again,) = search.find([clip], RefineOptions(steps=2))
    assert torch.equal(found.codes, again.codes)


def test_a_clip_gets_the_same_codes_whatever_lies_beside_it(model: CodecModel) -> None:
    clips = [model.decode_codes(draw_codes(model, num_frames, num_frames))[:-700] for num_frames in (5, 3)]
    together = run(model, clips, steps=6, seed=3)
    for clip, found in zip(clips, together, strict=True):
        (alone,) = run(model, [clip], steps=6, seed=3)
        assert found.codes.shape == alone.codes.shape
        assert found.distance == pytest.approx(alone.distance, rel=1e-3)
        assert float((found.codes == alone.codes).float().mean()) > 0.98
    again = run(model, clips, steps=6, seed=3)
    assert all(torch.equal(one.codes, other.codes) for one, other in zip(together, again, strict=True))
    others = run(model, clips, steps=6, seed=4)
    assert not torch.equal(others[0].codes, together[0].codes)


def test_the_best_of_several_starts_goes_on(model: CodecModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxtral.cloning.refine._TRIAL_STEPS", 2)
    clips = [model.decode_codes(draw_codes(model, 3, seed)) for seed in (1, 2)]
    found = run(model, clips, steps=4, starts=3)
    assert [each.steps for each in found] == [4, 4]
    assert all(each.codes.shape == (37, 3) for each in found)


def test_it_ends_where_steps_bring_nothing(model: CodecModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxtral.cloning.refine._PATIENCE", 3)
    monkeypatch.setattr("voxtral.cloning.refine._LEAST_GAIN", 0.9)
    (found,) = run(model, [model.decode_codes(draw_codes(model, 2))], steps=50)
    assert found.steps == 4


def test_a_step_that_is_no_number_leaves_the_best_so_far(model: CodecModel, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = model.decode_codes(draw_codes(model, 2))
    count = 0
    whole = SpectralDistance.forward

    def forward(self: SpectralDistance, *args: Any) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += 1
        distance, mel = whole(self, *args)
        return (distance * torch.nan if count >= limit else distance), mel

    monkeypatch.setattr(SpectralDistance, "forward", forward)
    limit = 4
    (found,) = run(model, [clip], steps=10)
    assert found.steps == 4
    assert found.distance > 0
    limit = count = 0
    with pytest.raises(NumericsError, match="not finite"):
        run(model, [clip], steps=10)


def test_weights_in_16_bits_or_made_in_inference_mode_have_a_gradient_too() -> None:
    with torch.inference_mode():
        model = load_codec(open_checkpoint(TINY), device=CPU, dtype=torch.bfloat16, codec_dtype=torch.bfloat16)
        clip = model.decode_codes(draw_codes(model, 2)).clone()
    assert all(parameter.is_inference() for parameter in model.codec.parameters())
    (found,) = run(model, [clip.clone()], steps=3)
    assert found.steps == 3
    assert model.codec.dtype is torch.bfloat16


def test_rows_come_apart_into_their_codes(model: CodecModel) -> None:
    codes = draw_codes(model, 12)
    generator = torch.Generator().manual_seed(0)
    wide = torch.nn.Parameter(torch.randn(model.audio_embeddings.weight.shape[0], 512, generator=generator))
    other = load_codec(open_checkpoint(TINY), device=CPU, dtype=torch.float32, codec_dtype=torch.float32)
    other.audio_embeddings.weight = wide
    rows = other.embed_codes(codes)[:-1].detach()
    found, came_out = codes_of_rows(rows.bfloat16(), other)
    assert bool(came_out.all())
    assert torch.equal(found, codes)
    _, came_out = codes_of_rows(torch.randn(rows.shape, generator=generator), other)
    assert not came_out.any()


def test_the_prior_knows_codes_of_its_kind() -> None:
    generator = torch.Generator().manual_seed(0)
    walk = torch.zeros(37, 1200)
    for step in range(1, 1200):
        walk[:, step] = 0.9 * walk[:, step - 1] + torch.randn(37, generator=generator)
    walk = (1.5 * walk + 10).round().clamp(0, 20).long()
    prior = CodePrior.fit([walk[:, :1000]], LEVELS)
    assert prior is not None
    same = as_levels(walk[1:, 1000:], LEVELS).T[None]
    frames = torch.ones(1, 200, dtype=torch.bool)
    mixed = same[:, torch.randperm(200, generator=generator)]
    assert float(prior.distance(mixed, frames)) > 1.5 * float(prior.distance(same, frames))
    assert CodePrior.fit([walk[:, :1]], LEVELS) is None


def test_the_lateness_of_a_decoder_that_says_nothing_is_unknown(model: CodecModel) -> None:
    lateness, told = result_of(find_lateness(model.codec, [draw_codes(model, 20)], LEVELS))
    assert lateness == 0
    assert told < 0.3


class Engine:
    """Runs functions in a thread of its own, in inference mode, and counts them."""

    def __init__(self, model: CodecModel) -> None:
        self.model = model
        self.modes: list[tuple[bool, bool]] = []

    def call(self, function: Any) -> Any:
        results: list[Any] = []

        def work() -> None:
            with torch.inference_mode():
                try:
                    results.append(function(self.model))
                except Exception as error:  # noqa: BLE001 - it is the caller's
                    results.append(error)
                self.modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]


def test_a_search_runs_in_slices_and_leaves_the_thread_as_it_was(
    model: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "_SLICE_S", 0.0)
    engine = Engine(model)
    search = CodeSearch(engine.call, list)
    seen: list[RefineProgress] = []
    clip = model.decode_codes(draw_codes(model, 2))
    (found,) = search.find([clip], RefineOptions(steps=5), on_progress=seen.append)
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5]
    assert seen[-1].fraction == 1.0
    assert found.steps == 5
    assert len(engine.modes) >= 6
    assert set(engine.modes) == {(True, False)}


def test_what_the_callback_raises_ends_a_search(model: CodecModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "_SLICE_S", 0.0)
    engine = Engine(model)
    search = CodeSearch(engine.call, list)
    clip = model.decode_codes(draw_codes(model, 2))

    def stop(progress: RefineProgress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.find([clip], RefineOptions(steps=1000), on_progress=stop)
    assert len(engine.modes) < 10


def test_an_optimiser_is_first_made_where_nobody_waits(model: CodecModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first one of a process torch imports for a second."""
    threads: list[threading.Thread] = []

    class Adam(torch.optim.Adam):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            threads.append(threading.current_thread())
            super().__init__(*arguments, **options)

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    with torch.inference_mode():
        CodeSearch(Engine(model).call, list).find([model.decode_codes(draw_codes(model, 2))], RefineOptions(steps=1))
    assert threads[0] is threading.current_thread()
    assert threads[-1] is not threads[0]


def test_the_study_of_presets_can_be_ended_too(model: CodecModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "_SLICE_S", 0.0)
    engine = Engine(model)
    search = CodeSearch(engine.call, lambda: [torch.randn(3, model.config.backbone.dim)] * 3)
    clip = model.decode_codes(draw_codes(model, 2))
    seen: list[RefineProgress] = []

    def stop(progress: RefineProgress) -> None:
        seen.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.find([clip], RefineOptions(steps=5), on_progress=stop)
    assert [(progress.step, progress.fraction, progress.left_s) for progress in seen] == [(0, 0.0, 0.0)]
    assert len(engine.modes) <= 3
    # The next one studies them anew.
    search.find([clip], RefineOptions(steps=1), on_progress=seen.append)
    assert [progress.step for progress in seen][-1] == 1


def test_presets_of_another_layout_tell_nothing(model: CodecModel) -> None:
    rows = torch.randn(3, 8, model.config.backbone.dim)
    known = result_of(study_presets(model, list(rows)))
    assert (known.sequences, known.prior, known.lateness) == ((), None, 0)


@pytest.mark.parametrize("refine", ["yes", 0, -1, 10**6, 1.5, [3]])
def test_what_is_no_choice_is_refused(refine: Any) -> None:
    with pytest.raises(OptionError, match="refine"):
        parse_refine(refine)


@pytest.mark.parametrize(
    "options",
    [{"seed": -1}, {"starts": 0}, {"learning_rate": float("nan")}, {"prior": -1}, {"pull": "x"}, {"steps": True}],
)
def test_options_have_bounds(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        RefineOptions(**options)


def test_a_voice_is_made_without_an_encoder(tmp_path: Path) -> None:
    folder = strip_encoder(TINY, tmp_path / "tiny")
    clip = spoken(1.2)
    said: list[str] = []
    with open_codec(folder, device="cpu", announce=said.append) as codec:
        with pytest.raises(EncoderMissingError, match=r"--encoder FILE.*--refine"):
            codec.create_voice((clip, 24_000))
        voice = codec.create_voice((clip, 24_000), "me", {"consent": "mine"}, refine=5)
        assert voice.codes is not None
        assert voice.rows.shape[0] == voice.codes.shape[1] + 1 == 16
        assert voice.metadata["refine_steps"] == "5"
        assert voice.metadata["consent"] == "mine"
        assert voice.report is not None
        assert voice.report.steps == 5
        again = codec.create_voice((clip, 24_000), "other", refine=5)
        assert (again.name, again.codes is voice.codes) == ("other", True)
        assert len(said) <= 1
        # What was prepared elsewhere is searched for as it is, and not kept.
        prepared = read_reference((clip, 24_000), sample_rate=24_000, max_s=16)
        others = [codec.create_voice(prepared, refine=4, warn=said.append) for _ in range(2)]
        assert others[0].codes is not others[1].codes
        assert torch.equal(others[0].rows, codec.create_voice((clip, 24_000), refine=4).rows)
        with pytest.raises(ReferenceAudioError, match="prepare it"):
            codec.create_voice(replace(prepared, sample_rate=16_000), refine=4)


@pytest.mark.slow
def test_what_the_presets_of_nano_tell() -> None:
    with open_codec("nano", device="cpu") as codec:
        rows = [codec.load_voice(voice.name).rows[:-1] for voice in codec.voices]
        known = codec.run(lambda model: result_of(study_presets(model, rows)))
    assert len(known.sequences) == len(rows)
    assert sum(codes.shape[1] for codes in known.sequences) == sum(map(len, rows))
    assert known.lateness == 480  # train.codec.DELAY
