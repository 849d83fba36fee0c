// @ts-check
// How the page puts things: names, sizes, waits.

import { barsText } from "../shared/grid.js";

/** @import { Job, JobProgress } from "../../types/service.js" */
/** @import { Grid } from "../shared/grid.js" */

/** @type {Record<string, string>} */
const MODES = {
  none: "not quantized",
  q8_decoder_linears: "8 bits",
  q4_decoder_linears: "4 bits",
  q4_decoder_linears_emb: "4 bits, embeddings too",
};

/**
 * A quantization mode as people say it.
 *
 * @param {string} mode
 */
export function modeName(mode) {
  return MODES[mode] ?? String(mode).replaceAll("_", " ");
}

/**
 * The mode in what a job says that ran: a name, or an object that has one.
 *
 * @param {Job["quantization"]} quantization
 */
export function modeOf(quantization) {
  if (quantization === null || quantization === undefined) return null;
  return typeof quantization === "string" ? quantization : (quantization.mode ?? null);
}

/**
 * A model's name without its owner.
 *
 * @param {string} path
 */
export function shortName(path) {
  const parts = String(path).split("/");
  return parts[parts.length - 1];
}

/**
 * A count of bytes, in the unit that suits it.
 *
 * @param {number} bytes
 */
export function size(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  return `${bytes >= 1e7 ? Math.round(bytes / 1e6) : (bytes / 1e6).toFixed(1)} MB`;
}

/**
 * About how long.
 *
 * @param {number} seconds
 */
export function wait(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}

/**
 * Seconds with a tenth where there is one.
 *
 * @param {number} value
 */
export function seconds(value) {
  return `${Math.round(value * 10) / 10} s`;
}

/**
 * A length in bars and seconds, or in seconds alone.
 *
 * @param {number} value  in seconds
 * @param {Grid | null} grid
 */
export function lengthText(value, grid) {
  if (!grid) return seconds(value);
  return `${barsText(value / grid.bar)} (${value.toFixed(2)} s)`;
}

/**
 * Where a job stands, in words.
 *
 * @typedef {object} Standing
 * @property {string} phase  a line that seldom changes
 * @property {string} detail  one that changes all the time
 * @property {number | null} percent  null if nobody knows
 */

/**
 * @param {JobProgress} progress
 * @returns {Standing}
 */
export function standing({ status, progress, queue_status }) {
  const queue = queue_status ?? {};
  const left = Number(queue.estimated_seconds);
  if (status === "queued") {
    const place = Number(queue.position) > 0 ? `, number ${queue.position} in the queue` : "";
    return {
      phase: `Waiting${place}`,
      detail: left > 0 ? `about ${wait(left)} to go` : "",
      percent: null,
    };
  }
  if (queue.phase === "download") {
    const [done, all] = [Number(queue.downloaded_bytes), Number(queue.total_bytes)];
    const speed = Number(queue.speed_bps);
    const detail = all > 0 ? `${size(done)} of ${size(all)}` : "";
    const percent = queue.download_percent ?? (all > 0 ? (100 * done) / all : null);
    return {
      phase: `Downloading ${shortName(queue.repo_id ?? "the model")}`,
      detail: speed > 0 ? `${detail}, ${size(speed)} a second` : detail,
      percent: percent === null ? null : Number(percent),
    };
  }
  if (status === "warming") {
    return { phase: sentence(queue.message || "loading the model"), detail: "", percent: null };
  }
  const percent = Math.max(0, Math.min(100, Number(progress) || 0));
  const detail = `${Math.round(percent)} %` + (left > 0 ? `, about ${wait(left)} to go` : "");
  return { phase: sentence(queue.message || "playing on"), detail, percent };
}

/**
 * A line as it stands by itself; a name that it starts with stays as it is.
 *
 * @param {string} line
 */
export function sentence(line) {
  return /^[a-z]+[ ,:]/.test(line) || /^[a-z]+$/.test(line)
    ? line.charAt(0).toUpperCase() + line.slice(1)
    : line;
}
