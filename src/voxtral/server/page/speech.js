// One utterance: its request, what has arrived of it, and how it ended.

import { seconds } from "./dom.js";
import { readAudio, readEvents } from "./events.js";
import { Recording } from "./recording.js";
import { Refusal, request } from "./server.js";

// Samples as they are made, and with them the times of words, for who asks /v1/audio/speech.
const LIVE = { response_format: "pcm", stream_format: "sse", timestamps: true };

export class Speech {
  // `ask(more, signal)` makes the request; `more` are the fields of it that say in which form the audio comes. `text` is
  // what it speaks, where that is known.
  constructor(ask, text = "") {
    this.state = "waiting"; // then streaming, then done, stopped, or failed
    this.isStopped = false; // by a person, maybe after all of it had arrived
    this.error = "";
    this.text = text;
    this.words = []; // { start, end, from, to }: seconds, and places in the text
    this.recording = null;
    this.headers = null;
    this.startedAt = 0;
    this.firstAt = 0;
    this.endedAt = 0;
    this.onReceived = () => {}; // nothing more will come
    this._ask = ask;
    this._places = null;
    this._controller = new AbortController();
  }

  // A text with its settings: see readForm() in page.js.
  static of(order) {
    return new Speech(
      async (more, signal) =>
        request("v1/audio/speech", {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: await bodyOf({ ...order, ...more }),
          signal,
        }),
      order.text,
    );
  }

  // What a voice says to be heard.
  static sample(voiceId) {
    const path = `v1/audio/voices/${encodeURIComponent(voiceId)}/sample?response_format=`;
    return new Speech(({ response_format: format }, signal) => request(path + format, { signal }));
  }

  get seed() {
    return this.headers?.get("X-Voxtral-Seed") ?? "";
  }

  get voice() {
    return decodeURIComponent(this.headers?.get("X-Voxtral-Voice") ?? "");
  }

  get warning() {
    return decodeURIComponent(this.headers?.get("X-Voxtral-Warning") ?? "");
  }

  get hasSound() {
    return Boolean(this.recording?.length);
  }

  // Seconds of work for a second of audio.
  get rtf() {
    return (this.endedAt - this.startedAt) / 1000 / this.recording.duration;
  }

  // Ask, and take what comes; never throws. `onStart` gets the recording while it is empty, `onAudio` tells of more.
  async receive(onStart, onAudio) {
    this.startedAt = performance.now();
    try {
      const response = await this._ask(LIVE, this._controller.signal);
      this.headers = response.headers;
      this.state = "streaming";
      this.recording = new Recording(Number(this.headers.get("X-Voxtral-Sample-Rate")));
      onStart(this.recording);
      const isEvents = this.headers.get("Content-Type").startsWith("text/event-stream");
      await this._read(isEvents ? readEvents(response.body) : readAudio(response.body), onAudio);
      this.state = "done";
    } catch (error) {
      this.state = this._controller.signal.aborted ? "stopped" : "failed";
      if (this.state === "failed") this.error = this._reason(error);
    }
    this.endedAt = performance.now();
    if (this.recording) this.recording.isComplete = true;
    this.onReceived();
  }

  stop() {
    this.isStopped = true;
    this._controller.abort();
  }

  // All of it as a file of a format: what has arrived as WAV, and for the others spoken once more with its seed.
  async file(format, signal) {
    if (format === "wav") return this.recording.toWav();
    const response = await this._ask({ response_format: format, stream: false, seed: this.seed }, signal);
    return response.blob();
  }

  async _read(pieces, onAudio) {
    let rest = new Uint8Array(); // a sample may arrive in halves
    for await (const { bytes: more, words } of pieces) {
      const bytes = new Uint8Array(rest.length + more.length);
      bytes.set(rest);
      bytes.set(more, rest.length);
      rest = bytes.slice(bytes.length - (bytes.length % 2));
      this.recording.append(new Int16Array(bytes.buffer, 0, bytes.length >> 1));
      this._takeWords(words);
      this.firstAt ||= performance.now();
      onAudio();
    }
  }

  // A word that was not heard has no length.
  _takeWords(words) {
    for (const { start, end, text_start: from, text_end: to } of words) {
      if (end <= start) continue;
      this._places ??= placesOf(this.text);
      this.words.push({ start, end, from: this._places[from], to: this._places[to] });
    }
  }

  _reason(error) {
    if (error instanceof Refusal) return error.message;
    if (this.hasSound) {
      return `The stream broke after ${seconds(this.recording.duration)} of audio: what is here is not all of it.`;
    }
    return "The server gave no answer. Is it running, and is this page still connected to it?";
  }
}

// JSON also with a clip, because browsers change the ends of lines in what a form holds, and so the speech.
async function bodyOf({ text, clip, ...fields }) {
  const body = { input: text, ...fields };
  if (clip) body.ref_audio = await dataUrl(clip);
  return JSON.stringify(body);
}

// Where each character begins: the server counts characters, and strings here are made of halves of some.
function placesOf(text) {
  const places = [0];
  for (const character of text) places.push(places.at(-1) + character.length);
  return places;
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Refusal(`The clip ${file.name} cannot be read; choose another one.`));
    reader.readAsDataURL(file);
  });
}
