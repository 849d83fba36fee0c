// @ts-check
// A button that records from a microphone, and what is seen meanwhile.

import { clock, h, messageOf } from "../shared/dom.js";
import { Recorder, RecordingError } from "./recorder.js";

/**
 * @param {object} handlers
 * @param {(file: File) => void} handlers.recorded
 * @param {(line: string) => void} handlers.failed
 * @returns {HTMLElement}
 */
export function recordButton({ recorded, failed }) {
  /** @type {Recorder | null} */
  let recorder = null;
  const button = h("button", { type: "button", class: "record" }, "Record");
  const level = h("meter", { min: 0, max: 1, low: 0.02, high: 0.98, "aria-label": "Level" });
  const time = h("span", { class: "time" });
  const state = h("span", { class: "recording", hidden: true }, level, time);
  const element = h("span", { class: "record-row" }, button, state);

  const stop = async () => {
    const ended = recorder;
    recorder = null;
    button.textContent = "Record";
    state.hidden = true;
    const file = await ended?.stop();
    if (file) recorded(file);
    else failed("Nothing was recorded.");
  };
  button.addEventListener("click", async () => {
    if (recorder) return stop();
    failed("");
    const next = new Recorder();
    button.disabled = true;
    try {
      await next.start();
    } catch (error) {
      if (!(error instanceof RecordingError)) throw error;
      failed(messageOf(error));
      return;
    } finally {
      button.disabled = false;
    }
    recorder = next;
    button.textContent = "Stop recording";
    button.focus();
    state.hidden = false;
    next.addEventListener("progress", () => {
      level.value = next.level;
      time.textContent = clock(next.seconds);
    });
    next.addEventListener("full", () => recorder === next && stop());
  });
  return element;
}
