// The page: a form, the request that it makes, and what is shown of the answer.

import { command } from "./command.js";
import { Player } from "./player.js";
import { Recording } from "./recording.js";
import { Refusal, address, hasKey, request } from "./server.js";
import { Waveform } from "./waveform.js";

const ADDED = "Added here"; // the group of voices that users made
const MAX_CLIP_MB = 64; // more than any 30 s of sound have, and little enough for the memory of a tab

const $ = (id) => document.getElementById(id);
const player = new Player();
const waveform = new Waveform($("wave"));

let voices = [];
let canClone = false;
let clip = null;
let speech = null; // the latest: see speak()
let willShow = false;

// ---- The form ----

async function loadModel() {
  for (;;) {
    try {
      const { data } = await (await request("v1/models")).json();
      showModel(data[0]);
      voices = (await (await request("v1/audio/voices")).json()).voices;
      showVoices();
      return;
    } catch (error) {
      $("model").textContent = error.message;
      if (!error.retryAfter) return;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000));
    }
  }
}

function showModel(model) {
  const isNano = model.root === "nano";
  $("model").textContent = isNano ? "nano, a robotic demo voice" : model.id;
  if (isNano) {
    $("notice").textContent =
      "nano is a small robotic demo voice that shows how everything works. The real model is the 4B, " +
      "whose weights are CC BY-NC 4.0: no commercial use.";
  } else if (model.license) {
    const limit = model.license.includes("NC") ? ": no commercial use" : "";
    $("notice").textContent = `The weights are ${model.license}${limit}.`;
  } else {
    $("notice").textContent = "The licence of these weights is not known here.";
  }
  const options = model.languages.map((code) => new Option(languageName(code), code));
  options.sort((a, b) => a.text.localeCompare(b.text));
  $("language").replaceChildren($("language").options[0], ...options);
  canClone = model.has_encoder;
  $("cloning").hidden = !canClone;
}

function showVoices() {
  const chosen = $("voice").value;
  const groups = new Map();
  for (const voice of voices) {
    const label = voice.kind === "uploaded" ? ADDED : languageName(voice.language);
    if (!groups.has(label)) groups.set(label, Object.assign(document.createElement("optgroup"), { label }));
    groups.get(label).append(new Option(voice.name, voice.id));
  }
  // The chosen language comes first, then what users added.
  const first = [languageName($("language").value), ADDED];
  const rank = ({ label }) => (first.includes(label) ? first.indexOf(label) : first.length);
  const sorted = [...groups.values()].sort((a, b) => rank(a) - rank(b) || a.label.localeCompare(b.label));
  $("voice").replaceChildren(new Option("Default", ""), ...sorted);
  $("voice").value = chosen;
  if ($("voice").selectedIndex < 0) $("voice").value = "";
}

function languageName(code) {
  return code ? new Intl.DisplayNames(["en"], { type: "language" }).of(code) : "Other";
}

function takeClip(file) {
  if (file?.size > MAX_CLIP_MB * 2 ** 20) {
    showError(`${file.name} is larger than ${MAX_CLIP_MB} MB, and a clip is 30 s long at most; choose a shorter one.`);
    file = null;
  }
  clip = file;
  $("clip-chosen").hidden = !file;
  $("clip-name").textContent = file?.name ?? "";
  $("voice").disabled = Boolean(file);
  if (!file) $("clip").value = "";
  showCommand();
}

// What is asked for; an empty string is left to the server.
function readForm() {
  return {
    text: $("text").value,
    language: $("language").value,
    voice: clip ? "" : $("voice").value,
    seed: $("seed").value,
    speed: Number($("speed").value) === 1 ? "" : $("speed").value,
    clip,
  };
}

function showCommand() {
  const order = readForm();
  order.text ||= "Hello!";
  $("command").textContent = command(order, address, hasKey());
}

// ---- Speaking ----

async function speak() {
  stop();
  player.unlock();
  const mine = {
    controller: new AbortController(),
    state: "waiting", // then streaming, then done, stopped, or failed
    recording: null,
    startedAt: performance.now(),
    firstAt: 0,
    endedAt: 0,
    headers: null,
    isHeard: false,
  };
  speech = mine;
  clearAnswer();
  try {
    const response = await request("v1/audio/speech", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: await bodyOf(readForm()),
      signal: mine.controller.signal,
    });
    await receive(response, mine);
    mine.state = "done";
  } catch (error) {
    mine.state = mine.controller.signal.aborted ? "stopped" : "failed";
    if (mine.state === "failed") showError(reason(error, mine));
  }
  mine.endedAt = performance.now();
  performance.mark("voxtral-response-ended");
  if (mine.recording) {
    mine.recording.isComplete = true;
    if (mine === speech) offerDownload(mine);
  }
}

// JSON also with a clip, because browsers change the ends of lines in what a form holds, and so the speech.
async function bodyOf({ text, clip: file, ...fields }) {
  const body = { input: text, ...fields, response_format: "pcm" };
  if (file) body.ref_audio = await dataUrl(file);
  return JSON.stringify(body);
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Refusal(`The clip ${file.name} cannot be read; choose another one.`));
    reader.readAsDataURL(file);
  });
}

async function receive(response, mine) {
  const { headers } = response;
  mine.headers = headers;
  mine.state = "streaming";
  mine.recording = new Recording(Number(headers.get("X-Voxtral-Sample-Rate")));
  player.start(mine.recording);
  const reader = response.body.getReader();
  let rest = new Uint8Array(); // a sample may arrive in halves
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const bytes = new Uint8Array(rest.length + value.length);
    bytes.set(rest);
    bytes.set(value, rest.length);
    rest = bytes.slice(bytes.length - (bytes.length % 2));
    mine.recording.append(new Int16Array(bytes.buffer, 0, bytes.length >> 1));
    mine.firstAt ||= performance.now();
    player.pump();
  }
}

function reason(error, { recording }) {
  if (error instanceof Refusal) return error.message;
  if (recording?.length) {
    return `The stream broke after ${seconds(recording.duration)} of audio: what is here is not all of it.`;
  }
  return "The server gave no answer. Is it running, and is this page still connected to it?";
}

function stop() {
  if (!speech) return;
  speech.controller.abort();
  player.pause();
  player.seek(0);
  showSoon();
}

// ---- The answer ----

function clearAnswer() {
  $("error").hidden = true;
  URL.revokeObjectURL($("download").href);
  $("download").removeAttribute("href");
  $("download").ariaDisabled = "true";
  showSoon();
}

function showError(message) {
  $("error").textContent = message;
  $("error").hidden = false;
}

function offerDownload({ recording, headers, state }) {
  if (!recording.length) return;
  const part = state === "done" ? "" : "-part";
  $("download").href = URL.createObjectURL(recording.toWav());
  $("download").download = `voxtral-${headers.get("X-Voxtral-Seed")}${part}.wav`;
  $("download").ariaDisabled = "false";
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
  if (position > 0 && !speech.isHeard) {
    speech.isHeard = true;
    performance.mark("voxtral-audio-started");
  }
  waveform.draw(recording, position);
  $("stop").disabled = !(isReceiving || player.isPlaying);
  showPosition(recording, position);
  showFacts(speech);
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

function showFacts({ recording, headers, state, startedAt, firstAt, endedAt }) {
  $("facts").hidden = !firstAt;
  if (!firstAt) return;
  setText("fact-first", `${Math.round(firstAt - startedAt)} ms`);
  setText("fact-duration", seconds(recording.duration));
  setText("fact-rtf", state === "done" ? ((endedAt - startedAt) / 1000 / recording.duration).toFixed(2) : "–");
  setText("fact-voice", decodeURIComponent(headers.get("X-Voxtral-Voice")));
  setText("fact-seed", headers.get("X-Voxtral-Seed"));
  setText("warning", decodeURIComponent(headers.get("X-Voxtral-Warning") ?? ""));
}

function statusOf({ state, recording }) {
  if (state === "waiting") return "Waiting for the first audio…";
  if (state === "streaming") return player.isWaiting && recording.length ? "Waiting for more audio…" : "Speaking…";
  return { done: "Done", stopped: "Stopped", failed: recording?.length ? "Broken off" : "" }[state];
}

// Only when it changes, so that a screen reader says it once.
function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function seconds(value) {
  return `${value.toFixed(1)} s`;
}

function clock(value) {
  const whole = Math.floor(value);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// ---- Events ----

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  speak();
});
$("form").addEventListener("input", showCommand);
$("language").addEventListener("change", () => {
  $("text").lang = $("language").value;
  showVoices();
});
$("stop").addEventListener("click", stop);

document.addEventListener("keydown", (event) => {
  if ($("key-dialog").open) return;
  if (event.key === "Escape") stop();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    $("form").requestSubmit();
  }
});

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
$("fact-seed").addEventListener("click", () => {
  $("seed").value = $("fact-seed").textContent;
  showCommand();
});

$("clip").addEventListener("change", () => takeClip($("clip").files[0] ?? null));
$("clip-remove").addEventListener("click", () => {
  takeClip(null);
  $("clip").focus();
});
const hasFiles = (event) => event.dataTransfer.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (canClone) takeClip(event.dataTransfer.files[0] ?? null);
  else showError("The loaded model cannot speak in the voice of a clip: its checkpoint has no encoder.");
});

$("copy").addEventListener("click", async () => {
  // Browsers lend the clipboard to https and to this machine only.
  if (navigator.clipboard) {
    await navigator.clipboard.writeText($("command").textContent);
    $("copy").textContent = "Copied";
  } else {
    getSelection().selectAllChildren($("command"));
    $("copy").textContent = "Selected: now press Ctrl+C";
  }
  setTimeout(() => setText("copy", "Copy"), 2000);
});

$("key-dialog").addEventListener("close", showCommand);

takeClip($("clip").files[0] ?? null); // what a browser restored of the form
waveform.draw(null, 0);
loadModel();
