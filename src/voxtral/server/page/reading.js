// What will be said otherwise than it is written: underlined where it is typed, and written out below.

import { $, make, setText } from "./dom.js";
import { ask } from "./server.js";

const WAIT_MS = 250; // after the last key
const MOST = 5000; // characters that are looked at
const MOST_TOLD = 20; // of what may be said wrong

// A layer behind the text, with the same letters in the same places, of which only lines are seen. A textarea itself
// can underline nothing.
export class Reading {
  // `how()` says how the text would be read: the fields of a request but for the text.
  constructor(how) {
    this._how = how;
    this._text = ""; // for which the marks hold
    this._marks = []; // { start, end, kind: "said" | "gone", isLeft }
    this._timer = 0;
    this._asked = null; // the request that is under way
    this._layer = make("div");
    $("changes").append(this._layer);
    const box = $("text");
    box.addEventListener("input", () => this.update());
    box.addEventListener("scroll", () => this._place());
    new ResizeObserver(() => this._place()).observe(box);
    this.update(); // what the browser has kept of an earlier visit
  }

  // The text, or how it is read, is another one.
  update() {
    const text = beginningOf($("text").value);
    this._follow(text);
    clearTimeout(this._timer);
    this._asked?.abort();
    if (!text.trim()) this._show(text, { edits: [], warnings: [] });
    else this._timer = setTimeout(() => this._ask(text), WAIT_MS);
  }

  // Marks go along with the text around them until the server has read it anew, so that none flickers.
  _follow(text) {
    const [before, after] = [this._text, text];
    let start = 0;
    const shorter = Math.min(before.length, after.length);
    while (start < shorter && before[start] === after[start]) start++;
    let end = 0;
    while (end < shorter - start && before.at(-1 - end) === after.at(-1 - end)) end++;
    const moved = after.length - before.length;
    this._marks = this._marks
      .filter((mark) => mark.end <= start || mark.start >= before.length - end)
      .map((mark) => (mark.end <= start ? mark : { ...mark, start: mark.start + moved, end: mark.end + moved }));
    this._text = text;
    this._draw();
  }

  async _ask(text) {
    const asked = new AbortController();
    this._asked = asked;
    try {
      const body = JSON.stringify({ text: wellFormed(text), ...this._how() });
      const headers = { "Content-Type": "application/json" };
      const response = await ask("v1/text/normalize", { method: "POST", headers, body, signal: asked.signal });
      const answer = await response.json();
      if (!asked.signal.aborted) this._show(text, answer);
    } catch {
      if (!asked.signal.aborted) this._showNothing();
    }
  }

  _show(text, { language = "", edits, warnings }) {
    const places = [...edits, ...warnings].flatMap(({ start, end }) => [start, end]);
    const at = inUnits(text, places);
    const said = edits.map((edit) => ({ ...edit, start: at.get(edit.start), end: at.get(edit.end) }));
    const left = warnings.map((one) => ({ ...one, start: at.get(one.start), end: at.get(one.end) }));
    this._text = text;
    this._marks = marksOf(text, said, left);
    this._draw();
    $("spoken").lang = language;
    $("spoken").replaceChildren(...spokenNodes(text, said, left));
    showLeft(left);
    const isLong = text.length < $("text").value.length;
    $("reading-rule").hidden = !isLong;
    if (isLong) setText("reading-rule", `Only the first ${text.length} characters are looked at here; all are spoken.`);
    $("reading").hidden = !text.trim();
    this._tell(text.trim() ? summary(said.length, left.length) : "");
  }

  _showNothing() {
    this._marks = [];
    this._draw();
    $("reading").hidden = true;
    this._tell("");
  }

  _tell(what) {
    setText("reading-summary", what && `What will be spoken: ${what}`);
    setText("reading-status", what);
  }

  _draw() {
    const nodes = [];
    let reached = 0;
    for (const { start, end, kind, isLeft } of this._marks) {
      nodes.push(this._text.slice(reached, start));
      nodes.push(make("span", { className: isLeft ? `${kind} left` : kind }, this._text.slice(start, end)));
      reached = end;
    }
    this._layer.replaceChildren(...nodes, this._text.slice(reached));
    this._place();
  }

  // Where the text is: the box may scroll, and its scroll bar takes room on one side or the other.
  _place() {
    const { clientLeft, clientTop, clientWidth, clientHeight, scrollTop } = $("text");
    const style = $("changes").style;
    style.left = `${clientLeft}px`;
    style.top = `${clientTop}px`;
    style.width = `${clientWidth}px`;
    style.height = `${clientHeight}px`;
    this._layer.style.transform = `translateY(${-scrollTop}px)`;
  }
}

// All of a text, or as much of a long one as is looked at, up to the end of a word.
function beginningOf(text) {
  if (text.length <= MOST) return text;
  const space = text.slice(0, MOST).search(/\s\S*$/);
  const end = space > MOST / 2 ? space : MOST;
  return text.slice(0, isHalf(text, end) ? end - 1 : end);
}

// Whether a place is in the middle of a character.
function isHalf(text, place) {
  return /^[\ud800-\udbff][\udc00-\udfff]/.test(text.slice(place - 1, place + 1));
}

// Half characters cannot be sent; what stands for them is as long.
function wellFormed(text) {
  return text.replace(/[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g, (found) => (found[1] ? found : "\ufffd"));
}

// The server counts characters, a string here counts units of 16 bits: a map from the one to the other.
function inUnits(text, places) {
  const sorted = [...new Set(places)].sort((a, b) => a - b);
  const found = new Map();
  let [characters, units] = [0, 0];
  for (const place of sorted) {
    while (characters < place && units < text.length) {
      units += text.codePointAt(units) > 0xffff ? 2 : 1;
      characters++;
    }
    found.set(place, units);
  }
  return found;
}

// Without the white space at both ends.
function trimmed(text, start, end) {
  const part = text.slice(start, end);
  return { start: end - part.trimStart().length, end: start + part.trimEnd().length };
}

// In order and apart from each other.
function marksOf(text, said, left) {
  const marks = said
    .map(({ start, end, spoken }) => ({ ...trimmed(text, start, end), kind: spoken.trim() ? "said" : "gone" }))
    .filter(({ start, end }) => end > start);
  for (const one of left) {
    const around = marks.find((mark) => mark.start < one.end && one.start < mark.end);
    if (around) around.isLeft = true;
    else if (one.end > one.start) marks.push({ start: one.start, end: one.end, kind: "", isLeft: true });
  }
  return marks.sort((a, b) => a.start - b.start);
}

// The text as it is spoken: what is read otherwise is marked, and says how it is written.
function spokenNodes(text, said, left) {
  const nodes = [];
  let reached = 0;
  const plain = (until) => {
    for (const { start, end } of left) {
      if (start < reached || end > until) continue;
      nodes.push(text.slice(reached, start), make("span", { className: "left" }, text.slice(start, end)));
      reached = end;
    }
    nodes.push(text.slice(reached, until));
  };
  for (const { start, end, spoken, kind } of said) {
    plain(start);
    if (spoken.trim()) nodes.push(make("mark", { title: `${text.slice(start, end)} (${kind})` }, spoken));
    else nodes.push(spoken);
    reached = Math.max(reached, end);
  }
  plain(text.length);
  return nodes;
}

function showLeft(left) {
  const items = left.slice(0, MOST_TOLD).map(({ written, kind }) => {
    const what = kind === "digits" ? "stays in digits" : "stays a sign";
    return make("li", {}, make("bdi", {}, written), ` ${what}, and may be said wrong`);
  });
  if (left.length > MOST_TOLD) items.push(make("li", {}, `so do ${left.length - MOST_TOLD} more`));
  $("reading-left").replaceChildren(...items);
}

function summary(numSaid, numLeft) {
  const said = numSaid === 1 ? "1 place is read otherwise" : numSaid ? `${numSaid} places are read otherwise` : "";
  const left = numLeft ? `${numLeft} may be said wrong` : "";
  return [said, left].filter(Boolean).join(", ") || "as it is written";
}
