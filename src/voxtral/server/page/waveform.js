// Draws a recording as bars: what has been heard in the accent colour, what is still to be heard in grey.

const BAR = 2;
const GAP = 2;
const FIRST_SPAN_S = 6;

export class Waveform {
  constructor(canvas) {
    this._canvas = canvas;
    this._fit();
    new ResizeObserver(() => {
      this._fit();
      this.draw();
    }).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Seconds that the whole width stands for. While a recording grows they double when it is full, so that the picture
  // stands still in between.
  static span(recording) {
    if (recording?.isComplete && recording.length) return recording.duration;
    let span = FIRST_SPAN_S;
    while (span < recording?.duration) span *= 2;
    return span;
  }

  draw(recording = this._recording, position = this._position) {
    this._recording = recording;
    this._position = position;
    const { _canvas: canvas } = this;
    const colours = getComputedStyle(canvas);
    const pen = canvas.getContext("2d");
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const numBars = Math.floor(width / (BAR + GAP));
    const span = Waveform.span(recording);
    pen.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
    pen.clearRect(0, 0, width, height);
    for (let bar = 0; bar < numBars; bar++) {
      const level = recording ? loudest(recording, (bar / numBars) * span, ((bar + 1) / numBars) * span) : 0;
      // The root lets quiet speech be seen beside loud speech.
      const size = Math.max(BAR, Math.sqrt(level) * height);
      pen.fillStyle = colours.getPropertyValue((bar / numBars) * span < position ? "--accent" : "--wave");
      pen.beginPath();
      pen.roundRect(bar * (BAR + GAP), (height - size) / 2, BAR, size, BAR / 2);
      pen.fill();
    }
  }

  _fit() {
    this._canvas.width = this._canvas.clientWidth * devicePixelRatio;
    this._canvas.height = this._canvas.clientHeight * devicePixelRatio;
  }
}

function loudest(recording, from, to) {
  const { peaks, duration } = recording;
  if (!duration) return 0;
  const perSecond = peaks.length / duration;
  const end = Math.max(Math.floor(to * perSecond), Math.floor(from * perSecond) + 1);
  let level = 0;
  for (let i = Math.floor(from * perSecond); i < Math.min(end, peaks.length); i++) level = Math.max(level, peaks[i]);
  return level;
}
