"""Each convention, done the wrong way in the product's own code, is seen by somebody."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from checkpoints import TINY
from golden import judge
from golden.conventions import CONVENTIONS, Convention, edit
from golden.judge import EntryResult, VectorSet, load_vectors
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.model.acoustic import embed_time
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.tokenizer import SpeechTokenizer, load_tokenizer

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "data"

BY_VECTORS = [convention for convention in CONVENTIONS if "::" not in convention.sees]
BY_TESTS = [convention for convention in CONVENTIONS if "::" in convention.sees]


def by_name(convention: Convention) -> str:
    return convention.name


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(TINY)


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint) -> VoxtralModel:
    return judge._load(checkpoint, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def vectors() -> VectorSet:
    return load_vectors(GOLDEN)


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Checkpoint) -> SpeechTokenizer:
    return load_tokenizer(checkpoint.folder / "tekken.json")


def group_of(entry: str) -> str:
    return entry.partition("/")[0] + "/"


def judge_group(
    entry: str, checkpoint: Checkpoint, model: VoxtralModel, tokenizer: SpeechTokenizer, vectors: VectorSet
) -> dict[str, EntryResult]:
    context = judge._Context(checkpoint, model, tokenizer, vectors)
    group = group_of(entry)
    with torch.inference_mode():
        values = judge._compute(context, prefix=group)
    # Not what raised: a flip that only crashes would show nothing.
    computed = [name for name, value in values.items() if isinstance(value, torch.Tensor)]
    return {name: judge._judge(vectors, name, values) for name in computed}


def beside(entry: str, vectors: VectorSet) -> VectorSet:
    """Leave only an entry and those of the same case, so that no other case is computed."""
    # The steps of the backbone go on where its prompt ends.
    case = "lm/" if entry.startswith("lm/") else entry.rpartition("/")[0]
    return replace(vectors, entries={name: value for name, value in vectors.entries.items() if name.startswith(case)})


@pytest.mark.parametrize("convention", BY_VECTORS, ids=by_name)
def test_the_vectors_see_a_broken_convention(
    convention: Convention,
    checkpoint: Checkpoint,
    model: VoxtralModel,
    tokenizer: SpeechTokenizer,
    vectors: VectorSet,
) -> None:
    with convention.flip():
        if convention.at_load:
            checkpoint = open_checkpoint(checkpoint.folder)
            model = judge._load(checkpoint, torch.device("cpu"), torch.float32)
            tokenizer = load_tokenizer(checkpoint.folder / "tekken.json")
        results = judge_group(convention.sees, checkpoint, model, tokenizer, beside(convention.sees, vectors))
    assert results[convention.sees].ok is False


@pytest.mark.parametrize("convention", BY_TESTS, ids=by_name)
def test_the_named_test_sees_what_the_vectors_cannot(convention: Convention) -> None:
    test = load_test(convention.sees)
    test()
    with convention.flip(), pytest.raises(AssertionError):
        test()


def load_test(identifier: str) -> Callable[[], None]:
    file, _, name = identifier.partition("::")
    spec = importlib.util.spec_from_file_location(f"named_by_conventions_{Path(file).stem}", ROOT / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_every_entry_that_is_to_fail_passes_without_a_flip(
    checkpoint: Checkpoint, model: VoxtralModel, tokenizer: SpeechTokenizer, vectors: VectorSet
) -> None:
    seen = {convention.sees for convention in BY_VECTORS}
    for group in {group_of(entry) for entry in seen}:
        results = judge_group(group, checkpoint, model, tokenizer, vectors)
        assert all(result.ok for name, result in results.items() if name in seen)


def test_every_group_of_the_set_sees_a_convention(vectors: VectorSet) -> None:
    groups = {group_of(name) for name in vectors.entries} - {"bf16/", "prompt_full_vocab/"}
    assert {group_of(convention.sees) for convention in BY_VECTORS} == groups


def test_names_are_unique_and_every_section_has_conventions() -> None:
    names = [convention.name for convention in CONVENTIONS]
    assert len(names) == len(set(names))
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "MODEL.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {convention.section for convention in CONVENTIONS} <= set(headings)
    assert {convention.section for convention in CONVENTIONS} >= {"Prompt", "Backbone", "Codec decoder", "Quantizer"}


def test_a_flip_ends_with_its_context() -> None:
    times, frequencies = torch.tensor([0.0, 0.5]), torch.tensor([1.0])
    right = embed_time(times, frequencies)
    with edit(embed_time, ("(angles.cos(), angles.sin())", "(angles.sin(), angles.cos())"))():
        assert torch.equal(embed_time(times, frequencies), right.flip(1))
    assert torch.equal(embed_time(times, frequencies), right)


def test_a_flip_whose_text_is_gone_is_an_error() -> None:
    with (
        pytest.raises(LookupError, match=r"embed_time holds 'angles\.tan' 0 times"),
        edit(embed_time, ("angles.tan", ""))(),
    ):
        pass
