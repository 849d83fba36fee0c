// @ts-check
// What downloads and drags give: which part of a take, and as what file. One choice for all takes.

import { h } from "../shared/dom.js";

/** @typedef {"whole" | "new" | "loop"} Part */

/** @typedef {{ format: string, label: string, ending: string, type: string }} Format */

/** @type {Format[]} */
const FORMATS = [
  { format: "wav24", label: "WAV, 24 bits", ending: "wav", type: "audio/wav" },
  { format: "wav16", label: "WAV, 16 bits", ending: "wav", type: "audio/wav" },
  { format: "wav32f", label: "WAV, 32 bits float", ending: "wav", type: "audio/wav" },
  { format: "flac", label: "FLAC", ending: "flac", type: "audio/flac" },
  { format: "mp3", label: "MP3", ending: "mp3", type: "audio/mpeg" },
];

/** @type {Record<Part, string>} */
const PARTS = {
  whole: "everything",
  new: "the new part",
  loop: "prompt and new part",
};

const STORED = "segue.export";

/** Events: `change`. */
class ExportChoice extends EventTarget {
  /** @type {Part} */
  part = "whole";

  /** @type {Format} */
  format = FORMATS[0];

  constructor() {
    super();
    try {
      const { part, format } = JSON.parse(localStorage.getItem(STORED) ?? "{}") ?? {};
      this.set(part, format);
    } catch {
      // What is damaged there is the browser's.
    }
  }

  /**
   * What is not known is left as it is.
   *
   * @param {string} part
   * @param {string} format
   */
  set(part, format) {
    if (Object.hasOwn(PARTS, part)) this.part = /** @type {Part} */ (part);
    this.format = FORMATS.find((one) => one.format === format) ?? this.format;
    this.dispatchEvent(new Event("change"));
  }
}

export const exportChoice = new ExportChoice();

/** Two lists that say it; all of them change together. */
export function exportFields() {
  const part = h(
    "select",
    { "aria-label": "What is downloaded" },
    Object.entries(PARTS).map(([value, label]) => h("option", { value }, label)),
  );
  const format = h(
    "select",
    { "aria-label": "Format of downloads" },
    FORMATS.map(({ format: value, label }) => h("option", { value }, label)),
  );
  const choose = () => {
    exportChoice.set(part.value, format.value);
    try {
      const { part: chosen, format: { format: kind } } = exportChoice;
      localStorage.setItem(STORED, JSON.stringify({ part: chosen, format: kind }));
    } catch {
      // Without storage, it lasts as long as the page.
    }
  };
  part.addEventListener("change", choose);
  format.addEventListener("change", choose);
  const show = () => {
    part.value = exportChoice.part;
    format.value = exportChoice.format.format;
  };
  exportChoice.addEventListener("change", show);
  show();
  return h("div", { class: "export" }, h("span", {}, "Download "), part, h("span", {}, " as "), format);
}
