// @ts-check
// <segue-slice>: which part of a file is the prompt, chosen on its waveform.
//
// Two handles and the part between them, each a slider for keys and for the pointer; numbers say
// the same, for those who know them, and for files that the browser cannot draw.

import { h } from "../shared/dom.js";
import { gridLines } from "../shared/grid.js";
import { dragging, isFree, sliderValue } from "../shared/pointer.js";
import { exactClock, timeField } from "../shared/time.js";
import { Viewport, wheel, zoomControls } from "../shared/viewport.js";
import { waveform } from "../shared/waveform.js";
import { SliceRange } from "./slice_range.js";

/** @import { Grid, Snap } from "../shared/grid.js" */
/** @import { Peaks } from "../shared/waveform.js" */

/** What moves: the slice, its start or its end. @typedef {"window" | "left" | "right"} Part */

/** What keys move it by: in seconds, or in what it snaps to. @type {Record<string, number>} */
const STEPS = { ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1 };
/** @type {Record<string, number>} */
const LEAPS = { PageDown: -5, PageUp: 5 };

/** With Alt, nothing snaps, and a step is so long, in seconds. */
const FINE = 0.01;

/** Where keys move it to. @type {Record<string, number>} */
const ENDS = { Home: -Infinity, End: Infinity };

/** How much is seen of a file at first, at most, in seconds: in an hour, a slice is a hair. */
const SEEN = 60;

/** Events: `change` while the slice changes, `settle` when it has. */
export class SegueSlice extends HTMLElement {
  range = new SliceRange({ duration: null, longest: 1, usual: 1 });
  viewport = new Viewport();

  #window = this.#slider("window", "window", "Slice");
  #left = this.#slider("left", "handle left", "Start of the slice");
  #right = this.#slider("right", "handle right", "End of the slice");
  #head = h("div", { class: "playhead", hidden: true });
  #dropped = h("div", { class: "dropped" });
  #lines = gridLines();

  /** There if there is a picture. @type {HTMLElement | null} */
  #strip = null;

  #from = timeField("From", (seconds) => this.#type(() => this.range.begin(seconds)));
  #length = timeField("Length", (seconds) => this.#type(() => this.range.setLength(seconds)));
  #bars = h("input", {
    type: "number",
    min: 0.25,
    step: "any",
    inputmode: "decimal",
    onchange: () => {
      const { bar } = this.range.grid ?? { bar: 0 };
      const bars = Number(this.#bars.value);
      this.#type(() => bars > 0 && this.range.setLength(bars * bar));
    },
  });
  #barsField = h("label", { class: "bars-field", hidden: true }, "= ", this.#bars, " bars");

  startInput = this.#from.input;
  secondsInput = this.#length.input;

  /** @type {number | null} */
  #playing = null;

  /**
   * Choose from a file.
   *
   * @param {object} options
   * @param {Peaks | null} options.peaks  its picture
   * @param {number | null} options.duration  its length in seconds
   * @param {number} options.longest  slice, in seconds
   * @param {number} options.usual  length of a slice, in seconds
   */
  open({ peaks, duration, longest, usual }) {
    this.range = new SliceRange({ duration, longest, usual });
    const numbers = h(
      "div",
      { class: "numbers" },
      this.#from,
      this.#length,
      this.#barsField,
      duration !== null && [
        this.#jump("From the start", () => 0),
        this.#jump("From the end", () => this.range.limit - this.range.seconds),
      ],
    );
    const picture = peaks && waveform(peaks, { loudest: peaks.loudest });
    const strip = picture &&
      h(
        "div",
        { class: "strip" },
        picture,
        this.#lines, this.#dropped, this.#window, this.#left, this.#right, this.#head,
      );
    this.#strip = strip;
    if (strip && duration !== null) {
      strip.addEventListener("pointerdown", (event) => this.#grab(event, strip));
      this.viewport.reset(duration);
      if (duration > SEEN * 1.5) this.viewport.show(this.range.end - SEEN, this.range.end + 5);
      this.viewport.addEventListener("change", () => {
        picture.redraw({ from: this.viewport.from, to: this.viewport.to });
        this.#place();
      });
      wheel(strip, this.viewport);
      picture.redraw({ from: this.viewport.from, to: this.viewport.to });
    }
    const zoom = strip && zoomControls(this.viewport, () => this.range.start);
    this.replaceChildren(...[strip, numbers, zoom].filter((part) => part !== null));
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "What the model hears");
    this.#show();
  }

  /** Where it starts, how long it is and where it ends, in seconds. */
  get start() {
    return this.range.start;
  }

  get seconds() {
    return this.range.seconds;
  }

  get end() {
    return this.range.end;
  }

  /** Its length in bars; null without a tempo. */
  get bars() {
    const { grid, seconds } = this.range;
    return grid && seconds / grid.bar;
  }

  /**
   * Lay it on a grid, or on none.
   *
   * @param {Grid | null} grid
   * @param {Snap} snap
   */
  lay(grid, snap) {
    this.range.lay(grid, snap);
    this.#show();
    this.#settle();
  }

  /**
   * Let it end there, as long as it is.
   *
   * @param {number} seconds  of the file
   */
  endAt(seconds) {
    this.range.move(seconds - this.range.seconds);
    this.viewport.reveal(this.range.start, this.range.end);
    this.#show();
    this.#settle();
  }

  /** Focus what is used first, without the ring that keys get. */
  focusFirst() {
    (this.#strip ? this.#window : this.startInput).focus({ focusVisible: false });
  }

  /**
   * Move the playhead; null hides it.
   *
   * @param {number | null} seconds  of the file
   */
  at(seconds) {
    this.#playing = seconds;
    const share = seconds === null ? -1 : this.viewport.share(seconds);
    this.#head.hidden = share < 0 || share > 1;
    this.#head.style.left = `${100 * share}%`;
  }

  /**
   * @param {Part} part
   * @param {string} classes
   * @param {string} label
   */
  #slider(part, classes, label) {
    return h("div", {
      class: classes,
      role: "slider",
      tabindex: 0,
      "aria-label": label,
      onkeydown: (event) => this.#press(event, part),
    });
  }

  /** @param {() => void} change */
  #type(change) {
    change();
    this.viewport.reveal(this.range.start, this.range.end);
    this.#show();
    this.#settle();
  }

  /**
   * @param {string} label
   * @param {() => number} start
   */
  #jump(label, start) {
    const jump = () => this.#type(() => this.range.move(start()));
    return h("button", { type: "button", class: "quiet", onclick: jump }, label);
  }

  /**
   * @param {KeyboardEvent} event
   * @param {Part} part
   */
  #press(event, part) {
    if (event.ctrlKey || event.metaKey) return;
    const { key, shiftKey, altKey: free } = event;
    if (!free && this.#strip && this.viewport.press(key, this.range.start)) {
      event.preventDefault();
      return;
    }
    const { unit } = this.range;
    const count = key in STEPS ? STEPS[key] * (shiftKey ? 10 : 1) : (LEAPS[key] ?? null);
    const end = ENDS[key] ?? null;
    if (count === null && end === null) return;
    event.preventDefault();
    let step = count ?? 0;
    if (free) step = Math.sign(step) * FINE;
    else if (unit !== null) step = Math.sign(step) * unit * (Math.abs(step) > 0.5 ? 4 : 1);
    this.#drag(part, (at) => end ?? at + step, free);
    const edge = part === "right" ? this.end : this.start;
    this.viewport.reveal(edge);
    this.#settle();
  }

  /**
   * @param {PointerEvent} event
   * @param {HTMLElement} strip
   */
  #grab(event, strip) {
    if (event.button !== 0) return;
    const handles = { window: this.#window, left: this.#left, right: this.#right };
    const target = event.target instanceof Node ? event.target : null;
    const parts = /** @type {const} */ (["window", "left", "right"]);
    const hit = parts.find((part) => handles[part].contains(target));
    const part = hit ?? "window";
    const { left, width } = strip.getBoundingClientRect();
    /** @param {number} x */
    const second = (x) => this.viewport.at((x - left) / width);
    if (!hit) this.#drag("window", () => second(event.clientX) - this.seconds / 2, isFree(event));
    const away = (part === "right" ? this.end : this.start) - second(event.clientX);
    dragging(strip, event, {
      move: (moved) => this.#drag(part, () => second(moved.clientX) + away, isFree(moved)),
      drop: () => this.#settle(),
    });
    handles[part].focus({ focusVisible: false });
    event.preventDefault();
  }

  /**
   * @param {Part} part
   * @param {(at: number) => number} to  where it goes from where it is
   * @param {boolean} free
   */
  #drag(part, to, free) {
    const { range } = this;
    if (part === "window") range.move(to(range.start), free);
    else if (part === "left") range.moveStart(to(range.start), free);
    else range.moveEnd(to(range.end), free);
    this.#show();
  }

  #show() {
    const { start, seconds, grid } = this.range;
    this.#from.set(start);
    this.#length.set(seconds);
    this.#barsField.hidden = !grid;
    if (grid) this.#bars.value = String(Math.round((seconds / grid.bar) * 100) / 100);
    this.#place();
    this.dispatchEvent(new Event("change"));
  }

  #place() {
    const { start, end, seconds, duration, longest, shortest, grid } = this.range;
    if (!this.#strip || duration === null) return;
    const { viewport } = this;
    /** @param {number} at */
    const percent = (at) => `${100 * viewport.share(at)}%`;
    this.#window.style.left = this.#left.style.left = percent(start);
    this.#window.style.width = `${(100 * seconds) / viewport.seconds}%`;
    this.#right.style.left = this.#dropped.style.left = percent(end);
    this.#lines.show(grid, viewport.from, viewport.to);
    const [from, to] = [exactClock(start), exactClock(end)];
    sliderValue(this.#window, 0, duration - seconds, start, `${from} to ${to}`);
    sliderValue(this.#left, Math.max(0, end - longest), end - shortest, start, from);
    sliderValue(this.#right, start + shortest, Math.min(duration, start + longest), end, to);
    this.at(this.#playing);
  }

  #settle() {
    this.dispatchEvent(new Event("settle"));
  }
}

customElements.define("segue-slice", SegueSlice);
