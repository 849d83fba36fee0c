// Listening to takes while they are made: the prompt, and right behind it what has come so far.
//
// Every piece is put on the audio clock at its own sample, so that neither pieces nor the join can
// be heard. If the model is slower than the music, the music waits, and goes on when there is some
// more of it.

import { claim, newContext, sounding } from "../shared/takes.js";

/** How far ahead a start is scheduled, in seconds. */
const AHEAD = 0.05;

/** How much must have come before music that had to wait goes on, in seconds. */
const CUSHION = 2;

/** How long the step between prompt and continuation is bent away, in seconds. */
const BEND = 0.005;

const FADE = 0.003;

/** Events: `state`. Times are in seconds from the prompt's start. */
export class StreamPlayer extends EventTarget {
  /**
   * `prompt` is the AudioBuffer that holds the prompt, from `start` on, or null if it isn't there;
   * `seconds` is the prompt's length either way, as it was asked for; `from` is where it starts in
   * what was sent. `context` is one that may make sound already.
   */
  constructor({ prompt = null, start = 0, seconds, from = 0, context = null }) {
    super();
    Object.assign(this, { prompt, start, from, join: seconds, context });
    this.selected = 0;
    this.takes = 0;
    this.pieces = [];
    this.complete = false;
    this.playing = false;
    this.wanted = false;
    this.waiting = false;
    this.started = false;
    this.offset = prompt ? 0 : seconds;
  }

  /** What is going to come. A stream that begins again brings the same format. */
  format({ sample_rate: sampleRate, channels, takes, join_seconds: join }) {
    if (this.takes) return;
    // The prompt is whole frames of the codec, and so may be a little shorter than was asked for.
    if (join > this.from) {
      if (this.offset === this.join) this.offset = join - this.from;
      this.join = join - this.from;
    }
    Object.assign(this, { sampleRate, channels, takes });
    this.ends = new Array(takes).fill(0);
    if (this.prompt) {
      for (let take = 0; take < takes; take++) {
        const { start: from, join: seconds, prompt: buffer } = this;
        this.pieces.push({ take, at: 0, from, seconds, buffer });
      }
    }
    this.#announce();
  }

  /**
   * Add samples of a take, from sample `start` of its continuation on: arrays, one for each
   * channel. Says whether they are new; a stream that begins again brings old ones.
   */
  add(take, start, samples) {
    const known = this.ends[take] - start;
    if (known > 0) return this.add(take, start + known, samples.map((s) => s.subarray(known)));
    const length = samples[0].length;
    if (!length) return false;
    if (start === 0 && this.prompt) this.#bend(samples);
    const buffer = new AudioBuffer({
      length,
      numberOfChannels: samples.length,
      sampleRate: this.sampleRate,
    });
    samples.forEach((channel, n) => buffer.copyToChannel(channel, n));
    const at = this.join + start / this.sampleRate;
    const piece = { take, at, from: 0, seconds: length / this.sampleRate, buffer };
    this.pieces.push(piece);
    this.ends[take] = start + length;
    if (this.wanted && !this.playing) this.#resume();
    else if (this.playing) this.#follow(piece);
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
    if (!this.playing || this.waiting) return this.offset;
    return Math.min(Math.max(this.offset, this.context.currentTime - this.origin), this.available);
  }

  set currentTime(seconds) {
    this.offset = Math.min(Math.max(this.prompt ? 0 : this.join, seconds), this.available);
    this.waiting = false;
    if (this.playing) this.#restart(this.offset);
    this.#announce();
  }

  /** Play as soon as there is something, unless it is by itself and something else is heard. */
  play({ byItself = false } = {}) {
    if (!byItself) claim(this);
    Object.assign(this, { wanted: true, byItself });
    if (this.complete && this.offset >= this.available - 0.05) {
      this.offset = this.prompt ? 0 : this.join;
    }
    this.#resume();
    this.#announce();
  }

  pause() {
    if (this.playing) this.offset = this.currentTime;
    this.#silence();
    Object.assign(this, { wanted: false, playing: false, waiting: false });
    this.#announce();
  }

  /** Pause, and go back to the start. */
  stop() {
    this.pause();
    this.offset = this.prompt ? 0 : this.join;
    this.#announce();
  }

  select(take) {
    this.selected = take;
    this.gains?.forEach((gain, n) => {
      gain.gain.setTargetAtTime(n === take ? 1 : 0, this.context.currentTime, FADE);
    });
    this.#announce();
  }

  /** Give everything back. */
  close() {
    this.pause();
    this.pieces = [];
    this.context?.close().catch(() => {});
    this.context = null;
  }

  /** To be called now and then: has the music run out of what has come, or ended? */
  check() {
    if (!this.playing || this.waiting) return;
    const available = this.available;
    if (this.context.currentTime - this.origin < available) return;
    this.offset = available;
    if (this.complete) this.stop();
    else this.waiting = true;
    this.#announce();
  }

  #resume() {
    // Without a first piece, the prompt would end in nothing.
    if (this.playing || !this.takes || !Math.min(...this.ends)) return;
    if (this.byItself && sounding()) {
      this.wanted = false;
      return;
    }
    claim(this);
    if (this.context?.sampleRate !== this.sampleRate) {
      this.context?.close().catch(() => {});
      this.context = newContext(this.sampleRate);
    }
    if (this.context.state === "suspended") this.context.resume().catch(() => {});
    this.playing = this.started = true;
    this.#restart(this.offset);
  }


  #restart(seconds) {
    this.#silence();
    this.waiting = false;
    this.offset = seconds;
    this.gains = Array.from({ length: this.takes }, (_, take) => {
      const gain = new GainNode(this.context, { gain: take === this.selected ? 1 : 0 });
      gain.connect(this.context.destination);
      return gain;
    });
    // On a sample of the clock: pieces that start between two would be interpolated at their ends.
    const rate = this.context.sampleRate;
    const begin = Math.ceil((this.context.currentTime + AHEAD) * rate) / rate;
    this.origin = begin - Math.round(seconds * rate) / rate;
    for (const piece of this.pieces) this.#schedule(piece);
  }

  #follow(piece) {
    this.check();
    if (!this.waiting) {
      this.#schedule(piece);
    } else if (this.available - this.offset >= CUSHION) {
      this.#restart(this.offset);
    }
  }

  #schedule({ take, at, from, seconds, buffer }) {
    const skipped = Math.max(0, this.offset - at);
    if (skipped >= seconds) return;
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.gains[take]);
    source.start(this.origin + at + skipped, from + skipped, seconds - skipped);
  }

  #silence() {
    const old = this.gains;
    this.gains = null;
    if (!old || !this.context) return;
    for (const gain of old) {
      gain.gain.setTargetAtTime(0, this.context.currentTime, FADE);
      // Behind the fade: what is not connected can't be heard, and is forgotten.
      setTimeout(() => gain.disconnect(), 1000 * 10 * FADE);
    }
  }

  /** The first samples start where the prompt ends. */
  #bend(samples) {
    const last = Math.round((this.start + this.join) * this.prompt.sampleRate) - 1;
    const length = Math.min(samples[0].length, Math.round(BEND * this.sampleRate));
    samples.forEach((channel, n) => {
      const prompt = this.prompt.getChannelData(Math.min(n, this.prompt.numberOfChannels - 1));
      const step = (prompt[Math.min(last, prompt.length - 1)] ?? 0) - channel[0];
      for (let t = 0; t < length; t++) {
        channel[t] += step * (0.5 + 0.5 * Math.cos((Math.PI * t) / length));
      }
    });
  }

  #announce() {
    this.dispatchEvent(new Event("state"));
  }
}

/** Samples of base64 text of interleaved 16-bit integers, an array for each channel. */
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
