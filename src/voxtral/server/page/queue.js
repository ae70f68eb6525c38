// Texts that are spoken one after another, each with the settings that it was added with.

import { $, make, setText } from "./dom.js";

const STATES = { waiting: "Waiting", speaking: "Speaking…", done: "Spoken", stopped: "Stopped", failed: "Failed" };

export class Queue {
  // `speak(order)` resolves with the Speech when nothing more is heard of it; `replay(speech)` lets one be heard again,
  // `stop()` ends what is heard; `describe(order)` says in a line how it is spoken.
  constructor({ speak, replay, stop, describe }) {
    this._items = []; // { order, state, error, speech }
    this._shown = []; // the items of the rows that are on the page
    this._isRunning = false;
    this._speak = speak;
    this._replay = replay;
    this._stop = stop;
    this._describe = describe;
    $("queue-speak").addEventListener("click", () => (this._isRunning ? this._stop() : this._run()));
    $("queue-clear").addEventListener("click", () => this._clear());
  }

  add(order) {
    this._items.push({ order, state: "waiting", error: "", speech: null });
    this._show();
    setText("queue-status", `${this._items.length} in the queue`);
  }

  // Speak all that is not spoken yet; if there is nothing such, all of it once more.
  async _run() {
    this._isRunning = true;
    const isRepeat = this._items.every(({ state }) => state === "done");
    for (const item of this._items) {
      if (isRepeat || item.state !== "done") Object.assign(item, { state: "waiting", error: "" });
    }
    let isStopped = false;
    // Looked for each time: the queue may be changed meanwhile.
    for (let item; !isStopped && (item = this._items.find(({ state }) => state === "waiting")); ) {
      item.state = "speaking";
      this._show();
      item.speech = await this._speak(item.order);
      item.state = item.speech.state;
      item.error = item.speech.error;
      isStopped = item.speech.isStopped && this._items.includes(item);
    }
    this._isRunning = false;
    this._show();
    this._report(isStopped);
  }

  _report(isStopped) {
    const numFailed = this._items.filter(({ state }) => state === "failed").length;
    const failures = numFailed ? `, ${numFailed} failed` : "";
    const numDone = this._items.filter(({ state }) => state === "done").length;
    setText("queue-status", `${isStopped ? "Stopped" : "Finished"}: ${numDone} spoken${failures}`);
  }

  _move(item, by) {
    const from = this._items.indexOf(item);
    this._items.splice(from, 1);
    this._items.splice(from + by, 0, item);
    this._show(item, by < 0 ? "up" : "down");
    setText("queue-status", `Moved to place ${from + by + 1} of ${this._items.length}`);
  }

  _remove(item) {
    const at = this._items.indexOf(item);
    this._items.splice(at, 1);
    if (item.state === "speaking") this._stop(); // the next one follows
    this._show(this._items[Math.min(at, this._items.length - 1)], "remove");
    setText("queue-status", `Removed; ${this._items.length} in the queue`);
    if (!this._items.length) $("text").focus();
  }

  _clear() {
    const isSpeaking = this._items.some(({ state }) => state === "speaking");
    this._items = [];
    if (isSpeaking) this._stop();
    this._show();
    $("text").focus();
  }

  // The list anew, with the focus on the button that has it, or on the one that is named.
  _show(focused = null, name = "") {
    const active = document.activeElement;
    const at = [...$("queue-list").children].findIndex((row) => row.contains(active));
    if (!focused && at >= 0) [focused, name] = [this._shown[at], active.dataset.name];
    $("queue").hidden = !this._items.length;
    setText("queue-speak", this._isRunning ? "Stop the queue" : "Speak the queue");
    $("queue-list").replaceChildren(...this._items.map((item, index) => this._row(item, index)));
    this._shown = [...this._items];
    if (!this._items.includes(focused)) return;
    const row = $("queue-list").children[this._items.indexOf(focused)];
    const buttons = [...row.querySelectorAll("button:enabled")];
    (buttons.find((button) => button.dataset.name === name) ?? buttons.at(-1)).focus();
  }

  _row(item, at) {
    const { order, state, error, speech } = item;
    const tool = (name, sign, label, act, disabled = false) => {
      const ariaLabel = `${label} text ${at + 1}`;
      const button = make("button", { type: "button", className: "quiet", ariaLabel, disabled }, sign);
      button.dataset.name = name;
      button.addEventListener("click", act);
      return button;
    };
    return make(
      "li",
      { className: state, ariaCurrent: state === "speaking" ? "true" : null },
      make("p", { className: "text", dir: "auto" }, order.text),
      make("p", { className: "hint" }, [STATES[state], this._describe(order)].filter(Boolean).join(" · ")),
      ...(error ? [make("p", { className: "why", dir: "auto" }, error)] : []),
      make(
        "div",
        { className: "tools" },
        tool("play", "▶", "Hear", () => this._replay(speech), !speech?.hasSound || state === "speaking"),
        tool("up", "↑", "Move up", () => this._move(item, -1), at === 0),
        tool("down", "↓", "Move down", () => this._move(item, 1), at === this._items.length - 1),
        tool("remove", "✕", "Remove", () => this._remove(item)),
      ),
    );
  }
}
