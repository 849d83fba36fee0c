// @ts-check
// Several takes of the same length, of which one is audible.
//
// All of them run, from one moment of the audio clock on; switching only moves their gains. So the
// position is the same to the sample, and there is no gap.

import { outputOf } from "./volume.js";

/** Time constant of a switch, in seconds: no click, and too short for a fade. */
const FADE = 0.003;

/** How far ahead a start is scheduled, so that every take makes it. */
const AHEAD = 0.02;

/** @typedef {{ readonly playing: boolean, pause(): void }} Player */

/** @type {AudioContext | null} */
let shared = null;

/** @type {Player | null} */
let active = null;

/** Whether any player of the page plays now. */
export function isPlaying() {
  return Boolean(active?.playing);
}

/**
 * Make `player` the page's active one: pause the one that was.
 *
 * @param {Player} player
 */
export function activate(player) {
  if (active !== player) active?.pause();
  active = player;
}

/** A recording that is decoded once, when it is first needed. */
export class Source {
  /** Decoded, or about to be. @type {Promise<AudioBuffer> | undefined} */
  buffer;

  /** What is shown instead of the name. @type {string | undefined} */
  title;

  /** A line below it. @type {string | undefined} */
  note;

  /** What has the same quality is of the same kind. @type {string | undefined} */
  kind;

  /** Elements beside it. @type {HTMLElement[] | undefined} */
  actions;

  /**
   * @param {string} name
   * @param {() => ArrayBuffer | Promise<ArrayBuffer>} bytes  of a file that browsers decode
   * @param {object} [options]
   * @param {number} [options.gain]  evens out loudness
   * @param {number} [options.sampleRate]  in Hz
   */
  constructor(name, bytes, { gain = 1, sampleRate = 48000 } = {}) {
    this.name = name;
    this.bytes = bytes;
    this.gain = gain;
    this.sampleRate = sampleRate;
  }

  /**
   * Of audio that is decoded already.
   *
   * @param {string} name
   * @param {AudioBuffer} buffer
   */
  static of(name, buffer) {
    const bytes = () => Promise.reject(new Error("decoded already"));
    const source = new Source(name, bytes, { sampleRate: buffer.sampleRate });
    source.buffer = Promise.resolve(buffer);
    return source;
  }

  /** @returns {Promise<AudioBuffer>} */
  decoded() {
    // An offline context decodes before anybody has pressed a key; a live one may not exist yet.
    this.buffer ??= Promise.resolve(this.bytes()).then((bytes) =>
      new OfflineAudioContext(1, 1, this.sampleRate).decodeAudioData(bytes),
    );
    return this.buffer;
  }
}

/**
 * What plays: every take with its gain, from one moment of the context's clock on.
 *
 * @typedef {object} Running
 * @property {AudioContext} context
 * @property {number} startsAt
 * @property {{ source: AudioBufferSourceNode, gain: GainNode }[]} nodes
 */

/**
 * Events: `state` when the playback's state changes.
 *
 * With `dip`, every switch is the same short silence, whichever takes it is between: in a blind
 * test, a seam that only a real change has would give the answer away.
 */
export class Takes extends EventTarget {
  selected = 0;
  levelled = true;

  /** Start and end, in seconds. @type {[number, number] | null} */
  loop = null;

  /** @type {AudioBuffer[]} */
  buffers = [];

  /** Of the longest, in seconds. */
  duration = 0;

  /** @type {Running | null} */
  running = null;

  /** Position at the last start, or where it would start, in seconds. */
  offset = 0;

  /** @type {Promise<void> | undefined} */
  loading;

  /**
   * @param {Source[]} sources
   * @param {{ dip?: boolean }} [options]
   */
  constructor(sources, { dip = false } = {}) {
    super();
    this.sources = sources;
    this.dip = dip;
  }

  /** Decode everything; nothing can play before. */
  load() {
    this.loading ??= this.change(this.sources);
    return this.loading;
  }

  /**
   * Replace the sources. The selected one stays selected, at its position, if it is among them.
   *
   * @param {Source[]} sources
   */
  async change(sources) {
    const buffers = await Promise.all(sources.map((source) => source.decoded()));
    this.loading ??= Promise.resolve();
    const { currentTime } = this;
    const playing = this.running?.context;
    const selected = sources.indexOf(this.sources[this.selected]);
    this.#stop();
    this.sources = sources;
    this.buffers = buffers;
    this.selected = Math.max(0, selected);
    this.duration = Math.max(0, ...buffers.map((buffer) => buffer.duration));
    this.offset = Math.min(currentTime, this.duration);
    if (playing && this.duration) this.#start(playing);
    this.#announce();
  }

  get playing() {
    return this.running !== null;
  }

  /** In seconds; may be set. */
  get currentTime() {
    if (!this.running) return this.offset;
    const { context, startsAt } = this.running;
    const time = this.offset + Math.max(0, context.currentTime - startsAt);
    if (!this.loop || time < this.loop[1]) return Math.min(time, this.duration);
    const [start, end] = this.loop;
    return start + ((time - end) % (end - start));
  }

  set currentTime(seconds) {
    const playing = this.running?.context;
    this.#stop();
    this.offset = Math.min(Math.max(0, seconds), this.duration);
    if (playing) this.#start(playing);
    this.#announce();
  }

  async play() {
    await this.load();
    if (this.playing || this.duration === 0) return;
    activate(this);
    shared ??= newContext(this.sources[0].sampleRate);
    // Not awaited: a context that is not allowed to start yet never answers.
    if (shared.state === "suspended") shared.resume().catch(() => {});
    if (this.offset >= this.duration - 0.01) this.offset = 0;
    if (this.loop && (this.offset < this.loop[0] || this.offset >= this.loop[1])) {
      this.offset = this.loop[0];
    }
    this.#start(shared);
    this.#announce();
  }

  pause() {
    if (!this.playing) return;
    this.offset = this.currentTime;
    this.#stop();
    this.#announce();
  }

  /**
   * Switch to another take, at the same position.
   *
   * @param {number} index
   */
  select(index) {
    if (index < 0 || index >= this.sources.length) return;
    this.selected = index;
    this.#mix(this.dip);
    this.#announce();
  }

  /**
   * Even out loudness, or play everything as it is.
   *
   * @param {boolean} on
   */
  level(on) {
    this.levelled = on;
    this.#mix();
    this.#announce();
  }

  /**
   * Repeat from one second to another; null plays to the end.
   *
   * @param {[number, number] | null} region
   */
  setLoop(region) {
    const playing = this.running?.context;
    const time = this.currentTime;
    this.#stop();
    this.loop = region;
    this.offset = region && (time < region[0] || time >= region[1]) ? region[0] : time;
    if (playing) this.#start(playing);
    this.#announce();
  }

  /** @param {AudioContext} context */
  #start(context) {
    const startsAt = context.currentTime + AHEAD;
    const nodes = this.buffers.map((buffer, index) => {
      const gain = new GainNode(context, { gain: this.#gainOf(index) });
      const [loopStart, loopEnd] = this.loop ?? [0, 0];
      const source = new AudioBufferSourceNode(context, {
        buffer: padded(buffer, this.duration),
        loop: this.loop !== null,
        loopStart,
        loopEnd,
      });
      source.connect(gain).connect(outputOf(context));
      source.start(startsAt, this.offset);
      return { source, gain };
    });
    this.running = { context, startsAt, nodes };
    nodes[0].source.onended = () => {
      this.running = null;
      this.offset = 0;
      this.#announce();
    };
  }

  #stop() {
    if (!this.running) return;
    const { context, nodes } = this.running;
    for (const { source, gain } of nodes) {
      source.onended = null;
      gain.gain.setTargetAtTime(0, context.currentTime, FADE);
      source.stop(context.currentTime + 8 * FADE);
    }
    this.running = null;
  }

  /** @param {number} index */
  #gainOf(index) {
    return index === this.selected ? (this.levelled ? this.sources[index].gain : 1) : 0;
  }

  #mix(dip = false) {
    if (!this.running) return;
    const { context, nodes } = this.running;
    const now = context.currentTime;
    nodes.forEach(({ gain }, index) => {
      gain.gain.cancelScheduledValues(now);
      if (dip) gain.gain.setTargetAtTime(0, now, FADE);
      gain.gain.setTargetAtTime(this.#gainOf(index), dip ? now + 10 * FADE : now, FADE);
    });
  }

  #announce() {
    this.dispatchEvent(new Event("state"));
  }
}

/**
 * A context at the sound's own rate, so that its parts are not resampled one by one.
 *
 * @param {number} sampleRate  in Hz
 */
export function newContext(sampleRate) {
  try {
    return new AudioContext({ sampleRate });
  } catch {
    return new AudioContext();
  }
}

/**
 * A buffer that is at least so long: a loop that ends behind a buffer's end would leave its fellows
 * behind.
 *
 * @param {AudioBuffer} buffer
 * @param {number} seconds
 */
function padded(buffer, seconds) {
  const length = Math.round(seconds * buffer.sampleRate);
  if (buffer.length >= length) return buffer;
  const { numberOfChannels, sampleRate } = buffer;
  const longer = new AudioBuffer({ length, numberOfChannels, sampleRate });
  for (let channel = 0; channel < numberOfChannels; channel++) {
    longer.copyToChannel(buffer.getChannelData(channel), channel);
  }
  return longer;
}
