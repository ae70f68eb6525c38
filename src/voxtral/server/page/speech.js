// One utterance: its request, what has arrived of it, and how it ended.

import { seconds } from "./dom.js";
import { Recording } from "./recording.js";
import { Refusal, request } from "./server.js";

export class Speech {
  // `ask(more, signal)` makes the request; `more` are the fields of it that say in which form the audio comes.
  constructor(ask) {
    this.state = "waiting"; // then streaming, then done, stopped, or failed
    this.isStopped = false; // by a person, maybe after all of it had arrived
    this.error = "";
    this.recording = null;
    this.headers = null;
    this.startedAt = 0;
    this.firstAt = 0;
    this.endedAt = 0;
    this.onReceived = () => {}; // nothing more will come
    this._ask = ask;
    this._controller = new AbortController();
  }

  // A text with its settings: see readForm() in page.js.
  static of(order) {
    return new Speech(async (more, signal) =>
      request("v1/audio/speech", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: await bodyOf({ ...order, ...more }),
        signal,
      }),
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
      const response = await this._ask({ response_format: "pcm" }, this._controller.signal);
      this.headers = response.headers;
      this.state = "streaming";
      this.recording = new Recording(Number(this.headers.get("X-Voxtral-Sample-Rate")));
      onStart(this.recording);
      await this._read(response.body.getReader(), onAudio);
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

  async _read(reader, onAudio) {
    let rest = new Uint8Array(); // a sample may arrive in halves
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const bytes = new Uint8Array(rest.length + value.length);
      bytes.set(rest);
      bytes.set(value, rest.length);
      rest = bytes.slice(bytes.length - (bytes.length % 2));
      this.recording.append(new Int16Array(bytes.buffer, 0, bytes.length >> 1));
      this.firstAt ||= performance.now();
      onAudio();
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

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Refusal(`The clip ${file.name} cannot be read; choose another one.`));
    reader.readAsDataURL(file);
  });
}
