// The clip whose voice speaks: chosen, dropped or recorded; used once, or kept as a voice of the server. A server
// without an encoder searches for the voice first, so that there it can only be kept.

import { $, clearError, setText, showError } from "./dom.js";
import { Microphone, canRecord } from "./microphone.js";
import { isPreparing, prepare, watchPreparing } from "./preparing.js";
import { request } from "./server.js";

const MAX_MB = 64; // more than any 30 s of sound have, and little enough for the memory of a tab
const WATCH_MS = 100;

let clip = null;
let canClone = false; // at once
let canSearch = false;
let whyNot = "";
let microphone = null;
let isOpening = false;
let isKeeping = false;
let onChange = () => {};
let onKept = async () => {};

// `change` is called when there is another clip to speak with or none, `kept` with the id of a voice that was made.
export function watchClip(change, kept) {
  onChange = change;
  onKept = kept;
  takeClip($("clip").files[0] ?? null); // what a browser restored of the form
}

export function offerCloning(model) {
  canClone = model.cloning;
  canSearch = Boolean(model.cloning_details.refine);
  whyNot = model.has_encoder
    ? "This server makes no voices from clips: its owner has switched that off."
    : "The loaded model cannot speak in the voice of a clip: its checkpoint has no encoder, and this server was not " +
      "started with --refine.";
  $("cloning").hidden = !canClone && !canSearch;
  $("record").disabled = !canRecord;
  $("record-why").hidden = canRecord;
  $("keep-refine").parentElement.hidden = !canClone || !canSearch;
  if (!canClone && canSearch) {
    setText("clip-rule", $("clip-rule").dataset.search);
    setText("keep-summary", "Prepare it as a voice of this server");
    setText("keep-it", "Prepare the voice");
  }
  if (clip) takeClip(clip);
  if (canSearch) watchPreparing(showKept);
}

// The clip to speak with, where the server can do that at once.
export function chosenClip() {
  return canSearch && !canClone ? null : clip;
}

export function takeClip(file) {
  if (file?.size > MAX_MB * 2 ** 20) {
    showError(`${file.name} is larger than ${MAX_MB} MB, and a clip to speak with is 30 s long at most; choose a shorter one.`);
    file = null;
  }
  clip = file;
  $("clip-chosen").hidden = !file;
  setText("clip-name", file?.name ?? "");
  setText("keep-status", "");
  URL.revokeObjectURL($("clip-audio").src);
  if (file) {
    $("clip-audio").src = URL.createObjectURL(file);
    $("cloning").open = true;
    if (canSearch && !canClone) $("keep").open = true;
  } else {
    $("clip-audio").removeAttribute("src");
    $("clip").value = "";
  }
  $("keep-consent").checked = false; // it was for another clip
  onChange(chosenClip());
}

// ---- Recording ----

async function record() {
  clearError();
  isOpening = true;
  try {
    microphone = await Microphone.open();
  } catch (error) {
    showError(error.message);
    return;
  } finally {
    isOpening = false;
  }
  setText("record", "Stop recording");
  const timer = setInterval(() => {
    if (!microphone || microphone.isFull) {
      clearInterval(timer);
      finishRecording();
    } else {
      setText("record-status", `Recording, ${Math.floor(microphone.recording.duration)} s`);
    }
  }, WATCH_MS);
}

async function finishRecording() {
  if (!microphone) return;
  const used = microphone;
  microphone = null;
  setText("record", "Record");
  setText("record-status", "");
  try {
    takeClip(await used.close());
  } catch (error) {
    showError(error.message);
  }
}

// ---- Keeping ----

// What is agreed to; it is sent with the voice, and kept with it.
function consent() {
  const speaker = $("keep-speaker").value.trim() || "The person who is heard";
  return (
    `${speaker} agrees that this server keeps a voice made from this clip, and that all who may use the server ` +
    "may speak with it."
  );
}

function showConsent() {
  setText("keep-sentence", consent());
}

async function keep() {
  clearError();
  if (isPreparing()) {
    showError("Another voice is being prepared: wait until it is ready, or cancel it.");
    return;
  }
  setText("keep-status", "Making the voice…");
  isKeeping = true;
  const body = new FormData();
  body.set("name", $("keep-name").value.trim());
  body.set("consent", consent());
  body.set("language", $("keep-language").value);
  body.set("audio_sample", clip);
  if (canSearch && (!canClone || $("keep-refine").checked)) body.set("refine", "true");
  try {
    const made = await (await request("v1/audio/voices", { method: "POST", body })).json();
    if (made.status === "ready") await showKept(made);
    takeClip(null);
    for (const id of ["keep-name", "keep-speaker"]) $(id).value = "";
    showConsent();
    $("keep").open = false;
    if (made.status === "ready") {
      $("voice").focus();
      setText("keep-status", [keptText(made), ...made.warnings].join(" "));
    } else {
      setText("keep-status", made.warnings.join(" "));
      prepare(made.id);
    }
  } catch (error) {
    setText("keep-status", "");
    showError(error.message);
  }
  isKeeping = false;
}

function keptText(voice) {
  return `${voice.name} is kept, and is the chosen voice now.`;
}

async function showKept(voice) {
  await onKept(voice.id);
  setText("keep-status", keptText(voice));
}

// ---- Events ----

$("clip").addEventListener("change", () => takeClip($("clip").files[0] ?? null));
$("clip-remove").addEventListener("click", () => {
  takeClip(null);
  $("clip").focus();
});
$("record").addEventListener("click", () => {
  if (microphone) finishRecording();
  else if (!isOpening) record();
});
$("keep-speaker").addEventListener("input", () => {
  $("keep-consent").checked = false; // the sentence is another one now
  showConsent();
});
$("keep-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!isKeeping) keep();
});
$("keep").addEventListener("toggle", () => {
  $("keep-language").value ||= $("language").value;
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
  if (canClone || canSearch) takeClip(event.dataTransfer.files[0] ?? null);
  else showError(whyNot);
});

showConsent();
