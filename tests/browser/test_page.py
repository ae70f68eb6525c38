"""The page at `/` in a headless Chromium, on a real server with nano.

Skipped where there is no Chromium, unless VOXTRAL_REQUIRE_BROWSER=1 makes that a failure.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, expect, sync_playwright

from checkpoints import BRIEF, strip_encoder
from serving import Serving, serving
from spoken_clips import spoken_file
from voxtral.audio.encode import FORMATS
from voxtral.audio.pcm import to_int16
from voxtral.audio.writers import can_write
from voxtral.cloning import search
from voxtral.cloning.options import RefineProgress
from voxtral.errors import NumericsError
from voxtral.server.service import Utterance
from voxtral.server.voice_jobs import VoiceJob
from voxtral.tts import VoxtralTTS
from word_times import give_words, words_of

pytestmark = pytest.mark.clients

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

    def expect_text(self, name: str, part: str) -> None:
        self.wait_for(f"() => document.getElementById('{name}').textContent.includes({json.dumps(part)})")

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

    def open_page(
        url: str = server.url,
        *,
        has_voices: bool = True,
        init_script: str = "",
        by: Browser = browser,
        **options: object,
    ) -> Visit:
        context = by.new_context(**options)
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


# Which word is marked, at which second of what is heard; a line for each time that it changes.
NOTE_MARKS = """() => {
    window.marked = [];
    const note = () => {
        const word = document.querySelector("#heard mark").textContent;
        const at = Number(document.getElementById("seek").value);
        if (word !== (marked.at(-1)?.word ?? "")) marked.push({ word, at });
        requestAnimationFrame(note);
    };
    note();
}"""


def test_the_word_that_is_heard_is_marked_in_step_with_the_sound(
    visit: Callable[..., Visit], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Good 🙂 morning to you, my dear friend."
    give_words(monkeypatch, text)
    seen = visit(reduced_motion="reduce")
    heard = seen.page.locator("#heard")
    expect(heard).to_be_hidden()
    # On a page that has spoken before, and is heard while it is made.
    seen.page.evaluate(NOTE_MARKS)
    seen.speak(text, seed="7")
    seen.expect_status("Done")
    seen.wait_for("() => document.getElementById('play').ariaLabel === 'Play'")
    duration = seen.page.evaluate("() => Number(document.getElementById('seek').max)")
    words = {text[word.text_start : word.text_end]: word for word in words_of(text) if word.start_s < duration}
    marked = [entry for entry in seen.page.evaluate("() => marked") if entry["word"]]
    assert [entry["word"] for entry in marked] == list(words)
    for entry in marked:
        # The slider is moved and the word is marked with one frame of the screen, and frames may be slow here.
        assert -0.01 <= entry["at"] - words[entry["word"]].start_s < 0.3, entry
    expect(heard).to_have_text(text)
    expect(heard).to_have_attribute("aria-hidden", "true")
    assert seen.page.evaluate("() => document.querySelector('#heard mark').textContent") == ""
    assert (
        seen.page.evaluate("() => getComputedStyle(document.querySelector('#heard mark')).transitionDuration") == "0s"
    )
    # Sought, it is the word of that place.
    seen.page.press("#seek", "Home")
    seen.page.evaluate(
        "() => { const seek = document.getElementById('seek');"
        " seek.value = 0.5; seek.dispatchEvent(new Event('input')); }"
    )
    expect(heard.locator("mark")).to_have_text("morning")


def test_a_voice_that_is_heard_first_has_no_words(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.page.click("#preview")
    seen.expect_status("Done")
    expect(seen.page.locator("#heard")).to_be_hidden()


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
        assert seen.page.evaluate("() => [sessionStorage.length, document.cookie]") == [1, ""]
        assert "a-key-of-this-test" not in seen.page.evaluate("() => JSON.stringify(localStorage)")
        assert '-H "Authorization: Bearer $VOXTRAL_API_KEY"' in seen.command()
        refused = "Failed to load resource: the server responded with a status of 401 (Unauthorized)"
        assert seen.problems == [refused, refused]
        seen.problems.clear()
        seen.page.context.close()


def test_each_format_that_the_server_writes_can_be_downloaded(visit: Callable[..., Visit], tmp_path: Path) -> None:
    seen = visit()
    expect(seen.page.locator("#download")).to_be_disabled()
    seen.speak("Hello.", seed="7", speed="2")
    seen.expect_status("Done")
    formats = seen.page.locator("#format option").evaluate_all("options => options.map(option => option.value)")
    assert formats[:2] == ["wav", "mp3"]
    assert set(formats) == set(FORMATS) - {"ogg", "m4a", *([] if can_write("aac") else ["aac"])}
    for name in formats:
        seen.page.select_option("#format", name)
        file = seen.download(tmp_path)
        assert file.name == f"voxtral-7.{name}"
        if name in ("mp3", "flac", "opus"):
            info = soundfile.info(file)
            assert (info.format, info.subtype) == CONTAINERS[name]
            assert info.duration == pytest.approx(soundfile.info(tmp_path / "voxtral-7.wav").duration, abs=0.1)
    assert np.array_equal(np.fromfile(tmp_path / "voxtral-7.pcm", "<i2"), read(tmp_path / "voxtral-7.wav"))


CONTAINERS = {"mp3": ("MP3", "MPEG_LAYER_III"), "flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}


def test_what_it_takes_for_granted_is_shown_and_can_be_said(
    visit: Callable[..., Visit], nano: VoxtralTTS, tmp_path: Path
) -> None:
    seen = visit()

    def add_language(route: Route) -> None:
        answer = route.fetch()
        language = {"X-Voxtral-Language": "fr", "X-Voxtral-Language-Source": "text"}
        route.fulfill(response=answer, headers={**answer.headers, **language})

    seen.page.route("**/v1/audio/speech", add_language)
    assert seen.page.locator("#language option:checked").text_content() == "Guess"
    seen.page.check("#normalize")
    seen.speak("Le 3 mai.", seed="7")
    seen.expect_status("Done")
    seen.expect_text("fact-language", "French, guessed")
    expected = to_int16(nano.synthesize("Le 3 mai.", seed=7, normalize="auto").samples)
    assert np.array_equal(read(seen.download(tmp_path)), expected)
    assert '"normalize": "auto"' in seen.command()


# What is underlined, and in which way; and whether each line is under the letters of the box.
UNDERLINED = """() => [...document.querySelectorAll("#changes span")].map(span => [span.textContent, span.className])"""
FITS = """() => {
    const box = document.getElementById("text"), layer = document.querySelector("#changes > div");
    const style = (element, name) => getComputedStyle(element)[name];
    const names = ["font", "letterSpacing", "padding", "whiteSpace", "overflowWrap", "textAlign", "direction"];
    const [seen, top] = [layer.getBoundingClientRect(), box.getBoundingClientRect().top + box.clientTop];
    return names.every(name => style(box, name) === style(layer, name))
        && seen.width === box.clientWidth
        && Math.abs(seen.top - top + box.scrollTop) < 1
        && Math.abs(Math.max(seen.height, box.clientHeight) - box.scrollHeight) < 2;
}"""


def test_what_is_read_otherwise_is_underlined_and_written_out(visit: Callable[..., Visit]) -> None:
    seen = visit()
    spoken = seen.page.locator("#spoken")
    expect(seen.page.locator("#reading")).to_be_hidden()
    seen.page.check("#normalize")
    # The emoji is two units to the page, and one character to the server; half a character is none.
    seen.page.evaluate(
        "() => { document.getElementById('text').value = 'A 😀 \\ud83d costs **$5**, 7\\\\2 and **x**.'; }"
    )
    seen.page.focus("#text")
    seen.page.keyboard.press("End")
    seen.page.keyboard.type(" Now")
    seen.expect_text("reading-status", "may be said wrong")
    underlined = seen.page.evaluate(UNDERLINED)
    assert ["$5", "said"] in underlined
    assert ["😀", "gone"] in underlined
    assert underlined.count(["**", "gone"]) == 4
    assert [kind for text, kind in underlined if text in r"7\2"] == [" left"] * 3
    assert seen.page.evaluate(FITS)
    expect(spoken).to_be_hidden()
    seen.page.focus("#reading > summary")
    seen.page.keyboard.press("Enter")
    expect(spoken).to_contain_text(r"costs five dollars, 7\2 and x. Now")
    expect(spoken.locator("mark", has_text="five dollars")).to_have_attribute("title", "$5 (money)")
    expect(seen.page.locator("#reading-left li").first).to_have_text("7 stays in digits, and may be said wrong")
    assert seen.page.get_attribute("#text", "aria-describedby") == "reading-status"
    # While it is typed on, the marks go along with their words, and none is taken away.
    seen.page.route("**/v1/text/normalize", lambda route: None)
    seen.page.focus("#text")
    seen.page.keyboard.press("Home")
    seen.page.keyboard.type("So ")
    assert seen.page.evaluate(UNDERLINED) == underlined
    seen.page.unroute_all(behavior="ignoreErrors")
    seen.page.uncheck("#normalize")
    seen.expect_text("reading-left", "5 stays in digits")
    assert ["**", "gone"] not in seen.page.evaluate(UNDERLINED)
    seen.page.fill("#text", " ")
    expect(seen.page.locator("#reading")).to_be_hidden()
    assert seen.page.evaluate(UNDERLINED) == []


def test_a_long_text_is_looked_at_in_part_and_one_from_right_to_left_in_place(visit: Callable[..., Visit]) -> None:
    seen = visit(viewport={"width": 500, "height": 500})
    seen.page.check("#normalize")
    seen.page.select_option("#language", "ar")
    sizes: list[int] = []
    seen.page.on("request", lambda request: sizes.append(len(request.post_data or "")))
    line = "عندي 3 كتب. Hello 14:30. "
    with seen.page.expect_response("**/v1/text/normalize"):
        seen.page.fill("#text", line * 400)
    seen.expect_text("reading-rule", "Only the first 4")
    assert 0 < max(sizes) < 40_000
    assert len(seen.page.evaluate(UNDERLINED)) > 300
    seen.page.fill("#text", line * 60)
    seen.wait_for("() => document.getElementById('reading-rule').hidden")
    seen.page.evaluate("() => { document.getElementById('text').scrollTop = 99; }")
    seen.wait_for(FITS)
    assert seen.page.get_attribute("#spoken", "lang") == "ar"


def test_a_voice_is_heard_before_it_is_used(visit: Callable[..., Visit], nano: VoxtralTTS) -> None:
    seen = visit()
    seen.page.select_option("#language", "fr")
    with seen.page.expect_response("**/sample*") as info:
        seen.page.press("#preview", "Enter")
    default = next(voice.name for voice in nano.voices if voice.language == "fr" and voice.is_default)
    assert urlsplit(info.value.url).path == f"/v1/audio/voices/{default}/sample"
    seen.wait_for(f"() => ({POSITION})() > 0")
    seen.expect_text("fact-voice", default)
    seen.page.keyboard.press("Escape")
    assert seen.page.locator("#history-list li").count() == 0


def test_what_was_spoken_is_kept_in_the_browser_until_it_is_cleared(visit: Callable[..., Visit]) -> None:
    seen = visit()
    quoted = 'Say "<b>\\n@".'
    kept = "() => JSON.parse(localStorage.getItem('voxtral.history'))"
    seen.page.select_option("#voice", "de_m1")
    seen.speak(quoted, seed="11", speed="1.5")
    seen.expect_status("Done")
    assert [(entry["text"], entry["seed"]) for entry in seen.page.evaluate(kept)] == [(quoted, "11")]
    # As many as there may be, and what another version or a hand has written, are borne.
    seen.page.evaluate(
        """() => {
            const [entry] = JSON.parse(localStorage.getItem("voxtral.history"));
            const many = Array.from({ length: 49 }, (_, i) => ({ ...entry, text: `Old ${i}.` }));
            localStorage.setItem("voxtral.history", JSON.stringify([entry, { text: 5 }, ...many]));
        }"""
    )
    seen.page.reload()
    seen.wait_for(HAS_VOICES)
    seen.page.click("#history > summary")
    expect(seen.page.locator("#history-list li")).to_have_count(50)
    seen.page.click("#history-list li:first-child button")
    values = {name: seen.page.input_value(f"#{name}") for name in ("text", "voice", "seed", "speed")}
    assert values == {"text": quoted, "voice": "de_m1", "seed": "11", "speed": "1.5"}
    seen.speak("New.")
    seen.expect_status("Done")
    assert [entry["text"] for entry in seen.page.evaluate(kept)] == ["New.", quoted, *(f"Old {i}." for i in range(48))]
    seen.page.uncheck("#history-keep")
    seen.speak("A secret.")
    seen.expect_status("Done")
    assert seen.page.evaluate(kept)[0]["text"] == "New."
    seen.page.click("#history-clear")
    assert seen.page.evaluate(kept) is None
    expect(seen.page.locator("#history-list li")).to_have_count(0)


# What a page at http and another machine's address sees.
FAR_AWAY = """
Object.defineProperty(window, "isSecureContext", { value: false });
Object.defineProperty(Navigator.prototype, "mediaDevices", { value: undefined });
"""


def test_a_clip_is_kept_as_a_voice_with_consent_alone(
    visit: Callable[..., Visit], nano: VoxtralTTS, server: Serving, tmp_path: Path
) -> None:
    nano.synthesize("Nobody on the stairs looked up.", "en", seed=3).save(tmp_path / "clip.wav")
    seen = visit(init_script=FAR_AWAY)
    seen.page.click("#cloning > summary")
    assert seen.page.is_disabled("#record")
    assert "https" in seen.page.inner_text("#record-why")
    seen.page.set_input_files("#clip", tmp_path / "clip.wav")
    seen.page.click("#keep > summary")
    seen.page.fill("#keep-name", "Zoë")
    seen.page.fill("#keep-speaker", "Zoë Martin")
    seen.page.check("#keep-consent")
    seen.page.fill("#keep-speaker", "Zoë's mother")
    expect(seen.page.locator("#keep-consent")).not_to_be_checked()
    sentence = seen.page.inner_text("#keep-sentence")
    assert sentence.startswith("Zoë's mother agrees")
    seen.page.press("#keep-name", "Enter")
    with server.client() as client:
        assert client.get("/v1/audio/voices?type=custom").json()["total"] == 0
        seen.page.check("#keep-consent")
        seen.page.press("#keep-name", "Enter")
        seen.expect_text("keep-status", "Zoë is kept")
        assert client.get("/v1/audio/voices/Zoë").json()["consent"] == sentence
    assert seen.page.locator("#voice option:checked").text_content() == "Zoë"
    seen.speak("Hello.")
    seen.expect_text("fact-voice", "Zoë")


def test_what_the_server_does_not_do_is_not_offered(visit: Callable[..., Visit], nano: VoxtralTTS) -> None:
    with serving(nano, cloning=False, normalize="auto") as other:
        seen = visit(other.url)
        seen.wait_for("() => document.getElementById('normalize').checked")
        assert "normalize" not in seen.command()
        seen.page.uncheck("#normalize")
        assert '"normalize": "clean"' in seen.command()
        assert seen.page.is_hidden("#cloning")
        assert seen.page.is_hidden("#keep-refine")
        data = seen.page.evaluate_handle(
            "() => { const data = new DataTransfer(); data.items.add(new File(['x'], 'x.wav')); return data; }"
        )
        seen.page.dispatch_event("body", "drop", {"dataTransfer": data})
        seen.expect_text("error", "switched that off")
        seen.page.context.close()


@pytest.fixture
def beeping(browser: Browser) -> Iterator[Browser]:
    """Open a browser with a microphone that beeps once a second; with it, sound is played in larger steps, too."""
    flags = [*FLAGS, "--use-fake-device-for-media-stream"]
    another = browser.browser_type.launch(executable_path=find_chromium(), args=flags)
    yield another
    another.close()


def test_the_microphone_makes_a_clip(visit: Callable[..., Visit], beeping: Browser) -> None:
    seen = visit(by=beeping)
    sent: list[str] = []

    def take(route: Route) -> None:
        sent.append(route.request.post_data_json["ref_audio"])
        route.abort()

    seen.page.route("**/v1/audio/speech", take)
    seen.page.click("#cloning > summary")
    seen.page.press("#record", "Enter")
    seen.expect_text("error", "not lent to this page")  # whoever is not asked says no
    seen.page.context.grant_permissions(["microphone"])
    seen.page.press("#record", "Enter")
    seen.expect_text("record-status", "Recording, 1 s")  # the next beep has come
    seen.page.press("#record", "Enter")
    seen.expect_text("clip-name", "recording.wav")
    seen.speak(SHORT)
    seen.expect_text("error", "gave no answer")
    assert seen.problems == ["Failed to load resource: net::ERR_FAILED"]
    seen.problems.clear()
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sent[0].split(",")[1])))
    assert len(samples) > rate
    assert np.abs(samples).max() > 0.1
    seen.page.context.close()


def test_texts_in_the_queue_are_spoken_one_after_another(visit: Callable[..., Visit], server: Serving) -> None:
    seen = visit()
    page = seen.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data_json["input"]) if request.post_data else None)
    page.fill("#speed", "4")
    for text, seed in (("One.", ""), ("Two.", "9" * 19), (LONG * 20, ""), ("Four.", ""), ("Five.", "")):
        page.fill("#text", text)
        page.fill("#seed", seed)
        page.press("#queue-add", "Enter")
    page.press("[aria-label='Move up text 2']", "Enter")
    page.press("[aria-label='Move up text 5']", "Enter")
    assert page.evaluate("() => document.activeElement.ariaLabel") == "Move up text 4"
    page.press("[aria-label='Remove text 5']", "Enter")
    texts = "() => [...document.querySelectorAll('#queue-list .text')].map(text => text.textContent)"
    assert page.evaluate(texts) == (order := ["Two.", "One.", LONG * 20, "Five."])
    page.press("#queue-speak", "Enter")
    seen.wait_for("() => document.querySelector('#queue-list li.speaking:nth-child(3)') !== null")
    page.keyboard.press("Escape")
    seen.expect_text("queue-status", "Stopped: 1 spoken, 1 failed")
    server.wait_until_idle()
    assert asked == order[:3]
    assert "seed: Input should be less than or equal to" in page.inner_text("#queue-list li.failed")
    # It goes on with what is not spoken yet; what is taken out while it is spoken makes room for the next.
    page.press("#queue-speak", "Enter")
    seen.wait_for("() => document.querySelector('#queue-list li.speaking:nth-child(3)') !== null")
    page.press("[aria-label='Remove text 3']", "Enter")
    seen.expect_text("queue-status", "Finished: 2 spoken, 1 failed")
    assert asked[3:] == ["Two.", *order[2:]]
    refused = "Failed to load resource: the server responded with a status of 400 (Bad Request)"
    assert seen.problems == [refused, refused]
    seen.problems.clear()
    page.press("[aria-label='Hear text 3']", "Enter")
    seen.wait_for("() => document.getElementById('play').ariaLabel === 'Pause'")


def test_it_fits_a_phone_in_both_colour_schemes(visit: Callable[..., Visit]) -> None:
    seen = visit(viewport={"width": 360, "height": 740}, color_scheme="dark")
    overflow = "() => document.documentElement.scrollWidth - innerWidth"
    assert seen.page.evaluate(overflow) <= 0
    for place in ("#cloning", "#history", "details:has(#command)"):
        seen.page.press(f"{place} > summary", "Enter")
    seen.page.fill("#text", "Donaudampfschifffahrtsgesellschaftskapitän" * 3)
    seen.page.click("#queue-add")
    seen.page.set_input_files("#clip", {"name": "a" * 80 + ".wav", "mimeType": "audio/wav", "buffer": b"RIFF"})
    seen.page.press("#keep > summary", "Enter")
    seen.page.fill("#keep-speaker", "b" * 200)
    assert seen.page.evaluate(overflow) <= 0
    # Whatever can be used has a name that is read aloud.
    nameless = r"- (?:button|checkbox|combobox|option|slider|spinbutton|switch|textbox)(?: \[|:? *$)"
    assert re.findall(nameless, seen.page.locator("body").aria_snapshot(), re.MULTILINE) == []
    seen.page.click("#clip-remove")
    seen.speak("Donaudampfschifffahrtsgesellschaftskapitän", seed="9223372036854775807")
    seen.expect_status("Done")
    assert seen.page.evaluate(overflow) <= 0
    brightness = "() => getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)"
    dark = seen.page.evaluate(brightness)
    seen.page.emulate_media(color_scheme="light")
    assert max(dark) < 64 < 192 < min(seen.page.evaluate(brightness))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server on a small model without encoder, which searches for voices."""
    folder = strip_encoder(BRIEF, tmp_path_factory.mktemp("without-encoder") / "brief")
    with pytest.MonkeyPatch.context() as patch:
        # What the presets tell is found out in a moment, and each step is a slice.
        for name, value in (("_MAX_FRAMES", 60), ("_DECODED_FRAMES", 30), ("_SLICE_S", 0.0)):
            patch.setattr(search, name, value)
        with VoxtralTTS.from_pretrained(folder, device="cpu") as tts, serving(tts, refine=8) as running:
            yield running


def open_bare(visit: Callable[..., Visit], bare: Serving) -> Visit:
    seen = visit(bare.url, has_voices=False)
    seen.wait_for("() => !document.getElementById('cloning').hidden")
    return seen


def fill_keep_form(seen: Visit, name: str) -> None:
    seen.page.fill("#keep-name", name)
    seen.page.fill("#keep-speaker", name)
    seen.page.check("#keep-consent")


def test_a_clip_is_prepared_where_there_is_no_encoder(
    visit: Callable[..., Visit], bare: Serving, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate, look = threading.Event(), VoiceJob.look

    def look_and_wait(self: VoiceJob, progress: RefineProgress) -> None:
        look(self, progress)
        if progress.step >= 4:
            assert gate.wait(PATIENCE_MS / 1000)

    monkeypatch.setattr(VoiceJob, "look", look_and_wait)
    clip = tmp_path / "me.wav"
    clip.write_bytes(spoken_file(1.2))
    seen = open_bare(visit, bare)
    seen.page.set_input_files("#clip", clip)
    # It cannot be spoken with as it is: other voices go on to be.
    expect(seen.page.locator("#voice")).to_be_enabled()
    assert "reference" not in seen.command()
    assert "searches for the voice" in " ".join(seen.page.inner_text("#clip-rule").split())
    fill_keep_form(seen, "Zoë")
    seen.page.click("text=Prepare the voice")
    seen.expect_text("preparing-text", "preparing 50 %")
    # The search goes on when the page is loaded anew.
    seen.page.reload()
    seen.expect_text("preparing-text", "preparing 50 %")
    gate.set()
    seen.expect_text("keep-status", "Zoë is kept")
    assert seen.page.is_hidden("#preparing")
    assert seen.page.locator("#voice option:checked").text_content() == "Zoë"
    seen.page.fill("#seed", "1")
    seen.speak("Hello.")
    seen.expect_text("fact-voice", "Zoë")

    gate.clear()
    seen.page.set_input_files("#clip", clip)
    fill_keep_form(seen, "Max")
    seen.page.press("#keep-name", "Enter")
    seen.expect_text("preparing-text", "preparing 50 %")
    seen.page.click("#preparing-cancel")
    gate.set()
    seen.expect_text("keep-status", "The voice was cancelled.")
    seen.wait_for("() => document.getElementById('preparing').hidden")
    with bare.client() as client:
        assert [voice["name"] for voice in client.get("/v1/audio/voices").json()["uploaded_voices"]] == ["Zoë"]


def test_why_a_clip_is_not_prepared_is_said_in_words(
    visit: Callable[..., Visit], bare: Serving, tmp_path: Path
) -> None:
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(48000, np.float32), 24000)
    seen = open_bare(visit, bare)
    seen.page.set_input_files("#clip", silence)
    fill_keep_form(seen, "Nobody")
    seen.page.click("text=Prepare the voice")
    seen.expect_text("error", "the reference audio is silent")
    assert seen.page.is_hidden("#preparing")
    assert seen.problems == ["Failed to load resource: the server responded with a status of 400 (Bad Request)"]
    seen.problems.clear()


def test_a_voice_that_could_not_be_made_says_why(
    visit: Callable[..., Visit], bare: Serving, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(self: VoxtralTTS, *_: object, **__: object) -> None:
        raise NumericsError("the distance from the clip is no number; try another clip")

    monkeypatch.setattr(VoxtralTTS, "create_voice", fail)
    clip = tmp_path / "me.wav"
    clip.write_bytes(spoken_file(1.2))
    seen = open_bare(visit, bare)
    seen.page.set_input_files("#clip", clip)
    fill_keep_form(seen, "Eve")
    seen.page.click("text=Prepare the voice")
    seen.expect_text("error", "The voice Eve could not be made: the distance from the clip is no number")
    assert seen.page.is_hidden("#preparing")


def test_with_an_encoder_a_nearer_voice_can_be_searched_for(visit: Callable[..., Visit], tmp_path: Path) -> None:
    clip = tmp_path / "me.wav"
    clip.write_bytes(spoken_file(1.2))
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu") as tts, serving(tts, refine=2) as other:
        seen = open_bare(visit, other)
        seen.page.set_input_files("#clip", clip)
        expect(seen.page.locator("#voice")).to_be_disabled()
        seen.page.click("#keep > summary")
        fill_keep_form(seen, "Zoë")
        seen.page.check("#keep-refine")
        seen.page.click("#keep-it")
        seen.expect_text("keep-status", "Zoë is kept")
        with other.client() as client:
            (stored,) = other.service.options.data_dir.rglob("*.safetensors")
            assert tts.load_voice(stored).metadata["refine_steps"] == "2"
            assert client.get("/v1/audio/voices/Zoë").json()["status"] == "ready"
        seen.page.context.close()
