// @ts-check
// The service's routes, as the page uses them.

import { requestJson } from "./http.js";

/**
 * @import {
 *   Beats, Download, Input, InputRef, Job, JobList, JobParameters, JobStarted, MeasuredBeats,
 *   ModelSize, Removed, ServiceAnswer
 * } from "../../types/service.js"
 */

/** @returns {Promise<ServiceAnswer>} */
export function service() {
  return requestJson("/api/service");
}

/**
 * The path of a job, or of one of its takes.
 *
 * @param {string} id
 * @param {number} [take]
 */
export function pathOf(id, take) {
  const job = `/api/jobs/${encodeURIComponent(id)}`;
  return take === undefined ? job : `${job}/takes/${take}`;
}

/**
 * @param {string} path
 * @param {unknown} [body]
 */
function post(path, body) {
  return requestJson(path, { method: "POST", body: body === undefined ? undefined : JSON.stringify(body) });
}

// Audio that is sent once.

/**
 * Send audio that jobs are to continue.
 *
 * @param {Blob[]} audio  parts of its base64 text
 * @param {string} name  of the file
 * @returns {Promise<Input>}
 */
export function addInput(audio, name) {
  return requestJson("/api/inputs", {
    method: "POST",
    body: jsonOf({ audio_data: audio }, { file_name: name.slice(-200) }),
  });
}

/**
 * The tempo of an input, which takes some seconds.
 *
 * @param {string} id
 * @param {number | null} beatsPerBar  where it is known
 * @returns {Promise<Beats>}
 */
export function beats(id, beatsPerBar) {
  const query = new URLSearchParams({ prompt_from: "end" });
  if (beatsPerBar !== null) query.set("beats_per_bar", String(beatsPerBar));
  return requestJson(`/api/inputs/${encodeURIComponent(id)}/beats?${query}`);
}

// Jobs.

/**
 * Queue a job: on an input or a take, or, without, on words or a melody alone.
 *
 * @param {InputRef | null} input
 * @param {Blob[] | null} melody  parts of its base64 text
 * @param {JobParameters} parameters
 * @returns {Promise<JobStarted>}
 */
export function start(input, melody, parameters) {
  const body = jsonOf({ melody_data: melody }, input ? { ...parameters, input } : parameters);
  return requestJson(input ? "/api/jobs" : "/api/generate", { method: "POST", body });
}

/**
 * Queue another job on the input of `id`; what is absent is as it was, but for the seed.
 *
 * @param {string} id
 * @param {Partial<JobParameters>} parameters
 * @returns {Promise<JobStarted>}
 */
export function retry(id, parameters) {
  return post(`${pathOf(id)}/retry`, parameters);
}

/**
 * @param {string} id
 * @returns {Promise<Job>}
 */
export function job(id) {
  return requestJson(pathOf(id));
}

/**
 * The jobs that the service keeps, newest first.
 *
 * @param {number | null} before  what the list that came before ended with
 * @returns {Promise<JobList>}
 */
export function jobs(before) {
  return requestJson(`/api/jobs?limit=50${before === null ? "" : `&before=${before}`}`);
}

/**
 * The jobs that were removed and can be restored, newest first.
 *
 * @returns {Promise<JobList>}
 */
export function removedJobs() {
  return requestJson("/api/jobs?limit=20&deleted=true");
}

/** @param {string} id */
export function cancel(id) {
  return requestJson(pathOf(id), { method: "DELETE" });
}

// Takes.

/** What one has written of a take. @typedef {{ name?: string, note?: string, starred?: boolean }} Remarks */

/**
 * @param {string} id
 * @param {number} take
 * @param {Remarks} remarks
 * @returns {Promise<Job>}
 */
export function remark(id, take, remarks) {
  return requestJson(pathOf(id, take), { method: "PATCH", body: JSON.stringify(remarks) });
}

/**
 * How far the beats of what is new in a take lie from the grid; the first time it takes seconds.
 *
 * @param {string} id
 * @param {number} take
 * @returns {Promise<MeasuredBeats>}
 */
export function beatOffsets(id, take) {
  return requestJson(`${pathOf(id, take)}/beats`);
}

/**
 * @param {string} id
 * @param {number} take
 * @returns {Promise<Removed>}
 */
export function removeTake(id, take) {
  return requestJson(pathOf(id, take), { method: "DELETE" });
}

/**
 * @param {string} id
 * @param {number} take
 * @returns {Promise<Job>}
 */
export function restoreTake(id, take) {
  return post(`${pathOf(id, take)}/undelete`);
}

/**
 * @param {string} id
 * @returns {Promise<Job>}
 */
export function restore(id) {
  return post(`${pathOf(id)}/undelete`);
}

// Models.

/**
 * @param {string} model  its path
 * @returns {Promise<ModelSize>}
 */
export function modelSize(model) {
  return requestJson(`/api/models/size?${new URLSearchParams({ model_name: model })}`);
}

/**
 * @param {string} model  its path
 * @returns {Promise<{ session_id: string }>}
 */
export function download(model) {
  return post("/api/models/predownload", { model_name: model });
}

/**
 * @param {string} id  of a download
 * @returns {Promise<Download>}
 */
export function downloadState(id) {
  return requestJson(`/api/models/predownload_status/${encodeURIComponent(id)}`);
}

/**
 * @param {string} id  of a download
 * @param {"pause" | "resume"} what
 * @returns {Promise<Download>}
 */
export function steerDownload(id, what) {
  return post(`/api/models/predownload/${encodeURIComponent(id)}/${what}`);
}

/** @param {string} id  of a download */
export function cancelDownload(id) {
  return requestJson(`/api/models/predownload/${encodeURIComponent(id)}`, { method: "DELETE" });
}

/** @returns {Promise<{ downloads: Download[] }>} */
export function downloads() {
  return requestJson("/api/models/downloads");
}

/**
 * A body of JSON around files, none of which becomes one string: they may be tens of megabytes.
 *
 * @param {Record<string, Blob[] | null>} files  parts of their base64 text, null where there is none
 * @param {object} fields
 */
function jsonOf(files, fields) {
  const parts = Object.entries(files).flatMap(([name, blobs]) =>
    blobs ? [`"${name}":"`, ...blobs, '",'] : [],
  );
  const text = JSON.stringify(fields).slice(1);
  // A comma before the closing brace is no JSON.
  if (text === "}" && parts.length) parts[parts.length - 1] = '"';
  return new Blob(["{", ...parts, text]);
}
