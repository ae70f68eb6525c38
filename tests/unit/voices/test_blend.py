"""Blends of voices: what their names mean, which rows they have, and what is kept of the parents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import TINY
from voxtral.errors import VoiceError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.types import VoiceBlend
from voxtral.voices.blend import find_blend, parse_blend
from voxtral.voices.blend_rows import blend_voices
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.prompt import VoicePrompt

CONFIG = open_checkpoint(TINY).config
LIBRARY = VoiceLibrary(TINY, CONFIG)
FIRST, SECOND = LIBRARY.names[:2]


def voice(name: str, num_rows: int, start: float = 0.0, **more: Any) -> VoicePrompt:
    """Make a voice whose rows tell whose they are and where they stood; -1 closes it."""
    body = torch.arange(num_rows, dtype=torch.float32)[:, None].expand(-1, 4) + start
    return VoicePrompt(name, torch.cat([body, torch.full((1, 4), -1.0)]), **more)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a+b", (("a", 1.0), ("b", 1.0))),
        ("a:0.7+b:0.3", (("a", 0.7), ("b", 0.3))),
        (" a : 2 + b ", (("a", 2.0), ("b", 1.0))),
        ("a:.5+b:1.+c:0+d", (("a", 0.5), ("b", 1.0), ("c", 0.0), ("d", 1.0))),
        ("a:2", (("a", 2.0),)),
        ("C:\\me.safetensors+b:2", (("C:\\me.safetensors", 1.0), ("b", 2.0))),
        ("C:\\me.safetensors:3+b", (("C:\\me.safetensors", 3.0), ("b", 1.0))),
    ],
)
def test_a_blend_is_read(text: str, parts: tuple[tuple[str, float], ...]) -> None:
    blend = parse_blend(text)
    assert blend is not None
    assert blend.parts == parts


@pytest.mark.parametrize("text", ["a", "", "a:", "a:b", ":1", "Zo\u00eb 2.0", "C:\\me.safetensors", "a:-1"])
def test_a_plain_name_is_none(text: str) -> None:
    assert parse_blend(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a+", "lacks a name"),
        ("+", "lacks a name"),
        ("a++b", "lacks a name"),
        ("a+:2", "lacks a name"),
        ("a:much+b", "'much' .* is no number"),
        ("a:-1+b", "'-1' .* is no number"),
        ("a:nan+b", "is no number"),
        ("a:1e3+b", "is no number"),
        ("a:\u0663+b", "is no number"),
        ("a:+b", "is no number"),
        ("a:0+b:0", "positive number"),
        ("a:" + "9" * 400 + "+b", "number from 0"),
        ("a+b+c+d+e", "more than 4 voices"),
        ("+" * 100_000, "more than 4 voices"),
    ],
)
def test_a_blend_that_breaks_a_rule_is_refused(text: str, message: str) -> None:
    with pytest.raises(VoiceError, match=message):
        parse_blend(text)


@given(st.text(alphabet="ab+:.0 9\u0663e-", max_size=30))
def test_any_text_is_a_blend_a_name_or_refused(text: str) -> None:
    try:
        blend = parse_blend(text)
    except VoiceError:
        return
    assert blend is None or all(name.strip() == name != "" for name, _ in blend.parts)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), True, "1", None])
def test_a_weight_from_python_is_checked(weight: Any) -> None:
    with pytest.raises(VoiceError, match="a weight in the blend"):
        VoiceBlend((("a", weight), ("b", 1.0)))


@pytest.mark.parametrize("count", [0, 5])
def test_the_number_of_voices_is_checked(count: int) -> None:
    with pytest.raises(VoiceError, match="it must have 1 to 4"):
        VoiceBlend((("a", 1.0),) * count)


def test_each_voice_gives_the_stretch_that_its_weight_says() -> None:
    blended = blend_voices([(voice("a", 10), 0.7), (voice("b", 20, 100), 0.3)])
    assert blended.rows[:, 0].tolist() == [*range(7), *range(114, 120), -1]
    assert blended.name == "a:0.7+b:0.3"


def test_a_voice_blended_with_itself_is_that_voice() -> None:
    one, twin = voice("a", 7), voice("twin", 7)
    assert blend_voices([(one, 0.3), (twin, 0.7)]) is one
    assert blend_voices([(voice("b", 9, 100), 0.0), (one, 2.0)]) is one


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 1e300)), min_size=1, max_size=4))
def test_a_blend_has_a_row_and_is_as_long_as_its_voices_on_average(sizes: list[tuple[int, float]]) -> None:
    parts = [(voice(str(place), size, 1000 * place), weight) for place, (size, weight) in enumerate(sizes)]
    total = sum(weight for _, weight in parts)
    if not 0 < total < float("inf"):
        return
    blended = blend_voices(parts)
    body = blended.rows[:-1, 0].tolist()
    assert body
    assert blended.rows[-1].eq(-1).all()
    assert body == sorted(set(body))
    mean = sum(size * weight / total for size, weight in sizes)
    assert abs(len(body) - mean) <= len(parts)


def test_codes_are_kept_where_all_have_them_and_the_wider_dtype_wins() -> None:
    one = voice("a", 4, codes=torch.arange(8).view(2, 4))
    other = VoicePrompt("b", voice("b", 4, 100).rows.to(torch.bfloat16), torch.arange(8, 16).view(2, 4))
    blended = blend_voices([(one, 1), (other, 1)])
    assert blended.codes is not None
    assert blended.codes.tolist() == [[0, 1, 10, 11], [4, 5, 14, 15]]
    assert blended.rows.dtype is torch.float32
    assert blend_voices([(one, 1), (voice("c", 4, 50), 1)]).codes is None


def test_consent_and_licence_of_the_parents_are_carried_on() -> None:
    said = {"consent": "on 3 May", "licence": "CC BY", "language": "fr", "duration_s": "4.0"}
    one = voice("a", 4, metadata=said)
    other = voice("b", 4, 100, metadata={"consent": "true", "licence": "CC BY", "language": "de"})
    joined = blend_voices([(one, 1), (other, 1)]).metadata
    assert joined == {"consent": "a: on 3 May; b: true", "licence": "CC BY", "language": "fr"}
    assert blend_voices([(one, 1), (voice("c", 4, 50), 1)]).metadata["licence"] == "a: CC BY"


def test_the_library_blends_presets_files_and_voices_at_hand(tmp_path: Path) -> None:
    saved = tmp_path / "me.safetensors"
    LIBRARY.load(SECOND).save(saved)
    by_name = LIBRARY.load(f"{FIRST}:0.7+{SECOND}:0.3")
    by_file = LIBRARY.load(f"{FIRST}:0.7+{saved}:0.3")
    at_hand = LIBRARY.load(VoiceBlend(((LIBRARY.load(FIRST), 7), (saved, 3))))
    assert by_name.key == by_file.key == at_hand.key
    assert by_name.key not in (LIBRARY.load(FIRST).key, LIBRARY.load(SECOND).key)
    assert LIBRARY.load(f"{FIRST}+{FIRST}") is LIBRARY.load(FIRST)


def test_a_parent_that_nobody_knows_is_named() -> None:
    with pytest.raises(VoiceError, match="voice 'nobody' is unknown"):
        LIBRARY.load(f"{FIRST}+nobody")


def test_a_file_or_preset_of_that_very_name_goes_first(tmp_path: Path) -> None:
    saved = tmp_path / f"{FIRST}+me.safetensors"
    LIBRARY.load(SECOND).save(saved)
    assert LIBRARY.load(str(saved)).key == LIBRARY.load(SECOND).key
    assert find_blend("a+b", {"a+b"}) is None
