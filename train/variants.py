"""Made-up voices of the teacher, so that training hears many more than the teacher has.

A variant of espeak-ng is a small text file: factors of the formants, pitch, breath. Those that the system
installs are some eighty; a model that hears only them takes a new voice for one of them. Drawn at random, they
fill the space between. Read next: `train.teacher`.
"""

from __future__ import annotations

import random
from pathlib import Path

_PREFIX = "made_"
_VARIANTS = Path("voices", "!v")
_NUM_FORMANTS = 9

# Highest and lowest pitch in Hz at the teacher's middle setting, as the usual voices have them.
_LOW_PITCH, _HIGH_PITCH = (65.0, 190.0), (1.25, 1.7)


def draw_variants(count: int, seed: int) -> dict[str, str]:
    """Draw variants: what their files say, by name."""
    rng = random.Random(seed)
    return {f"{_PREFIX}{number:03d}": _draw_variant(rng) for number in range(count)}


def _draw_variant(rng: random.Random) -> str:
    # A vocal tract as long as a child's or a big man's moves all formants together, a person's own shape each alone.
    low_pitch = rng.uniform(*_LOW_PITCH)
    is_high = low_pitch > 120
    tract = rng.uniform(100, 122) if is_high else rng.uniform(86, 106)
    tilt = rng.uniform(-4, 2)
    lines = ["language variant", f"gender {'female' if is_high else 'male'}"]
    lines.append(f"pitch {low_pitch:.0f} {low_pitch * rng.uniform(*_HIGH_PITCH):.0f}")
    for formant in range(_NUM_FORMANTS):
        frequency = tract * rng.uniform(0.93, 1.07)
        height = max(40.0, rng.uniform(75, 130) + tilt * formant)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {rng.uniform(75, 150):.0f}")
    lines.append(f"voicing {rng.uniform(50, 140):.0f}")
    lines.append(f"consonants {rng.uniform(60, 125):.0f} {rng.uniform(60, 125):.0f}")
    lines.append(f"roughness {rng.choice((0, 0, 0, 1, 2, 3))}")
    lines.append(f"flutter {rng.randint(0, 6)}")
    if rng.random() < 0.25:
        lines.append("breath " + " ".join(str(rng.randint(0, 4)) for _ in range(8)))
    if rng.random() < 0.25:
        lines.append(f"echo {rng.randint(20, 150)} {rng.randint(5, 25)}")
    return "\n".join(lines) + "\n"


def link_data(system: Path, data: Path, variants: dict[str, str]) -> None:
    """Make a data folder of the teacher that has these variants too; what the system has is linked.

    Args:
        system: the folder espeak-ng-data of the system.
        data: the folder to make.
        variants: what the files of the variants say, by name; the teacher takes about 120 beside its own.
    """
    data.mkdir()
    for entry in system.iterdir():
        if entry.name != _VARIANTS.parent.name:
            (data / entry.name).symlink_to(entry)
    # The other voices, which need MBROLA, would leave too few places in the list of voices, 350 in all.
    (data / _VARIANTS).mkdir(parents=True)
    for entry in (system / _VARIANTS).iterdir():
        (data / _VARIANTS / entry.name).symlink_to(entry)
    for name, text in variants.items():
        (data / _VARIANTS / name).write_text(f"name {name}\n{text}", encoding="ascii")
