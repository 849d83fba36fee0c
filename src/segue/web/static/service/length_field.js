// @ts-check
// How long the music plays on: seconds, or bars where there is a tempo.

import { h } from "../shared/dom.js";
import { exactClock, parseTime } from "../shared/time.js";

/** @import { Grid } from "../shared/grid.js" */

/** A length; `bars` is null where it was given in seconds. @typedef {{ seconds: number, bars: number | null }} Length */

/** @typedef {ReturnType<typeof lengthField>} LengthField */

/**
 * @param {string} label
 * @param {number} usual  in seconds
 * @param {string} [name]  of the input
 */
export function lengthField(label, usual, name = "length") {
  /** @type {Grid | null} */
  let grid = null;
  let longest = Infinity;
  const input = h("input", {
    type: "text",
    name,
    value: usual,
    required: true,
    inputmode: "decimal",
    autocomplete: "off",
    "aria-label": label,
  });
  const unit = h(
    "select",
    { name: `${name}_unit`, "aria-label": `${label}: unit` },
    h("option", { value: "s" }, "s"),
    h("option", { value: "bars" }, "bars"),
  );
  const seconds = h("span", {}, " s");
  const note = h("small");
  const element = h(
    "div",
    { class: "field length" },
    h("span", {}, label),
    h("span", { class: "unit" }, input, unit, seconds),
    note,
  );
  const inBars = () => grid !== null && unit.value === "bars";
  /** @returns {Length} */
  const length = () => {
    if (grid && inBars()) {
      const bars = Number(input.value.replace(",", "."));
      return bars > 0 ? { seconds: bars * grid.bar, bars } : { seconds: 0, bars: 0 };
    }
    return { seconds: parseTime(input.value) ?? 0, bars: null };
  };
  const check = () => {
    const found = length();
    const most = grid && inBars() ? `${Math.floor(longest / grid.bar)} bars` : exactClock(longest);
    input.setCustomValidity(
      found.seconds <= 0
        ? inBars() ? "Type a number of bars." : "Type seconds, or minutes and seconds as 1:05."
        : found.seconds > longest + 1e-6 ? `At most ${most}.` : "",
    );
    note.textContent = !grid || found.seconds <= 0
      ? ""
      : inBars()
        ? `${found.seconds.toFixed(2)} s`
        : `${Math.round((100 * found.seconds) / grid.bar) / 100} bars`;
  };
  const show = () => {
    unit.hidden = grid === null;
    seconds.hidden = grid !== null;
    check();
  };
  input.addEventListener("input", check);
  unit.addEventListener("change", () => {
    if (!grid) return;
    // The same length in the other unit.
    const value = inBars()
      ? Math.max(1, Math.round((parseTime(input.value) ?? usual) / grid.bar))
      : Math.round(Number(input.value) * grid.bar * 1000) / 1000;
    input.value = String(value);
    check();
  });
  show();

  return Object.assign(element, {
    length,
    /** Say now what is wrong with it, if anything is. */
    check,
    /**
     * Count in the bars of this grid, or in seconds alone.
     *
     * @param {Grid | null} next
     */
    count(next) {
      const { seconds: before, bars } = length();
      const counted = grid !== null && bars !== null;
      const first = grid === null && next !== null;
      grid = next;
      if (!next && counted) {
        unit.value = "s";
        input.value = String(Math.round(before * 1000) / 1000);
      } else if (first && next) {
        // Whoever has a tempo thinks in bars: as many as a player would, four or eight.
        unit.value = "bars";
        input.value = String(wholeBars(before / next.bar));
      }
      show();
    },
    /** @param {number} seconds  at most */
    limit(seconds) {
      longest = seconds;
      check();
    },
  });
}

/**
 * The nearest of the numbers of bars that phrases have.
 *
 * @param {number} bars
 */
function wholeBars(bars) {
  if (!(bars > 0)) return 4;
  return 2 ** Math.max(0, Math.round(Math.log2(bars)));
}
