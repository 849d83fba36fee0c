// @ts-check
// What comes after the first part of a continuation: other words, each for a while.

import { h } from "../shared/dom.js";
import { lengthField } from "./length_field.js";

/** @import { Grid } from "../shared/grid.js" */
/** @import { Length } from "./length_field.js" */

/** A further part. @typedef {{ description: string, length: Length }} Part */

/** @typedef {ReturnType<typeof partsField>} PartsField */

const USUAL = 12;

/**
 * Fields for further parts, one line each. Event: `parts` (their number or lengths are others).
 *
 * @param {number} longest  characters of a text
 * @param {number} most  parts
 */
export function partsField(longest, most) {
  /** @type {{ element: HTMLElement, text: HTMLInputElement, length: ReturnType<typeof lengthField> }[]} */
  let rows = [];
  /** @type {Grid | null} */
  let grid = null;
  const list = h("div", { class: "part-list" });
  const add = h("button", { type: "button", class: "quiet" }, "Then something else…");
  const element = h("div", { class: "field parts", hidden: most < 1 }, list, add);
  const announce = () => {
    add.hidden = rows.length >= most;
    rows.forEach(({ text, element: row }, n) => {
      text.setAttribute("aria-label", `Words for part ${n + 2}`);
      row.setAttribute("aria-label", `Part ${n + 2}`);
    });
    element.dispatchEvent(new Event("parts"));
  };
  add.addEventListener("click", () => {
    const text = h("input", { name: "part", autocomplete: "off", maxlength: longest });
    text.placeholder = "drums drop out";
    const length = lengthField("for", USUAL, "part_length");
    length.count(grid);
    const remove = h("button", { type: "button", class: "quiet", "aria-label": "No such part" }, "×");
    const row = h(
      "div",
      { class: "part", role: "group" },
      h("span", {}, "Then"), text, length, remove,
    );
    const entry = { element: row, text, length };
    remove.addEventListener("click", () => {
      rows = rows.filter((other) => other !== entry);
      row.remove();
      announce();
      add.focus();
    });
    rows.push(entry);
    list.append(row);
    announce();
    text.focus();
  });

  return Object.assign(element, {
    /** @returns {Part[]} */
    parts: () =>
      rows.map(({ text, length }) => ({ description: text.value.trim(), length: length.length() })),
    check: () => rows.forEach(({ length }) => length.check()),
    /** @param {Grid | null} next */
    count(next) {
      grid = next;
      rows.forEach(({ length }) => length.count(next));
    },
  });
}
