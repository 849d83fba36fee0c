// @ts-check
// What a job is asked for: the panel's music and the form's parameters, put together.

/** @import { JobParameters } from "../../types/service.js" */
/** @import { Grid } from "../shared/grid.js" */
/** @import { Length } from "./length_field.js" */
/** @import { Values } from "./parameters_form.js" */
/** @import { PromptPanel } from "./prompt_panel.js" */

/**
 * What is to be made of a slice, or of words alone.
 *
 * @param {PromptPanel} panel
 * @param {Values} values
 * @returns {JobParameters}
 */
export function parametersOf({ upload, slice, grid }, values) {
  const { length, then, listen: _, ...generation } = values;
  const from = slice && upload?.cut ? slice.start : 0;
  return {
    ...generation,
    ...(slice ? { prompt_start: slice.start - from, prompt_seconds: slice.seconds } : {}),
    ...lengthOf(length),
    ...(grid ? timing(grid, from) : {}),
    ...(then.length
      ? { parts: then.map(({ description, length: own }) => ({ description, ...lengthOf(own) })) }
      : {}),
  };
}

/** @param {Length} length */
function lengthOf({ seconds, bars }) {
  return bars === null ? { seconds } : { bars };
}

/**
 * What a request says of beats. What snaps has snapped on the page, to what it showed.
 *
 * @param {Grid} grid
 * @param {number} from  where what is sent begins, in seconds of the file
 */
function timing({ bpm, beatsPerBar, downbeat, bar }, from) {
  const first = (((downbeat - from) % bar) + bar) % bar;
  return {
    bpm,
    beats_per_bar: beatsPerBar,
    downbeat: first,
    snap: /** @type {const} */ ("off"),
  };
}
