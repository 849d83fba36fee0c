// @ts-check
// The service's adapters: which are merged into the model, and how much of each.

import { h } from "../shared/dom.js";

/** @typedef {ReturnType<typeof adaptersField>} AdaptersField */

const MOST = 100;

/**
 * A checkbox for each adapter, and a number beside those that are chosen; nothing to be seen where
 * the service has none.
 *
 * @param {string[]} names
 * @param {string[]} [saved]  as `adapters()` gave them
 */
export function adaptersField(names, saved = []) {
  const scales = new Map(
    (Array.isArray(saved) ? saved : []).map(String).map((one) => {
      const at = one.lastIndexOf(":");
      return [one.slice(0, at), one.slice(at + 1)];
    }),
  );
  const choices = names.map((name) => {
    const box = h("input", { type: "checkbox", name: "adapter", checked: scales.has(name) });
    const scale = h("input", {
      type: "number",
      name: "adapter_scale",
      value: scales.get(name) ?? 1,
      min: -MOST,
      max: MOST,
      step: "any",
      inputmode: "decimal",
      "aria-label": `How much of ${name}`,
    });
    const show = () => {
      scale.hidden = !box.checked;
      scale.required = box.checked;
    };
    box.addEventListener("change", show);
    show();
    const label = h("label", { class: "check" }, box, ` ${name}`);
    const element = h("span", { class: "adapter" }, label, scale);
    return { name, box, scale, element };
  });
  const element = h(
    "fieldset",
    { class: "field adapters", hidden: !names.length },
    h("legend", {}, "Adapters"),
    h("span", { class: "adapter-list" }, choices.map((choice) => choice.element)),
    h("small", {}, "Each changes the model as it was trained to; 1 is all of it, 0 nothing."),
  );

  return Object.assign(element, {
    /**
     * Those that are chosen, as `NAME:SCALE`; undefined where the service has none.
     *
     * @returns {string[] | undefined}
     */
    adapters() {
      if (!names.length) return undefined;
      return choices
        .filter(({ box }) => box.checked)
        .map(({ name, scale }) => `${name}:${Number(scale.value)}`);
    },
  });
}
