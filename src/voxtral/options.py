"""Every option of speech, said once: its names, kind, range and default, and what is said of it where it may be given.

From this come the checks and the message about unknown keywords (`voxtral.speech.request`), the options of the command
line (`voxtral.cli.options`), the fields of HTTP (`voxtral.server.schema`) and the keys of a batch's lines
(`voxtral.jobs.inputs`). `SpeechOptions` is the same list for type checkers, and docs have a row for each; tests
compare. A new option is an Option here, a key of CommonOptions, a field of SpeechRequest or SamplingOptions, and what
it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from voxtral.types import DictionaryLike, Emoji, Normalize, SpeechRequest, Verify, Voice

MAX_SEED = 2**63 - 1
MIN_SPEED, MAX_SPEED = 0.25, 4.0

# A deadline of nothing could never be met; one of more than a day is a slip.
_MIN_DEADLINE_S, _MAX_DEADLINE_S = 0.001, 86400.0


@dataclass(frozen=True)
class Flag:
    """How the command line has an option.

    Attributes:
        name: such as --speed; of what is on without it, the option that turns it off.
        metavar: stands for the value in the help; empty for a switch.
        help: its line there.
    """

    name: str
    metavar: str
    help: str


@dataclass(frozen=True)
class Option:
    """One option of speech.

    Attributes:
        name: keyword in Python, and the name everywhere but on the command line.
        about: what it does, in a sentence for docs/OPTIONS.md.
        kind: of its value.
        default: None where not giving it means something of its own.
        low: smallest value; None for what is no number.
        high: largest value.
        choices: all values there are; empty for any.
        place: where a SpeechRequest has it, such as "pause_s" or "sampling.max_frames".
        flag: on the command line; None if it has none.
        is_field: HTTP has a field of this name.
        field_help: what the OpenAPI document says of the field.
        is_key: a line of a batch may have it.
    """

    name: str
    about: str
    kind: Literal["text", "number", "whole", "choice", "switch", "voice", "clip", "dictionary"]
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    place: str = ""
    flag: Flag | None = None
    is_field: bool = False
    field_help: str | None = None
    is_key: bool = True

    def value_in(self, request: SpeechRequest) -> Any:
        """Read the option out of a request."""
        value: Any = request
        for name in (self.place or self.name).split("."):
            value = getattr(value, name)
        return value


VOICE = Option(
    "voice",
    "Who speaks: a preset, a saved voice, a VoicePrompt, or a blend of up to four: `a+b`, `a:0.7+b:0.3`.",
    "voice",
    flag=Flag(
        "--voice", "VOICE", "A preset (see voxtral voices), or a .safetensors voice file. Blends: a+b, a:0.7+b:0.3."
    ),
)
LANGUAGE = Option(
    "language",
    "Chooses the default voice and the rules of `normalize`; no model input. Without it: the language of the voice "
    "that is named, else that of the text where it is sure, else English.",
    "text",
    flag=Flag("--language", "LANGUAGE", "Chooses the default voice and the rules of --normalize."),
    is_field=True,
    field_help="Chooses the default voice; it is no input of the model.",
)
REFERENCE_AUDIO = Option(
    "reference_audio",
    "A clip to clone; needs a checkpoint with codec encoder.",
    "clip",
    flag=Flag("--reference", "CLIP", "Speak with the voice of this clip."),
)
SEED = Option(
    "seed",
    "The same seed gives the same speech; drawn and reported if it is not given.",
    "whole",
    low=0,
    high=MAX_SEED,
    flag=Flag("--seed", "N", "The same seed gives the same audio."),
    is_field=True,
    field_help="The same seed gives the same speech.",
)
SPEED = Option(
    "speed",
    "Speaks faster or slower; the pitch stays.",
    "number",
    default=1.0,
    low=MIN_SPEED,
    high=MAX_SPEED,
    flag=Flag("--speed", "X", "0.25 to 4; the pitch stays."),
    is_field=True,
    field_help="The pitch stays.",
)
PAUSE = Option(
    "pause",
    "Seconds of silence between the segments of a long text.",
    "number",
    default=0.25,
    low=0.0,
    high=60.0,
    place="pause_s",
    flag=Flag("--pause", "S", "Seconds between the segments of a long text."),
    is_field=True,
    field_help="Seconds between the segments of a long text.",
)
NORMALIZE = Option(
    "normalize",
    "`clean` makes white space, invisible characters and dressed letters (no-break spaces, full-width letters, "
    "ligatures) plain, and leaves the words; `auto` also writes numbers as words and drops markup; `off` is verbatim, "
    "as the official code.",
    "choice",
    default="clean",
    choices=("off", "clean", "auto"),
    flag=Flag(
        "--normalize",
        "off|clean|auto",
        "auto writes numbers as words and drops markup; clean makes odd spaces and letters plain; off is verbatim.",
    ),
    is_field=True,
    field_help="auto writes numbers as words and drops markup. clean makes odd spaces and letters plain; off is "
    "verbatim.",
)
DEADLINE_S = Option(
    "deadline_s",
    "Seconds from acceptance in which all audio must be made.",
    "number",
    low=_MIN_DEADLINE_S,
    high=_MAX_DEADLINE_S,
    is_key=False,
)
GUIDANCE_SCALE = Option(
    "guidance_scale",
    "Weight of the conditional velocity.",
    "number",
    low=0.0,
    high=10.0,
    place="sampling.guidance_scale",
    flag=Flag("--guidance", "X", "Guidance scale."),
    is_field=True,
)
NOISE_SCALE = Option(
    "noise_scale",
    "Factor on the noise that each frame starts from.",
    "number",
    low=0.0,
    high=2.0,
    place="sampling.noise_scale",
    flag=Flag("--noise", "X", "Noise scale."),
    is_field=True,
    field_help="Factor on the noise that each frame starts from.",
)
NUM_EULER_STEPS = Option(
    "num_euler_steps",
    "Steps of the flow for each frame.",
    "whole",
    low=1,
    high=100,
    place="sampling.num_euler_steps",
    flag=Flag("--steps", "N", "Euler steps per frame."),
    is_field=True,
    field_help="Euler steps per frame, at most the checkpoint's own number: more would slow others down.",
)
MAX_FRAMES = Option(
    "max_frames",
    "Cuts each segment after so many frames of 80 ms.",
    "whole",
    low=1,
    high=2**31,
    place="sampling.max_frames",
    flag=Flag("--max-frames", "N", "Cut each segment after so many frames."),
    is_field=True,
    field_help="Cuts each part of the text after so many frames of 80 ms.",
)
TIMESTAMPS = Option(
    "timestamps",
    "Tells of each word when it is heard; a batch does in a .json beside each file. No sample changes.",
    "switch",
    default=False,
    flag=Flag(
        "--timestamps", "", "Tell of each word when it is heard, as JSON: speak with --json, batch beside each file."
    ),
    is_field=True,
    field_help="Tells of each word when it is heard, in the events; no sample changes.",
)
VERIFY = Option(
    "verify",
    "What is done about speech that skips, repeats or adds words, as far as the model itself knows: nothing; `report` "
    "says so, and changes no sample; `retry` also makes such a segment again.",
    "choice",
    default="off",
    choices=("off", "report", "retry"),
    flag=Flag("--verify", "off|report|retry", "Say where speech does not follow its text; retry makes it again."),
    is_field=True,
    field_help="report says where speech does not follow its text; retry also makes such parts again.",
)
MAX_ATTEMPTS = Option(
    "max_attempts",
    "Times that a segment is made at most where `verify` is `retry`.",
    "whole",
    default=3,
    low=1,
    high=10,
    flag=Flag("--attempts", "N", "With --verify retry: times that a segment is made at most."),
    is_field=True,
    field_help="Times that a part of the text is made at most where verify is retry.",
)
KEEP_TO_TEXT = Option(
    "keep_to_text",
    "Does not let the model end before it has said the text, nor go on after it, where the checkpoint lets it be "
    "known how far it is.",
    "switch",
    default=True,
    flag=Flag("--no-keep-to-text", "", "Let the model end when it likes, also before it has said the text."),
    is_field=True,
    field_help="false lets the model end when it likes, also before it has said the text.",
)
SSML = Option(
    "ssml",
    "The text is SSML, of which speak, p, s, break, sub, say-as and lang are done and all else is refused; a text that "
    "begins with `<speak` is taken for SSML without it.",
    "switch",
    default=False,
    flag=Flag("--ssml", "", "The text is SSML, also where it does not begin with <speak."),
    is_field=True,
    field_help="The text is SSML, also where it does not begin with <speak.",
)
DICTIONARY = Option(
    "dictionary",
    "What is said for words of yours, at any level of `normalize`: a file (.json, .csv, .pls), or the rules.",
    "dictionary",
    flag=Flag("--dictionary", "FILE", "What is said for words of yours: .json, .csv or .pls; docs/TEXT.md."),
    is_field=True,
    field_help="What is said for words: rules with written and spoken, a table of both, or the name of a dictionary "
    "that is kept here.",
)
EMOJI = Option(
    "emoji",
    "`name` says the names of emoji, at any level of `normalize`: grinning face, flag: Germany. `off` leaves them to "
    "`normalize`, of which `auto` drops them.",
    "choice",
    default="off",
    choices=("off", "name"),
    flag=Flag("--emoji", "off|name", "name says the names of emoji; off leaves them to --normalize."),
    is_field=True,
    field_help="name says the names of emoji; off leaves them to normalize, where auto drops them.",
)

OPTIONS = (
    VOICE,
    LANGUAGE,
    REFERENCE_AUDIO,
    SEED,
    SPEED,
    PAUSE,
    NORMALIZE,
    DEADLINE_S,
    GUIDANCE_SCALE,
    NOISE_SCALE,
    NUM_EULER_STEPS,
    MAX_FRAMES,
    TIMESTAMPS,
    VERIFY,
    MAX_ATTEMPTS,
    KEEP_TO_TEXT,
    SSML,
    DICTIONARY,
    EMOJI,
)
"""All of them; `language` and `reference_audio` are parameters of `synthesize`, the others its keywords."""

POSITIONAL = (LANGUAGE, REFERENCE_AUDIO)


class CommonOptions(TypedDict, total=False):
    """The keywords that the items of a batch may have in common; see `SpeechRequest` for what they mean."""

    voice: Voice | None
    speed: float
    pause: float
    normalize: Normalize
    deadline_s: float | None
    guidance_scale: float | None
    noise_scale: float | None
    num_euler_steps: int | None
    max_frames: int | None
    timestamps: bool
    verify: Verify
    max_attempts: int
    keep_to_text: bool
    ssml: bool
    dictionary: DictionaryLike | None
    emoji: Emoji


class SpeechOptions(CommonOptions, total=False):
    """The keywords of `synthesize` and its kin."""

    seed: int | None
