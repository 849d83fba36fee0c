// @ts-check
// <segue-slice>: which part of a file is the prompt, chosen on its waveform.
//
// Two handles and the part between them, each a slider for keys and for the pointer; numbers say
// the same, for those who know them, and for files that the browser cannot draw.

import { clock, h } from "../shared/dom.js";
import { waveform } from "../shared/waveform.js";

/** @import { Peaks } from "../shared/waveform.js" */

/** What moves: the slice, its start or its end. @typedef {"window" | "left" | "right"} Part */

const SHORTEST = 0.5;

/** What keys move it by, in seconds. @type {Record<string, number>} */
const STEPS = { ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1 };
/** @type {Record<string, number>} */
const LEAPS = { PageDown: -5, PageUp: 5 };

/** Where keys move it to. @type {Record<string, number>} */
const ENDS = { Home: -Infinity, End: Infinity };

/** Events: `change` while the slice changes, `settle` when it has. */
export class SegueSlice extends HTMLElement {
  /** Where it starts and how long it is, in seconds. */
  start = 0;
  seconds = 0;

  /** At most, in seconds. */
  longest = 0;

  /** Of the file, in seconds; null if nobody knows. @type {number | null} */
  duration = null;

  #window = this.#slider("window", "window", "Slice");
  #left = this.#slider("left", "handle left", "Start of the slice");
  #right = this.#slider("right", "handle right", "End of the slice");
  #head = h("div", { class: "playhead", hidden: true });
  #dropped = h("div", { class: "dropped" });

  /** There if there is a picture. @type {HTMLElement | null} */
  #strip = null;

  startInput = this.#number((value) => this.#begin(value));
  secondsInput = this.#number((value) => {
    this.#set(this.start, this.start + Math.min(value, this.longest), "left");
  });

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
    this.longest = Math.min(longest, duration ?? Infinity);
    this.duration = duration;
    this.seconds = Math.min(usual, this.longest);
    // Where the music ends is where one would go on.
    this.start = duration === null ? 0 : duration - this.seconds;
    const latest = duration === null ? null : duration - SHORTEST;
    const numbers = h(
      "div",
      { class: "numbers" },
      field("From", this.startInput, 0, latest),
      field("Length", this.secondsInput, SHORTEST, this.longest),
      duration !== null && [
        this.#jump("From the start", () => 0),
        this.#jump("From the end", () => duration - this.seconds),
      ],
    );
    const strip = peaks &&
      h(
        "div",
        { class: "strip" },
        waveform(peaks, { loudest: peaks.loudest }),
        this.#dropped, this.#window, this.#left, this.#right, this.#head,
      );
    strip?.addEventListener("pointerdown", (event) => this.#grab(event, strip));
    this.#strip = strip;
    this.replaceChildren(...(strip ? [strip] : []), numbers);
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "What the model hears");
    this.#show();
  }

  /** Focus what is used first, without the ring that keys get. */
  focusFirst() {
    (this.#strip ? this.#window : this.startInput).focus({ focusVisible: false });
  }

  /** In seconds. */
  get end() {
    return this.start + this.seconds;
  }

  /**
   * Move the playhead; null hides it.
   *
   * @param {number | null} seconds  of the file
   */
  at(seconds) {
    this.#head.hidden = seconds === null;
    if (seconds !== null) this.#head.style.left = this.#percent(seconds);
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

  /** @param {(value: number) => void} change */
  #number(change) {
    const input = h("input", {
      type: "number",
      step: "any",
      inputmode: "decimal",
      onchange: () => {
        const value = Number(input.value);
        if (input.value !== "" && Number.isFinite(value)) change(value);
        this.#show();
        this.#settle();
      },
    });
    return input;
  }

  /**
   * @param {string} label
   * @param {() => number} start
   */
  #jump(label, start) {
    const jump = () => {
      this.#move(start());
      this.#settle();
    };
    return h("button", { type: "button", class: "quiet", onclick: jump }, label);
  }

  /**
   * @param {KeyboardEvent} event
   * @param {Part} part
   */
  #press(event, part) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, shiftKey } = event;
    const step = key in STEPS ? STEPS[key] * (shiftKey ? 10 : 1) : (LEAPS[key] ?? null);
    const end = ENDS[key] ?? null;
    if (step === null && end === null) return;
    event.preventDefault();
    this.#drag(part, (at) => end ?? at + (step ?? 0));
    this.#settle();
  }

  /**
   * @param {PointerEvent} event
   * @param {HTMLElement} strip
   */
  #grab(event, strip) {
    if (event.button !== 0) return;
    const box = strip.getBoundingClientRect();
    /** @param {PointerEvent} event */
    const second = ({ clientX }) => ((clientX - box.left) / box.width) * (this.duration ?? 0);
    const handles = { window: this.#window, left: this.#left, right: this.#right };
    const target = event.target instanceof Node ? event.target : null;
    const parts = /** @type {const} */ (["window", "left", "right"]);
    const hit = parts.find((part) => handles[part].contains(target));
    const part = hit ?? "window";
    if (!hit) this.#move(second(event) - this.seconds / 2);
    const away = (part === "right" ? this.end : this.start) - second(event);
    const { pointerId } = event;
    /** @param {PointerEvent} moved */
    const move = (moved) => {
      if (moved.pointerId === pointerId) this.#drag(part, () => second(moved) + away);
    };
    /** @param {PointerEvent} dropped */
    const drop = (dropped) => {
      if (dropped.pointerId !== pointerId) return;
      strip.removeEventListener("pointermove", move);
      strip.removeEventListener("pointerup", drop);
      strip.removeEventListener("pointercancel", drop);
      this.#settle();
    };
    strip.setPointerCapture(pointerId);
    strip.addEventListener("pointermove", move);
    strip.addEventListener("pointerup", drop);
    strip.addEventListener("pointercancel", drop);
    handles[part].focus({ focusVisible: false });
    event.preventDefault();
  }

  /**
   * @param {Part} part
   * @param {(at: number) => number} to  where it goes from where it is
   */
  #drag(part, to) {
    if (part === "window") this.#move(to(this.start));
    else if (part === "left") this.#set(to(this.start), this.end, "right");
    else this.#set(this.start, to(this.end), "left");
  }

  /** @param {number} start */
  #move(start) {
    const last = this.duration === null ? Infinity : this.duration - this.seconds;
    this.start = rounded(Math.min(Math.max(0, start), last));
    this.#show();
  }

  /**
   * Start there, and be shorter if the music ends before.
   *
   * @param {number} start
   */
  #begin(start) {
    const shortest = Math.min(SHORTEST, this.longest);
    const limit = this.duration ?? Infinity;
    this.start = rounded(Math.min(Math.max(0, start), Math.max(0, limit - shortest)));
    this.seconds = rounded(Math.min(this.seconds, limit - this.start));
  }

  /**
   * Set both ends; the one that is `fixed` stays where it is.
   *
   * @param {number} start
   * @param {number} end
   * @param {"left" | "right"} fixed
   */
  #set(start, end, fixed) {
    const shortest = Math.min(SHORTEST, this.longest);
    const limit = this.duration ?? Infinity;
    if (fixed === "left") {
      const last = Math.min(limit, start + this.longest);
      if (start + shortest > last) start = last - shortest;
      end = Math.min(Math.max(end, start + shortest), last);
    } else {
      start = Math.min(Math.max(start, 0, end - this.longest), end - shortest);
    }
    this.start = rounded(Math.max(0, start));
    this.seconds = rounded(end - this.start);
    this.#show();
  }

  #show() {
    this.startInput.value = this.start.toFixed(1);
    this.secondsInput.value = this.seconds.toFixed(1);
    if (this.#strip && this.duration !== null) {
      const { start, end, duration, longest } = this;
      this.#window.style.left = this.#left.style.left = this.#percent(start);
      this.#window.style.width = this.#percent(this.seconds);
      this.#right.style.left = this.#dropped.style.left = this.#percent(end);
      value(this.#window, 0, duration - this.seconds, start, `${clock(start)} to ${clock(end)}`);
      value(this.#left, Math.max(0, end - longest), end, start, clock(start));
      value(this.#right, start, Math.min(duration, start + longest), end, clock(end));
    }
    this.dispatchEvent(new Event("change"));
  }

  #settle() {
    this.dispatchEvent(new Event("settle"));
  }

  /** @param {number} seconds */
  #percent(seconds) {
    return `${(100 * seconds) / (this.duration ?? 1)}%`;
  }
}

/**
 * @param {string} label
 * @param {HTMLInputElement} input
 * @param {number} min
 * @param {number | null} max
 */
function field(label, input, min, max) {
  input.min = String(min);
  if (max !== null) input.max = String(Math.round(max * 1000) / 1000);
  return h("label", { class: "number-field" }, `${label} `, input, " s");
}

/**
 * Say a slider's value and range.
 *
 * @param {Element} element
 * @param {number} min
 * @param {number} max
 * @param {number} now
 * @param {string} text
 */
function value(element, min, max, now, text) {
  element.setAttribute("aria-valuemin", min.toFixed(1));
  element.setAttribute("aria-valuemax", max.toFixed(1));
  element.setAttribute("aria-valuenow", now.toFixed(1));
  element.setAttribute("aria-valuetext", text);
}

/** @param {number} seconds */
function rounded(seconds) {
  return Math.round(seconds * 1000) / 1000;
}

customElements.define("segue-slice", SegueSlice);
