// @ts-check
// Beats and bars: where they lie, and how they are drawn.

import { onWidth, svg } from "./dom.js";

/** As `segue.bars` has it: what sequencers count. */
export const MIN_BPM = 20;
export const MAX_BPM = 999;

/** How near beats may lie to one another to be drawn, in pixels. */
const ROOM = 7;

/** What is snapped to. @typedef {"off" | "beat" | "bar"} Snap */

/** Where beats and bars lie. */
export class Grid {
  /**
   * @param {number} bpm  beats a minute
   * @param {number} [beatsPerBar]
   * @param {number} [downbeat]  where a bar begins, any of them, in seconds
   */
  constructor(bpm, beatsPerBar = 4, downbeat = 0) {
    this.bpm = bpm;
    this.beatsPerBar = beatsPerBar;
    this.downbeat = downbeat;
  }

  /** In seconds. */
  get beat() {
    return 60 / this.bpm;
  }

  /** In seconds. */
  get bar() {
    return this.beatsPerBar * this.beat;
  }

  /**
   * The length of what is snapped to, in seconds; null for nothing.
   *
   * @param {Snap} snap
   */
  unit(snap) {
    return snap === "off" ? null : snap === "bar" ? this.bar : this.beat;
  }

  /**
   * The nearest place on the grid.
   *
   * @param {number} seconds
   * @param {Snap} snap
   */
  nearest(seconds, snap) {
    const unit = this.unit(snap);
    if (unit === null) return seconds;
    return this.downbeat + Math.round((seconds - this.downbeat) / unit) * unit;
  }

  /**
   * The first place on the grid that is not before a moment, and the last that is not behind it.
   * A hair beside the grid is on it.
   *
   * @param {number} seconds
   * @param {Snap} snap
   * @returns {[number, number]}
   */
  around(seconds, snap) {
    const unit = this.unit(snap);
    if (unit === null) return [seconds, seconds];
    const place = (seconds - this.downbeat) / unit;
    const hair = 0.001 / unit;
    const [next, last] = [Math.ceil(place - hair), Math.floor(place + hair)];
    return [this.downbeat + next * unit, this.downbeat + last * unit];
  }

  /** The first place from 0 on where a bar begins, in seconds. */
  get first() {
    return ((this.downbeat % this.bar) + this.bar) % this.bar;
  }

  /** @param {number} seconds  by which everything lies earlier */
  moved(seconds) {
    return new Grid(this.bpm, this.beatsPerBar, this.downbeat - seconds);
  }
}

/**
 * A length in bars, such as `4 bars` or `2.25 bars`.
 *
 * @param {number} bars
 */
export function barsText(bars) {
  const rounded = Math.round(bars * 100) / 100;
  return `${rounded} ${rounded === 1 ? "bar" : "bars"}`;
}

/** @typedef {ReturnType<typeof gridLines>} GridLines */

/** Lines of bars and, where there is room, of beats; `show(grid, from, to)` draws them. */
export function gridLines() {
  const [bars, beats] = [svg("path", { class: "bars" }), svg("path", { class: "beats" })];
  const stretch = { preserveAspectRatio: "none", "aria-hidden": "true" };
  const element = svg("svg", { class: "grid-lines", ...stretch }, beats, bars);
  /** @type {{ grid: Grid | null, from: number, to: number }} */
  let view = { grid: null, from: 0, to: 1 };
  let width = 0;
  const draw = () => {
    const { grid, from, to } = view;
    if (!width) return;
    element.setAttribute("viewBox", `0 0 ${width} 1`);
    const step = width / (to - from);
    // Every bar, or every second, fourth, … where they would lie too near.
    let skip = 1;
    while (grid && grid.bar * step * skip < ROOM && skip < 1024) skip *= 2;
    bars.setAttribute("d", grid ? lines(grid.downbeat, grid.bar * skip, from, to, step) : "");
    const fits = grid && grid.beat * step >= ROOM;
    beats.setAttribute("d", fits ? lines(grid.downbeat, grid.beat, from, to, step) : "");
  };
  onWidth(element, (room) => {
    width = room;
    draw();
  });
  return Object.assign(element, {
    /**
     * @param {Grid | null} grid
     * @param {number} from  in seconds
     * @param {number} to
     */
    show(grid, from, to) {
      view = { grid, from, to };
      draw();
    },
  });
}

/**
 * @param {number} origin
 * @param {number} unit
 * @param {number} from
 * @param {number} to
 * @param {number} step  pixels of a second
 */
function lines(origin, unit, from, to, step) {
  let d = "";
  for (let n = Math.ceil((from - origin) / unit - 1e-6); origin + n * unit <= to; n++) {
    d += `M${((origin + n * unit - from) * step).toFixed(1)} 0V1`;
  }
  return d;
}
