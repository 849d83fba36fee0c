// @ts-check
// A take as the page shows it: what made it, and what can be done with it.

import { downloadLink } from "./download_link.js";
import { titleOf } from "./job_about.js";
import { Recording } from "./recording.js";
import { beatsOf } from "./take_beats.js";
import { remarks } from "./take_remarks.js";
import { barsText } from "../shared/grid.js";
import { h } from "../shared/dom.js";

/** @import { TakeAnswer } from "../../types/service.js" */
/** @import { JobCard } from "./job_card.js" */

/**
 * What a take's buttons do.
 *
 * @typedef {object} TakeHandlers
 * @property {(source: Recording) => void} playOn
 * @property {(source: Recording) => void} retry
 * @property {(source: Recording) => void} remove
 * @property {() => void} changed  its name, note or star
 * @property {(error: unknown) => void} showError  null clears it
 */

/**
 * @param {JobCard} card
 * @param {TakeAnswer} take
 * @param {(name: string) => string} unique  a name that no other take has
 * @param {TakeHandlers} handlers
 */
export function takeRow(card, take, unique, handlers) {
  const quality = titleOf(card.job);
  const source = new Recording(unique(`${quality}, seed ${take.seed}`), take, card);
  const written = remarks(source, {
    changed: () => {
      describe(source, quality);
      handlers.changed();
    },
    showError: handlers.showError,
  });
  /**
   * @param {string} text
   * @param {string} label
   * @param {(source: Recording) => void} act
   * @param {string} [classes]
   */
  const button = (text, label, act, classes = "") =>
    h(
      "button",
      { type: "button", class: classes, "aria-label": label, onclick: () => act(source) },
      text,
    );
  written.fields.append(...beatsOf(source, handlers.showError));
  source.kind = quality;
  source.actions = [
    button("Play on", `Play on from ${source.name}`, handlers.playOn, "play-on"),
    downloadLink(source, handlers.showError),
    button("Retry", `Retry with a new seed: ${quality}`, handlers.retry, "retry"),
    written.open,
    written.star,
    button("×", `Remove ${source.name}`, handlers.remove, "quiet remove"),
    written.fields,
  ];
  describe(source, quality);
  return source;
}

/**
 * Write a take's title and the line below it.
 *
 * @param {Recording} source
 * @param {string} quality  model and bits
 */
function describe(source, quality) {
  const { take, card } = source;
  source.title = take.name || quality;
  source.note = [take.name && quality, ...parametersLine(card, take), take.note]
    .filter(Boolean)
    .join(", ");
}

/**
 * What a take was made with, where it is not the usual.
 *
 * @param {JobCard} card
 * @param {TakeAnswer} take
 */
export function parametersLine({ about, job }, take) {
  const { parameters, grid } = about;
  const texts = [
    take.description ?? parameters.descriptions?.[take.number - 1] ?? parameters.description,
    ...(parameters.parts ?? []).map((part) => part.description),
  ];
  const text = texts.filter(Boolean).map((one) => `“${one}”`).join(", then ");
  return [
    `seed ${take.seed}`,
    grid && `${barsText((about.output - about.seconds) / grid.bar)} at ${grid.bpm} BPM`,
    text,
    job.melody && "after a melody",
    ...(parameters.adapters ?? []).map((adapter) => adapter.replace(/:1$/, "")),
    parameters.temperature !== 1 && `temperature ${parameters.temperature}`,
    parameters.top_k !== 250 && `top k ${parameters.top_k}`,
    text && parameters.cfg_coef !== 3 && `guidance ${parameters.cfg_coef}`,
  ];
}
