"""The rows of a blend: parts of the clips of its voices, one after the other, each as long as its weight says.

Every row is one that a voice has, so that the model sees nothing that a clip could not have. docs/LOG.md has the
figures of this and of other ways, and docs/SERVER.md what can be expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import accumulate, pairwise

import torch

from voxtral.voices.prompt import VoicePrompt

# Of a clip that is only partly in the blend.
_OF_A_CLIP = frozenset({"ref_text", "mime_type", "file_size", "duration_s", "created_at"})


def blend_voices(parts: Sequence[tuple[VoicePrompt, float]]) -> VoicePrompt:
    """Blend voices that fit one checkpoint.

    A voice takes the stretch of its own clip that its share of the whole has: with weights 0.7 and 0.3 the first 70 %
    of the first clip and the last 30 % of the second. So a voice with itself is that voice.

    Args:
        parts: voices with weights that are not all 0.

    Returns:
        The voice itself where only one has a weight. Else one that says of each parent what was known of it, and
        speaks the language of the first.
    """
    weights: dict[str, float] = {}
    voices: dict[str, VoicePrompt] = {}
    for voice, weight in parts:
        if weight > 0:
            weights[voice.key] = weights.get(voice.key, 0.0) + weight
            voices.setdefault(voice.key, voice)
    if len(voices) == 1:
        return next(iter(voices.values()))
    total = sum(weights.values())
    shares = {key: weight / total for key, weight in weights.items()}
    # The last bound is exact, whatever the sum of the shares is rounded to.
    bounds = [0.0, *list(accumulate(shares.values()))[:-1], 1.0]
    pieces = [
        (voice, round(start * (len(voice.rows) - 1)), round(stop * (len(voice.rows) - 1)))
        for voice, (start, stop) in zip(voices.values(), pairwise(bounds), strict=True)
    ]
    blended = list(voices.values())
    dtype = reduce(torch.promote_types, (voice.rows.dtype for voice in blended))
    closing = blended[-1].rows[-1:]
    rows = torch.cat([*(voice.rows[start:stop].to(dtype) for voice, start, stop in pieces), closing.to(dtype)])
    codes = [voice.codes[:, start:stop] for voice, start, stop in pieces if voice.codes is not None]
    names = [f"{voice.name}:{share:.3g}" for voice, share in zip(blended, shares.values(), strict=True)]
    return VoicePrompt(
        name="+".join(names),
        rows=rows,
        codes=torch.cat(codes, dim=1) if len(codes) == len(blended) else None,
        metadata=_join_metadata(blended),
    )


def _join_metadata(voices: Sequence[VoicePrompt]) -> Mapping[str, str]:
    """Say of each voice what was known of it, such as consent and licence; once where all say the same."""
    joined: dict[str, str] = {}
    for key in dict.fromkeys(key for voice in voices for key in voice.metadata):
        said = {voice.name: str(voice.metadata[key]) for voice in voices if voice.metadata.get(key)}
        if key in _OF_A_CLIP or key == "language" or not said:
            continue
        is_same = len(said) == len(voices) and len(set(said.values())) == 1
        joined[key] = (
            next(iter(said.values())) if is_same else "; ".join(f"{name}: {fact}" for name, fact in said.items())
        )
    if language := voices[0].metadata.get("language"):
        joined["language"] = language
    return joined
