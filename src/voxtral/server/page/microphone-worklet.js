// Runs beside the sound: hands on what the microphone hears as 16-bit samples.

class Microphone extends AudioWorkletProcessor {
  process([[samples]]) {
    const toInt16 = (sample) => Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
    if (samples) this.port.postMessage(Int16Array.from(samples, toInt16));
    return true;
  }
}

registerProcessor("microphone", Microphone);
