"""The language model in training computes what the runtime computes."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from exported import Exported
from golden.judge import PagedSequence
from train.examples import Example, ExampleSource, join_examples, lay_out, split_examples
from train.language_model import SpeechModel, compute_losses, predict_velocity, take_reading
from train.tokenizer import LetterTokenizer, build_vocabulary
from voxtral.config import END_AUDIO, NUM_SPECIAL_CODES
from voxtral.loading.inventory import AUDIO_EMBEDDINGS, TEXT_EMBEDDINGS
from voxtral.model.acoustic import embed_time
from voxtral.text.prompt import build_prompt
from voxtral.text.tokenizer import load_tokenizer

TOKENIZER = LetterTokenizer(build_vocabulary())


def make_example(text: str, num_frames: int, *, voice: int = 0, language: str = "en", seed: int = 0) -> Example:
    rng = np.random.default_rng(seed)
    codes = np.concatenate((rng.integers(0, 1024, (num_frames, 1)), rng.integers(0, 21, (num_frames, 36))), axis=1)
    ids, _ = TOKENIZER.encode(text)
    aligned = np.linspace(0, len(ids) - 1, num_frames).astype(np.int16)
    return Example(voice, language, ids, codes.astype(np.int16), aligned, np.ones((num_frames, 4), np.uint8))


@torch.inference_mode()
def test_hidden_states_are_those_of_the_runtime_with_a_cache(exported: Exported) -> None:
    torch.manual_seed(0)
    embeds = torch.randn(2, 40, 256)
    hidden, attention = exported.model.hidden_states(embeds)
    for row, wanted in zip(embeds, hidden, strict=True):
        sequence = PagedSequence(exported.runtime, 40)
        parts = [sequence.extend(part) for part in row.split([25, *[1] * 15])]
        assert torch.allclose(wanted, torch.cat(parts), atol=2e-4)
    assert attention.shape == (2, 2, 40, 40)
    assert torch.allclose(attention.sum(-1), torch.ones(2, 2, 40), atol=1e-5)
    assert attention.triu(1).abs().max() == 0


@torch.inference_mode()
def test_velocities_are_those_of_the_runtime(exported: Exported) -> None:
    torch.manual_seed(0)
    acoustic, runtime = exported.model.acoustic_transformer, exported.runtime.acoustic_transformer
    # An untrained model has zeros here, and every velocity would be zero.
    weights = torch.randn_like(acoustic.acoustic_codebook_output.weight)
    state, hidden, times = torch.randn(7, 36), torch.randn(7, 256), torch.rand(7)
    time_tokens = acoustic.time_projection(embed_time(times, acoustic.inverse_frequencies))
    before = acoustic.acoustic_codebook_output.weight, runtime.acoustic_codebook_output.weight
    try:
        acoustic.acoustic_codebook_output.weight = torch.nn.Parameter(weights)
        runtime.acoustic_codebook_output.weight = torch.nn.Parameter(weights)
        velocity = predict_velocity(acoustic, state, time_tokens, acoustic.llm_projection(hidden))
        for row in range(7):
            token = runtime.time_projection(embed_time(times[row : row + 1], runtime.inverse_frequencies))[0]
            llm_token = runtime.llm_projection(hidden[row : row + 1])
            wanted = runtime.velocity(state[row : row + 1], token, llm_token)
            assert wanted.abs().max() > 0.1
            assert torch.allclose(velocity[row : row + 1], wanted, atol=2e-4)
    finally:
        acoustic.acoustic_codebook_output.weight, runtime.acoustic_codebook_output.weight = before


@torch.inference_mode()
def test_a_sequence_is_the_prompt_of_the_runtime_and_then_its_frames(exported: Exported) -> None:
    text = "Guten Tag, मित्र! こんにちは 3"
    example, reference = make_example(text, 9, seed=1), make_example("x", 12, seed=2).codes
    shorter = (make_example("no", 3, seed=3), reference[:5])
    batch = lay_out([(example, reference), shorter], 37)
    prompt = build_prompt(load_tokenizer(exported.folder / "tekken.json"), text, len(reference) + 1)
    stop = len(prompt.token_ids)

    is_placeholder = torch.tensor(prompt.token_ids) == exported.runtime.config.audio_token_id
    assert torch.equal(batch.is_frame[0, :stop], is_placeholder)
    assert torch.equal(batch.text_ids[0, :stop][~is_placeholder], torch.tensor(prompt.token_ids)[~is_placeholder])

    rows = exported.runtime.embed_codes(torch.from_numpy(reference.T.astype(np.int64)))
    frames = exported.model.embed_frames(batch.frames[batch.is_frame])
    assert torch.allclose(frames[: len(rows)], rows, atol=1e-5)
    # Behind the prompt stand the frames that the runtime would feed back.
    spoken = torch.from_numpy(example.codes.astype(np.int64)) + NUM_SPECIAL_CODES
    assert torch.equal(batch.frames[0, stop : stop + 9], spoken)
    assert batch.is_frame[0, stop : stop + 9].all()
    assert not batch.is_frame[0, stop + 9 :].any()
    assert torch.allclose(frames[len(rows) : len(rows) + 9], exported.runtime.embed_frames(spoken), atol=1e-5)


def test_each_position_is_to_predict_what_follows_it(exported: Exported) -> None:
    example = make_example("abc", 5, seed=1)
    batch = lay_out([(example, make_example("x", 4).codes)], 37)
    stop = 2 + 4 + 1 + 1 + 3 + 2  # of the prompt
    target = batch.semantic_target[0].tolist()
    assert target[: stop - 1] == [-100] * (stop - 1)
    assert target[stop - 1 : stop + 4] == (example.codes[:, 0] + NUM_SPECIAL_CODES).tolist()
    assert target[stop + 4] == END_AUDIO
    assert set(target[stop + 5 :]) <= {-100}
    assert batch.is_speech[0].nonzero().flatten().tolist() == list(range(stop - 1, stop + 4))
    assert batch.acoustic_target[0, stop - 1 : stop + 4].tolist() == example.codes[:, 1:].tolist()
    aligned = batch.aligned[0, stop - 1 : stop + 4]
    assert batch.text_ids[0, aligned].tolist() == [example.text_ids[token] for token in example.aligned]


def test_a_padded_batch_costs_what_its_rows_cost(exported: Exported) -> None:
    pairs = [
        (make_example("one", 6, seed=1), make_example("x", 9, seed=2).codes),
        (make_example("a longer text", 11, seed=3), make_example("x", 20, seed=4).codes),
    ]
    with torch.inference_mode():
        together = compute_losses(exported.model, lay_out(pairs, 37), training=False)
        apart = [compute_losses(exported.model, lay_out([pair], 37), training=False) for pair in pairs]
    # Predictions: each frame, and the end.
    mean = (7 * apart[0].semantic + 12 * apart[1].semantic) / 19
    assert float(together.semantic) == pytest.approx(float(mean), rel=1e-4)
    # Untrained, all codes are about as likely; the flow predicts nothing of noise and data.
    assert 6.5 < float(together.semantic) < 7.5
    assert 1.0 < float(together.flow) < 2.0


def test_a_training_step_reaches_every_weight(exported: Exported) -> None:
    torch.manual_seed(0)
    pairs = [(make_example("some text", 12, seed=1), make_example("x", 20, seed=2).codes)]
    model = exported.model.train()
    try:
        losses = compute_losses(model, lay_out(pairs, 37), training=True)
        (losses.semantic + losses.flow + losses.guidance + losses.phonemes).backward()
        without = {name for name, value in model.named_parameters() if value.grad is None}
        assert without == set()
        # What leads to the zeros of the untrained output has a gradient of zero, all else has not.
        zero = {name for name, value in model.named_parameters() if value.grad is not None and not value.grad.any()}
        assert all(name.startswith("acoustic_transformer.") for name in zero)
        assert "acoustic_transformer.acoustic_codebook_output.weight" not in zero
    finally:
        model.zero_grad()
        model.eval()


def test_guidance_asks_for_the_letter_that_sounds(exported: Exported) -> None:
    pair = (make_example("abcdefgh" * 4, 32, seed=1), make_example("x", 20, seed=2).codes)
    batch = lay_out([pair], 37)
    with torch.inference_mode():
        _, attention = exported.model.hidden_states(exported.model.text_embeddings(batch.text_ids))
    places = batch.aligned[0][batch.is_speech[0]]
    assert len(places) == 32
    assert attention.shape[-1] > int(places.max()) + 2
    assert (places[1:] >= places[:-1]).all()


def make_source(num_examples: int = 60) -> tuple[list[Example], ExampleSource]:
    rng = random.Random(1)
    examples = [
        make_example("word " * 3, rng.randint(5, 40), voice=index % 3, language=("en", "fr")[index % 2], seed=index)
        for index in range(num_examples)
    ]
    return examples, ExampleSource(examples, random.Random(2))


def test_a_reference_comes_from_other_items_of_the_same_voice() -> None:
    examples, source = make_source()
    for example in examples[:20]:
        same_voice = {tuple(row) for other in examples if other.voice == example.voice for row in other.codes.tolist()}
        own = {tuple(row) for row in example.codes.tolist()}
        reference = source.reference(example, 10, 30)
        assert reference is not None
        rows = {tuple(row) for row in reference.tolist()}
        assert 5 <= len(reference) <= 30
        assert rows <= same_voice
        assert not rows & own


def test_what_has_no_other_item_of_its_voice_has_no_reference() -> None:
    # It would else be told what to say.
    lone = make_example("hm", 20, voice=9)
    source = ExampleSource([lone, *make_source()[0]], random.Random(3))
    assert source.reference(lone, 20, 20) is None
    assert source.reference(make_example("hm", 20, voice=10), 20, 20) is None


def test_what_only_covers_words_becomes_rare() -> None:
    examples = [replace(example, covers=index % 4 > 0) for index, example in enumerate(make_source(400)[0])]
    source = ExampleSource(examples, random.Random(2))
    shares = []
    for progress in (0.26, 0.4, 0.7, 1.0):
        drawn = [pair for pair in (source.draw(progress) for _ in range(600)) if pair is not None]
        shares.append(sum(example.covers for example, _ in drawn) / len(drawn))
    assert shares == pytest.approx([0.75, 0.75, 0.45, 0.15], abs=0.1)
    # Nothing else may be there.
    alone = ExampleSource([replace(example, covers=True) for example in examples], random.Random(2))
    assert alone.draw(1.0) is not None


def test_joined_examples_keep_their_alignment() -> None:
    parts = [make_example("ab", 4, seed=1), make_example("नमस्ते", 5, seed=2), make_example("z", 2, seed=3)]
    joined = join_examples(parts)
    assert joined.text_ids == TOKENIZER.encode("ab नमस्ते z")[0]
    assert np.array_equal(joined.codes, np.concatenate([part.codes for part in parts]))
    assert len(joined.aligned) == len(joined.labels) == joined.num_frames == 11
    assert [joined.text_ids[place] for place in joined.aligned[[0, 3, 4, 10]]] == [
        TOKENIZER.encode(letter)[0][0] for letter in "abनz"
    ]


def test_lengthened_examples_stay_within_the_limit_and_their_voice() -> None:
    examples, source = make_source()
    rows = {tuple(row): example for example in examples for row in example.codes.tolist()}
    longest = 0
    for example in examples:
        made = source.lengthen(example, 60)
        owners = [rows[tuple(row)] for row in made.codes.tolist()]
        assert made.num_frames <= 60
        assert {(owner.voice, owner.language) for owner in owners} == {(example.voice, example.language)}
        longest = max(longest, made.num_frames)
    assert longest > 40


def test_batches_are_short_first_and_never_larger_than_asked() -> None:
    _, source = make_source()
    progress = [0.0]
    batches = source.batches(progress, 400)
    first = [next(batches) for _ in range(10)]
    assert max(example.num_frames for batch in first for example, _ in batch) <= 20
    for batch in first:
        assert lay_out(batch, 37).text_ids.numel() <= 400
    progress[0] = 1.0
    _, again = make_source()
    later = [pair for _ in range(1) for pair in next(again.batches(progress, 4000))]
    assert max(len(reference) for _, reference in later) > 20
    assert max(example.num_frames for example, _ in later) > 20


def test_examples_are_held_in_every_run_the_same() -> None:
    examples, _ = make_source()
    held, rest = split_examples(examples, 16)
    assert (len(held), len(rest)) == (16, 44)
    assert not {id(example) for example in held} & {id(example) for example in rest}
    assert [id(example) for example in split_examples(examples, 16)[0]] == [id(example) for example in held]


def test_padding_changes_no_hidden_state(exported: Exported) -> None:
    pair = (make_example("ab", 4, seed=1), make_example("x", 6, seed=2).codes)
    longer = (make_example("abcdef", 9, seed=1), make_example("x", 9, seed=2).codes)

    def hidden(pairs: list[tuple[Example, np.ndarray]]) -> Tensor:
        with torch.inference_mode():
            return exported.model.hidden_states(exported.model.text_embeddings(lay_out(pairs, 37).text_ids))[0]

    alone = hidden([pair])
    assert torch.allclose(hidden([pair, longer])[:1, : alone.shape[1]], alone, atol=1e-5)


@torch.inference_mode()
def test_a_start_takes_what_reads_and_leaves_what_has_to_do_with_codes(exported: Exported) -> None:
    tensors = load_file(exported.folder / "consolidated.safetensors")
    model = SpeechModel(exported.model.config)
    model.initialise()
    before = {name: value.clone() for name, value in model.named_parameters()}
    take_reading(model, tensors)
    is_taken = {name: torch.equal(value, tensors[on_disk(name)].float()) for name, value in model.named_parameters()
                if on_disk(name) in tensors}  # fmt: skip
    left = {name for name, taken in is_taken.items() if not taken}
    assert left == {
        "audio_embeddings.weight",
        *(f"acoustic_transformer.{part}.weight" for part in ("input_projection", "semantic_codebook_output")),
    }
    for name in left:
        assert torch.equal(before[name], dict(model.named_parameters())[name]), name
    with pytest.raises(SystemExit, match=r"lacks layers\.0"):
        take_reading(model, {name: value for name, value in tensors.items() if "layers.0" not in name})


def on_disk(name: str) -> str:
    tables = {"text_embeddings.weight": TEXT_EMBEDDINGS, "audio_embeddings.weight": AUDIO_EMBEDDINGS}
    return tables.get(name, name.removeprefix("backbone."))
