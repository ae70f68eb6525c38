// What has arrived of an utterance: 16-bit mono samples, kept as they came.

const BLOCK = 2 ** 20;
const PEAKS_PER_SECOND = 100;

export class Recording {
  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.length = 0; // samples
    this.isComplete = false; // nothing more will come, be it whole or broken
    this.peaks = []; // loudest sample of each 10 ms, from 0 to 1
    this._samplesPerPeak = Math.round(sampleRate / PEAKS_PER_SECOND);
    this._blocks = []; // of BLOCK samples each, so that growing never copies what is there
  }

  get duration() {
    return this.length / this.sampleRate;
  }

  append(samples) {
    for (let done = 0; done < samples.length; ) {
      const offset = this.length % BLOCK;
      if (offset === 0) this._blocks.push(new Int16Array(BLOCK));
      const part = samples.subarray(done, done + BLOCK - offset);
      this._blocks.at(-1).set(part, offset);
      this._measure(part);
      this.length += part.length;
      done += part.length;
    }
  }

  // Samples as Web Audio wants them, from -1 to 1.
  slice(start, count) {
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const at = start + i;
      out[i] = this._blocks[Math.floor(at / BLOCK)][at % BLOCK] / 32768;
    }
    return out;
  }

  // A WAV file: the 44 bytes of its header, then the samples. Browsers run on little-endian machines, as WAV is.
  toWav() {
    const numBytes = this.length * 2;
    const header = new DataView(new ArrayBuffer(44));
    const write = (at, text) => [...text].forEach((char, i) => header.setUint8(at + i, char.charCodeAt(0)));
    write(0, "RIFF");
    header.setUint32(4, 36 + numBytes, true);
    write(8, "WAVEfmt ");
    header.setUint32(16, 16, true); // bytes of this part
    header.setUint16(20, 1, true); // PCM
    header.setUint16(22, 1, true); // channels
    header.setUint32(24, this.sampleRate, true);
    header.setUint32(28, this.sampleRate * 2, true); // bytes a second
    header.setUint16(32, 2, true); // bytes a sample
    header.setUint16(34, 16, true); // bits a sample
    write(36, "data");
    header.setUint32(40, numBytes, true);
    const parts = this._blocks.map((block, i) => block.subarray(0, Math.min(BLOCK, this.length - i * BLOCK)));
    return new Blob([header, ...parts], { type: "audio/wav" });
  }

  _measure(samples) {
    for (let i = 0; i < samples.length; i++) {
      const peak = Math.floor((this.length + i) / this._samplesPerPeak);
      this.peaks[peak] = Math.max(this.peaks[peak] ?? 0, Math.abs(samples[i]) / 32768);
    }
  }
}
