// @ts-check
// What is seen of a take in a player: its name, its waveform, its buttons.

import { h } from "./dom.js";
import { gridLines } from "./grid.js";

/** @import { Source } from "./takes.js" */
/** @import { Waveform } from "./waveform.js" */

/** @typedef {ReturnType<typeof rowOf>} Row */

/**
 * The row of a source.
 *
 * @param {Source} source
 * @param {string} group  of the radio buttons
 * @param {boolean} joined  whether it has a join to show
 */
export function rowOf(source, group, joined) {
  const radio = h("input", { type: "radio", name: group });
  const number = h("b", { class: "number" });
  const join = h("span", { class: "join", title: "the continuation starts here" });
  const playhead = h("span", { class: "playhead", "aria-hidden": "true" });
  const region = h("span", { class: "region", hidden: true, "aria-hidden": "true" });
  const grid = gridLines();
  const lane = h("span", { class: "lane" }, grid, region, joined && join, playhead);
  const text = h("span");
  /** @param {Source} from */
  const describe = ({ title, name, note }) =>
    text.replaceChildren(title ?? name, ...(note ? [h("small", {}, note)] : []));
  describe(source);
  const name = h("label", { class: "name" }, radio, number, " ", text);
  const actions = source.actions && h("span", { class: "actions" }, source.actions);
  const element = h("div", { class: "take" }, name, lane, actions);
  const picture = /** @type {Waveform | null} */ (null);
  return { element, radio, number, lane, join, playhead, region, grid, picture, describe };
}

/** Keys of a player, and what they do. */
export function keyHints() {
  return h(
    "p",
    { class: "keys" },
    hint(["Space"], "play"),
    hint(["1", "…", "9"], "or"),
    hint(["↑", "↓"], "take"),
    hint(["←", "→"], "1 s"),
    hint(["Shift", "←", "→"], "5 s"),
    hint(["L"], "repeat"),
    hint(["[", "]"], "from, to here"),
    hint(["+", "−", "0"], "zoom"),
  );
}

/**
 * @param {string[]} pressed
 * @param {string} what
 */
function hint(pressed, what) {
  return h("span", {}, pressed.map((key) => h("kbd", {}, key)), ` ${what}`);
}
