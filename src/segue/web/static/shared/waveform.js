// @ts-check
// Pictures of sound: what is loudest at each place.

import { onWidth, svg } from "./dom.js";

/** Resolution, in bins per second: more than a screen shows. */
const PER_SECOND = 400;

/** How many samples are read before the page gets a turn. */
const AT_ONCE = 4_000_000;

/** The lowest and highest sample of every bin; sound can be added at the end. */
export class Peaks {
  low = new Float32Array(4096);
  high = new Float32Array(4096);
  seconds = 0;

  /**
   * Of a whole buffer.
   *
   * @param {AudioBuffer} buffer
   */
  static of(buffer) {
    const peaks = new Peaks();
    peaks.add(channelsOf(buffer), buffer.sampleRate);
    return peaks;
  }

  /**
   * The same for one that may be long: the page stays responsive meanwhile.
   *
   * @param {AudioBuffer} buffer
   */
  static async ofLong(buffer) {
    const peaks = new Peaks();
    const channels = channelsOf(buffer);
    const step = Math.ceil(AT_ONCE / channels.length);
    for (let start = 0; start < buffer.length; start += step) {
      const some = channels.map((samples) => samples.subarray(start, start + step));
      peaks.add(some, buffer.sampleRate);
      await new Promise((done) => setTimeout(done));
    }
    return peaks;
  }

  /**
   * Add sound at the end.
   *
   * @param {Float32Array[]} channels  samples, of one length
   * @param {number} sampleRate  in Hz
   */
  add(channels, sampleRate) {
    const length = channels[0]?.length ?? 0;
    const first = this.seconds * PER_SECOND;
    const step = PER_SECOND / sampleRate;
    this.#reserve(Math.ceil(first + length * step) + 1);
    for (const samples of channels) {
      let t = 0;
      for (let bin = Math.floor(first); t < length; bin++) {
        const end = Math.min(length, Math.max(t + 1, Math.ceil((bin + 1 - first) / step)));
        let [low, high] = [this.low[bin], this.high[bin]];
        for (; t < end; t++) {
          if (samples[t] < low) low = samples[t];
          else if (samples[t] > high) high = samples[t];
        }
        this.low[bin] = low;
        this.high[bin] = high;
      }
    }
    this.seconds += length / sampleRate;
  }

  /**
   * Add silence, or what is not known.
   *
   * @param {number} seconds
   */
  skip(seconds) {
    this.seconds += seconds;
    this.#reserve(Math.ceil(this.seconds * PER_SECOND) + 1);
  }

  /**
   * The lowest and highest sample between two moments.
   *
   * @param {number} from  in seconds
   * @param {number} to  in seconds
   * @returns {[number, number]}
   */
  between(from, to) {
    let [low, high] = [0, 0];
    const end = Math.min(this.low.length, Math.max(to * PER_SECOND, from * PER_SECOND + 1));
    for (let bin = Math.max(0, Math.floor(from * PER_SECOND)); bin < end; bin++) {
      if (this.low[bin] < low) low = this.low[bin];
      if (this.high[bin] > high) high = this.high[bin];
    }
    return [low, high];
  }

  /** The largest sample, whatever its sign. */
  get loudest() {
    const [low, high] = this.between(0, this.seconds);
    return Math.max(-low, high);
  }

  /** @param {number} count  bins */
  #reserve(count) {
    if (count <= this.low.length) return;
    for (const name of /** @type {const} */ (["low", "high"])) {
      const larger = new Float32Array(Math.max(count, 2 * this[name].length));
      larger.set(this[name]);
      this[name] = larger;
    }
  }
}

/**
 * What of the sound is drawn, in seconds: from `from` to `to` (null: its end), nothing behind
 * `until`. What lies before the `join` is of the class `before`, the rest `after`. `loudest` is the
 * sample that is as high as the picture.
 *
 * @typedef {object} View
 * @property {number} from
 * @property {number | null} to
 * @property {number | null} join
 * @property {number} until
 * @property {number} loudest
 */

/** @typedef {ReturnType<typeof waveform>} Waveform */

/**
 * A picture of `peaks`, as wide as it is given room; `redraw(changes)` draws it again.
 *
 * @param {Peaks} peaks
 * @param {Partial<View>} [options]
 */
export function waveform(peaks, options = {}) {
  /** @type {View} */
  const view = { from: 0, to: null, join: null, until: Infinity, loudest: 1, ...options };
  const [before, after] = [svg("path", { class: "before" }), svg("path", { class: "after" })];
  const stretch = { preserveAspectRatio: "none", "aria-hidden": "true" };
  const element = svg("svg", { class: "waveform", ...stretch }, before, after);
  let width = 0;
  const draw = () => {
    if (!width) return;
    const { from, join } = view;
    const end = view.to ?? peaks.seconds;
    const joinX = join === null ? 0 : Math.round(((join - from) / (end - from)) * width);
    const split = Math.min(width, Math.max(0, joinX));
    element.setAttribute("viewBox", `0 -1 ${width} 2`);
    const scale = { ...view, to: end, width };
    before.setAttribute("d", outline(peaks, scale, 0, split));
    after.setAttribute("d", outline(peaks, scale, split, width));
  };
  onWidth(element, (room) => {
    width = room;
    draw();
  });
  return Object.assign(element, {
    /** @param {Partial<View>} changes */
    redraw(changes) {
      Object.assign(view, changes);
      draw();
    },
  });
}

/**
 * The path of the columns of pixels from `start` to `end`.
 *
 * @param {Peaks} peaks
 * @param {{ from: number, to: number, until: number, loudest: number, width: number }} scale
 * @param {number} start
 * @param {number} end
 */
function outline(peaks, { from, to, until, loudest, width }, start, end) {
  const scale = 0.95 / (loudest || 1);
  const step = (to - from) / width;
  let d = "";
  for (let x = start; x < end; x++) {
    const time = from + x * step;
    // What is not there yet is not silent.
    if (time >= Math.min(until, peaks.seconds)) break;
    const [low, high] = peaks.between(time, time + step);
    d += `M${x + 0.5} ${(-high * scale - 0.01).toFixed(3)}V${(-low * scale + 0.01).toFixed(3)}`;
  }
  return d;
}

/** @param {AudioBuffer} buffer */
function channelsOf(buffer) {
  const length = buffer.numberOfChannels;
  return Array.from({ length }, (_, channel) => buffer.getChannelData(channel));
}
