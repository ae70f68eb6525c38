"""The prompt: token ids with placeholders for the rows of a voice. No tensors.

    <s> [BEGIN_AUDIO] [AUDIO] x N [NEXT_AUDIO_TEXT] text ids [REPEAT_AUDIO_TEXT] [BEGIN_AUDIO]

Source: docs/MODEL.md, "Prompt"; golden entries prompt/*.
"""

from __future__ import annotations

from dataclasses import dataclass

from voxtral.text.tokenizer import PromptTokens, SpeechTokenizer


@dataclass(frozen=True)
class Prompt:
    """What the model sees before the first frame.

    `token_ids[voice_start:voice_stop]` are the placeholders of the voice; all before `voice_stop` is
    the same for every text in that voice.
    """

    token_ids: tuple[int, ...]
    voice_start: int
    voice_stop: int

    @property
    def num_voice_rows(self) -> int:
        """N, the rows that the voice must have."""
        return self.voice_stop - self.voice_start

    @property
    def text_span(self) -> tuple[int, int]:
        """First position of the text's tokens, and the one behind their last."""
        return self.voice_stop + 1, len(self.token_ids) - 2


def build_prompt(tokenizer: SpeechTokenizer, text: str, num_voice_rows: int) -> Prompt:
    """Lay out the prompt of one text.

    The number of placeholders is the number of rows of the voice, whatever the tokenizer file or the
    length of a clip would imply: mistral-common's own count is one too high for some lengths.
    """
    return prompt_from_text_ids(tokenizer.tokens, tokenizer.encode(text), num_voice_rows)


def prompt_from_text_ids(tokens: PromptTokens, text_ids: list[int], num_voice_rows: int) -> Prompt:
    """Lay out the prompt around text that is tokenized already."""
    head = (tokens.bos, tokens.begin_audio)
    placeholders = (tokens.audio,) * num_voice_rows
    tail = (tokens.text_to_audio, *text_ids, tokens.audio_to_text, tokens.begin_audio)
    return Prompt(token_ids=(*head, *placeholders, *tail), voice_start=2, voice_stop=2 + num_voice_rows)


def prompt_from_ids(token_ids: list[int], audio_token_id: int) -> Prompt:
    """Recover the layout of a prompt that comes as bare ids.

    >>> prompt_from_ids([1, 25, 24, 24, 36, 1072, 35, 25], 24).num_voice_rows
    2
    """
    num_voice_rows = token_ids.count(audio_token_id)
    start = token_ids.index(audio_token_id) if num_voice_rows else 0
    return Prompt(token_ids=tuple(token_ids), voice_start=start, voice_stop=start + num_voice_rows)
