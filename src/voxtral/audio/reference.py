"""From a clip of somebody to samples that a voice can be made of, or a refusal that says what is wrong with the clip.

`prepare_reference` is the one entry, for whatever makes a voice of a clip: an encoder, or a search for codes through
the decoder. `read_reference` reads the clip first.

Whatever is in a reference is spoken afterwards, since the model goes on with it as with a beginning: hum, noise, a far
microphone, a word that was cut. So nothing below 60 Hz is kept, speech is brought to one level, the excerpt begins and
ends on a pause, and what holds no voice is refused before any work. Noise stays: what is taken out of it is missed.

The thresholds were chosen on real and synthetic voices, clean, quiet, in noise and through a telephone; docs/VOICES.md
has what they pass and what they refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from voxtral.audio.activity import HOP_S, Activity, analyse
from voxtral.audio.condition import Samples, active_level, fade_ends, fill_zeros, gain_to, high_pass, to_db
from voxtral.audio.excerpt import Excerpt, choose_excerpt
from voxtral.audio.read import AudioLimits, AudioSource, read_clip, resample
from voxtral.errors import ReferenceAudioError

# Lengths in seconds. Source: the users' guide (3 s) and docs/MODEL.md, "Habits".
MIN_REFERENCE_S, GOOD_REFERENCE_S, MAX_REFERENCE_S = 1.0, 3.0, 30.0
# The longest clip to choose from.
MAX_CLIP_S = 600.0

# The level of speech in nano's presets, measured with `active_level`.
LEVEL_DB = -22.0
# Speech this near to it stays as it is: presets differ as much among themselves.
LEVEL_TOLERANCE_DB = 6.0

# A clip may decode to as much as ten minutes of stereo at 48 kHz.
CLIP_LIMITS = AudioLimits(max_bytes=256 * 2**20, max_seconds=MAX_CLIP_S, max_decoded_bytes=256 * 2**20)

# Floats have full scale at 1; nothing that was meant so is this far above it, and integers are, even quiet ones.
_MAX_FLOAT_PEAK = 8.0

# What was recorded is louder than this, whatever the microphone: the last of 16 bits is at -98 dB.
_SILENCE_DB = -75.0
# A clip below it is raised by 30 dB, and what noise it has with it.
_QUIET_DB = -52.0

# Seconds and share of the sound that change as a voice does and have a pitch.
_MIN_VOICE_S, _SURE_VOICE_S, _SURE_VOICE_SHARE = 0.1, 0.3, 0.08
# A clip of which less is heard is treated as a short one.
_GOOD_SOUND_S = 2.0
# White noise 10 dB below a voice has a floor of -14 to -28 dB here, clean speech of -19 dB and less.
_NOISE_DB = -18.0

# Clipped: so many samples at the highest level, or loud samples that are hardly louder than most. Of absolute values,
# without those that are next to nothing.
_RAIL, _MAX_AT_RAIL = 0.97, 0.005
_NEXT_TO_NOTHING = 0.02
_MIN_PEAK_RATIO, _MIN_CREST_RATIO = 1.35, 1.3


@dataclass(frozen=True, eq=False)
class PreparedClip:
    """A reference that is fit to make a voice of.

    Attributes:
        samples: [S] float32, mono, at most .98; they begin and end at nothing.
        sample_rate: in Hz.
        start_s: where the excerpt begins in the clip, in seconds.
        end_s: where it ends.
        clip_s: length of the clip.
        level_db: of its speech as it was, in dB of full scale (`voxtral.audio.condition.active_level`).
        gain_db: by which it was raised.
        noise_db: how far the floor is below the speech, in dB.
        remarks: what the caller should know, a sentence each; the first about what was taken.
    """

    samples: Samples
    sample_rate: int
    start_s: float
    end_s: float
    clip_s: float
    level_db: float
    gain_db: float
    noise_db: float
    remarks: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length of the excerpt in seconds."""
        return len(self.samples) / self.sample_rate


def read_reference(
    source: AudioSource,
    *,
    sample_rate: int,
    max_s: float = MAX_REFERENCE_S,
    max_clip_s: float = MAX_CLIP_S,
    level_db: float = LEVEL_DB,
    limits: AudioLimits = CLIP_LIMITS,
) -> PreparedClip:
    """Read a clip and prepare it.

    Args:
        source: as `voxtral.audio.read.read_audio` takes it.
        sample_rate: as in `prepare_reference`, and so are `max_s`, `max_clip_s` and `level_db`.
        max_s: see there.
        max_clip_s: see there.
        level_db: see there.
        limits: what the clip may cost.

    Raises:
        ReferenceAudioError: the clip cannot be read, or is of no use; the message says why.
    """
    clip = read_clip(source, limits=limits)
    remarks: list[str] = []
    if clip.is_joined:
        remarks.append(
            "the file holds more than one recording, one after the other, and only the first was read; a clip is one "
            "recording; join them with an audio tool, or pass the best one"
        )
    if clip.do_channels_cancel:
        remarks.append(
            "the channels of the clip cancel each other when they are mixed to mono, as they do if one of them is "
            "inverted; the loudest channel was taken alone; pass a mono clip to choose another"
        )
    return prepare_reference(
        clip.samples,
        clip.sample_rate,
        sample_rate=sample_rate,
        max_s=max_s,
        max_clip_s=max_clip_s,
        level_db=level_db,
        remarks=tuple(remarks),
    )


def prepare_reference(
    samples: Samples,
    rate: int,
    *,
    sample_rate: int,
    max_s: float = MAX_REFERENCE_S,
    max_clip_s: float = MAX_CLIP_S,
    level_db: float = LEVEL_DB,
    tolerance_db: float = LEVEL_TOLERANCE_DB,
    remarks: tuple[str, ...] = (),
) -> PreparedClip:
    """Choose the best stretch of a clip and make it fit to make a voice of; the same every time.

    Args:
        samples: [S] float32, mono, full scale at 1.
        rate: theirs, in Hz.
        sample_rate: that is wanted.
        max_s: length of the longest stretch, in seconds; of what is longer the best is chosen, and that is said.
        max_clip_s: length of the longest clip.
        level_db: level that speech is brought to, as far as its peak allows.
        tolerance_db: speech that is as near to it stays as it is.
        remarks: of whoever read the clip.

    Raises:
        ReferenceAudioError: it is too short or too long, or holds no voice; the message says what it holds.
    """
    samples = resample(samples, rate, rate)  # refuses none, and what is not finite
    clip_s = len(samples) / rate
    _check_length(clip_s, max_clip_s)
    _check_scale(samples)
    activity = analyse(samples, rate)
    _check_heard(samples, rate, activity)
    excerpt = choose_excerpt(activity, clip_s, max_s, GOOD_REFERENCE_S)
    used_s = excerpt.end_s - excerpt.start_s
    chosen = activity.part(round(excerpt.start_s / HOP_S), max(1, round(excerpt.end_s / HOP_S)))
    _check_voice(chosen)
    if used_s < MIN_REFERENCE_S:
        raise ReferenceAudioError(
            f"the reference audio holds {used_s:.2f} s of sound in {clip_s:.2f} s; it must hold "
            f"{MIN_REFERENCE_S:g} s or more: record more of the voice"
        )
    taken = samples[round(excerpt.start_s * rate) : round(excerpt.end_s * rate)]
    found = [*_remark_length(excerpt, clip_s, max_s), *remarks, *_remark_voice(chosen), *_remark_clipping(taken)]
    taken = high_pass(resample(taken, rate, sample_rate), sample_rate)
    level = active_level(taken, sample_rate)
    if level < _QUIET_DB:
        found.append(
            f"the clip is very quiet ({level:.0f} dB of full scale) and was raised to {level_db:.0f} dB, its noise "
            "with it; record nearer to the microphone"
        )
    gain = gain_to(taken, level, level_db, tolerance_db)
    return PreparedClip(
        samples=fade_ends(fill_zeros(taken * np.float32(gain), sample_rate), sample_rate),
        sample_rate=sample_rate,
        start_s=excerpt.start_s,
        end_s=excerpt.end_s,
        clip_s=clip_s,
        level_db=level,
        gain_db=20.0 * float(np.log10(gain)),
        noise_db=chosen.noise_db,
        remarks=tuple(found),
    )


# Refusals.


def _check_length(clip_s: float, max_clip_s: float) -> None:
    if not MIN_REFERENCE_S <= clip_s <= max_clip_s:
        raise ReferenceAudioError(
            f"the reference audio is {clip_s:.2f} s long; it must be {MIN_REFERENCE_S:g} to {max_clip_s:g} s; it is "
            "never cut silently: cut it where the voice is clearest"
        )


def _check_scale(samples: Samples) -> None:
    """Refuse integers that came as floats."""
    peak = float(max(samples.max(), -samples.min()))
    if peak > _MAX_FLOAT_PEAK:
        raise ReferenceAudioError(
            f"the reference audio has samples up to {peak:.0f} as floats, whose full scale is 1; 16-bit values must be "
            "passed as int16, or be divided by 32768"
        )


def _check_heard(samples: Samples, rate: int, activity: Activity) -> None:
    """Refuse silence, and what lies beside the band of voices."""
    if activity.loud_db > _SILENCE_DB:
        return
    power = to_db(float(np.einsum("s,s->", samples, samples, dtype=np.float64)) / len(samples))
    if power <= _SILENCE_DB:
        raise ReferenceAudioError(
            f"the reference audio is silent (at most {max(activity.loud_db, power):.0f} dB of full scale); it must "
            "hold a voice: check the microphone, and that the right channel was recorded"
        )
    offset = float(samples.mean(dtype=np.float64))
    got = f"a constant offset (DC) of {offset:.2g}" if to_db(offset**2) > power - 3.0 else "nothing from 60 to 4000 Hz"
    raise ReferenceAudioError(
        f"the reference audio holds {got}, and no voice; it must hold a voice: check the microphone and the cable"
    )


def _check_voice(activity: Activity) -> None:
    """Refuse sounds that no voice makes."""
    if activity.is_of_tones:
        got = "tones, one or two lines in the spectrum"
    elif activity.is_voice.sum() * HOP_S >= _MIN_VOICE_S:
        return
    elif (activity.is_tone | activity.is_steady).sum() > activity.is_active.sum() / 2:
        got = "a steady sound that does not change as speech does, such as noise, hum or a chord"
    else:
        got = "no sound with the pitch of a voice: noise, clicks or a whisper"
    raise ReferenceAudioError(
        f"the reference audio holds {got}; it must hold a voice that speaks: check the recording and pass another"
    )


# Remarks.


def _remark_length(excerpt: Excerpt, clip_s: float, max_s: float) -> Iterator[str]:
    used_s = excerpt.end_s - excerpt.start_s
    span = f"{excerpt.start_s:.1f} to {excerpt.end_s:.1f} s"
    if clip_s > max_s:
        yield (
            f"the clip is {clip_s:.1f} s long and at most {max_s:g} s are used: those from {span}, where the voice is "
            "clearest; pass a part of it to choose another"
        )
    elif excerpt.leaves_speech:
        yield (
            f"the clip ends within a word, which the voice would go on with; {span} of {clip_s:.1f} s were used, up to "
            "the last pause; let a clip end on a pause"
        )
    elif excerpt.ends_within_word:
        yield (
            "the clip ends within a word, which the voice may go on with; what is up to the last pause would be less "
            f"than {GOOD_REFERENCE_S:g} s, so that all was used; let a clip end on a pause"
        )
    if clip_s < GOOD_REFERENCE_S:
        yield f"the reference audio is {clip_s:.2f} s long; {GOOD_REFERENCE_S:g} s and more clone better"
    elif used_s < _GOOD_SOUND_S:
        yield (
            f"the reference audio holds {used_s:.2f} s of sound in {clip_s:.2f} s; {GOOD_REFERENCE_S:g} s and more "
            "clone better"
        )


def _remark_voice(activity: Activity) -> Iterator[str]:
    voice_s = float(activity.is_voice.sum()) * HOP_S
    share = float(activity.is_voice.sum() / activity.is_active.sum())
    if voice_s < _SURE_VOICE_S or share < _SURE_VOICE_SHARE:
        yield (
            f"only {voice_s:.1f} s of the clip sound like a voice that speaks ({100 * share:.0f} % of what is heard); "
            "a voice made of noise or music is of no use; listen to the clip"
        )
    if activity.noise_db > _NOISE_DB:
        yield (
            f"the noise in the clip is only {-activity.noise_db:.0f} dB below the voice and will be heard with it; "
            "record in a quieter place, or nearer to the microphone"
        )


def _remark_clipping(samples: Samples) -> Iterator[str]:
    centred = samples - samples.mean(dtype=np.float64).astype(np.float32)
    # Each side by itself: an amplifier may cut one alone.
    if any(_is_clipped(side) for side in (centred[centred > 0], -centred[centred < 0])):
        yield (
            "the clip is clipped: its peaks are cut off, and the voice will sound as harsh; record it again at a lower "
            "level (turning it down afterwards does not help)"
        )


def _is_clipped(values: Samples) -> bool:
    """Tell whether positive values pile up at the top."""
    values = values[values > _NEXT_TO_NOTHING * values.max()] if len(values) else values
    if not len(values):
        return False
    q90, q95, q99, q999, top = np.quantile(values, [0.90, 0.95, 0.99, 0.999, 0.9998])
    at_rail = float((values > _RAIL * top).mean())
    return bool(at_rail > _MAX_AT_RAIL or q999 < _MIN_PEAK_RATIO * q95 or q99 < _MIN_CREST_RATIO * q90)
