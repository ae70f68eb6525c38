// A voice that the server searches for: how far it is, a way to cancel it, and what became of it.

import { $, setText, showError } from "./dom.js";
import { Refusal, request } from "./server.js";

const KEY = "voxtral.preparing"; // the id, in sessionStorage: the search goes on when the page is loaded anew
const LOOK_MS = 500;

let preparing = ""; // the id
let isCancelling = false; // nobody looks meanwhile
let isCancelled = false;
let onReady = async () => {};

// `ready` is called with a voice when it can be spoken with.
export function watchPreparing(ready) {
  onReady = ready;
  const id = sessionStorage.getItem(KEY);
  if (id) prepare(id);
}

export function isPreparing() {
  return Boolean(preparing);
}

// Look at a voice until it is ready, failed or gone.
export async function prepare(id) {
  preparing = id;
  isCancelling = isCancelled = false;
  sessionStorage.setItem(KEY, id);
  $("preparing-part").value = 0;
  setText("preparing-text", "preparing 0 %");
  $("preparing-cancel").disabled = false;
  $("preparing").hidden = false;
  $("cloning").open = true;
  try {
    const voice = await untilEnded(id);
    if (voice?.status === "failed") showError(`The voice ${voice.name} could not be made: ${voice.error.message}.`);
    else if (voice) await onReady(voice);
  } catch (error) {
    showError(error.message);
  }
  sessionStorage.removeItem(KEY);
  preparing = "";
  $("preparing").hidden = true;
}

// Null if it was cancelled.
async function untilEnded(id) {
  while (!isCancelled) {
    const voice = isCancelling ? null : await look(id);
    if (voice && voice.status !== "processing") return voice;
    if (voice) show(voice);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return null;
}

// Null where the server gives no answer now.
async function look(id) {
  try {
    return await (await request(address(id))).json();
  } catch (error) {
    if (error instanceof Refusal && !error.retryAfter) throw error;
    setText("preparing-text", "preparing; the server gives no answer, it is asked again");
    return null;
  }
}

function show({ progress, jobs_ahead: ahead, left_s: left }) {
  $("preparing-part").value = progress;
  const wait = ahead ? `, ${ahead} before it` : left === null ? "" : `, ${duration(left)} left at most`;
  setText("preparing-text", `preparing ${Math.floor(progress * 100)} %${wait}`);
}

function duration(seconds) {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} minutes`;
}

function address(id) {
  return `v1/audio/voices/${encodeURIComponent(id)}`;
}

$("preparing-cancel").addEventListener("click", async () => {
  $("preparing-cancel").disabled = isCancelling = true;
  try {
    await request(address(preparing), { method: "DELETE" });
    isCancelled = true;
    setText("keep-status", "The voice was cancelled.");
  } catch (error) {
    $("preparing-cancel").disabled = isCancelling = false;
    showError(error.message);
  }
});
