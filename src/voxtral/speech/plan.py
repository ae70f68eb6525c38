"""SpeechPlan: an utterance, resolved and checked, as data; and the engine's request for one attempt at a segment.

A plan knows no engine. Made by `voxtral.speech.planner`, spoken by `voxtral.speech.utterance`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxtral.engine.noise import SeededNoise, derive_seed
from voxtral.engine.sequence import GenerationRequest
from voxtral.text.prompt import Prompt
from voxtral.text.segment import TextSegment
from voxtral.types import UNSAID, SpokenLanguage, Verify
from voxtral.voices.prompt import VoicePrompt

if TYPE_CHECKING:
    from voxtral.align.alignment import Alignment
    from voxtral.engine.following import TextFollower
    from voxtral.speech.feed import Feed
    from voxtral.speech.script import Script


@dataclass(frozen=True)
class PlannedSegment:
    """A part of the text, ready for the model.

    Attributes:
        text: the part and where it stands in the text as given.
        prompt: token ids around the voice's place.
        max_frames: its frame budget.
        spoken_start: where it begins in the text as spoken.
        words_within: of the text as given, whose words are told of with it: the part, with what is not spoken behind
            it, and for the first part before it. None: the part alone.
        pause_s: silence before it, in seconds as heard at any speed; None: as between any two parts.
        script: that laid it out, lays out parts of it anew, and finds its words; None where nobody will ask for that.
        offset: of the script's text in the whole; what is told of a segment outside is moved by it.
    """

    text: TextSegment
    prompt: Prompt
    max_frames: int
    spoken_start: int = 0
    words_within: tuple[int, int] | None = None
    pause_s: float | None = None
    script: Script | None = None
    offset: int = 0

    @property
    def word_range(self) -> tuple[int, int]:
        """Of the text as given, whose words are told of with it."""
        return self.words_within or (self.text.start, self.text.end)


@dataclass(frozen=True, eq=False)
class SegmentTemplate:
    """What all segments of an utterance have in common.

    Attributes:
        voice: whose rows stand in every prompt.
        is_voice_stored: whether the voice belongs to the checkpoint, so that its part of the prompt may be kept on
            disk.
        guidance_scale: weight of the conditional velocity.
        noise_scale: factor on the noise.
        num_euler_steps: steps of the flow.
        num_noise_values: A, numbers of noise in a frame.
    """

    voice: VoicePrompt
    is_voice_stored: bool
    guidance_scale: float
    noise_scale: float
    num_euler_steps: int
    num_noise_values: int


@dataclass(frozen=True, eq=False)
class SpeechPlan:
    """An utterance, resolved and checked.

    Attributes:
        segments: the parts to speak, in order; lazily made. Those of a text that is not whole yet know whether the next
            one is there (`voxtral.speech.stretches`).
        template: what they have in common.
        seed: of the utterance.
        has_explicit_budget: the caller set max_frames, so that running into it is no fault.
        speed: 0.25 to 4.
        pause_s: silence between segments, in seconds as heard at any speed.
        sample_rate: samples per second.
        frame_rate: frames per second.
        hold_segments: give out a segment only when it has ended well. A failed one can then be made
            again unheard; costs a segment of latency and memory.
        segments_in_flight: segments that are made side by side; they are submitted in order.
        deadline_s: seconds from acceptance in which all audio must be made; None for no limit.
        language: that chose the voice or the rules of normalisation, unless the caller did.
        alignment: of the checkpoint, where its attention follows the text and somebody wants to know; else None.
        timestamps: see SpeechRequest, as the three that follow.
        verify: as `timestamps`.
        max_attempts: as `timestamps`.
        keep_to_text: as `timestamps`.
        end_pause_s: silence after the last segment, in seconds as heard at any speed.
        feed: where the text comes from while it is spoken, so that `segments` may wait for it; None: it is whole.
    """

    segments: Iterator[PlannedSegment]
    template: SegmentTemplate
    seed: int
    has_explicit_budget: bool
    speed: float
    pause_s: float
    sample_rate: int
    hold_segments: bool
    frame_rate: float = 12.5
    segments_in_flight: int = 2
    deadline_s: float | None = None
    language: SpokenLanguage = UNSAID
    alignment: Alignment | None = None
    timestamps: bool = False
    verify: Verify = "off"
    max_attempts: int = 3
    keep_to_text: bool = True
    end_pause_s: float = 0.0
    feed: Feed = None


def generation_request(
    plan: SpeechPlan,
    segment: PlannedSegment,
    index: int,
    attempt: int,
    *,
    deadline_s: float,
    follower: TextFollower | None = None,
) -> GenerationRequest:
    """Build what the engine is asked for.

    Args:
        plan: of the utterance.
        segment: one of its segments, or a part of one.
        index: of the segment.
        attempt: 0, then others for the same segment with another seed.
        deadline_s: seconds that are left.
        follower: of the text.
    """
    template = plan.template
    seed = derive_seed(plan.seed, attempt)
    return GenerationRequest(
        prompt=segment.prompt,
        voice_rows=template.voice.rows,
        noise=SeededNoise(seed, index, template.num_noise_values),
        noise_key=(seed, index),
        guidance_scale=template.guidance_scale,
        noise_scale=template.noise_scale,
        num_euler_steps=template.num_euler_steps,
        max_frames=segment.max_frames,
        # The first frame does not depend on the noise: an end there would come again.
        min_frames=min(attempt, 1),
        voice_key=template.voice.key,
        is_voice_stored=template.is_voice_stored,
        # What is heard only when it is whole need not wait for anybody to listen.
        max_buffered_frames=segment.max_frames if plan.hold_segments else None,
        deadline_s=deadline_s,
        follower=follower,
    )
