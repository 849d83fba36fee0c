// @ts-check
// Playback of takes while they are generated: the prompt, and right behind it what has come so far.
//
// Every chunk is scheduled on the audio clock at its own sample, so that neither chunks nor the
// join are audible. If the model is slower than the music, playback waits, and goes on when there
// is some more of it.

import { activate, isPlaying, newContext } from "../shared/takes.js";
import { outputOf } from "../shared/volume.js";

/** @import { StreamFormat } from "../../types/service.js" */

/** How far ahead a start is scheduled, in seconds. */
const AHEAD = 0.05;

/** How much must be buffered before playback that had to wait goes on, in seconds. */
const REBUFFER = 2;

/** Over how long the step between prompt and continuation is smoothed, in seconds. */
const SMOOTHING = 0.005;

/** Time constant of a switch, in seconds. */
const FADE = 0.003;

/**
 * A part of a take: `seconds` of `buffer` from its second `from` on, which start at `at`.
 *
 * @typedef {{ take: number, at: number, from: number, seconds: number, buffer: AudioBuffer }} Chunk
 */

/** Events: `state`. Times are in seconds from the prompt's start. */
export class StreamPlayer extends EventTarget {
  selected = 0;

  /** How many there are; 0 until the format is known. */
  takes = 0;

  /** In Hz; known with the format. */
  sampleRate = 0;

  /** How many samples of each take's continuation have come. @type {number[]} */
  ends = [];

  /** Whether the stream has ended. */
  complete = false;

  playing = false;

  /** Whether it plays as soon as there is something to play. */
  requested = false;

  /** Whether playback waits for the stream. */
  waiting = false;

  /** Whether it has played at all. */
  started = false;

  /** Position at the last start, or where it would start. */
  offset;

  /** When, on the context's clock, the prompt's start is or was. */
  origin = 0;

  /** @type {Chunk[]} */
  #chunks = [];

  /** Of the takes, while it plays. @type {GainNode[] | null} */
  #gains = null;

  /** Whether it was to start without a key or a click. */
  #automatic = false;

  /**
   * @param {object} options
   * @param {AudioBuffer | null} [options.prompt]  holds the prompt, if it is known here
   * @param {number} [options.start]  where the prompt starts in that buffer
   * @param {number} options.seconds  the prompt's length, as it was requested
   * @param {number} [options.from]  where the prompt starts in the file that was sent
   * @param {AudioContext | null} [options.context]  one that may make sound already
   */
  constructor({ prompt = null, start = 0, seconds, from = 0, context = null }) {
    super();
    this.prompt = prompt;
    this.start = start;
    this.from = from;
    this.join = seconds;
    this.context = context;
    this.offset = prompt ? 0 : seconds;
  }

  /**
   * What is going to come. A stream that begins again brings the same format.
   *
   * @param {StreamFormat} format
   */
  format({ sample_rate: sampleRate, takes, join_seconds: join }) {
    if (this.takes) return;
    // The prompt is whole frames of the codec, and so may be a little shorter than requested.
    if (join > this.from) {
      if (this.offset === this.join) this.offset = join - this.from;
      this.join = join - this.from;
    }
    this.sampleRate = sampleRate;
    this.takes = takes;
    this.ends = new Array(takes).fill(0);
    const buffer = this.prompt;
    if (buffer) {
      for (let take = 0; take < takes; take++) {
        const { start: from, join: seconds } = this;
        this.#chunks.push({ take, at: 0, from, seconds, buffer });
      }
    }
    this.#announce();
  }

  /**
   * Add samples of a take. Returns whether they are new; a stream that begins again brings old
   * ones.
   *
   * @param {number} take  index
   * @param {number} start  the first sample, from the start of the continuation
   * @param {Float32Array<ArrayBuffer>[]} samples  of each channel
   * @returns {boolean}
   */
  add(take, start, samples) {
    const known = this.ends[take] - start;
    if (known > 0) return this.add(take, start + known, samples.map((s) => s.subarray(known)));
    const length = samples[0].length;
    if (!length) return false;
    if (start === 0 && this.prompt) this.#smoothJoin(samples, this.prompt);
    const buffer = new AudioBuffer({
      length,
      numberOfChannels: samples.length,
      sampleRate: this.sampleRate,
    });
    samples.forEach((channel, n) => buffer.copyToChannel(channel, n));
    const at = this.join + start / this.sampleRate;
    const chunk = { take, at, from: 0, seconds: length / this.sampleRate, buffer };
    this.#chunks.push(chunk);
    this.ends[take] = start + length;
    if (this.requested && !this.playing) this.#resume();
    else if (this.playing) this.#append(chunk);
    this.#announce();
    return true;
  }

  /** Nothing more will come. */
  end() {
    this.complete = true;
    if (this.playing && this.waiting) this.#restart(this.offset);
    this.#announce();
  }

  /** What there is up to, in every take. */
  get available() {
    if (!this.takes) return 0;
    return this.join + Math.min(...this.ends) / this.sampleRate;
  }

  get currentTime() {
    if (!this.context || !this.playing || this.waiting) return this.offset;
    return Math.min(Math.max(this.offset, this.context.currentTime - this.origin), this.available);
  }

  set currentTime(seconds) {
    this.offset = Math.min(Math.max(this.prompt ? 0 : this.join, seconds), this.available);
    this.waiting = false;
    if (this.playing) this.#restart(this.offset);
    this.#announce();
  }

  /**
   * Play as soon as there is something.
   *
   * @param {object} [options]
   * @param {boolean} [options.automatic]  only if nothing else plays then
   */
  play({ automatic = false } = {}) {
    if (!automatic) activate(this);
    this.requested = true;
    this.#automatic = automatic;
    if (this.complete && this.offset >= this.available - 0.05) {
      this.offset = this.prompt ? 0 : this.join;
    }
    this.#resume();
    this.#announce();
  }

  pause() {
    if (this.playing) this.offset = this.currentTime;
    this.#silence();
    this.requested = this.playing = this.waiting = false;
    this.#announce();
  }

  /** Pause, and go back to the start. */
  stop() {
    this.pause();
    this.offset = this.prompt ? 0 : this.join;
    this.#announce();
  }

  /** @param {number} take  index */
  select(take) {
    this.selected = take;
    this.#gains?.forEach(({ gain, context }, n) => {
      gain.setTargetAtTime(n === take ? 1 : 0, context.currentTime, FADE);
    });
    this.#announce();
  }

  /** Release everything. */
  close() {
    this.pause();
    this.#chunks = [];
    this.context?.close().catch(() => {});
    this.context = null;
  }

  /** To be called now and then: waits if the buffer has run out, stops at the end. */
  check() {
    if (!this.context || !this.playing || this.waiting) return;
    const available = this.available;
    if (this.context.currentTime - this.origin < available) return;
    this.offset = available;
    if (this.complete) this.stop();
    else this.waiting = true;
    this.#announce();
  }

  #resume() {
    // Without a first chunk, the prompt would end in nothing.
    if (this.playing || !this.takes || !Math.min(...this.ends)) return;
    if (this.#automatic && isPlaying()) {
      this.requested = false;
      return;
    }
    activate(this);
    if (this.context?.sampleRate !== this.sampleRate) {
      this.context?.close().catch(() => {});
      this.context = newContext(this.sampleRate);
    }
    if (this.context.state === "suspended") this.context.resume().catch(() => {});
    this.playing = this.started = true;
    this.#restart(this.offset);
  }

  /** @param {number} seconds  where to start */
  #restart(seconds) {
    this.#silence();
    this.waiting = false;
    this.offset = seconds;
    const { context } = this;
    if (!context) return;
    this.#gains = Array.from({ length: this.takes }, (_, take) => {
      const gain = new GainNode(context, { gain: take === this.selected ? 1 : 0 });
      gain.connect(outputOf(context));
      return gain;
    });
    // On a sample of the clock: chunks that start between two would be interpolated at their ends.
    const rate = context.sampleRate;
    const begin = Math.ceil((context.currentTime + AHEAD) * rate) / rate;
    this.origin = begin - Math.round(seconds * rate) / rate;
    for (const chunk of this.#chunks) this.#schedule(chunk);
  }

  /** @param {Chunk} chunk  that has just come */
  #append(chunk) {
    this.check();
    if (!this.waiting) {
      this.#schedule(chunk);
    } else if (this.available - this.offset >= REBUFFER) {
      this.#restart(this.offset);
    }
  }

  /** @param {Chunk} chunk */
  #schedule({ take, at, from, seconds, buffer }) {
    const gain = this.#gains?.[take];
    const skipped = Math.max(0, this.offset - at);
    if (!gain || skipped >= seconds) return;
    const source = new AudioBufferSourceNode(gain.context, { buffer });
    source.connect(gain);
    source.start(this.origin + at + skipped, from + skipped, seconds - skipped);
  }

  #silence() {
    const old = this.#gains ?? [];
    this.#gains = null;
    for (const gain of old) {
      gain.gain.setTargetAtTime(0, gain.context.currentTime, FADE);
      // Behind the fade: what is not connected is inaudible, and is collected.
      setTimeout(() => gain.disconnect(), 1000 * 10 * FADE);
    }
  }

  /**
   * Let the first samples start where the prompt ends.
   *
   * @param {Float32Array[]} samples  of each channel; changed
   * @param {AudioBuffer} prompt
   */
  #smoothJoin(samples, prompt) {
    const last = Math.round((this.start + this.join) * prompt.sampleRate) - 1;
    const length = Math.min(samples[0].length, Math.round(SMOOTHING * this.sampleRate));
    samples.forEach((channel, n) => {
      const before = prompt.getChannelData(Math.min(n, prompt.numberOfChannels - 1));
      const step = (before[Math.min(last, before.length - 1)] ?? 0) - channel[0];
      for (let t = 0; t < length; t++) {
        channel[t] += step * (0.5 + 0.5 * Math.cos((Math.PI * t) / length));
      }
    });
  }

  #announce() {
    this.dispatchEvent(new Event("state"));
  }
}

/**
 * Samples of each channel.
 *
 * @param {string} text  base64 of interleaved 16-bit integers
 * @param {number} channels
 */
export function samplesOf(text, channels) {
  const binary = atob(text);
  const length = Math.floor(binary.length / 2 / channels);
  return Array.from({ length: channels }, (_, channel) => {
    const samples = new Float32Array(length);
    for (let t = 0, byte = 2 * channel; t < length; t++, byte += 2 * channels) {
      const unsigned = binary.charCodeAt(byte) | (binary.charCodeAt(byte + 1) << 8);
      samples[t] = ((unsigned << 16) >> 16) / 32768;
    }
    return samples;
  });
}
