// @ts-check
// What the page says of a job, from the service's answer: its prompt, its beats, its length.

import { Grid } from "../shared/grid.js";
import { modeName, modeOf, shortName } from "./format.js";

/** @import { Job, PartParameters } from "../../types/service.js" */

/** Where the prompt is unknown, it is as long as the service makes it by itself, in seconds. */
const USUAL_PROMPT = 6;

/** @typedef {ReturnType<typeof aboutOf>} JobAbout */

/**
 * `key` is the same for jobs on one slice of one piece of audio; `start` and `seconds` are that
 * slice, `output` is prompt and continuation together, all in seconds; `grid` counts from the
 * slice's start.
 *
 * @param {Job} job
 */
export function aboutOf(job) {
  const { input = null, parent = null, parameters, bars } = job;
  const sounding = input !== null || parent !== null;
  // Audio may be shorter than the prompt that was asked for.
  const longest = job.join_seconds ?? Infinity;
  const seconds = sounding ? Math.min(parameters.prompt_seconds ?? USUAL_PROMPT, longest) : 0;
  const start = sounding ? startOf(job, seconds) : 0;
  const bpm = parameters.bpm ?? bars?.bpm ?? null;
  const beats = parameters.beats_per_bar ?? 4;
  // Once there is a result, it says where its bars lie.
  const downbeat = bars?.downbeat_seconds ?? parameters.downbeat ?? 0;
  const grid = bpm ? new Grid(bpm, beats, downbeat - start) : null;
  const place = [Math.round(start * 1000), Math.round(seconds * 1000)];
  const from = parent ? [parent.job, parent.take] : [input?.input_id ?? null];
  return {
    file: fileOf(job),
    key: JSON.stringify([...from, ...place]),
    start,
    seconds,
    output: seconds + newSeconds(job, seconds, grid),
    grid,
    input,
    parent,
    parameters,
  };
}

/**
 * @param {Job} job
 * @param {number} seconds  of the prompt
 */
function startOf({ loop_seconds: loop, parameters, join_seconds: join }, seconds) {
  return loop ?? parameters.prompt_start ?? Math.max(0, (join ?? 0) - seconds);
}

/**
 * @param {Job} job
 * @param {number} prompt
 * @param {Grid | null} grid
 */
function newSeconds({ parameters }, prompt, grid) {
  const { seconds, bars, output_seconds: output, parts = [] } = parameters;
  const first = bars && grid ? bars * grid.bar : (seconds ?? Math.max(0, (output ?? 30) - prompt));
  return parts.reduce((sum, part) => sum + partSeconds(part, grid), first);
}

/**
 * @param {PartParameters} part
 * @param {Grid | null} grid
 */
function partSeconds({ seconds, bars }, grid) {
  return bars && grid ? bars * grid.bar : (seconds ?? 0);
}

/** @param {Job} job */
function fileOf({ input, parent, parameters, kind, melody }) {
  if (input?.name) return input.name;
  if (parent) return "a take";
  if (input) return kind === "plugin" ? "music from the plugin" : "your music";
  const { description, descriptions = [] } = parameters;
  return melody && ![description, ...descriptions].some(Boolean) ? "a melody alone" : "words alone";
}

/**
 * A few words on what runs.
 *
 * @param {Job} job
 */
export function titleOf({ model_name: model, quantization, parameters }) {
  const mode = modeOf(quantization) ?? parameters.quantization_mode;
  const name = shortName(model ?? parameters.model_name ?? "the usual model");
  return mode && mode !== "none" ? `${name}, ${modeName(mode)}` : name;
}
