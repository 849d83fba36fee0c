// @ts-check
// What one has to say of a take: a star, a name, a note. The service keeps it.

import * as api from "./api.js";
import { h } from "../shared/dom.js";

/** @import { Remarks } from "./api.js" */
/** @import { Recording } from "./recording.js" */

/**
 * A button for the star, and fields for name and note behind another; `changed` is called when the
 * service has it.
 *
 * @param {Recording} source
 * @param {object} handlers
 * @param {() => void} handlers.changed
 * @param {(error: unknown) => void} handlers.showError  null clears it
 */
export function remarks(source, { changed, showError }) {
  const { take, card } = source;
  /** @param {Remarks} some */
  const save = async (some) => {
    showError(null);
    try {
      await api.remark(card.id, take.number, some);
      Object.assign(take, some);
      changed();
    } catch (error) {
      showError(error);
    }
    show();
  };
  const star = h("button", { type: "button", class: "quiet star" });
  star.addEventListener("click", () => save({ starred: !take.starred }));
  const name = h("input", { autocomplete: "off", maxlength: 200 });
  name.addEventListener("change", () => save({ name: name.value.trim() }));
  const note = h("input", { autocomplete: "off", maxlength: 2000 });
  note.addEventListener("change", () => save({ note: note.value.trim() }));
  const fields = h(
    "div",
    { class: "remarks", hidden: true },
    h("label", {}, "Name ", name),
    h("label", {}, "Note ", note),
  );
  const open = h("button", { type: "button", "aria-expanded": "false" }, "Name…");
  open.setAttribute("aria-label", `Name and note of ${source.name}`);
  open.addEventListener("click", () => {
    fields.hidden = !fields.hidden;
    open.setAttribute("aria-expanded", String(!fields.hidden));
    if (!fields.hidden) name.focus();
  });
  const show = () => {
    const starred = Boolean(take.starred);
    star.textContent = starred ? "★" : "☆";
    star.title = starred ? "Kept until you remove it" : "Keep it: the service forgets others";
    star.setAttribute("aria-pressed", String(starred));
    star.setAttribute("aria-label", `Keep ${source.name}`);
    // What is being typed is newer than what the service has.
    if (document.activeElement !== name) name.value = take.name ?? "";
    if (document.activeElement !== note) note.value = take.note ?? "";
  };
  show();
  return { star, open, fields };
}
