// <segue-slice>: which part of a piece the model hears, chosen on its waveform.
//
// Two handles and the part between them, each a slider for keys and for the pointer; numbers say
// the same, for those who know them, and for files that the browser cannot draw.

import { clock, h } from "../shared/dom.js";
import { waveform } from "../shared/waveform.js";

const SHORTEST = 0.5;
const STEPS = { ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1 };
const LEAPS = { PageDown: -5, PageUp: 5 };

/** Events: `change` while the slice changes, `settle` when it has. */
class SegueSlice extends HTMLElement {
  /**
   * Choose from a piece of `duration` seconds, or of unknown length (null); at most `longest`.
   * `peaks` is its picture, or null.
   */
  open({ peaks, duration, longest, usual }) {
    this.longest = Math.min(longest, duration ?? Infinity);
    this.duration = duration;
    this.seconds = Math.min(usual, this.longest);
    // Where the piece ends is where one would go on.
    this.start = duration === null ? 0 : duration - this.seconds;
    this.window = this.#slider("window", "Slice");
    this.left = this.#slider("handle left", "Start of the slice");
    this.right = this.#slider("handle right", "End of the slice");
    this.head = h("div", { class: "playhead", hidden: true });
    this.dropped = h("div", { class: "dropped" });
    this.numbers = h(
      "div",
      { class: "numbers" },
      this.#number("From", "start", 0, duration === null ? null : duration - SHORTEST),
      this.#number("Length", "seconds", SHORTEST, this.longest),
      duration !== null && [
        this.#jump("From the start", () => 0),
        this.#jump("From the end", () => duration - this.seconds),
      ],
    );
    this.strip = peaks &&
      h(
        "div",
        { class: "strip", onpointerdown: (event) => this.#grab(event) },
        waveform(peaks, { loudest: peaks.loudest }),
        this.dropped, this.window, this.left, this.right, this.head,
      );
    this.replaceChildren(...(this.strip ? [this.strip] : []), this.numbers);
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "What the model hears");
    this.#show();
  }

  get end() {
    return this.start + this.seconds;
  }

  /** Show where the music is, in seconds of the piece; null: nowhere. */
  at(seconds) {
    this.head.hidden = seconds === null;
    if (seconds !== null) this.head.style.left = this.#percent(seconds);
  }

  #slider(name, label) {
    return h("div", {
      class: name,
      role: "slider",
      tabindex: 0,
      "aria-label": label,
      onkeydown: (event) => this.#press(event, name),
    });
  }

  #number(label, name, min, max) {
    const input = h("input", {
      type: "number",
      step: "any",
      min,
      max: max === null ? null : Math.round(max * 1000) / 1000,
      inputmode: "decimal",
      onchange: () => {
        const value = Number(input.value);
        if (input.value !== "" && Number.isFinite(value)) {
          if (name === "start") this.#begin(value);
          else this.#set(this.start, this.start + Math.min(value, this.longest), "left");
        }
        this.#show();
        this.#settle();
      },
    });
    this[`${name}Input`] = input;
    return h("label", { class: "number-field" }, `${label} `, input, " s");
  }

  #jump(label, start) {
    const jump = () => {
      this.#move(start());
      this.#settle();
    };
    return h("button", { type: "button", class: "quiet", onclick: jump }, label);
  }

  #press(event, name) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, shiftKey } = event;
    const step = key in STEPS ? STEPS[key] * (shiftKey ? 10 : 1) : (LEAPS[key] ?? null);
    const far = { Home: -Infinity, End: Infinity }[key] ?? null;
    if (step === null && far === null) return;
    event.preventDefault();
    this.#drag(name, (at) => (far === null ? at + step : far));
    this.#settle();
  }

  #grab(event) {
    if (event.button !== 0) return;
    const box = this.strip.getBoundingClientRect();
    const second = ({ clientX }) => ((clientX - box.left) / box.width) * this.duration;
    const name = event.target.closest("[role=slider]")?.className ?? "window";
    if (!event.target.closest("[role=slider]")) this.#move(second(event) - this.seconds / 2);
    const held = name.includes("right") ? this.end : this.start;
    const away = held - second(event);
    const { pointerId } = event;
    const move = (moved) => {
      if (moved.pointerId === pointerId) this.#drag(name, () => second(moved) + away);
    };
    const drop = (dropped) => {
      if (dropped.pointerId !== pointerId) return;
      this.strip.removeEventListener("pointermove", move);
      this.strip.removeEventListener("pointerup", drop);
      this.strip.removeEventListener("pointercancel", drop);
      this.#settle();
    };
    this.strip.setPointerCapture(pointerId);
    this.strip.addEventListener("pointermove", move);
    this.strip.addEventListener("pointerup", drop);
    this.strip.addEventListener("pointercancel", drop);
    (event.target.closest("[role=slider]") ?? this.window).focus({ focusVisible: false });
    event.preventDefault();
  }

  #drag(name, to) {
    if (name === "window") this.#move(to(this.start));
    else if (name.includes("left")) this.#set(to(this.start), this.end, "right");
    else this.#set(this.start, to(this.end), "left");
  }

  #move(start) {
    const last = this.duration === null ? Infinity : this.duration - this.seconds;
    this.start = rounded(Math.min(Math.max(0, start), last));
    this.#show();
  }

  /** Start there, and be shorter if the piece ends before. */
  #begin(start) {
    const shortest = Math.min(SHORTEST, this.longest);
    const limit = this.duration ?? Infinity;
    this.start = rounded(Math.min(Math.max(0, start), Math.max(0, limit - shortest)));
    this.seconds = rounded(Math.min(this.seconds, limit - this.start));
  }

  /** Set both ends; the one that is `kept` stays where it is. */
  #set(start, end, kept) {
    const shortest = Math.min(SHORTEST, this.longest);
    const limit = this.duration ?? Infinity;
    if (kept === "left") {
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
    if (this.strip) {
      const { start, end, duration, longest } = this;
      this.window.style.left = this.left.style.left = this.#percent(start);
      this.window.style.width = this.#percent(this.seconds);
      this.right.style.left = this.dropped.style.left = this.#percent(end);
      value(this.window, 0, duration - this.seconds, start, `${clock(start)} to ${clock(end)}`);
      value(this.left, Math.max(0, end - longest), end, start, clock(start));
      value(this.right, start, Math.min(duration, start + longest), end, clock(end));
    }
    this.dispatchEvent(new Event("change"));
  }

  #settle() {
    this.dispatchEvent(new Event("settle"));
  }

  #percent(seconds) {
    return `${(100 * seconds) / this.duration}%`;
  }
}

function value(element, min, max, now, text) {
  element.setAttribute("aria-valuemin", min.toFixed(1));
  element.setAttribute("aria-valuemax", max.toFixed(1));
  element.setAttribute("aria-valuenow", now.toFixed(1));
  element.setAttribute("aria-valuetext", text);
}

function rounded(seconds) {
  return Math.round(seconds * 1000) / 1000;
}

customElements.define("segue-slice", SegueSlice);
