// @ts-check
// <segue-player>: several takes, one of them audible, switched at the same position.

import { h } from "./dom.js";
import { Takes } from "./takes.js";
import { follow, keys, transport } from "./transport.js";
import { Peaks, waveform } from "./waveform.js";

/** @import { Source } from "./takes.js" */
/** @import { Waveform } from "./waveform.js" */

let players = 0;

/** @type {WeakMap<AudioBuffer, Peaks>} */
const peaksOf = new WeakMap();

/** @typedef {ReturnType<typeof rowOf>} Row */

export class SeguePlayer extends HTMLElement {
  takes = new Takes([]);
  controls = transport(this.takes, null);
  lanes = h("div", { class: "lanes" });

  /** @type {Map<Source, Row>} */
  rows = new Map();

  /** Where the continuation starts, in seconds. @type {number | null} */
  join = null;

  /** Settled when the sources can be played. */
  ready = Promise.resolve();

  #group = `take-${players++}`;
  #listening = false;

  /**
   * Show `sources`.
   *
   * @param {Source[]} sources
   * @param {number | null} [join]  where the continuation starts, in seconds
   */
  open(sources, join = null) {
    this.join = join;
    this.takes = new Takes(sources);
    this.controls = transport(this.takes, join);
    const levelled = h("input", {
      type: "checkbox",
      checked: true,
      onchange: () => {
        this.takes.level(levelled.checked);
      },
    });
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Player");
    this.replaceChildren(
      this.controls,
      h("div", { role: "radiogroup", "aria-label": "Take" }, this.lanes),
      h("label", { class: "levelled" }, levelled, " Same loudness for all"),
      h(
        "p",
        { class: "keys" },
        hint(["Space"], "play"),
        hint(["1", "…", "9"], "or"),
        hint(["↑", "↓"], "take"),
        hint(["←", "→"], "1 s"),
        hint(["Shift", "←", "→"], "5 s"),
        hint(["L"], "repeat"),
      ),
    );
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
    this.#draw();
    this.#update();
  }

  /** In seconds; may be set. */
  get currentTime() {
    return this.takes.currentTime;
  }

  set currentTime(seconds) {
    this.takes.currentTime = seconds;
  }

  connectedCallback() {
    if (this.#listening) return;
    this.#listening = true;
    keys(this, () => (this.takes.sources.length ? this : null), (event) => this.#press(event));
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
    const select = () => this.takes.select(this.takes.sources.indexOf(source));
    row.radio.addEventListener("change", select);
    row.lane.addEventListener("click", ({ clientX }) => {
      const box = row.lane.getBoundingClientRect();
      select();
      this.takes.currentTime = ((clientX - box.left) / box.width) * this.takes.duration;
    });
    this.rows.set(source, row);
    return row;
  }

  #draw() {
    const { buffers, sources, duration } = this.takes;
    const peaks = buffers.map((buffer) => {
      const known = peaksOf.get(buffer) ?? Peaks.of(buffer);
      peaksOf.set(buffer, known);
      return known;
    });
    const loudest = Math.max(...peaks.map((one) => one.loudest));
    sources.forEach((source, index) => {
      const row = this.#row(source);
      if (!row.picture) {
        row.picture = waveform(peaks[index], { join: this.join });
        row.lane.prepend(row.picture);
      }
      row.picture.redraw({ loudest });
      // A take that ends early does not stretch.
      row.picture.style.width = `${(100 * buffers[index].duration) / duration}%`;
    });
  }

  #update() {
    this.controls.update();
    const { currentTime, duration, selected, sources } = this.takes;
    /** @param {number} seconds */
    const share = (seconds) => `${duration ? (100 * seconds) / duration : 0}%`;
    sources.forEach((source, index) => {
      const row = this.rows.get(source);
      if (!row) return;
      row.element.classList.toggle("selected", index === selected);
      row.radio.checked = index === selected;
      row.playhead.style.left = share(currentTime);
      if (this.join !== null) row.join.style.left = share(this.join);
    });
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const { selected, sources } = this.takes;
    const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
    const index = step ? selected + step : /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : null;
    if (index === null) return false;
    if (index < 0 || index >= sources.length) return true;
    this.takes.select(index);
    if (document.activeElement?.closest(".take")) this.rows.get(sources[index])?.radio.focus();
    return true;
  }
}

/**
 * What is seen of a source.
 *
 * @param {Source} source
 * @param {string} group  of the radio buttons
 * @param {boolean} joined  whether it has a join to show
 */
function rowOf(source, group, joined) {
  const radio = h("input", { type: "radio", name: group });
  const number = h("b", { class: "number" });
  const join = h("span", { class: "join", title: "the continuation starts here" });
  const playhead = h("span", { class: "playhead", "aria-hidden": "true" });
  const lane = h("span", { class: "lane" }, joined && join, playhead);
  const note = source.note && h("small", {}, source.note);
  const text = h("span", {}, source.title ?? source.name, note);
  const name = h("label", { class: "name" }, radio, number, " ", text);
  const actions = source.actions && h("span", { class: "actions" }, source.actions);
  const element = h("div", { class: "take" }, name, lane, actions);
  const picture = /** @type {Waveform | null} */ (null);
  return { element, radio, number, lane, join, playhead, picture };
}

/**
 * @param {string[]} pressed
 * @param {string} what
 */
function hint(pressed, what) {
  return h("span", {}, pressed.map((key) => h("kbd", {}, key)), ` ${what}`);
}

customElements.define("segue-player", SeguePlayer);
