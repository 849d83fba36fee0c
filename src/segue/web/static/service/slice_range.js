// @ts-check
// The part of a file that is the prompt, as numbers: what it may be, and where it snaps to.

/** @import { Grid, Snap } from "../shared/grid.js" */

/** The shortest slice where nothing snaps, in seconds. */
const SHORTEST = 0.5;

/** How much longer than allowed rounding may make it, in seconds. */
const HAIR = 1e-6;

/** All in seconds of the file. With a grid, both ends lie on it unless they are moved freely. */
export class SliceRange {
  start = 0;
  seconds = 0;

  /** @type {Grid | null} */
  grid = null;

  /** @type {Snap} */
  snap = "bar";

  /**
   * @param {object} options
   * @param {number | null} options.duration  of the file; null if nobody knows
   * @param {number} options.longest  slice
   * @param {number} options.usual  length of a slice
   */
  constructor({ duration, longest, usual }) {
    this.duration = duration;
    this.longest = Math.min(longest, duration ?? Infinity);
    this.seconds = Math.min(usual, this.longest);
    // Where the music ends is where one would go on.
    this.start = duration === null ? 0 : rounded(duration - this.seconds);
  }

  get end() {
    return this.start + this.seconds;
  }

  /** Where the file ends. */
  get limit() {
    return this.duration ?? Infinity;
  }

  /** What it snaps to; null for nothing. */
  get unit() {
    return this.grid?.unit(this.snap) ?? null;
  }

  get shortest() {
    return Math.min(this.unit ?? SHORTEST, this.longest);
  }

  /**
   * Lay it on another grid, or on none: as long as before, or a little less, to whole units.
   *
   * @param {Grid | null} grid
   * @param {Snap} snap
   */
  lay(grid, snap) {
    this.grid = grid;
    this.snap = snap;
    const { unit } = this;
    if (!grid || unit === null) return;
    const end = Math.min(this.end, this.limit);
    const [, last] = grid.around(end, snap);
    const [first] = grid.around(0, snap);
    const most = Math.min(this.longest, last - first);
    const units = Math.min(Math.round(this.seconds / unit), Math.floor(most / unit + HAIR));
    // A file that is shorter than a unit stays as it is.
    if (units < 1) return;
    this.seconds = rounded(units * unit);
    this.start = rounded(Math.max(first, last - this.seconds, 0));
  }

  /**
   * Move it as it is.
   *
   * @param {number} start
   * @param {boolean} [free]  whether it does not snap
   */
  move(start, free = false) {
    const last = this.limit - this.seconds;
    const wanted = Math.min(Math.max(0, start), last);
    this.start = rounded(Math.min(Math.max(0, this.#snapped(wanted, 0, last, free)), last));
  }

  /**
   * Move its start; the end stays.
   *
   * @param {number} start
   * @param {boolean} [free]
   */
  moveStart(start, free = false) {
    const { end } = this;
    const first = Math.max(0, end - this.longest);
    const last = end - this.shortest;
    const wanted = Math.min(Math.max(start, first), last);
    this.start = rounded(Math.max(0, this.#snapped(wanted, first, last, free)));
    this.seconds = rounded(end - this.start);
  }

  /**
   * Move its end; the start stays, unless the file ends too soon behind it.
   *
   * @param {number} end
   * @param {boolean} [free]
   */
  moveEnd(end, free = false) {
    const last = Math.min(this.limit, this.start + this.longest);
    const first = this.start + this.shortest;
    if (first > last) {
      this.start = rounded(Math.max(0, last - this.shortest));
      this.seconds = rounded(last - this.start);
      return;
    }
    const wanted = Math.min(Math.max(end, first), last);
    this.seconds = rounded(this.#snapped(wanted, first, last, free) - this.start);
  }

  /**
   * Start there, as typed, and be shorter if the music ends before.
   *
   * @param {number} start
   */
  begin(start) {
    const last = Math.max(0, this.limit - this.shortest);
    this.start = rounded(Math.min(Math.max(0, start), last));
    this.seconds = rounded(Math.min(this.seconds, this.limit - this.start));
  }

  /**
   * Be so long, as typed.
   *
   * @param {number} seconds
   */
  setLength(seconds) {
    this.moveEnd(this.start + Math.min(seconds, this.longest), true);
  }

  /**
   * The nearest place on the grid that lies between two, or the place itself.
   *
   * @param {number} at
   * @param {number} first
   * @param {number} last
   * @param {boolean} free
   */
  #snapped(at, first, last, free) {
    const { grid, snap, unit } = this;
    if (!grid || unit === null || free) return at;
    const nearest = grid.nearest(at, snap);
    if (nearest >= first - HAIR && nearest <= last + HAIR) return nearest;
    const [next, before] = grid.around(at, snap);
    const inside = [next, before].filter((place) => place >= first - HAIR && place <= last + HAIR);
    return inside[0] ?? at;
  }
}

/** @param {number} seconds */
function rounded(seconds) {
  return Math.round(seconds * 1e6) / 1e6;
}
