// @ts-check
// Times as people read and type them: 1:05 is 65 seconds.

import { h } from "./dom.js";

/** How far a time may be from a tenth of a second to be shown without milliseconds, in seconds. */
const TOLERANCE = 0.0005;

const WRONG = "Type seconds, or minutes and seconds: 65, or 1:05, or 1:05.25.";

/**
 * Seconds as `1:02.3`, or as `1:02.345` where tenths do not say it.
 *
 * @param {number} seconds
 */
export function exactClock(seconds) {
  const time = Math.max(0, seconds);
  const tenths = Math.round(time * 10);
  const digits = Math.abs(time - tenths / 10) <= TOLERANCE ? 1 : 3;
  const scale = 10 ** digits;
  const units = Math.round(time * scale);
  const rest = (units % (60 * scale)) / scale;
  return `${Math.floor(units / scale / 60)}:${rest.toFixed(digits).padStart(3 + digits, "0")}`;
}

/**
 * Seconds of a text such as `65`, `65.5 s`, `1:05`, `1:05,25` or `1:01:05`; null if it is no time.
 *
 * @param {string} text
 * @returns {number | null}
 */
export function parseTime(text) {
  const parts = text.trim().replace(",", ".").replace(/\s*s$/, "").split(":");
  const last = parts.pop() ?? "";
  if (!/^(\d+\.?\d*|\.\d+)$/.test(last) || parts.length > 2) return null;
  if (parts.some((part) => !/^\d+$/.test(part))) return null;
  const numbers = [...parts.map(Number), Number(last)];
  // Behind a colon, sixty is a slip of the hand.
  if (numbers.slice(1).some((number) => number >= 60)) return null;
  return numbers.reduce((sum, number) => 60 * sum + number, 0);
}

/**
 * A field for a time. `set(seconds)` shows one; `change` is called with what was typed, in seconds.
 *
 * @param {string} label
 * @param {(seconds: number) => void} change
 */
export function timeField(label, change) {
  let shown = 0;
  const input = h("input", {
    type: "text",
    inputmode: "decimal",
    autocomplete: "off",
    spellcheck: "false",
  });
  const check = () => input.setCustomValidity(parseTime(input.value) === null ? WRONG : "");
  input.addEventListener("input", check);
  input.addEventListener("change", () => {
    const seconds = parseTime(input.value);
    check();
    // What is shown is rounded: a field that was only visited must not move anything.
    if (seconds === null) input.reportValidity();
    else change(input.value === exactClock(shown) ? shown : seconds);
  });
  const element = h("label", { class: "time-field" }, `${label} `, input);
  return Object.assign(element, {
    input,
    /** @param {number} seconds */
    set(seconds) {
      shown = seconds;
      input.value = exactClock(seconds);
      input.setCustomValidity("");
    },
  });
}

/** @typedef {ReturnType<typeof timeField>} TimeField */
