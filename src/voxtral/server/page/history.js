// What was spoken, kept in this browser alone: in its localStorage, which no server sees.

import { $, make, seconds, setText } from "./dom.js";

const KEY = "voxtral.history";
const SWITCH = "voxtral.history.off"; // there while nothing is to be kept
const MAX_TEXTS = 50;
const MAX_CHARS = 500_000; // of all texts together; browsers give a page some millions

export class History {
  // `use(entry)` puts one back into the form; `describe(entry)` says in a line how it was spoken.
  constructor({ use, describe }) {
    this._use = use;
    this._describe = describe;
    $("history-keep").addEventListener("change", () => this._switch($("history-keep").checked));
    $("history-clear").addEventListener("click", () => this._clear());
    addEventListener("storage", () => this._show()); // another tab has written
    this._show();
  }

  // `entry` has the settings of an order, and how it was spoken: at, duration, voiceName, hasClip.
  add(entry) {
    if (!isOn()) return;
    if (entry.text.length > MAX_CHARS) {
      this._show(`The last text has more than ${MAX_CHARS.toLocaleString("en")} characters, and is not kept.`);
      return;
    }
    const entries = [entry, ...read()].slice(0, MAX_TEXTS);
    while (numChars(entries) > MAX_CHARS) entries.pop();
    const isKept = write(entries);
    this._show(isKept ? "" : "This browser has no room for the last text; it is not kept.");
  }

  _switch(isWanted) {
    try {
      if (isWanted) localStorage.removeItem(SWITCH);
      else localStorage.setItem(SWITCH, "1");
    } catch {
      // then there is nothing that could be kept, either
    }
    this._show();
  }

  _clear() {
    try {
      localStorage.removeItem(KEY);
    } catch {
      // nothing is there
    }
    this._show("Nothing is kept.");
    $("history-keep").focus(); // the button is off now
  }

  _show(notice = "") {
    const entries = read();
    $("history-keep").checked = isOn();
    $("history-clear").disabled = !entries.length;
    const rule = isOn()
      ? `The last ${MAX_TEXTS} texts are kept in this browser alone until they are cleared; who uses it can read them.`
      : "What is spoken from now on is not kept.";
    setText("history-rule", notice || rule);
    const list = $("history-list");
    const focused = [...list.children].findIndex((row) => row.contains(document.activeElement));
    const text = list.children[focused]?.firstChild.textContent;
    list.replaceChildren(...entries.map((entry) => this._row(entry)));
    // The new one is above, or what had the focus fell out at the end.
    if (focused >= 0) [...list.children].find((row) => row.firstChild.textContent === text)?.firstChild.focus();
  }

  _row(entry) {
    const title = "Put it into the form";
    const button = make("button", { type: "button", className: "quiet", title, dir: "auto" }, entry.text);
    button.addEventListener("click", () => this._use(entry));
    const when = new Date(entry.at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const how = [when, seconds(entry.duration), this._describe(entry)].filter(Boolean).join(" · ");
    return make("li", {}, button, make("p", { className: "hint", dir: "auto" }, how));
  }
}

function isOn() {
  try {
    return localStorage.getItem(SWITCH) === null;
  } catch {
    return false; // a browser that keeps nothing for this page
  }
}

function read() {
  try {
    const entries = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(entries) ? entries.filter(isEntry) : [];
  } catch {
    return [];
  }
}

// What another version wrote may look otherwise.
function isEntry(entry) {
  const texts = ["text", "language", "voice", "voiceName", "seed", "speed", "normalize"];
  return texts.every((name) => typeof entry?.[name] === "string") && entry.at > 0 && entry.duration > 0;
}

function write(entries) {
  try {
    localStorage.setItem(KEY, JSON.stringify(entries));
    return true;
  } catch {
    return false;
  }
}

function numChars(entries) {
  return entries.reduce((sum, { text }) => sum + text.length, 0);
}
