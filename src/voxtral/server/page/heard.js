// The text that is spoken, with the word that is heard now marked. Nothing else moves, and a screen reader, whose person
// hears the speech, is told nothing of it.

export class Heard {
  constructor(element) {
    this._element = element;
    this._before = document.createTextNode("");
    this._mark = document.createElement("mark");
    this._after = document.createTextNode("");
    this._speech = null;
    this._index = -1;
    element.replaceChildren(this._before, this._mark, this._after);
  }

  // `position` in seconds; null while nothing is heard.
  show(speech, position) {
    this._element.hidden = !speech.words.length;
    const index = position === null ? -1 : wordAt(speech.words, position);
    if (speech === this._speech && index === this._index) return;
    if (speech !== this._speech) this._element.scrollTop = 0;
    this._speech = speech;
    this._index = index;
    const { from, to } = speech.words[index] ?? { from: 0, to: 0 };
    this._before.data = speech.text.slice(0, from);
    this._mark.textContent = speech.text.slice(from, to);
    this._after.data = speech.text.slice(to);
    if (index >= 0) this._keepInView();
  }

  // At once, and only when the word is out of view: a text that glides is hard to read, and for some to bear.
  _keepInView() {
    const { _element: box, _mark: mark } = this;
    const isSeen = mark.offsetTop >= box.scrollTop && bottomOf(mark) <= box.scrollTop + box.clientHeight;
    if (!isSeen) box.scrollTop = mark.offsetTop - box.clientHeight / 3;
  }
}

function bottomOf(mark) {
  return mark.offsetTop + mark.offsetHeight;
}

// The index of the word that is heard, which lasts until the next one; -1 before the first and after the last.
function wordAt(words, position) {
  let low = 0;
  let high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].start <= position) low = middle + 1;
    else high = middle;
  }
  return low === words.length && position >= (words.at(-1)?.end ?? 0) ? -1 : low - 1;
}
