// @ts-check
// How far a take's beats lie from the grid, measured when somebody asks.

import * as api from "./api.js";
import { h } from "../shared/dom.js";

/** @import { BeatOffsets } from "../../types/service.js" */
/** @import { Recording } from "./recording.js" */

/**
 * A button that measures it and a line that says it; nothing where there is no tempo.
 *
 * @param {Recording} source
 * @param {(error: unknown) => void} showError  null clears it
 */
export function beatsOf({ take, card, name }, showError) {
  if (!card.about.grid) return [];
  const line = h("span", { class: "note", role: "status" });
  const button = h("button", { type: "button" }, "Are its beats on the grid?");
  button.setAttribute("aria-label", `${button.textContent} ${name}`);
  /** @param {BeatOffsets | null | undefined} found */
  const show = (found) => {
    if (found) line.textContent = lineOf(found);
    button.hidden = Boolean(found);
  };
  button.addEventListener("click", async () => {
    showError(null);
    button.disabled = true;
    line.textContent = "Listening…";
    try {
      const { beat_offsets: found } = await api.beatOffsets(card.id, take.number);
      take.beat_offsets = found;
      line.textContent = "No beats were found in it.";
      show(found);
    } catch (error) {
      line.textContent = "";
      showError(error);
    }
    button.disabled = false;
  });
  show(take.beat_offsets);
  return [button, line];
}

/** @param {BeatOffsets} offsets */
function lineOf({ beats, median_ms: median, worst_ms: worst, bpm }) {
  const [usual, most] = [median, worst].map((ms) => `${Math.round(Math.abs(ms))} ms`);
  const tempo = Math.round(bpm * 10) / 10;
  return `Its ${beats} beats lie ${usual} from the grid in the median, ${most} at worst; its own tempo is ${tempo} BPM.`;
}
