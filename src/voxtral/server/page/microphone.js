// Records from the microphone: raw samples, because what a browser compresses has lost some of the voice.

import { Recording } from "./recording.js";
import { address } from "./server.js";

const MAX_S = 29; // a clip may have 30
const TOO_QUIET = 0.01; // of the loudest possible sample

// Only pages at https and on this machine have these.
export const canRecord = isSecureContext && Boolean(navigator.mediaDevices) && "AudioWorkletNode" in globalThis;

export class Microphone {
  // Ask the person, and begin; throws an Error whose message is for them.
  static async open() {
    const context = new AudioContext();
    await context.audioWorklet.addModule(address("microphone-worklet.js"));
    try {
      // The voice as it is: what helps a call takes parts of it away.
      const audio = { echoCancellation: false, noiseSuppression: false, channelCount: 1 };
      return new Microphone(await navigator.mediaDevices.getUserMedia({ audio }), context);
    } catch (error) {
      context.close();
      throw new Error(reason(error));
    }
  }

  constructor(stream, context) {
    this.recording = new Recording(context.sampleRate);
    this._stream = stream;
    this._context = context;
    const node = new AudioWorkletNode(context, "microphone", { channelCount: 1, channelCountMode: "explicit" });
    node.port.onmessage = ({ data }) => {
      if (!this.isFull) this.recording.append(data);
    };
    context.createMediaStreamSource(stream).connect(node);
  }

  get isFull() {
    return this.recording.duration >= MAX_S;
  }

  // What was heard, as a file; throws an Error if it was nothing.
  async close() {
    for (const track of this._stream.getTracks()) track.stop();
    await this._context.close();
    if (!this.recording.peaks.some((peak) => peak > TOO_QUIET)) {
      throw new Error("Nothing was heard. Is the right microphone chosen, and is it switched on?");
    }
    return new File([this.recording.toWav()], "recording.wav", { type: "audio/wav" });
  }
}

function reason({ name, message }) {
  if (name === "NotAllowedError") {
    return "The microphone was not lent to this page. Allow it in the settings of the page, and record again.";
  }
  if (name === "NotFoundError") return "There is no microphone. Connect one, or choose a file.";
  return `The microphone cannot be used: ${message}`;
}
