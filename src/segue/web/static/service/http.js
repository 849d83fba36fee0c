// @ts-check
// Same-origin requests to the service, with its token if it has one, and what can go wrong.

const TOKEN = "segue.token";

/** Events: `lost` (the service does not answer) and `back` (it does again). */
export const reachability = new EventTarget();

let answers = true;

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

/** Whether the service demands a token: then a link by itself gets nothing. */
export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
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
 * The JSON answer to a request. Throws a ServiceError if the service refuses it.
 *
 * @param {string} path
 * @param {{ method?: string, body?: BodyInit }} [options]
 */
export async function requestJson(path, options = {}) {
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
export async function request(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  /** @type {Record<string, string>} */
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (isAbort(error)) throw error;
    noteAnswer(false);
    throw new ServiceError("The service does not answer. Is it still running?");
  }
  noteAnswer(true);
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  const wait = Number(response.headers.get("Retry-After"));
  throw new ServiceError(lineOf(answer, response.status), response.status, wait || null);
}

/** @param {boolean} now  whether the service has answered */
function noteAnswer(now) {
  if (now === answers) return;
  answers = now;
  reachability.dispatchEvent(new Event(now ? "back" : "lost"));
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
