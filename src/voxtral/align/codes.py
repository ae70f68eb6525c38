"""Word times of speech that is there already as codes, by one pass over it. Read next: `voxtral.align.attention`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxtral.align.attention import text_attention
from voxtral.align.path import find_path
from voxtral.align.proportional import proportional_times
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


def align_codes(
    speaking: Speaking, alignment: Alignment, text: str, voice: VoicePrompt, codes: Tensor
) -> tuple[tuple[WordTime, ...], Timing]:
    """Find when each word of a text is heard in the audio of codes.

    Args:
        speaking: the loaded model.
        alignment: what is known of it.
        text: what is said, as it is said: one segment.
        voice: to which the model would say it.
        codes: [K, T] int64, in the codec's alphabet.

    Returns:
        Each word once, in order, seconds from the start; and where the times come from.

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

    def listen(model: VoxtralModel) -> tuple[Samples, list[Weights]]:
        samples = model.decode_codes(codes).float().cpu().numpy()
        if not alignment.has_aligner:
            return samples, []
        tokens = (codes + NUM_SPECIAL_CODES).T
        weights = text_attention(model, prompt, voice.rows, tokens, alignment.heads)
        return samples, [of_head.cpu().numpy() for of_head in weights.values()]

    samples, measured = speaking.engine.call(listen)
    if not measured:
        return proportional_times(text, text, sources, samples, config.sample_rate), "proportional"
    weights: Weights = np.stack(measured).mean(axis=0)
    pieces = speaking.tokenizer.pieces(prompt.token_ids[slice(*prompt.text_span)])
    words = spoken_words(text, text, sources, pieces)
    path = find_path(weights[:-1], alignment.max_step)
    times = word_times(words, path, weights, samples, config.sample_rate, alignment, frame_rate=config.frame_rate)
    return times, "attention"
