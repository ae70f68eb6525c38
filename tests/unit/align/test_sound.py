"""Sound is told from silence, the same however the samples are cut."""

from __future__ import annotations

import numpy as np
import pytest

from voxtral.align.sound import Sound

RATE = 24000


def _heard(*parts: tuple[float, float], step: int | None = None) -> Sound:
    rng = np.random.default_rng(1)
    samples = np.concatenate([rng.standard_normal(round(s * RATE)) * level for s, level in parts]).astype(np.float32)
    sound = Sound(RATE)
    for start in range(0, len(samples), step or len(samples)):
        sound.add(samples[start : start + (step or len(samples))])
    return sound


@pytest.mark.parametrize("step", [None, 1, 97, 1920])
def test_silences_and_sounds_are_found(step: int | None) -> None:
    if step == 1:
        sound = _heard((0.02, 0.0), (0.03, 0.1), (0.02, 0.0), (0.03, 0.1), step=step)
        assert sound.span() == pytest.approx((0.02, 0.1))
        return
    sound = _heard((0.1, 1e-5), (0.3, 0.1), (0.2, 1e-5), (0.4, 0.2), (0.1, 0.0), step=step)
    assert sound.seconds == pytest.approx(1.1)
    assert sound.span() == pytest.approx((0.1, 1.0))
    assert sound.gaps(0.12) == [pytest.approx((0.4, 0.6))]
    assert sound.gaps(0.25) == []
    assert sound.onset(0.5, 0.8, near_s=0.7, until_s=1.1, silence_s=0.06) == pytest.approx(0.6)
    assert sound.onset(0.5, 0.8, near_s=0.7, until_s=1.1, silence_s=0.3) is None
    assert sound.onset(0.0, 0.3, near_s=0.0, until_s=1.1, silence_s=5.0) == pytest.approx(0.1)
    assert sound.last_sound(0.2, 0.55, until_s=1.1) == pytest.approx(0.4)
    assert sound.last_sound(0.45, 0.55, until_s=1.1) == pytest.approx(0.45)
    assert sound.last_sound(0.2, 0.33, until_s=1.1) == pytest.approx(0.33)


def test_silence_alone_has_no_sound() -> None:
    sound = _heard((0.5, 1e-5))
    assert not sound.sounding(0.5).any()
    assert sound.span() == (0.0, 0.5)
    assert sound.onset(0.0, 0.5, near_s=0.0, until_s=0.5, silence_s=0.06) is None


def test_later_and_louder_sound_changes_nothing_of_what_was_judged() -> None:
    sound = _heard((0.2, 2e-3), (0.2, 0.9))
    assert sound.sounding(0.2).all()
    assert not sound.sounding(0.4)[:40].any()
