// @ts-check
// Which model plays: those that are here, and those that can be had.

import { h } from "../shared/dom.js";
import { shortName, size } from "./format.js";
import { modelDownload } from "./model_download.js";

/** @import { Model } from "../../types/service.js" */

/** @typedef {ReturnType<typeof modelField>} ModelField */

const SIZES = ["small", "medium", "large"];

/**
 * Event: `arrived` (a model has been downloaded).
 *
 * @param {Model[]} models
 * @param {string | undefined} chosen  a path
 */
export function modelField(models, chosen) {
  const select = h("select", { name: "model_name", "aria-describedby": "model-note" });
  const note = h("small", { id: "model-note" });
  const label = h("label", { class: "field" }, h("span", {}, "Model"), select);
  const download = modelDownload(() => element.dispatchEvent(new Event("arrived")));
  const element = h("div", { class: "field model" }, label, note, download);
  /** @type {Model[]} */
  let offered = [];

  const model = () => offered.find((one) => pathOf(one) === select.value) ?? null;
  const explain = () => {
    const found = model();
    note.textContent = found ? noteOn(found) : "";
    download.offer(found?.downloaded === false ? found : null);
  };
  select.addEventListener("input", explain);
  /**
   * @param {Model[]} next
   * @param {string | undefined} path
   */
  const offer = (next, path) => {
    offered = next;
    select.replaceChildren(...options(next));
    if (path !== undefined && next.some((one) => pathOf(one) === path)) select.value = path;
    explain();
  };
  offer(models, chosen);
  download.restore();

  return Object.assign(element, {
    /** The chosen one. */
    model,
    path: () => select.value || undefined,
    explain,
    /**
     * Offer other models; the chosen one stays, if it is among them.
     *
     * @param {Model[]} next
     */
    refresh: (next) => offer(next, select.value),
  });
}

/**
 * What `model_name` takes.
 *
 * @param {Model} model
 */
function pathOf({ path, name }) {
  return path ?? name;
}

/**
 * Options for the models, in groups by size.
 *
 * @param {Model[]} models
 */
function options(models) {
  /** @type {Record<string, HTMLOptionElement[]>} */
  const groups = Object.fromEntries(["", ...SIZES].map((name) => [name, []]));
  for (const model of models) {
    const where = SIZES.find((one) => String(model.size_class ?? "").includes(one)) ?? "";
    const missing = model.downloaded === false ? " (not downloaded yet)" : "";
    const name = `${shortName(model.name ?? model.path)}${missing}`;
    groups[where].push(h("option", { value: pathOf(model) }, name));
  }
  return Object.entries(groups).flatMap(([label, found]) =>
    !found.length ? [] : label ? [h("optgroup", { label }, found)] : found,
  );
}

/** @param {Model} model */
function noteOn({ path, downloaded, bytes, takes }) {
  const amount = Number(bytes) > 0 ? `, about ${size(Number(bytes))}` : "";
  const note =
    downloaded === false
      ? `Not downloaded yet${amount}; the first run fetches it.`
      : path === "built-in"
        ? "Small, and always here: for trying things out."
        : "On this machine.";
  return takes ? `${note} Takes ${takesLine(takes)}.` : note;
}

/**
 * What a model takes, in words for people.
 *
 * @param {string[]} takes
 */
function takesLine(takes) {
  /** @type {Record<string, string>} */
  const names = { prompt: "a prompt", text: "words", melody: "a melody" };
  const [last, ...before] = takes.map((one) => names[one] ?? one).reverse();
  return before.length ? `${before.reverse().join(", ")} and ${last}` : last;
}
