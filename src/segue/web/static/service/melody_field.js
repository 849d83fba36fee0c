// @ts-check
// A melody that the model follows: a file of the user's, inspected when it is chosen.

import { h } from "../shared/dom.js";
import { inspect, UploadError } from "./upload.js";

/** @import { Limits } from "./connection.js" */
/** @import { Upload } from "./upload.js" */

/** @typedef {ReturnType<typeof melodyField>} MelodyField */

/**
 * A field that is shown while the chosen model follows a melody. Event: `melody` (another, or none).
 *
 * @param {Limits} limits
 */
export function melodyField(limits) {
  const chooser = h("input", {
    type: "file",
    id: "melody",
    class: "unseen",
    accept: "audio/*,.wav,.flac,.ogg,.mp3,.m4a,.aiff",
    "aria-label": "Melody",
    "aria-describedby": "melody-note melody-complaint",
  });
  const choose = h("label", { for: "melody", class: "button" });
  const remove = h("button", { type: "button", class: "quiet", hidden: true }, "No melody");
  const complaint = h("span", { role: "alert", id: "melody-complaint" });
  const note = h("small", { id: "melody-note" }, "Its strongest notes are followed, one at a time.");
  const element = h(
    "div",
    { class: "field melody", hidden: true },
    h("span", {}, "Melody, if you like"),
    h("span", { class: "file-row" }, chooser, choose, remove),
    note,
    complaint,
  );
  /** @type {Upload | null} */
  let melody = null;

  /** @param {Upload | null} found */
  const take = (found) => {
    melody = found;
    choose.textContent = found ? found.name : "Choose a file";
    remove.hidden = !found;
    if (!found) chooser.value = "";
    element.dispatchEvent(new Event("melody"));
  };
  chooser.addEventListener("change", async () => {
    complaint.textContent = "";
    const file = chooser.files?.[0];
    if (!file) return take(null);
    try {
      const found = await inspect(file, limits);
      // Meanwhile it may be another.
      if (chooser.files?.[0] === file) take(found);
    } catch (error) {
      if (!(error instanceof UploadError)) throw error;
      complaint.textContent = error.message;
      take(null);
    }
  });
  take(null);
  remove.addEventListener("click", () => {
    take(null);
    chooser.focus();
  });

  return Object.assign(element, {
    /** The file, or null; null, too, while the model follows none. */
    file: () => (element.hidden ? null : melody),
    /** @param {boolean} on  whether the model follows a melody */
    offer(on) {
      if (element.hidden === !on) return;
      element.hidden = !on;
      element.dispatchEvent(new Event("melody"));
    },
  });
}
