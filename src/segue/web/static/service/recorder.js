// @ts-check
// A recording from a microphone or an instrument: samples as they come, without compression.

import { wavOf } from "./wav.js";

/** The longest recording, in seconds. */
export const LONGEST = 600;

/** Why there is no recording; the message says what can be done. */
export class RecordingError extends Error {}

/** Events: `progress` (`seconds` and `level` are new), `full` (nothing more is taken). */
export class Recorder extends EventTarget {
  seconds = 0;

  /** The loudest sample of late, 0 to 1. */
  level = 0;

  #context = new AudioContext();

  /** @type {MediaStream | null} */
  #stream = null;

  /** Blocks of each channel. @type {Float32Array[][]} */
  #blocks = [];

  /** Begin to record. Throws a RecordingError if there is nothing to record from. */
  async start() {
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({
        // What is good for calls is bad for music.
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
    } catch (error) {
      await this.#context.close();
      throw new RecordingError(lineOf(error));
    }
    const context = this.#context;
    await context.audioWorklet.addModule("/web/service/recorder_worklet.js");
    await context.resume();
    const node = new AudioWorkletNode(context, "segue-recording", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => this.#take(data);
    context.createMediaStreamSource(this.#stream).connect(node);
  }

  /**
   * End it. Null if nothing has come.
   *
   * @returns {Promise<File | null>}
   */
  async stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    const { sampleRate } = this.#context;
    await this.#context.close();
    if (!this.#blocks.length) return null;
    const count = Math.max(...this.#blocks.map((channels) => channels.length));
    const channels = Array.from({ length: count }, (_, n) =>
      joined(this.#blocks.map((block) => block[Math.min(n, block.length - 1)])),
    );
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    return new File([wavOf(channels, sampleRate)], `recording ${time}.wav`, { type: "audio/wav" });
  }

  /** @param {Float32Array[]} channels */
  #take(channels) {
    if (this.seconds >= LONGEST) {
      this.dispatchEvent(new Event("full"));
      return;
    }
    this.#blocks.push(channels);
    this.seconds += channels[0].length / this.#context.sampleRate;
    const peak = channels[0].reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    this.level = Math.max(peak, 0.95 * this.level);
    this.dispatchEvent(new Event("progress"));
  }
}

/** @param {Float32Array[]} blocks */
function joined(blocks) {
  const samples = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let at = 0;
  for (const block of blocks) {
    samples.set(block, at);
    at += block.length;
  }
  return samples;
}

/** @param {unknown} error  of `getUserMedia` */
function lineOf(error) {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError") {
    return "The browser does not let this page record; allow the microphone for it, and try again.";
  }
  if (name === "NotFoundError") return "There is no microphone and no other input to record from.";
  return "The input cannot be opened; another program may be using it.";
}
