"""The page at `/` in a headless Chromium, on a real server with nano.

Skipped where there is no Chromium, unless VOXTRAL_REQUIRE_BROWSER=1 makes that a failure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from serving import Serving, serving
from voxtral.audio.pcm import to_int16
from voxtral.server.service import Utterance
from voxtral.tts import VoxtralTTS

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
PATIENCE_MS = 20_000

SHORT = "It is heard while it is made."
LONG = "A text that is long enough to be heard while most of it is still to be made. " * 3

AWKWARD = 'It\'s "so",\n@on; \\$A `b`!'

HAS_VOICES = "() => document.querySelectorAll('#voice optgroup').length > 1"

# What the picture shows of a recording, in seconds: columns with more than the line of silence in the middle.
DRAWN = """() => {
    const canvas = document.getElementById("wave");
    const { width, height } = canvas;
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, width, Math.floor(height * 0.45));
    const columns = new Set();
    for (let pixel = 0; pixel < data.length / 4; pixel++) if (data[pixel * 4 + 3]) columns.add(pixel % width);
    return columns.size / width * document.getElementById("seek").max;
}"""

POSITION = "() => Number(document.getElementById('seek').value)"


def find_chromium() -> str | None:
    names = (os.environ.get("VOXTRAL_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def nano() -> Iterator[VoxtralTTS]:
    with VoxtralTTS.from_pretrained("nano", device="cpu") as model:
        yield model


@pytest.fixture(scope="module")
def server(nano: VoxtralTTS) -> Iterator[Serving]:
    with serving(nano) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        tell = pytest.fail if os.environ.get("VOXTRAL_REQUIRE_BROWSER") == "1" else pytest.skip
        tell("no Chromium: install it, or name it in VOXTRAL_CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A page that was opened, and what went wrong on it."""

    page: Page
    problems: list[str] = field(default_factory=list)

    def speak(self, text: str, **settings: str) -> None:
        self.page.fill("#text", text)
        for name, value in settings.items():
            self.page.fill(f"#{name}", value)
        self.page.press("#text", "Control+Enter")

    def expect_status(self, status: str) -> None:
        # expect() would look again only after up to a second.
        self.wait_for(f"() => document.getElementById('status').textContent === '{status}'")

    def wait_for(self, script: str) -> None:
        # Not page.wait_for_function: it runs strings as code in the page, which the page's own policy forbids.
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not self.page.evaluate(script):
            assert time.monotonic() < deadline, f"waited too long for {script}"
            self.page.wait_for_timeout(25)

    def marks(self) -> dict[str, float]:
        script = "() => performance.getEntriesByType('mark').map(mark => [mark.name, mark.startTime])"
        return dict(self.page.evaluate(script))

    def download(self, folder: Path) -> Path:
        with self.page.expect_download() as info:
            self.page.click("#download")
        target = folder / info.value.suggested_filename
        info.value.save_as(target)
        return target

    def command(self) -> str:
        return self.page.locator("#command").text_content() or ""


@pytest.fixture
def visit(browser: Browser, server: Serving) -> Iterator[Callable[..., Visit]]:
    """Open the page; afterwards nothing may have gone wrong but what a test has taken out of `problems`."""
    expect.set_options(timeout=PATIENCE_MS)
    opened: list[Visit] = []

    def open_page(url: str = server.url, *, has_voices: bool = True, init_script: str = "", **options: object) -> Visit:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(init_script)
        seen = Visit(context.new_page())
        opened.append(seen)

        def note_console(message: ConsoleMessage) -> None:
            # Chromium reports violations of the security policy here too.
            if message.type in ("error", "warning"):
                seen.problems.append(message.text)

        def note_request(request: Request) -> None:
            if not request.url.startswith(("blob:", "data:", url + "/")):
                seen.problems.append(f"asks {urlsplit(request.url).netloc}")

        seen.page.on("console", note_console)
        seen.page.on("pageerror", lambda error: seen.problems.append(str(error)))
        seen.page.on("request", note_request)
        seen.page.goto(url)
        if has_voices:
            seen.wait_for(HAS_VOICES)
        return seen

    yield open_page
    for seen in opened:
        seen.page.context.close()
    assert [problem for seen in opened for problem in seen.problems] == []
    server.wait_until_idle()


def test_speech_is_heard_and_drawn_before_the_response_ends(visit: Callable[..., Visit]) -> None:
    seen = visit()
    assert seen.page.evaluate(DRAWN) == 0
    seen.speak(LONG)
    drawn = []
    while "voxtral-response-ended" not in seen.marks():
        drawn.append(seen.page.evaluate(DRAWN))
        time.sleep(0.05)
    marks = seen.marks()
    assert marks["voxtral-audio-started"] < marks["voxtral-response-ended"]
    rising = [later > earlier + 0.2 for earlier, later in pairwise(drawn)]
    assert sum(rising) >= 3, drawn


def test_the_download_is_what_the_engine_makes(visit: Callable[..., Visit], nano: VoxtralTTS, tmp_path: Path) -> None:
    seen = visit()
    seen.page.select_option("#language", "fr")
    voice = next(voice.name for voice in nano.voices if voice.language == "fr" and not voice.is_default)
    seen.page.select_option("#voice", voice)
    seen.speak("Bonjour tout le monde.", seed="7", speed="1.25")
    seen.expect_status("Done")
    wav = seen.download(tmp_path)
    expected = to_int16(nano.synthesize("Bonjour tout le monde.", "fr", voice=voice, seed=7, speed=1.25).samples)
    samples, rate = soundfile.read(wav, dtype="int16")
    assert wav.name == "voxtral-7.wav"
    assert rate == 24000
    assert soundfile.info(wav).subtype == "PCM_16"
    assert np.array_equal(samples, expected)
    facts = {name: seen.page.inner_text(f"#fact-{name}") for name in ("first", "duration", "rtf", "voice", "seed")}
    assert facts["duration"] == f"{len(samples) / rate:.1f} s"
    assert (facts["voice"], facts["seed"]) == (voice, "7")
    assert re.fullmatch(r"\d+ ms", facts["first"])
    assert float(facts["rtf"]) > 0


def test_what_was_spoken_can_be_paused_sought_and_heard_again(visit: Callable[..., Visit]) -> None:
    seen = visit()
    play = seen.page.locator("#play")
    seen.speak(SHORT)
    seen.expect_status("Done")
    play.click()
    expect(play).to_have_attribute("aria-label", "Play")
    paused = seen.page.evaluate(POSITION)
    time.sleep(0.1)
    assert 0 < seen.page.evaluate(POSITION) == paused
    seen.page.press("#seek", "End")
    seen.page.press("#seek", "ArrowLeft")
    end = seen.page.evaluate("() => Number(document.getElementById('seek').max)")
    seen.wait_for(f"() => Math.abs(({POSITION})() - Math.max(0, {end} - 1)) < 0.02")
    play.press("Enter")
    expect(play).to_have_attribute("aria-label", "Pause")
    expect(play).to_have_attribute("aria-label", "Play")
    assert seen.page.evaluate(POSITION) == pytest.approx(end, abs=0.01)
    # At the end it begins again.
    play.click()
    seen.wait_for(f"() => 0 < ({POSITION})() && ({POSITION})() < {paused}")


# All that the page sends to the loudspeaker goes through a tap, which keeps it in `heard`.
INSTALL_TAP = """
const find = Object.getOwnPropertyDescriptor(BaseAudioContext.prototype, "destination").get;
const code = `registerProcessor("tap", class extends AudioWorkletProcessor {
    process([[samples]]) {
        if (samples) this.port.postMessage(samples.slice());
        return true;
    }
})`;
window.heard = [];
Object.defineProperty(AudioContext.prototype, "destination", {
    get() {
        if (!this.wire) {
            this.wire = this.createGain();
            this.wire.connect(find.call(this));
            this.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(code)}`).then(() => {
                const tap = new AudioWorkletNode(this, "tap");
                tap.port.onmessage = ({ data }) => window.heard.push(...data);
                this.wire.connect(tap);
                window.isTapped = true;
            });
        }
        return this.wire;
    },
});
"""


def test_it_plays_the_samples_without_a_gap(visit: Callable[..., Visit], tmp_path: Path) -> None:
    seen = visit(init_script=INSTALL_TAP, bypass_csp=True)
    seen.speak("Good morning.")
    seen.expect_status("Done")
    samples = read(seen.download(tmp_path)) / 32768
    seen.wait_for("() => window.isTapped")
    # Heard from the start once more, now that the tap is in place.
    seen.page.keyboard.press("Escape")
    seen.page.evaluate("() => { heard.length = 0; }")
    seen.page.click("#play")
    seen.wait_for(f"() => heard.length > {len(samples)} && document.getElementById('play').ariaLabel === 'Play'")
    seen.page.wait_for_timeout(500)  # the tap's last words come a little later
    heard = np.array(seen.page.evaluate("() => heard"))
    # Some of what was played before may have come late as well.
    begin = int(np.argmax(np.correlate(heard, samples, mode="valid")))
    np.testing.assert_allclose(heard[begin : begin + len(samples)], samples, atol=1e-6)


def test_the_command_makes_the_same_request(visit: Callable[..., Visit], tmp_path: Path) -> None:
    seen = visit()
    seen.page.select_option("#voice", "de_m1")
    seen.speak(AWKWARD, seed="9223372036854775807")
    seen.expect_status("Done")
    assert np.array_equal(run_in_shell(seen.command(), tmp_path), read(seen.download(tmp_path)))


def test_a_clip_that_is_dropped_is_the_voice(visit: Callable[..., Visit], nano: VoxtralTTS, tmp_path: Path) -> None:
    clip = tmp_path / 'grand\'mère; "1".wav'
    nano.synthesize("Nobody on the stairs looked up.", "en", seed=3).save(clip)
    seen = visit()
    dropped = seen.page.evaluate_handle(
        """([name, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name));
            return data;
        }""",
        [clip.name, list(clip.read_bytes())],
    )
    seen.page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    expect(seen.page.locator("#clip-name")).to_have_text(clip.name)
    expect(seen.page.locator("#voice")).to_be_disabled()
    seen.speak(AWKWARD, seed="5")
    seen.expect_status("Done")
    expect(seen.page.locator("#fact-voice")).to_have_text("cloned")
    assert np.array_equal(run_in_shell(seen.command(), tmp_path), read(seen.download(tmp_path)))
    seen.page.click("#clip-remove")
    expect(seen.page.locator("#voice")).to_be_enabled()
    assert "reference" not in seen.command()
    seen.page.set_input_files("#clip", clip)
    expect(seen.page.locator("#clip-name")).to_have_text(clip.name)
    assert "reference" in seen.command()


def run_in_shell(command: str, folder: Path) -> np.ndarray:
    """Run the command as a person would, and read the WAV that it writes; streamed, it does not know its length."""
    subprocess.run(["sh", "-c", command.replace("curl ", "curl -sS ", 1)], cwd=folder, check=True, timeout=30)
    return np.frombuffer((folder / "speech.wav").read_bytes()[44:], dtype="<i2")


def read(wav: Path) -> np.ndarray:
    return soundfile.read(wav, dtype="int16")[0]


def test_errors_of_the_server_are_shown(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.speak(SHORT, seed="9" * 19)
    expect(seen.page.locator("#error")).to_contain_text("seed: Input should be less than or equal to")
    assert seen.problems == ["Failed to load resource: the server responded with a status of 400 (Bad Request)"]
    seen.problems.clear()
    seen.speak(SHORT, seed="")
    seen.expect_status("Done")
    expect(seen.page.locator("#error")).to_be_hidden()


def test_a_stream_that_breaks_says_so(
    visit: Callable[..., Visit], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = Utterance.read
    num_reads = 0

    async def read_some(utterance: Utterance) -> bytes:
        nonlocal num_reads
        num_reads += 1
        if num_reads > 4:
            raise RuntimeError("broken by the test")
        return await read(utterance)

    monkeypatch.setattr(Utterance, "read", read_some)
    seen = visit()
    seen.speak(LONG)
    expect(seen.page.locator("#error")).to_have_text(re.compile(r"The stream broke after \d+\.\d s of audio"))
    assert seen.problems == ["Failed to load resource: net::ERR_INCOMPLETE_CHUNKED_ENCODING"]
    seen.problems.clear()
    assert re.fullmatch(r"voxtral-\d+-part\.wav", seen.download(tmp_path).name)


def test_escape_stops_the_sound_and_the_server(visit: Callable[..., Visit], server: Serving) -> None:
    cancellations = server.service.metrics.cancellations
    before = cancellations.collect()[0].samples[0].value
    seen = visit()
    seen.speak(LONG * 20)
    seen.wait_for("() => document.getElementById('seek').value > 0")
    assert server.service.admission.num_active == 1
    seen.page.keyboard.press("Escape")
    seen.expect_status("Stopped")
    expect(seen.page.locator("#play")).to_have_attribute("aria-label", "Play")
    server.wait_until_idle()
    assert cancellations.collect()[0].samples[0].value == before + 1


def test_the_key_is_asked_for_and_kept_in_the_tab_alone(visit: Callable[..., Visit], nano: VoxtralTTS) -> None:
    with serving(nano, api_key="a-key-of-this-test") as guarded:
        seen = visit(guarded.url, has_voices=False)
        seen.page.fill("#key", "wrong")
        seen.page.press("#key", "Enter")
        expect(seen.page.locator("#key-why")).to_be_visible()
        seen.page.fill("#key", "a-key-of-this-test")
        seen.page.press("#key", "Enter")
        seen.wait_for(HAS_VOICES)
        seen.speak(SHORT)
        seen.expect_status("Done")
        assert seen.page.evaluate("() => [sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        assert '-H "Authorization: Bearer $VOXTRAL_API_KEY"' in seen.command()
        refused = "Failed to load resource: the server responded with a status of 401 (Unauthorized)"
        assert seen.problems == [refused, refused]
        seen.problems.clear()
        seen.page.context.close()


def test_it_fits_a_phone_in_both_colour_schemes(visit: Callable[..., Visit]) -> None:
    seen = visit(viewport={"width": 360, "height": 740}, color_scheme="dark")
    overflow = "() => document.documentElement.scrollWidth - innerWidth"
    assert seen.page.evaluate(overflow) <= 0
    seen.page.click("summary")
    seen.speak("Donaudampfschifffahrtsgesellschaftskapitän", seed="9223372036854775807")
    seen.expect_status("Done")
    assert seen.page.evaluate(overflow) <= 0
    brightness = "() => getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)"
    dark = seen.page.evaluate(brightness)
    seen.page.emulate_media(color_scheme="light")
    assert max(dark) < 64 < 192 < min(seen.page.evaluate(brightness))
