// @ts-check
// <segue-player>: several takes, one of them audible, switched at the same position.

import { h } from "./dom.js";
import { registerKeys, useKeys } from "./keys.js";
import { keyHints, rowOf } from "./player_row.js";
import { markByDragging } from "./region.js";
import { Takes } from "./takes.js";
import { actionsOf, follow, transport } from "./transport.js";
import { Viewport, wheel, zoomControls } from "./viewport.js";
import { Peaks, waveform } from "./waveform.js";

/** @import { Grid } from "./grid.js" */
/** @import { Row } from "./player_row.js" */
/** @import { Source } from "./takes.js" */

let players = 0;

/** @type {WeakMap<AudioBuffer, Peaks>} */
const peaksOf = new WeakMap();

/** Events: `select` (another take, by hand). */
export class SeguePlayer extends HTMLElement {
  takes = new Takes([]);
  controls = transport(this.takes, null);
  lanes = h("div", { class: "lanes" });
  viewport = new Viewport();

  /** @type {Map<Source, Row>} */
  rows = new Map();

  /** Where the continuation starts, in seconds. @type {number | null} */
  join = null;

  /** Where beats lie, from the start of the takes. @type {Grid | null} */
  grid = null;

  /** Settled when the sources can be played. */
  ready = Promise.resolve();

  /** What keys that mean nothing here do. @type {(event: KeyboardEvent) => boolean} */
  otherKeys = () => false;

  #group = `take-${players++}`;
  #levelled = h("label", { class: "levelled" });
  #unregister = () => {};

  /**
   * Show `sources`.
   *
   * @param {Source[]} sources
   * @param {number | null} [join]  where the continuation starts, in seconds
   * @param {Grid | null} [grid]  counted from the start of the takes
   */
  open(sources, join = null, grid = null) {
    this.join = join;
    this.grid = grid;
    this.takes = new Takes(sources);
    this.controls = transport(this.takes, join);
    const levelled = h("input", {
      type: "checkbox",
      checked: true,
      onchange: () => {
        this.takes.level(levelled.checked);
      },
    });
    this.#levelled.replaceChildren(levelled, " Same loudness for all");
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Player");
    const zoom = zoomControls(this.viewport, () => this.takes.currentTime);
    this.replaceChildren(
      this.controls,
      h("div", { role: "radiogroup", "aria-label": "Take" }, this.lanes),
      h("div", { class: "player-foot" }, this.#levelled, keyHints(), zoom),
    );
    this.viewport.addEventListener("change", () => this.#draw());
    wheel(this.lanes, this.viewport, () => this.#laneBox());
    follow(this.takes, () => this.#update());
    this.ready = this.show(sources);
  }

  /**
   * Show these `sources` instead; the selected one plays on, if it is among them.
   *
   * @param {Source[]} sources
   */
  async show(sources) {
    const rows = sources.map((source) => this.#row(source));
    const focused = document.activeElement;
    this.lanes.replaceChildren(...rows.map(({ element }) => element));
    // One take is as loud as itself.
    this.#levelled.hidden = sources.length < 2;
    if (
      focused instanceof HTMLElement &&
      focused !== document.activeElement &&
      rows.some(({ element }) => element.contains(focused))
    ) {
      focused.focus();
    }
    rows.forEach(({ number }, n) => (number.textContent = String(n + 1)));
    try {
      await this.takes.change(sources);
    } catch {
      this.controls.replaceWith(h("p", { role: "alert" }, "This browser cannot decode the audio."));
      return;
    }
    this.viewport.reset(this.takes.duration);
    this.#draw();
  }

  /** Write titles and notes anew. */
  describe() {
    for (const [source, row] of this.rows) row.describe(source);
  }

  /** In seconds; may be set. */
  get currentTime() {
    return this.takes.currentTime;
  }

  set currentTime(seconds) {
    this.takes.currentTime = seconds;
  }

  /** Let keys act here, wherever the focus is. */
  use() {
    useKeys(this);
  }

  connectedCallback() {
    this.#unregister();
    this.#unregister = registerKeys(this, () =>
      this.takes.sources.length
        ? actionsOf(this.takes, this.controls, (event) => this.#press(event))
        : null,
    );
  }

  disconnectedCallback() {
    this.#unregister();
  }

  /**
   * The row of a source, made when it is first needed.
   *
   * @param {Source} source
   */
  #row(source) {
    const known = this.rows.get(source);
    if (known) return known;
    const row = rowOf(source, this.#group, this.join !== null);
    const select = () => {
      this.takes.select(this.takes.sources.indexOf(source));
      this.dispatchEvent(new Event("select"));
    };
    row.radio.addEventListener("change", select);
    markByDragging(row.lane, this.viewport, {
      grid: () => this.grid,
      mark: (from, to) => this.controls.mark(from, to),
      click: (seconds) => {
        select();
        this.takes.currentTime = seconds;
      },
    });
    this.rows.set(source, row);
    return row;
  }

  #laneBox() {
    const lane = this.lanes.querySelector(".lane") ?? this.lanes;
    return lane.getBoundingClientRect();
  }

  #draw() {
    const { buffers, sources } = this.takes;
    const { from, to } = this.viewport;
    const peaks = buffers.map((buffer) => {
      const known = peaksOf.get(buffer) ?? Peaks.of(buffer);
      peaksOf.set(buffer, known);
      return known;
    });
    const loudest = Math.max(...peaks.map((one) => one.loudest));
    sources.forEach((source, index) => {
      const row = this.#row(source);
      if (!peaks[index]) return;
      if (!row.picture) {
        row.picture = waveform(peaks[index], { join: this.join, from, to, loudest });
        row.lane.prepend(row.picture);
      }
      row.picture.redraw({ loudest, from, to });
      row.grid.show(this.grid, from, to);
    });
    this.#update();
  }

  #update() {
    this.controls.update();
    const { currentTime, selected, sources, loop, playing } = this.takes;
    const { viewport } = this;
    if (playing && !viewport.whole) viewport.reveal(currentTime);
    sources.forEach((source, index) => {
      const row = this.rows.get(source);
      if (!row) return;
      row.element.classList.toggle("selected", index === selected);
      row.radio.checked = index === selected;
      place(row.playhead, viewport, currentTime);
      if (this.join !== null) place(row.join, viewport, this.join);
      row.region.hidden = loop === null;
      if (loop) {
        const [start, end] = loop.map((at) => Math.min(1, Math.max(0, viewport.share(at))));
        row.region.style.left = `${100 * start}%`;
        row.region.style.width = `${100 * (end - start)}%`;
      }
    });
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    if (this.viewport.press(event.key, this.takes.currentTime)) return true;
    const { selected, sources } = this.takes;
    const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
    const index = step ? selected + step : /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : null;
    if (index === null) return this.otherKeys(event);
    if (index < 0 || index >= sources.length) return true;
    this.takes.select(index);
    if (document.activeElement?.closest(".take")) this.rows.get(sources[index])?.radio.focus();
    this.dispatchEvent(new Event("select"));
    return true;
  }
}

/**
 * Put a line at its moment, or away while that cannot be seen.
 *
 * @param {HTMLElement} line
 * @param {Viewport} viewport
 * @param {number} seconds
 */
function place(line, viewport, seconds) {
  const share = viewport.share(seconds);
  line.hidden = share < -1e-6 || share > 1 + 1e-6;
  line.style.left = `${100 * share}%`;
}

customElements.define("segue-player", SeguePlayer);
