// @ts-check
// Which part of a sound is seen: zoomed and scrolled, by buttons, wheel and keys.

import { clock, h } from "./dom.js";

/** The shortest part that is seen, in seconds: pictures have no more detail. */
const SHORTEST = 1;

/** What a button, a key or a notch of the wheel zooms by. */
const STEP = 1.6;

/** Events: `change`. Times in seconds. */
export class Viewport extends EventTarget {
  /** Of the whole. */
  duration = 1;

  from = 0;
  to = 1;

  /**
   * Begin anew on a sound of this length.
   *
   * @param {number} duration
   */
  reset(duration) {
    const same = duration === this.duration;
    this.duration = Math.max(duration, 1e-3);
    if (same) return;
    this.show(0, this.duration);
  }

  /** Of what is seen. */
  get seconds() {
    return this.to - this.from;
  }

  /** Whether all is seen. */
  get whole() {
    return this.seconds >= this.duration - 1e-6;
  }

  /**
   * See this part, as far as there is one.
   *
   * @param {number} from
   * @param {number} to
   */
  show(from, to) {
    const seconds = Math.min(this.duration, Math.max(to - from, SHORTEST));
    const first = Math.min(Math.max(0, from), this.duration - seconds);
    if (first === this.from && first + seconds === this.to) return;
    this.from = first;
    this.to = first + seconds;
    this.dispatchEvent(new Event("change"));
  }

  showAll() {
    this.show(0, this.duration);
  }

  /**
   * See a part that is shorter by a factor; what lies at `at` stays where it is.
   *
   * @param {number} factor
   * @param {number} [at]
   */
  zoom(factor, at = (this.from + this.to) / 2) {
    const wanted = Math.max(SHORTEST, Math.min(this.duration, this.seconds / factor));
    const from = at - ((at - this.from) * wanted) / this.seconds;
    this.show(from, from + wanted);
  }

  /** @param {number} seconds  to the right */
  pan(seconds) {
    this.show(this.from + seconds, this.to + seconds);
  }

  /**
   * Scroll if a moment, or a part that starts there, cannot be seen.
   *
   * @param {number} from
   * @param {number} [to]
   */
  reveal(from, to = from) {
    if (from >= this.from && to <= this.to) return;
    const room = Math.max(0, this.seconds - (to - from));
    const start = from - Math.min(room / 2, 0.1 * this.seconds);
    this.show(start, start + this.seconds);
  }

  /**
   * Where a moment lies: 0 is the left edge, 1 the right one.
   *
   * @param {number} seconds
   */
  share(seconds) {
    return (seconds - this.from) / this.seconds;
  }

  /**
   * The moment at a share of the width.
   *
   * @param {number} share
   */
  at(share) {
    return this.from + share * this.seconds;
  }

  /**
   * Do what a key is for: plus, minus, 0. Returns whether it is for anything here.
   *
   * @param {string} key
   * @param {number} [at]  what stays where it is
   */
  press(key, at) {
    if (key === "+" || key === "=") this.zoom(STEP, at);
    else if (key === "-") this.zoom(1 / STEP, at);
    else if (key === "0") this.showAll();
    else return false;
    return true;
  }
}

/**
 * Buttons that zoom, and a slider that scrolls while there is more than is seen.
 *
 * @param {Viewport} viewport
 * @param {() => number} [center]  what stays in its place, in seconds
 */
export function zoomControls(viewport, center = () => (viewport.from + viewport.to) / 2) {
  /**
   * @param {string} text
   * @param {string} label
   * @param {() => void} onclick
   */
  const button = (text, label, onclick) =>
    h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick }, text);
  const inside = () => Math.min(Math.max(center(), viewport.from), viewport.to);
  const closer = button("+", "Zoom in", () => viewport.zoom(STEP, inside()));
  const farther = button("−", "Zoom out", () => viewport.zoom(1 / STEP, inside()));
  const all = button("All", "See all of it", () => viewport.showAll());
  const scroll = h("input", {
    type: "range",
    min: 0,
    step: "any",
    "aria-label": "Scroll the waveform",
    "data-own-keys": "",
    oninput: () => {
      const from = Number(scroll.value);
      viewport.show(from, from + viewport.seconds);
    },
  });
  const element = h("div", { class: "zoom" }, h("span", {}, "Zoom"), farther, closer, all, scroll);
  const show = () => {
    scroll.max = String(Math.max(1e-3, viewport.duration - viewport.seconds));
    scroll.value = String(viewport.from);
    const range = `${clock(viewport.from)} to ${clock(viewport.to)}`;
    scroll.setAttribute("aria-valuetext", range);
    scroll.hidden = all.hidden = farther.hidden = viewport.whole;
    element.classList.toggle("whole", viewport.whole);
  };
  viewport.addEventListener("change", show);
  show();
  return Object.assign(element, { update: show });
}

/**
 * Let the wheel zoom and scroll over an element: with Ctrl, as a pinch on a touchpad comes, it
 * zooms; sideways, or with Shift, it scrolls.
 *
 * @param {HTMLElement} element
 * @param {Viewport} viewport
 * @param {() => DOMRect} box  what is as wide as the viewport
 */
export function wheel(element, viewport, box = () => element.getBoundingClientRect()) {
  const turn = (/** @type {WheelEvent} */ event) => {
    const { left, width } = box();
    if (event.ctrlKey || event.metaKey) {
      viewport.zoom(Math.exp(-event.deltaY / 200), viewport.at((event.clientX - left) / width));
    } else {
      const sideways = event.shiftKey ? event.deltaX || event.deltaY : event.deltaX;
      if (Math.abs(sideways) <= Math.abs(event.shiftKey ? 0 : event.deltaY) || viewport.whole) return;
      viewport.pan((sideways / width) * viewport.seconds);
    }
    event.preventDefault();
  };
  element.addEventListener("wheel", turn, { passive: false });
}
