"""Word times and checks of speech that is there already as codes, by one pass over it.

Read next: `voxtral.align.attention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxtral.align.attention import Listening, listen
from voxtral.align.path import find_path
from voxtral.align.proportional import proportional_times
from voxtral.align.signals import SpokenSegment
from voxtral.align.times import word_times
from voxtral.align.words import spoken_words, verbatim_sources
from voxtral.config import NUM_SPECIAL_CODES
from voxtral.errors import CodeRangeError, TextError
from voxtral.model.codebooks import check_codes
from voxtral.text.language import check_speakable
from voxtral.text.prompt import build_prompt

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from voxtral.align.alignment import Alignment
    from voxtral.align.calibrate import Speaking
    from voxtral.model.voxtral import VoxtralModel
    from voxtral.types import Timing, WordTime
    from voxtral.voices.prompt import VoicePrompt

    Samples = npt.NDArray[np.float32]
    Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HeardCodes:
    """What was found in codes.

    Attributes:
        samples: [S], their audio.
        times: each word once, in order, seconds from the start.
        timing: where the times come from.
        segment: what a check looks at; None where the checkpoint has no aligner.
    """

    samples: Samples
    times: tuple[WordTime, ...]
    timing: Timing
    segment: SpokenSegment | None


def hear_codes(
    speaking: Speaking, alignment: Alignment, text: str, voice: VoicePrompt, codes: Tensor, *, language: str = ""
) -> HeardCodes:
    """Find when each word of a text is heard in the audio of codes, and all that its check needs.

    Args:
        speaking: the loaded model.
        alignment: what is known of it.
        text: what is said, as it is said: one segment.
        voice: to which the model would say it.
        codes: [K, T] int64, in the codec's alphabet.
        language: of the text.

    Raises:
        TextError: there is nothing to speak, or more than the model takes at once.
        CodeRangeError: a code is outside its codebook, or there are none.
    """
    config = speaking.config
    check_speakable(text)
    check_codes(codes[None], config.codebooks)
    if not codes.shape[1]:
        raise CodeRangeError("there are 0 frames of codes; words are heard in one and more; encode a longer clip")
    prompt = build_prompt(speaking.tokenizer, text, voice.rows.shape[0])
    num_positions = len(prompt.token_ids) + codes.shape[1]
    if num_positions > config.backbone.max_seq_len:
        raise TextError(
            f"text, voice and codes take {num_positions} positions; the model has {config.backbone.max_seq_len}; cut "
            "the clip and its text into parts"
        )
    sources = verbatim_sources(0, len(text))

    def hear(model: VoxtralModel) -> tuple[Samples, Listening | None]:
        samples = model.decode_codes(codes).float().cpu().numpy()
        if not alignment.has_aligner:
            return samples, None
        return samples, listen(model, prompt, voice.rows, (codes + NUM_SPECIAL_CODES).T, alignment.heads)

    samples, heard = speaking.engine.call(hear)
    if heard is None:
        times = proportional_times(text, text, sources, samples, config.sample_rate)
        return HeardCodes(samples, times, "proportional", None)
    weights: Weights = np.stack([of_head.cpu().numpy() for of_head in heard.weights.values()]).mean(axis=0)
    pieces = speaking.tokenizer.pieces(prompt.token_ids[slice(*prompt.text_span)])
    words = spoken_words(text, text, sources, pieces)
    path = find_path(weights[:-1], alignment.max_step)
    rate = config.sample_rate
    times = word_times(words, path, weights, samples, rate, alignment, frame_rate=config.frame_rate)
    segment = SpokenSegment(
        spoken=text,
        words=words,
        times=times,
        weights=weights,
        path=path,
        samples=samples,
        sample_rate=rate,
        frame_rate=config.frame_rate,
        language=language,
        codes=codes.T.cpu().numpy(),
        no_end=heard.no_end,
    )
    return HeardCodes(samples, times, "attention", segment)


def align_codes(
    speaking: Speaking, alignment: Alignment, text: str, voice: VoicePrompt, codes: Tensor
) -> tuple[tuple[WordTime, ...], Timing]:
    """Find when each word of a text is heard, and where the times come from; see `hear_codes`."""
    heard = hear_codes(speaking, alignment, text, voice, codes)
    return heard.times, heard.timing
