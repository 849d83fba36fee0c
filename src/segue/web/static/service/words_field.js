// @ts-check
// What the music is described with: one text for all takes, or one for each.

import { h } from "../shared/dom.js";

/** @typedef {ReturnType<typeof wordsField>} WordsField */

/**
 * A field for one text, and one for each take behind a checkbox that appears with several takes.
 *
 * @param {number} longest  characters of a text
 * @param {number} most  takes
 * @param {{ description?: string, descriptions?: string[] }} saved
 */
export function wordsField(longest, most, saved) {
  /**
   * @param {string} name
   * @param {string | undefined} value
   */
  const input = (name, value) =>
    h("input", { name, autocomplete: "off", maxlength: longest, value: value ?? "" });
  const one = input("description", saved.description);
  const heading = h("span", {});
  const common = h("label", { class: "field" }, heading, one);
  const each = Array.from({ length: most }, (_, n) =>
    input(`description_${n + 1}`, saved.descriptions?.[n]),
  );
  const labels = each.map((field, n) =>
    h("label", { class: "field" }, h("span", {}, `Words for take ${n + 1}`), field),
  );
  const own = h("input", {
    type: "checkbox",
    name: "own_words",
    checked: Boolean(saved.descriptions?.length),
  });
  const choice = h("label", { class: "check" }, own, " Different words for each take");
  const element = h("div", { class: "field words" }, common, ...labels, choice);
  let takes = 1;
  let required = false;

  const apart = () => own.checked && takes > 1;
  const show = () => {
    common.hidden = apart();
    choice.hidden = takes < 2;
    heading.textContent = required ? "In words" : "In words, if you like";
    one.required = required && !apart();
    each.forEach((field, n) => {
      const shown = apart() && n < takes;
      labels[n].hidden = !shown;
      field.required = required && shown;
    });
  };
  own.addEventListener("change", () => {
    // What was typed for all is a start for each.
    if (apart() && each.every((field) => !field.value)) {
      each.forEach((field) => (field.value = one.value));
    }
    show();
  });
  show();

  return Object.assign(element, {
    /**
     * `description` is empty where there is none, or one for each take.
     *
     * @returns {{ description: string, descriptions?: string[] }}
     */
    words() {
      if (!apart()) return { description: one.value.trim() };
      const descriptions = each.slice(0, takes).map((field) => field.value.trim());
      return { description: "", descriptions };
    },
    /** @param {number} count  of the takes */
    fit(count) {
      takes = count;
      show();
    },
    /** @param {boolean} on  whether there is nothing else to begin with */
    require(on) {
      required = on;
      show();
    },
    /** @param {string} words  an example */
    suggest(words) {
      for (const field of [one, ...each]) field.placeholder = words;
    },
  });
}
