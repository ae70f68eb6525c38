// Plays a recording while it still arrives: its samples become Web Audio sources a little ahead of time.

const SAMPLE_RATE = 24000; // of the model: pieces meet exactly, because nothing is resampled here
const AHEAD_S = 2; // more than a second, because timers of a hidden tab run once a second
const PIECE_S = 0.5;
const START_S = 0.02; // a source must not start in the past
const PUMP_MS = 100;
const CUSHION_S = { first: 0.25, most: 8 };

export class Player {
  constructor() {
    this.recording = null;
    this.isPlaying = false; // wanted; it may have to wait for samples
    this.isWaiting = true;
    this.onEnd = () => {}; // all of a recording has been heard
    this._context = null;
    this._sources = new Set();
    this._next = 0; // first sample that is not scheduled
    this._anchor = { time: 0, sample: 0 }; // a sample, and when it is heard
    this._cushion = 0; // seconds that must be there before it goes on; grows each time it ran dry
    setInterval(() => this.pump(), PUMP_MS);
  }

  // To be called from a click or a key: browsers play nothing unasked.
  unlock() {
    this._context ??= new AudioContext({ sampleRate: SAMPLE_RATE });
    this._context.resume();
  }

  // Begin with a new recording.
  start(recording) {
    this.recording = recording;
    this._cushion = 0;
    this.seek(0);
    this.play();
  }

  play() {
    if (!this.recording) return;
    if (this.recording.isComplete && this.position >= this.recording.duration) this.seek(0);
    this._context.resume();
    this.isPlaying = true;
    this.pump();
  }

  pause() {
    this._next = this._heard();
    this._silence();
    this.isPlaying = false;
    this._context?.suspend();
  }

  // Seconds.
  get position() {
    return this.recording ? this._heard() / this.recording.sampleRate : 0;
  }

  seek(seconds) {
    if (!this.recording) return;
    this._silence();
    const sample = Math.round(seconds * this.recording.sampleRate);
    this._next = Math.min(Math.max(0, sample), this.recording.length);
    this.pump();
  }

  // Schedule what has arrived and is due soon. To be called when samples have come; time is looked after here.
  pump() {
    if (!this.isPlaying) return;
    const { _context: context, recording } = this;
    if (this.isWaiting || context.currentTime >= this._timeOf(this._next)) {
      if (!this._begin()) return;
    }
    while (this._next < recording.length && this._timeOf(this._next) < context.currentTime + AHEAD_S) {
      const count = Math.min(recording.length - this._next, Math.round(PIECE_S * recording.sampleRate));
      this._schedule(recording.slice(this._next, count));
    }
  }

  // Start to play at the next sample; false if it cannot be yet, or all has been heard.
  _begin() {
    const { recording } = this;
    const seconds = (recording.length - this._next) / recording.sampleRate;
    if (seconds === 0 && recording.isComplete) {
      this.pause();
      this.onEnd();
      return false;
    }
    if (!this.isWaiting && seconds === 0) {
      this._cushion = Math.min(Math.max(CUSHION_S.first, 2 * this._cushion), CUSHION_S.most);
    }
    this.isWaiting = seconds === 0 || (!recording.isComplete && seconds < this._cushion);
    if (this.isWaiting) return false;
    this._anchor = { time: this._context.currentTime + START_S, sample: this._next };
    return true;
  }

  _schedule(samples) {
    const buffer = this._context.createBuffer(1, samples.length, this.recording.sampleRate);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this._context, { buffer });
    source.connect(this._context.destination);
    source.onended = () => this._sources.delete(source);
    source.start(this._timeOf(this._next));
    this._sources.add(source);
    this._next += samples.length;
  }

  _silence() {
    for (const source of this._sources) source.stop();
    this._sources.clear();
    this.isWaiting = true;
  }

  _timeOf(sample) {
    return this._anchor.time + (sample - this._anchor.sample) / this.recording.sampleRate;
  }

  // The sample that is heard now.
  _heard() {
    if (!this.isPlaying || this.isWaiting) return this._next;
    const seconds = Math.max(0, this._context.currentTime - this._anchor.time);
    return Math.min(this._anchor.sample + Math.round(seconds * this.recording.sampleRate), this._next);
  }
}
