"""CloneReport: how a voice was made of a clip."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CloneReport:
    """How a voice was made of a clip.

    Attributes:
        seconds: of the clip that the voice was made of.
        encoder: where the encoder is from: "checkpoint", or what its file says; None without one.
        steps: of the search for codes; 0 where the encoder's were taken.
        first_distance: spectral distance from the clip of the sound of the codes that the search began with.
        distance: that of the codes that were found; the presets' own codes are 0.4 to 0.6 from speech of theirs.
        lateness: samples by which the decoder is late.
        elapsed_s: seconds that the search took.
    """

    seconds: float
    encoder: str | None
    steps: int = 0
    first_distance: float | None = None
    distance: float | None = None
    lateness: int | None = None
    elapsed_s: float = 0.0
