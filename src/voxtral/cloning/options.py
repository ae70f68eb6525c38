"""How codes are searched for: what a caller may choose, and what is told on the way. No torch."""

# pyright: reportUnnecessaryIsInstance=false
# (callers without a type checker pass anything)

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from voxtral.errors import OptionError, quoted

# From codes of an encoder, and from nothing; docs/CLONING.md has what more of them bring.
STEPS_FROM_ENCODER, STEPS_FROM_NOTHING = 40, 300
MAX_STEPS = 10_000

# Seconds of a clip that are searched for. On the 4B, 16 s clone better than 8 and as well as 24, by the figures of
# mlx-voxtral-swift (cosine of ECAPA embeddings .69, .72, .72); the time of a search grows with them.
MAX_SEARCHED_S = 16.0


@dataclass(frozen=True)
class RefineOptions:
    """How the codes of a clip are searched for.

    Attributes:
        steps: each decodes the clip once and goes back through the decoder; None: 40 from the codes of an encoder, 300
            from nothing. Fewer are made where the last 60 brought nothing.
        seed: of the codes that a search from nothing begins with.
        starts: how many of those are tried side by side for the first 60 steps; the best goes on.
        learning_rate: of the levels.
        prior: how much it weighs that codes are like those of the presets.
        pull: how much it weighs that levels stay near those of the encoder, where there is one.
    """

    steps: int | None = None
    seed: int = 0
    starts: int = 1
    learning_rate: float = 0.15
    prior: float = 0.04
    pull: float = 0.02

    def __post_init__(self) -> None:
        """Refuse what breaks a rule.

        Raises:
            OptionError: naming the field.
        """
        if self.steps is not None:
            _check_whole("steps", self.steps, 1, MAX_STEPS)
        _check_whole("seed", self.seed, 0, 2**63 - 1)
        _check_whole("starts", self.starts, 1, 16)
        for name, least, most in (("learning_rate", 1e-4, 10.0), ("prior", 0.0, 100.0), ("pull", 0.0, 100.0)):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not is_number or not least <= value <= most:
                raise OptionError(f"refine: {name} is {quoted(value)}; it must be a number from {least:g} to {most:g}")


@dataclass(frozen=True)
class RefineProgress:
    """A moment of a search under way.

    Attributes:
        step: how many are done; 0 while the presets are studied, before the first search of a model.
        steps: how many there are at most.
        distance: spectral distance of the best codes so far from the clip; of several clips, the mean; infinite at
            step 0.
        elapsed_s: seconds since the first step began.
    """

    step: int
    steps: int
    distance: float
    elapsed_s: float

    @property
    def fraction(self) -> float:
        """Part of the steps that is done, 0 to 1."""
        return self.step / self.steps

    @property
    def left_s(self) -> float:
        """Seconds to go if the other steps take as long as these did."""
        return self.elapsed_s * (self.steps - self.step) / max(self.step, 1)


# What `refine` may be: True or False, a number of steps, or all options; None takes what is usual there.
Refine = bool | int | RefineOptions | None


def parse_refine(refine: Refine) -> RefineOptions | None:
    """Turn what a caller gave into options; None where nothing is to be refined.

    >>> parse_refine(None), parse_refine(False), parse_refine(True) == RefineOptions(), parse_refine(60).steps
    (None, None, True, 60)

    Raises:
        OptionError: it is none of these, or a number of steps that is not allowed.
    """
    if refine is None or refine is False:
        return None
    if refine is True:
        return RefineOptions()
    if isinstance(refine, RefineOptions):
        return refine
    if isinstance(refine, int):
        return RefineOptions(steps=refine)
    raise OptionError(f"refine is {quoted(refine)}; it must be True, False, a number of steps or RefineOptions")


def with_steps(options: RefineOptions, *, has_encoder: bool) -> tuple[RefineOptions, int]:
    """Fill in the number of steps."""
    steps = options.steps or (STEPS_FROM_ENCODER if has_encoder else STEPS_FROM_NOTHING)
    return replace(options, steps=steps), steps


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise OptionError(f"refine: {name} is {quoted(value)}; it must be a whole number from {least} to {most}")
