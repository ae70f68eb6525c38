// The page: a form, what it asks for, and which part of the page does it.

import { chosenClip, offerCloning, takeClip, watchClip } from "./clip.js";
import { command } from "./command.js";
import { $, languageName, setText, showError } from "./dom.js";
import { History } from "./history.js";
import { offerFormats, play, replay, stop } from "./output.js";
import { Queue } from "./queue.js";
import { Reading } from "./reading.js";
import { address, hasKey } from "./server.js";
import { Speech } from "./speech.js";
import { chooseVoice, languageOfVoice, loadModel, loadVoices, nameOfVoice, showVoices, voiceToHear } from "./voices.js";

let usualNormalize = "clean"; // what the server does where a request does not say

// ---- The form ----

// An order: what is asked for; an empty string is left to the server.
function readForm() {
  const clip = chosenClip();
  const unchecked = usualNormalize === "auto" ? "clean" : usualNormalize;
  const normalize = $("normalize").checked ? "auto" : unchecked;
  return {
    text: $("text").value,
    language: $("language").value,
    voice: clip ? "" : $("voice").value,
    seed: $("seed").value,
    speed: Number($("speed").value) === 1 ? "" : $("speed").value,
    normalize: normalize === usualNormalize ? "" : normalize,
    clip,
  };
}

function fillForm({ text, language, voice, seed, speed, normalize, hasClip }) {
  takeClip(null);
  $("text").value = text;
  $("language").value = language;
  if ($("language").selectedIndex < 0) $("language").value = "";
  showLanguage();
  const isThere = chooseVoice(voice);
  $("seed").value = seed;
  $("speed").value = speed || 1;
  $("normalize").checked = (normalize || usualNormalize) === "auto";
  showCommand();
  reading.update();
  $("text").focus();
  if (hasClip) showError("This was spoken in the voice of a clip, which was not kept: choose the clip again.");
  else if (!isThere) showError("The voice of this text is not here any more: the default one is chosen.");
}

function showLanguage() {
  $("text").lang = $("language").value;
  showVoices();
}

// How the text would be read, as a request says it: a voice that is chosen brings its language along.
function howToRead() {
  const { language, voice, normalize } = readForm();
  const spoken = language || languageOfVoice(voice);
  return { normalize: normalize || usualNormalize, ...(spoken && { language: spoken }) };
}

function showCommand() {
  const order = readForm();
  order.text ||= "Hello!";
  setText("command", command(order, address, hasKey()));
}

// How an order or an entry of the history is spoken, but for its text.
function describe({ language, voice, voiceName, speed, clip, hasClip }) {
  const who = clip || hasClip ? "a clip" : voiceName || (voice && nameOfVoice(voice));
  return [who, language && languageName(language), speed && `speed ${speed}`].filter(Boolean).join(" · ");
}

// ---- Speaking ----

async function speak(order) {
  const speech = Speech.of(order);
  speech.onReceived = () => remember(order, speech);
  await play(speech);
  return speech;
}

function remember({ clip, ...order }, speech) {
  if (!speech.hasSound) return;
  history.add({
    ...order,
    seed: speech.seed,
    voiceName: speech.voice,
    hasClip: Boolean(clip),
    at: Date.now(),
    duration: speech.recording.duration,
  });
}

const history = new History({ use: fillForm, describe });
const queue = new Queue({ speak, replay, stop, describe });
const reading = new Reading(howToRead);

// ---- Events ----

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  speak(readForm());
});
$("form").addEventListener("input", showCommand);
$("language").addEventListener("change", showLanguage);
$("voice").addEventListener("change", () => chooseVoice($("voice").value));
for (const id of ["language", "voice", "normalize"]) $(id).addEventListener("change", () => reading.update());
$("preview").addEventListener("click", () => play(Speech.sample(voiceToHear())));
$("stop").addEventListener("click", () => {
  stop();
  $("speak").focus(); // a button that goes off would take the focus with it
});
$("queue-add").addEventListener("click", () => {
  if (!$("form").reportValidity()) return;
  queue.add(readForm());
  $("text").value = "";
  $("text").focus();
  showCommand();
  reading.update();
});

document.addEventListener("keydown", (event) => {
  if ($("key-dialog").open) return;
  if (event.key === "Escape") stop();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    $("form").requestSubmit();
  }
});

$("fact-seed").addEventListener("click", () => {
  $("seed").value = $("fact-seed").textContent;
  showCommand();
});

$("copy").addEventListener("click", async () => {
  // Browsers lend the clipboard to https and to this machine only.
  if (navigator.clipboard) {
    await navigator.clipboard.writeText($("command").textContent);
    setText("copy", "Copied");
  } else {
    getSelection().selectAllChildren($("command"));
    setText("copy", "Selected: now press Ctrl+C");
  }
  setTimeout(() => setText("copy", "Copy"), 2000);
});

$("key-dialog").addEventListener("close", () => {
  showCommand();
  reading.update();
});

watchClip(
  (clip) => {
    $("voice").disabled = Boolean(clip);
    chooseVoice($("voice").value);
    showCommand();
    reading.update();
  },
  async (id) => {
    await loadVoices();
    chooseVoice(id);
  },
);

const model = await loadModel();
if (model) {
  usualNormalize = model.normalize;
  $("normalize").checked = usualNormalize === "auto";
  $("normalize").disabled = false;
  reading.update();
  offerFormats(model.formats);
  offerCloning(model);
  showCommand();
}
