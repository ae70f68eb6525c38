# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What a type checker must refuse: each line below is a mistake, and `make check` fails when one passes for right.

Never run. What goes wrong at run time is in tests/unit/test_options.py.
"""

from voxtral import VoxtralTTS
from voxtral.types import SpeechRequest


async def make_mistakes(model: VoxtralTTS) -> None:
    model.synthesize("x", sped=2)  # pyright: ignore[reportCallIssue]
    model.synthesize("x", voice=3.5)  # pyright: ignore[reportArgumentType]
    model.synthesize("x", seed="seven")  # pyright: ignore[reportArgumentType]
    model.synthesize("x", normalize="on")  # pyright: ignore[reportArgumentType]
    model.synthesize("x", timestamps="yes")  # pyright: ignore[reportArgumentType]
    model.synthesize("x", verify="always")  # pyright: ignore[reportArgumentType]
    model.synthesize("x", reference_audio=7)  # pyright: ignore[reportArgumentType]
    model.synthesize_to_file("x.wav", "x", sped=2)  # pyright: ignore[reportCallIssue]
    model.synthesize_stream("x", chunk_size="large")  # pyright: ignore[reportArgumentType]
    model.synthesize_batch(["x"], sped=2)  # pyright: ignore[reportCallIssue]
    model.submit("x")  # pyright: ignore[reportArgumentType]
    SpeechRequest("x", voice=3.5)  # pyright: ignore[reportArgumentType]
    model.synthesize("x", voice="casual_male", seed=7, speed=1.5, pause=0.1, normalize="auto", max_frames=9)
    model.synthesize("x", timestamps=True, verify="retry", max_attempts=5, keep_to_text=False).save_captions("x.srt")
    async for chunk in model.synthesize_stream("x", language="fr", reference_audio=b"clip"):
        chunk.samples.mean()
