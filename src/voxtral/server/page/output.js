// The card of the speech: it is heard, drawn, described and downloaded here, one utterance at a time.

import { $, clearError, clock, languageName, save, seconds, setText, showError } from "./dom.js";
import { Heard } from "./heard.js";
import { Player } from "./player.js";
import { Waveform } from "./waveform.js";

const FORMAT_NAMES = { opus: "Opus" };
const SOURCES = { text: ", guessed", voice: ", the voice’s", default: ", by default" };

const player = new Player();
const waveform = new Waveform($("wave"));
const heard = new Heard($("heard"));

let speech = null; // the one that is here
let isHeard = false;
let over = () => {}; // to be called when nothing more will be heard of it
let willShow = false;
let making = null; // an AbortController, while the server makes a download

// Speak; resolves when it was heard to its end, was stopped, or failed without any sound.
export async function play(next) {
  stop();
  player.unlock();
  take(next);
  const ended = new Promise((resolve) => (over = resolve));
  await next.receive(
    (recording) => next === speech && player.start(recording),
    () => next === speech && player.pump(),
  );
  performance.mark("voxtral-response-ended");
  if (next !== speech) return;
  if (next.error) showError(next.error);
  if (!next.hasSound) over();
  player.pump();
  await ended;
}

// Hear once more what has been spoken before.
export function replay(earlier) {
  stop();
  player.unlock();
  take(earlier);
  player.start(earlier.recording);
}

export function stop() {
  if (!speech) return;
  speech.stop();
  player.pause();
  player.seek(0);
  over();
  showSoon();
}

export function offerFormats(formats) {
  const names = ["wav", ...formats.filter((format) => format !== "wav")];
  $("format").replaceChildren(...names.map((name) => new Option(FORMAT_NAMES[name] ?? name.toUpperCase(), name)));
}

function take(next) {
  speech = next;
  isHeard = false;
  over = () => {};
  clearError();
  showSoon();
}

async function download() {
  if (making) {
    making.abort();
    return;
  }
  const wanted = speech;
  const format = isWhole(wanted) ? $("format").value : "wav";
  const name = `voxtral-${wanted.seed}${isWhole(wanted) ? "" : "-part"}.${format}`;
  if (format === "wav") {
    save(await wanted.file(format), name);
    return;
  }
  making = new AbortController();
  showSoon();
  try {
    save(await wanted.file(format, making.signal), name);
  } catch (error) {
    if (!making.signal.aborted) showError(`The download was not made: ${error.message}`);
  }
  making = null;
  showSoon();
}

function isWhole({ state }) {
  return state === "done";
}

// With the next frame of the screen, and once however often it is called.
function showSoon() {
  if (!willShow) requestAnimationFrame(show);
  willShow = true;
}

function show() {
  willShow = false;
  const { recording, state } = speech;
  const isReceiving = state === "waiting" || state === "streaming";
  const position = recording ? player.position : 0;
  if (position > 0 && !isHeard) {
    isHeard = true;
    performance.mark("voxtral-audio-started");
  }
  waveform.draw(recording, position);
  heard.show(speech, position > 0 ? position : null);
  $("stop").disabled = !(isReceiving || player.isPlaying);
  showPosition(recording, position);
  showDownload(isReceiving);
  showFacts();
  setText("status", statusOf(speech));
  if (isReceiving || player.isPlaying) showSoon();
}

function showPosition(recording, position) {
  const duration = recording?.duration ?? 0;
  $("play").disabled = !duration;
  $("play").classList.toggle("playing", player.isPlaying);
  $("play").ariaLabel = player.isPlaying ? "Pause" : "Play";
  $("seek").disabled = !duration;
  $("seek").max = Waveform.span(recording);
  $("seek").value = position;
  $("seek").setAttribute("aria-valuetext", `${seconds(position)} of ${seconds(duration)}`);
  setText("time", `${clock(position)} / ${clock(duration)}`);
}

function showDownload(isReceiving) {
  // What is not whole is here alone, and here it is WAV.
  $("format").disabled = Boolean(making) || (speech.state !== "waiting" && !isReceiving && !isWhole(speech));
  $("download").disabled = !making && (isReceiving || !speech.hasSound);
  setText("download", making ? "Cancel" : "Download");
}

function showFacts() {
  $("facts").hidden = !speech.firstAt;
  if (!speech.firstAt) return;
  setText("fact-first", `${Math.round(speech.firstAt - speech.startedAt)} ms`);
  setText("fact-duration", seconds(speech.recording.duration));
  setText("fact-rtf", isWhole(speech) ? speech.rtf.toFixed(2) : "–");
  showLanguage(speech.headers);
  setText("fact-voice", speech.voice);
  setText("fact-seed", speech.seed);
  setText("warning", speech.warning);
}

// The language that chose what was not said, and how the server came to it.
function showLanguage(headers) {
  const code = headers.get("X-Voxtral-Language");
  const source = SOURCES[headers.get("X-Voxtral-Language-Source")] ?? "";
  $("about-language").hidden = !code;
  setText("fact-language", languageName(code) + source);
}

function statusOf({ state, recording }) {
  if (making) return `Making ${$("format").selectedOptions[0].text}…`;
  if (state === "waiting") return "Waiting for the first audio…";
  if (state === "streaming") return player.isWaiting && recording.length ? "Waiting for more audio…" : "Speaking…";
  return { done: "Done", stopped: "Stopped", failed: recording?.length ? "Broken off" : "" }[state];
}

player.onEnd = () => over();

$("play").addEventListener("click", () => {
  if (player.isPlaying) player.pause();
  else player.play();
  showSoon();
});
$("seek").addEventListener("input", () => {
  player.seek(Number($("seek").value));
  showSoon();
});
$("seek").addEventListener("keydown", (event) => {
  // By themselves they move by a step, which is fine for a mouse and next to nothing for a key.
  const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
  player.seek(player.position + by);
  showSoon();
});
$("download").addEventListener("click", download);

waveform.draw(null, 0);
