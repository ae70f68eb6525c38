// The loaded model and its voices, as the choices of the form.

import { $, languageName, make, setText } from "./dom.js";
import { request } from "./server.js";

const ADDED = "Added here"; // the group of voices that users made

let voices = [];

// Ask until the model has loaded; null if the server says that it will not.
export async function loadModel() {
  for (;;) {
    try {
      const model = (await (await request("v1/models")).json()).data[0];
      await loadVoices();
      showModel(model);
      return model;
    } catch (error) {
      setText("model", error.message);
      if (!error.retryAfter) return null;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000));
    }
  }
}

export async function loadVoices() {
  voices = (await (await request("v1/audio/voices")).json()).voices;
  showVoices();
}

export function showVoices() {
  const chosen = $("voice").value;
  const groups = new Map();
  for (const voice of voices) {
    const label = voice.kind === "uploaded" ? ADDED : languageName(voice.language);
    if (!groups.has(label)) groups.set(label, make("optgroup", { label }));
    groups.get(label).append(new Option(voice.name, voice.id));
  }
  // The chosen language comes first, then what users added.
  const first = [languageName($("language").value), ADDED];
  const rank = ({ label }) => (first.includes(label) ? first.indexOf(label) : first.length);
  const sorted = [...groups.values()].sort((a, b) => rank(a) - rank(b) || a.label.localeCompare(b.label));
  $("voice").replaceChildren(new Option("Default", ""), ...sorted);
  chooseVoice(chosen);
}

// False if there is no such voice; the default one is chosen then.
export function chooseVoice(id) {
  $("voice").value = id;
  const isThere = $("voice").selectedIndex >= 0;
  if (!isThere) $("voice").value = "";
  $("preview").disabled = $("voice").disabled || !voiceToHear();
  return isThere;
}

// The id of the chosen voice, or of the one that speaks the chosen language by default.
export function voiceToHear() {
  const language = $("language").value;
  const isMeant = (voice) => voice.is_default && (!language || voice.language === language);
  return $("voice").value || (voices.find(isMeant)?.id ?? "");
}

export function languageOfVoice(id) {
  return voices.find((voice) => voice.id === id)?.language ?? "";
}

export function nameOfVoice(id) {
  return voices.find((voice) => voice.id === id)?.name ?? id;
}

function showModel(model) {
  const isNano = model.root === "nano";
  setText("model", isNano ? "nano, a small demo voice" : model.id);
  if (isNano) {
    $("notice").textContent =
      "nano is a small demo voice that shows how everything works. The real model is the 4B, " +
      "whose weights are CC BY-NC 4.0: no commercial use.";
  } else if (model.license) {
    const limit = model.license.includes("NC") ? ": no commercial use" : "";
    $("notice").textContent = `The weights are ${model.license}${limit}.`;
  } else {
    $("notice").textContent = "The licence of these weights is not known here.";
  }
  for (const id of ["language", "keep-language"]) {
    const options = model.languages.map((code) => new Option(languageName(code), code));
    options.sort((a, b) => a.text.localeCompare(b.text));
    $(id).replaceChildren($(id).options[0], ...options);
  }
}
