// @ts-check
// The empty stage: where music is dropped, chosen, recorded, taken from what is there, or left out.

import { h } from "../shared/dom.js";
import { placeholder } from "./placeholder.js";

/** @import { BuiltInPrompt } from "../../types/service.js" */

/**
 * @param {object} parts
 * @param {HTMLElement} parts.chooser  the hidden input for files
 * @param {HTMLElement} parts.record
 * @param {HTMLElement} parts.alone  the button that begins without music
 * @param {BuiltInPrompt[]} parts.prompts
 * @param {(prompt: BuiltInPrompt) => void} parts.take
 */
export function dropZone({ chooser, record, alone, prompts, take }) {
  const ready = prompts.map((prompt) =>
    h("button", { type: "button", onclick: () => take(prompt) }, prompt.title ?? prompt.name),
  );
  const label = h("label", { for: "file", class: "button primary" }, "Choose a file");
  const formats = h("span", { class: "note" }, "WAV, FLAC, OGG, MP3 or M4A");
  const or = h("span", { class: "note" }, "or take one of these");
  return h(
    "div",
    { class: "drop" },
    placeholder(),
    h("p", { class: "invitation" }, "Drop a piece of music here"),
    h("p", { class: "choosing" }, chooser, label, record, formats),
    ready.length > 0 && h("p", { class: "ready" }, or, ready),
    h("p", { class: "ready" }, alone),
  );
}

/**
 * Take files that are dropped anywhere on the page.
 *
 * @param {HTMLElement} stage  shows that a file is over the page
 * @param {(file: File) => void} open
 */
export function receiveDrops(stage, open) {
  // A file that misses must not make the browser leave the page.
  let inside = 0;
  /** @param {boolean} on */
  const over = (on) => stage.classList.toggle("over", on);
  /** @param {DragEvent} event */
  const files = (event) => Boolean(event.dataTransfer?.types.includes("Files"));
  addEventListener("dragenter", (event) => files(event) && over(++inside > 0));
  addEventListener("dragleave", (event) => files(event) && over(--inside > 0));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    over(false);
    const file = event.dataTransfer?.files[0];
    if (file) open(file);
  });
}
