"""The codec in training is the codec of the runtime, and learns as it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from exported import Exported
from stand_in_teacher import STAND_IN
from train import codec as stage
from train.codec import CodecTraining, pitch_losses
from train.codec_network import SemanticCodebook, TrainableCodec, initialise, take_weights
from train.crops import DELAY, LABELS_PER_FRAME, Crop, Crops
from train.data import make_part, write_index
from train.discriminators import Discriminators
from train.loop import World, load_weights, save_weights
from train.shape import nano_config
from train.spectra import mel_filters
from train.speech import open_speech
from voxtral.cloning.pitch import measure_pitch, places_of_steps
from voxtral.cloning.start import make_optimisers
from voxtral.loading.files import WEIGHTS_FILE
from voxtral.model.source import Pitch

ALONE = World(0, 1, torch.device("cpu"))


def as_crop(samples: Tensor) -> Crop:
    """Take [B, S] for a crop that is to be said at once, with the pitch that is measured."""
    num_frames = samples.shape[1] // 1920
    places = places_of_steps(8 * num_frames, 240)
    read = [measure_pitch(row.numpy(), 24000).at(places) for row in samples]
    f0, gate = (torch.from_numpy(np.stack(column)).float() for column in zip(*read, strict=True))
    labels = torch.zeros(len(samples), num_frames, LABELS_PER_FRAME, dtype=torch.int64)
    return Crop(samples, samples, labels, Pitch(f0, gate))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A third of a minute of the stand-in teacher, in the folder `data` of a run."""
    folder = tmp_path_factory.mktemp("corpus") / "data"
    folder.mkdir()
    make_part(folder, 0, 20 / 3600, 1, source=STAND_IN, with_word_lists=False)
    write_index(folder, 1, source=STAND_IN)
    return folder


@torch.inference_mode()
def test_codes_are_those_of_the_runtime(exported: Exported, clip: Tensor) -> None:
    codec = exported.codec
    latent, values = codec.encode(clip[None])
    semantic = codec.codebook.nearest(latent)[0]
    levels = torch.round((torch.tanh(values[0]) + 1) * codec.half_levels).long()
    codes = exported.runtime.encode_audio(clip)
    assert codes.shape == (37, -(-len(clip) // 1920))
    assert semantic.unique().numel() > 5
    # Two ways to the nearest entry and level may part where they are equally near.
    assert (semantic == codes[0]).float().mean() > 0.97
    assert (codes[1:] == levels.T).float().mean() > 0.999


@torch.inference_mode()
def test_samples_are_those_of_the_runtime(exported: Exported, clip: Tensor) -> None:
    codec = exported.codec
    codes = exported.runtime.encode_audio(clip)
    semantic = F.embedding(codes[0], codec.codebook.table)[None]
    acoustic = (codes[1:].T / codec.half_levels - 1)[None]
    made = codec.decode(semantic, acoustic, None, 0)[0]
    wanted = exported.runtime.decode_codes(codes)
    assert made.shape == wanted.shape
    assert wanted.abs().max() > 1e-3
    assert torch.allclose(made, wanted, atol=1e-4 * float(wanted.abs().max()))


def test_the_head_starts_at_the_level_of_each_band_and_at_the_mean_pitch(clip: Tensor) -> None:
    torch.manual_seed(0)
    codec = TrainableCodec(nano_config())
    crop = as_crop(clip[None, : 1920 * 25])
    initialise(codec, crop)
    with torch.inference_mode():
        latent = codec.encode(crop.samples)
        made = codec.decode(*latent, crop.pitch, 0)[0]
        said = codec.predict_pitch(*latent).resolve()
    bands = mel_filters(20, 1024)

    def levels(signal: Tensor) -> Tensor:
        spectrum = torch.stft(signal, 1024, 240, window=torch.hann_window(1024), return_complex=True).abs()
        return (bands @ spectrum + 1e-3).log().mean(1)

    wanted = levels(crop.samples[0])
    assert wanted.max() - wanted.min() > 2, "speech is not white, so that the next line says something"
    assert (levels(made) - wanted).abs().mean() < 1.5
    assert torch.corrcoef(torch.stack((levels(made), wanted)))[0, 1] > 0.9
    voiced = crop.pitch.f0[crop.pitch.gate > 0.5]
    assert float(said.f0.log().mean()) == pytest.approx(float(voiced.log().mean()), abs=1e-3)


def test_a_crop_wants_what_was_heard_a_delay_ago(corpus: Path) -> None:
    crop = Crops(open_speech(corpus), 24).draw(4, [3])
    assert crop.samples.shape == crop.target.shape == (4, 24 * 1920)
    assert crop.labels.shape == (4, 24, 4)
    assert crop.pitch.f0.shape == crop.pitch.gate.shape == (4, 24 * 8)
    assert crop.samples.abs().max() > 0.01
    assert torch.equal(crop.samples[:, :-DELAY], crop.target[:, DELAY:])
    assert not torch.equal(crop.samples, crop.target)


@pytest.mark.parametrize("tape", [0.0, 1.0])
def test_the_pitch_of_a_crop_is_that_of_what_the_decoder_says(corpus: Path, tape: float) -> None:
    crops = Crops(open_speech(corpus), 24, tape=tape)
    crop = crops.draw(6, [1])
    for target, f0, gate in zip(crop.target, crop.pitch.f0, crop.pitch.gate, strict=True):
        curve = measure_pitch(target.numpy(), 24000)
        heard, heard_gate = (torch.from_numpy(x) for x in curve.at(places_of_steps(192, 240)))
        both = (gate > 0.9) & (heard_gate > 0.9)
        if both.sum() > 20:
            assert float((12 * torch.log2(f0 / heard)).abs()[both].median()) < 0.2


def test_the_same_seed_cuts_the_same_pieces_and_another_others(corpus: Path) -> None:
    crops = Crops(open_speech(corpus), 24, tape=0.5)
    first, again, other = (crops.draw(2, seed) for seed in ([1, 0, 5], [1, 0, 5], [1, 0, 6]))
    assert torch.equal(first.samples, again.samples)
    assert torch.equal(first.pitch.f0, again.pitch.f0)
    assert not torch.equal(first.samples, other.samples)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(
    corpus: Path, tmp_path: Path, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_FRAMES_PER_CROP", 8)

    def training(folder: Path) -> CodecTraining:
        if not folder.exists():
            folder.mkdir()
            save_weights(folder / "codec.safetensors", exported.codec.state_dict())
        arguments = [str(folder), "--data", str(corpus), "--steps", "40", "--batch", "1", "--mean"]
        return CodecTraining(ALONE, folder, stage.parse(arguments))

    def go_on(run: CodecTraining, num_steps: int) -> None:
        for _ in range(num_steps):
            run.step(run.standing.step / 40)
            run.standing.step += 1

    whole, first = training(tmp_path / "whole"), training(tmp_path / "parts")
    go_on(whole, 2)
    go_on(first, 1)
    first.save()
    go_on(first, 1)  # what comes after the last save is lost
    resumed = training(tmp_path / "parts")
    assert resumed.standing.step == 1
    go_on(resumed, 1)
    for name, value in whole.codec.state_dict().items():
        assert torch.equal(resumed.codec.state_dict()[name], value), name
    assert whole.mean is not None
    assert resumed.mean is not None
    assert all(torch.equal(*pair) for pair in zip(resumed.mean.means, whole.mean.means, strict=True))


def test_a_codec_begins_with_the_weights_that_fit(exported: Exported) -> None:
    tensors = load_file(exported.folder / WEIGHTS_FILE)
    codec = TrainableCodec(nano_config())
    before = codec.head.linear.weight.clone()
    del tensors["audio_tokenizer.output_proj.linear.weight"]
    tensors["audio_tokenizer.output_proj.linear.bias"] = torch.zeros(3)
    known = exported.codec.state_dict()
    count = take_weights(codec, tensors)
    changed = {name for name, value in codec.state_dict().items() if torch.equal(value, known[name])}
    # All but two of the head, two of the phonemes, and the table that follows from the codebook.
    assert count == len(known) - 5
    assert {"encoder.input_proj.linear.weight", "codebook.embedding_sum", "decoder.output_proj.pitch_in.bias"} < changed
    assert torch.equal(codec.head.linear.weight, before)


def test_an_empty_codebook_takes_its_entries_from_the_data() -> None:
    torch.manual_seed(0)
    codebook = SemanticCodebook(32, 8)
    latent = torch.randn(200, 8)
    codebook.update(latent, codebook.nearest(latent), ALONE, step=0)
    assert (torch.cdist(codebook.table, latent).min(1).values < 0.01).sum() >= 31
    assert codebook.nearest(latent).unique().numel() > 16


def test_the_codebook_moves_to_the_means_and_revives_dead_entries() -> None:
    torch.manual_seed(0)
    codebook = SemanticCodebook(2, 4)
    centres = torch.tensor([[4.0, 0, 0, 0], [0, 0, 0, -4.0]])
    for step in range(400):
        latent = centres.repeat(20, 1) + 0.1 * torch.randn(40, 4)
        codebook.update(latent, codebook.nearest(latent), ALONE, step)
    assert (torch.cdist(codebook.table, centres).min(0).values < 0.1).all()
    # All data moves away from one entry: after a while it is given data again.
    moved = centres[:1] + torch.tensor([[0.0, 3, 0, 0]])
    for step in range(600):
        latent = torch.cat((centres[:1].repeat(20, 1), moved.repeat(20, 1))) + 0.1 * torch.randn(40, 4)
        codebook.update(latent, codebook.nearest(latent), ALONE, step)
    assert (torch.cdist(codebook.table, torch.cat((centres[:1], moved))).min(0).values < 0.2).all()


def test_rounding_to_levels_has_the_gradient_of_the_identity() -> None:
    codec = TrainableCodec(nano_config())
    values = torch.linspace(-0.99, 0.99, 50, requires_grad=True)
    rounded = codec.quantise_acoustic(values)
    assert torch.allclose(rounded * 10, (rounded * 10).round(), atol=1e-5)
    assert (rounded - values).abs().max() <= 0.05 + 1e-6
    rounded.sum().backward()
    assert values.grad is not None
    assert (values.grad == 1).all()


def test_some_utterances_lose_all_their_acoustic_codes() -> None:
    torch.manual_seed(0)
    disturbed, is_kept = TrainableCodec(nano_config()).disturb(torch.full((400, 3, 36), 0.52), drop=0.35)
    is_lost = (disturbed == 0).flatten(1).all(1)
    assert torch.equal(is_lost, ~is_kept)
    assert 0.25 < is_lost.float().mean() < 0.45
    is_rounded = ((disturbed - 0.5).abs() < 1e-6).flatten(1).all(1)
    assert 0.2 < is_rounded.float().mean() < 0.45


@pytest.mark.parametrize("with_muon", [True, False])
def test_every_weight_has_one_optimiser(monkeypatch: pytest.MonkeyPatch, with_muon: bool) -> None:
    if not with_muon:
        monkeypatch.delattr(torch.optim, "Muon", raising=False)
    elif not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    codec = TrainableCodec(nano_config())
    optimisers = make_optimisers(codec, 1e-3)
    owned = [parameter for one in optimisers for group in one.param_groups for parameter in group["params"]]
    assert len(optimisers) == 1 + with_muon
    assert len(owned) == len({id(parameter) for parameter in owned}) == len(list(codec.parameters()))


def test_a_training_step_reaches_every_weight(clip: Tensor) -> None:
    torch.manual_seed(0)
    codec = TrainableCodec(nano_config())
    samples = clip[: 1920 * 24].expand(4, -1) * torch.linspace(0.5, 1, 4)[:, None]
    crop = as_crop(samples)
    initialise(codec, crop)
    # Of zeros they pass nothing on, as they do in the first step of all.
    torch.nn.init.normal_(codec.head.pitch_out.weight, std=0.01)
    latent = codec.encode(samples)[0].detach().flatten(0, 1)
    codec.codebook.update(latent, codec.codebook.nearest(latent), ALONE, step=0)
    output = codec(samples, crop.pitch, 0, training=True)
    assert output.samples.shape == samples.shape
    assert output.phoneme_logits is not None
    assert output.phoneme_logits.shape == (4, 24, 4, 256)
    octaves, voicing = pitch_losses(output, crop.pitch)
    loss = output.samples.pow(2).mean() + output.phoneme_logits.pow(2).mean() + output.commitment + octaves + voicing
    loss.backward()
    without = [name for name, value in codec.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert without == []


def test_the_discriminators_tell_the_codec_something_and_learn_themselves(clip: Tensor) -> None:
    torch.manual_seed(0)
    judges = Discriminators(ALONE, 1e-3)
    target = clip[:12000].expand(2, -1)
    weight = torch.full((1,), 0.5, requires_grad=True)
    before = [parameter.detach().clone() for parameter in judges.parameters()]
    loss = judges.generator_loss(target * weight + 0.05 * torch.randn_like(target), target)
    loss.backward()
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()
    assert weight.grad.abs() > 1e-4
    moved = [not torch.equal(old, new) for old, new in zip(before, judges.parameters(), strict=True)]
    assert all(moved)
    assert judges.generator_loss(target.clone(), target) == 0


def test_the_discriminators_learn_to_tell_noise_from_the_teacher(clip: Tensor) -> None:
    torch.manual_seed(0)
    judges = Discriminators(ALONE, 3e-3)
    target = clip[:9600].expand(2, -1)
    for _ in range(12):
        judges.generator_loss(torch.randn_like(target) * 0.1, target)
    with torch.no_grad():
        for member in judges.members:
            real, noise = member(target)[0], member(torch.randn_like(target) * 0.1)[0]
            assert real.mean() > noise.mean() + 0.3


@pytest.mark.skipif(torch.cuda.is_available(), reason="compares with a run on the CPU")
def test_training_the_decoder_alone_leaves_the_codes_as_they_are(
    tmp_path: Path, corpus: Path, exported: Exported
) -> None:
    before = exported.codec.state_dict()
    save_weights(tmp_path / "codec.safetensors", before)
    lengths = ["--steps", "1", "--batch", "1", "--processes", "1"]
    stage.main([str(tmp_path), "--data", str(corpus), "--decoder-only", *lengths])
    after = load_weights(tmp_path / "codec.safetensors")
    changed = {name.split(".")[0] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"decoder"}
    # A run that is over leaves no state, so that another has its whole length.
    assert not list(tmp_path.glob("*-state*"))
