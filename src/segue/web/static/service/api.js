// The service, as the page talks to it: JSON over same-origin requests, and events of a job.

const TOKEN = "segue.token";

/** What the service, or the way to it, says against a request, as one line for the reader. */
export class ServiceError extends Error {
  /** `status` is HTTP's, or 0 if there was no answer. */
  constructor(line, status = 0, retryAfter = null) {
    super(line);
    Object.assign(this, { status, retryAfter });
  }
}

/** Keep the token that a service beyond this machine asks for, as long as this tab lives. */
export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export const service = () => asked("/api/service");
export const job = (id) => asked(`/api/jobs/${encodeURIComponent(id)}`);
export const cancel = (id) => asked(`/api/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });

/** Queue a job; `parts` are blobs of the base64 text of the audio file. */
export function start(parts, parameters) {
  const rest = JSON.stringify(parameters).slice(1);
  // The audio is never one string here: it may be tens of megabytes long.
  const body = new Blob(['{"audio_data":"', ...parts, '"', rest === "}" ? "" : ",", rest]);
  return asked("/api/jobs", { method: "POST", body });
}

/** Queue another job on the input of `id`. */
export function retry(id, parameters) {
  const body = JSON.stringify(parameters);
  return asked(`/api/jobs/${encodeURIComponent(id)}/retry`, { method: "POST", body });
}

/** The bytes at `url`, an ArrayBuffer. */
export async function bytes(url) {
  return (await sent(url)).arrayBuffer();
}

/** Yield `{event, data}` of a job's stream until it ends. */
export async function* events(id, signal) {
  const headers = { Accept: "text/event-stream" };
  const path = `/api/jobs/${encodeURIComponent(id)}/stream`;
  const reader = (await sent(path, { headers, signal })).body
    .pipeThrough(new TextDecoderStream())
    .getReader();
  // A chunk of the network is no event: what is not finished waits for the rest, unsearched.
  let waiting = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting.push(value);
    if (!value.includes("\n")) continue;
    const blocks = waiting.join("").replaceAll("\r\n", "\n").split("\n\n");
    waiting = [blocks.pop()];
    for (const block of blocks) {
      const event = parsed(block);
      if (event) yield event;
    }
  }
}

function parsed(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}

async function asked(path, options = {}) {
  const headers = options.body ? { "Content-Type": "application/json" } : {};
  const answer = await (await sent(path, { ...options, headers })).json().catch(() => null);
  // A job that failed is an answer like any other.
  if (answer?.success !== true && !answer?.status) throw new ServiceError(lineOf(answer, 200));
  return answer;
}

async function sent(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("The service does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  const wait = Number(response.headers.get("Retry-After"));
  throw new ServiceError(lineOf(answer, response.status), response.status, wait || null);
}

function lineOf(answer, status) {
  const line = answer?.error ?? (typeof answer?.detail === "string" ? answer.detail : null);
  return line ?? `The service answered something unexpected (${status}).`;
}
