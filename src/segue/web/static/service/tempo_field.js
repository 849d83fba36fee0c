// @ts-check
// The tempo of the music, typed or found, where its bars begin, and what snaps to them.

import { h } from "../shared/dom.js";
import { Grid, MAX_BPM, MIN_BPM } from "../shared/grid.js";
import { timeField } from "../shared/time.js";

/** @import { Snap } from "../shared/grid.js" */

/** @typedef {ReturnType<typeof tempoField>} TempoField */

/** A tempo that somebody found. @typedef {{ bpm: number, beatsPerBar: number, downbeat: number }} Found */

/**
 * Fields for a tempo; `change` is called when the grid is another. Where something can `find` the
 * tempo, a button asks it to; it returns a line for the user if it could not.
 *
 * @param {object} options
 * @param {boolean} options.there  whether there is music already, that bars begin in
 * @param {() => void} options.change
 * @param {(() => Promise<Found | string>) | null} options.find
 * @param {() => number} options.start  where the slice starts, in seconds
 */
export function tempoField({ there, change, find, start }) {
  let downbeat = 0;
  const bpm = number("bpm", "", { min: MIN_BPM, max: MAX_BPM });
  bpm.placeholder = "unknown";
  const beats = number("beats_per_bar", 4, { min: 0.5, max: 64 });
  const snap = h(
    "select",
    { name: "snap", onchange: change },
    h("option", { value: "bar", selected: true }, "bars"),
    h("option", { value: "beat" }, "beats"),
    h("option", { value: "off" }, "nothing"),
  );
  const first = timeField("A bar begins at", (seconds) => {
    downbeat = seconds;
    show();
    change();
  });
  const here = h("button", { type: "button", class: "quiet" }, "at the slice's start");
  here.addEventListener("click", () => {
    downbeat = start();
    show();
    change();
  });
  const search = h("button", { type: "button", hidden: !find || !there }, "Find it");
  const complaint = h("span", { role: "alert", class: "complaint" });
  const hint = h("small", {}, "Hold Alt to move freely.");
  const details = h(
    "span",
    { class: "grid-fields", hidden: true },
    h("label", {}, "beats a bar ", beats),
    there && [first, here, h("label", {}, "Snap to ", snap), hint],
  );
  const element = h(
    "div",
    { class: "tempo", role: "group", "aria-label": "Tempo" },
    h("label", {}, "Tempo ", bpm, " BPM"),
    search,
    details,
    complaint,
  );

  /** @returns {Grid | null} */
  const grid = () => {
    const [tempo, count] = [Number(bpm.value), Number(beats.value)];
    const valid = bpm.value !== "" && bpm.checkValidity() && beats.checkValidity() && count > 0;
    return valid ? new Grid(tempo, count, downbeat) : null;
  };
  const show = () => {
    details.hidden = grid() === null;
    first.set(downbeat);
  };
  for (const input of [bpm, beats]) {
    input.addEventListener("change", () => {
      complaint.textContent = bpm.checkValidity()
        ? ""
        : `A tempo lies between ${MIN_BPM} and ${MAX_BPM} beats a minute.`;
      show();
      change();
    });
  }
  search.addEventListener("click", async () => {
    if (!find) return;
    complaint.textContent = "";
    search.disabled = true;
    search.textContent = "Listening…";
    const found = await find();
    search.disabled = false;
    search.textContent = "Find it";
    if (typeof found === "string") complaint.textContent = found;
    else set(found);
  });
  /** @param {Found} found */
  const set = (found) => {
    bpm.value = String(Math.round(found.bpm * 1000) / 1000);
    beats.value = String(found.beatsPerBar);
    downbeat = found.downbeat;
    show();
    change();
  };
  show();

  return Object.assign(element, {
    /** Null as long as there is no tempo. */
    grid,
    /** @returns {Snap} */
    snap: () => /** @type {Snap} */ (snap.value),
    /** Show a tempo that is known. */
    set,
  });
}

/**
 * @param {string} name
 * @param {number | ""} value
 * @param {{ min: number, max: number }} range
 */
function number(name, value, range) {
  return h("input", { type: "number", name, value, step: "any", inputmode: "decimal", ...range });
}
