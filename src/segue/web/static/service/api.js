// @ts-check
// The service, as the page talks to it: JSON over same-origin requests, and events of a job.

/**
 * @import {
 *   Job, JobParameters, JobStarted, ServiceAnswer, StreamEvent
 * } from "../../types/service.js"
 */

const TOKEN = "segue.token";

/** What the service, or the way to it, has against a request, as one line for the user. */
export class ServiceError extends Error {
  /**
   * @param {string} line
   * @param {number} [status]  HTTP's, or 0 if there was no answer
   * @param {number | null} [retryAfter]  in seconds
   */
  constructor(line, status = 0, retryAfter = null) {
    super(line);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * HTTP's status in an error of this module; null for any other.
 *
 * @param {unknown} error
 */
export function statusOf(error) {
  return error instanceof ServiceError ? error.status : null;
}

/**
 * Whether a request was ended by its signal.
 *
 * @param {unknown} error
 */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/**
 * Store the token that a service beyond this machine demands, as long as this tab lives.
 *
 * @param {string} token
 */
export function storeToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** @returns {Promise<ServiceAnswer>} */
export function service() {
  return requestJson("/api/service");
}

/**
 * @param {string} id
 * @returns {Promise<Job>}
 */
export function job(id) {
  return requestJson(pathOf(id));
}

/** @param {string} id */
export function cancel(id) {
  return requestJson(pathOf(id), { method: "DELETE" });
}

/**
 * The files of a job: parts of their base64 text, null where there is none.
 *
 * @typedef {{ audio_data?: Blob[] | null, melody_data?: Blob[] | null }} Files
 */

/**
 * Queue a job: on the audio among its files, or, without, on words or a melody alone.
 *
 * @param {Files} files
 * @param {JobParameters} parameters
 * @returns {Promise<JobStarted>}
 */
export function start(files, parameters) {
  // The audio is never one string here: it may be tens of megabytes long.
  const fields = Object.entries(files).flatMap(([name, parts]) =>
    parts ? [`"${name}":"`, ...parts, '",'] : [],
  );
  const body = new Blob(["{", ...fields, JSON.stringify(parameters).slice(1)]);
  const path = files.audio_data ? "/api/jobs" : "/api/generate";
  return requestJson(path, { method: "POST", body });
}

/**
 * Queue another job on the input of `id`.
 *
 * @param {string} id
 * @param {JobParameters} parameters
 * @returns {Promise<JobStarted>}
 */
export function retry(id, parameters) {
  return requestJson(`${pathOf(id)}/retry`, { method: "POST", body: JSON.stringify(parameters) });
}

/**
 * The bytes at `url`.
 *
 * @param {string} url
 */
export async function bytes(url) {
  return (await request(url)).arrayBuffer();
}

/**
 * Yield the events of a job's stream until it ends.
 *
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<StreamEvent, void>}
 */
export async function* events(id, signal) {
  const headers = { Accept: "text/event-stream" };
  const { body } = await request(`${pathOf(id)}/stream`, { headers, signal });
  if (!body) return;
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  // A chunk of the network is no event: what is not finished waits for the rest, unsearched.
  /** @type {string[]} */
  let waiting = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting.push(value);
    if (!value.includes("\n")) continue;
    const blocks = waiting.join("").replaceAll("\r\n", "\n").split("\n\n");
    waiting = [blocks.pop() ?? ""];
    for (const block of blocks) {
      const event = parseEvent(block);
      if (event) yield event;
    }
  }
}

/** @param {string} id  of a job */
function pathOf(id) {
  return `/api/jobs/${encodeURIComponent(id)}`;
}

/**
 * @param {string} block  lines of an event stream
 * @returns {StreamEvent | null}
 */
function parseEvent(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  if (!data.length) return null;
  return /** @type {StreamEvent} */ ({ event, data: JSON.parse(data.join("\n")) });
}

/**
 * The JSON answer to a request. Throws a ServiceError if the service refuses it.
 *
 * @param {string} path
 * @param {{ method?: string, body?: BodyInit }} [options]
 */
async function requestJson(path, options = {}) {
  /** @type {Record<string, string>} */
  const headers = options.body ? { "Content-Type": "application/json" } : {};
  const answer = await (await request(path, { ...options, headers })).json().catch(() => null);
  // A job that failed is an answer like any other.
  if (answer?.success !== true && !answer?.status) throw new ServiceError(lineOf(answer, 200));
  return answer;
}

/**
 * @param {string} path
 * @param {Omit<RequestInit, "headers"> & { headers?: Record<string, string> }} [options]
 */
async function request(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  /** @type {Record<string, string>} */
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ServiceError("The service does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  const wait = Number(response.headers.get("Retry-After"));
  throw new ServiceError(lineOf(answer, response.status), response.status, wait || null);
}

/**
 * The line that a refusal has for the user.
 *
 * @param {any} answer  JSON, or null
 * @param {number} status
 * @returns {string}
 */
function lineOf(answer, status) {
  const line = answer?.error ?? (typeof answer?.detail === "string" ? answer.detail : null);
  return line ?? `The service answered something unexpected (${status}).`;
}
